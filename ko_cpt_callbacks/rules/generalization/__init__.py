"""Rules on what is evaluated beside what is trained on."""
