"""Where the loss of a run will end, with an interval, from what it has done so far and its learning-rate schedule."""
