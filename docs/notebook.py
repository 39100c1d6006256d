"""Makes ``examples/trainer.ipynb`` of ``examples/trainer.py`` and executes it: ``make notebook``.

Needs ``nbclient``, ``nbformat`` and ``ipykernel``, and half a minute of CPU.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
SCRIPT: Final = ROOT / "examples" / "trainer.py"
NOTEBOOK: Final = SCRIPT.with_suffix(".ipynb")

_MARK: Final = re.compile(r"^# %%( \[markdown\])?\n", re.MULTILINE)


def cells(script: str) -> list[tuple[str, str]]:
    """The cells of a script in the percent format: kind, ``code`` or ``markdown``, and text."""
    _, *parts = _MARK.split(script)
    found = []
    for mark, text in zip(parts[::2], parts[1::2], strict=True):
        if mark:
            found.append(("markdown", re.sub(r"^# ?", "", text.strip("\n"), flags=re.MULTILINE)))
        else:
            found.append(("code", text.strip("\n")))
    return found


def main() -> None:
    """Write the notebook with its outputs."""
    import nbclient
    import nbformat

    make = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    notebook = nbformat.v4.new_notebook()
    for number, (kind, text) in enumerate(cells(SCRIPT.read_text("utf-8"))):
        notebook.cells.append(make[kind](text, id=f"cell-{number}"))
    where = {"metadata": {"path": str(ROOT)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=where, coalesce_streams=True).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each ran
        if cell.cell_type == "code":  # warnings name folders of this machine
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
