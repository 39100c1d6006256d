"""What a model is made of, and which of it is trained."""
