"""Which checkpoints of a run are as good as its best, which are lost, and which can go."""
