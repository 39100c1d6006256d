"""Recipes: what a training run is, on one page of YAML. Read strictly, without torch."""
