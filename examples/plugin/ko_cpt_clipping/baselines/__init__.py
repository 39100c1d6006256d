"""Runs to compare with, one a file."""
