"""Loss, perplexity and bits per byte, what is uncertain about them, and the sums of an evaluation's rows."""
