"""Sentences, a file a language."""
