"""The judging half: plain numbers in, findings out. No files, clocks, ranks, torch or transformers here."""
