"""Rules on the targets of a run."""
