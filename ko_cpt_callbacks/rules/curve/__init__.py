"""Rules on the training loss and its gradient: spikes, shifts, divergence, restarts, standstill."""
