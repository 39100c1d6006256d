"""From what a run left behind (Trainer rows, state files, run folders) to observations."""
