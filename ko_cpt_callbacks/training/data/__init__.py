"""A recipe's text: sources, filters, token ids, rows."""
