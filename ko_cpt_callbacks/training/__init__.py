"""From a recipe to a trained model: text, tokenizer, base model, stages. Thin, on Hugging Face parts."""
