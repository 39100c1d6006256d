"""``hf://OWNER/NAME``: what the repository of a model on the Hugging Face hub keeps of its training, as a local folder.

Only logs are fetched, never weights; they go to the hub's own cache, and nothing of them is run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.file import STATE_FILE, clip
from ko_cpt_callbacks.run.log.llamafactory import FILE
from ko_cpt_callbacks.run.log.tensorboard import EVENTS

__all__ = ["run_place"]

# A `Path` made of the text has one slash less. Of revisions, those of a pull request alone have a slash, as the hub's
# own file system reads them.
_PLACE: Final = re.compile(
    r"hf://?(?P<id>[^/@\s]+/[^/@\s]+)(?:@(?P<revision>refs/(?:pr|convert)/[^/\s]+|[^/\s]+))?(?P<folder>(?:/[^/\s]+)*)/?"
)
_NAMES: Final = (
    STATE_FILE, FILE, keys.ROWS_FILE, keys.RUN_FILE, keys.FINDINGS_FILE, "plan.json", "all_results.json",
    f"*{EVENTS}*", "*.wandb", "metrics.csv", "train*.log", "mlflow.db",
)  # fmt: skip
_SHOWN: Final = 240  # characters of what the client says
_EXPECTED: Final = "expected hf://OWNER/NAME, hf://OWNER/NAME@REVISION or a folder in it, as hf://OWNER/NAME/FOLDER"


def run_place(path: str | Path) -> Path:
    """The local folder of what ``hf://…`` names, fetched where it is not there yet; any other path itself.

    Raises:
        UnreadableRunError: If it is no such name, cannot be fetched, or keeps no log.
    """
    if not str(path).startswith("hf:/"):
        return Path(path)
    named = _PLACE.fullmatch(str(path))
    if named is None or ".." in named["folder"].split("/"):
        raise UnreadableRunError(f"{path}: {_EXPECTED}")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UnreadableRunError(f"{path}: huggingface_hub is not installed; pip install huggingface_hub") from None
    folder = named["folder"].strip("/")
    within = f"{folder}/" if folder else ""
    patterns = [pattern for name in _NAMES for pattern in (f"{within}{name}", f"{within}*/{name}")]
    try:
        place = snapshot_download(named["id"], revision=named["revision"], allow_patterns=patterns)
    except Exception as error:  # other classes in every version
        said = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableRunError(f"{path}: cannot be fetched: {clip(said, _SHOWN)}") from None
    found = Path(place) / folder
    if not any(file.is_file() for file in found.rglob("*")):
        raise UnreadableRunError(f"{path}: found no log, expected {STATE_FILE} or another; its card may name the log")
    return found
