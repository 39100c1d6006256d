"""What is watched in a run: targets and what became of them, and when the run is to stop."""
