"""Strict reading of YAML files that people write: recipes and baselines. Nothing is converted on the quiet."""
