"""What a framework reads: a tiny model with its tokenizer, Korean and English text, and the guide's own page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import tiny

GUIDE = Path(__file__).parents[2] / "docs" / "frameworks.md"


def guide_page(framework: str) -> str:
    """The lines of YAML that the guide shows under a framework's name."""
    part = GUIDE.read_text("utf-8").split(f"\n## {framework}\n", 1)[1]
    (found,) = re.findall(r"```yaml\n(.*?)```", part.split("\n## ", 1)[0], re.DOTALL)
    return str(found)


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
