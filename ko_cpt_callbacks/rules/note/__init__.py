"""Rules on what the tool itself, its record or the Trainer around it cannot do."""
