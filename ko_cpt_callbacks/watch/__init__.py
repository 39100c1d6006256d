"""What is watched in a run: targets, patience, and what a run was told to watch."""
