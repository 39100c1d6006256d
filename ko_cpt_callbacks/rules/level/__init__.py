"""Rules on a loss that is too low, or too high, to be what it is taken for."""
