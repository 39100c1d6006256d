"""What is measured: hooks on the model, evidence of one forward pass, sums of an evaluation and of training."""
