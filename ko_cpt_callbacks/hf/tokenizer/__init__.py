"""Token id to UTF-8 bytes, for every kind of tokenizer."""
