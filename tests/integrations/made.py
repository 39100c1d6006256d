"""What a framework reads from disk: a tiny model with its tokenizer, and Korean and English text."""

from __future__ import annotations

import json
from pathlib import Path

import tiny


def model_folder(folder: Path) -> Path:
    """A tiny Llama and its tokenizer, saved as the Hub has them."""
    place = folder / "model"
    tokenizer = tiny.byte_level_tokenizer()
    tiny.llama(len(tokenizer)).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def text_files(folder: Path) -> dict[str, Path]:
    """JSON lines with a ``text`` each: for training, and two sets that are held out."""
    parts = {"train": tiny.korean()[:-20], "ko": tiny.korean()[-20:], "en": tiny.english()[:15]}
    files = {}
    for name, texts in parts.items():
        files[name] = folder / f"{name}.jsonl"
        lines = (json.dumps({"text": text}, ensure_ascii=False) for text in texts)
        files[name].write_text("\n".join(lines) + "\n", "utf-8")
    return files
