"""A recipe's model: base, new rows, what a stage trains, what it hands on."""
