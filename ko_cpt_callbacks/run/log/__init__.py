"""Logs that other tools keep of a run, read as the rows of a Trainer: no tool is needed, nothing of them is run."""
