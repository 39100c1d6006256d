"""The only room that imports torch, transformers and peft: hooks in, numbers out."""
