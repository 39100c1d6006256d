"""A model measured on a text that everyone has, without a Trainer: the same losses, the same bytes."""
