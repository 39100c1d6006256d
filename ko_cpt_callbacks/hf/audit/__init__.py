"""Mistakes of the set-up, seen when training begins."""
