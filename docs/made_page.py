"""How a script of this folder ends: what it made is written, or with ``--check`` compared with what is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def keep(made: Mapping[Path, str], script: str, *, check: bool) -> int:
    """Write the files that differ, or with ``check`` name them and the command that writes them.

    Args:
        made: Text by file.
        script: The script's name in this folder, without its ending.
        check: Whether nothing is to be written.

    Returns:
        The exit status: 1 where something differs and was not written.
    """
    differing = {path: text for path, text in made.items() if not path.is_file() or path.read_text("utf-8") != text}
    for path, text in differing.items():
        print(f"{'differs' if check else 'written'}: {path.parent.name}/{path.name}")
        if not check:
            path.write_text(text, "utf-8")
    if check and differing:
        print(f"Write again: python docs/{script}.py")
    return 1 if check and differing else 0
