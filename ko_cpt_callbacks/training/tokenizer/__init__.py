"""A recipe's tokenizer: the base's, or the base's with new tokens."""
