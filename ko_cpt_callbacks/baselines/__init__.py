"""Runs to compare with: what was published, how well each figure is known, and the user's own runs."""
