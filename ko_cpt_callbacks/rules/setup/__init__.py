"""Rules on the set-up: what is trained, and whether it can be."""
