"""Rules on how a run compares with its baseline or the stage before."""
