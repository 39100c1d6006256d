"""What the tests of the hub do in processes of their own, forked from one that reads ``HF_ENDPOINT`` when it starts.

Where the hub is and where files are kept, the libraries read when they are imported, and importing takes longer than
a job. ``python hub_job.py`` reads jobs from its input, a line each, and forks for every one of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Worker:
    """The process that is forked for every job.

    Args:
        endpoint: Of the hub.
        home: The folder of what is kept of the hub.
        folder: Where jobs run, and write what they print.
    """

    def __init__(self, endpoint: str, home: Path, folder: Path) -> None:
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))},
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "PYTHONIOENCODING": "utf-8",
        }
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder,
            env=self.environment,
        )  # fmt: skip

    def do(self, job: str, *arguments: Any, **environment: str) -> Any:
        """What a function of this module returns.

        Args:
            job: Its name.
            arguments: JSON.
            environment: Of the job's process; what was read at the import stays.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        log = self._folder / f"{job}.log"
        line = json.dumps([job, arguments, environment, str(log)])
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer.strip() not in ("", "null"), log.read_text("utf-8")[-6000:]
        return json.loads(answer)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def documents(settings: dict[str, Any]) -> dict[str, Any]:
    """The documents of a source, or what is told instead; pauses between attempts are counted and not made."""
    from ko_cpt_callbacks.errors import ConfigurationError
    from ko_cpt_callbacks.training.data.sources import Source, read_documents

    waits = _without_waits()
    texts: list[str] = []
    try:
        for document in read_documents(Source("ko", **settings)):
            texts.append(document.text)
    except ConfigurationError as error:
        return {"texts": texts, "error": str(error), "waits": waits}
    return {"texts": texts, "error": None, "waits": waits}


def kept(hub: str, config: str, revision: str) -> int:
    """Download a data set as a whole, as another program may have done before."""
    from datasets import load_dataset

    return len(load_dataset(hub, config, revision=revision, split="train"))


def rows(recipe: str, cache: str, max_rows: int | None) -> dict[str, Any]:
    """Training and evaluation rows of a recipe."""
    from tiny import byte_level_tokenizer

    from ko_cpt_callbacks import Recipe
    from ko_cpt_callbacks.training.data.recipe_data import RecipeTexts

    texts = RecipeTexts(Recipe.load(recipe).file, Path(cache), "cpu")
    tokenizer = byte_level_tokenizer()
    mixed = texts.mixed_rows(tokenizer, max_rows)
    evaluated = texts.evaluation_rows(tokenizer, ["ko"])["ko"]
    return {
        "rows": mixed.rows["input_ids"][:],
        "evaluated": evaluated.rows["input_ids"][:],
        "documents": evaluated.report["sources"]["ko"]["documents"],
    }


def held_out(recipe: str) -> list[str]:
    """What new tokens are judged on: of the Korean source."""
    from ko_cpt_callbacks import Recipe
    from ko_cpt_callbacks.training.data.recipe_data import RecipeTexts

    return list(RecipeTexts(Recipe.load(recipe).file, Path("unused"), "cpu").held_out_texts("ko"))


def model(path: str, revision: str | None) -> str:
    """A model and its tokenizer as a run loads them: the class, or what is told instead."""
    from transformers import AutoTokenizer

    from ko_cpt_callbacks.errors import ConfigurationError
    from ko_cpt_callbacks.recipe.model_schema import Base
    from ko_cpt_callbacks.training.hub import load_pretrained
    from ko_cpt_callbacks.training.model.weights import load_model

    _without_waits()
    more = {} if revision is None else {"revision": revision}
    base = Base(model=path, dtype="float32", shape=None)
    try:
        found = load_model(path, base, "cpu", **more)
        load_pretrained(AutoTokenizer, path, "base.model", **more)
    except ConfigurationError as error:
        return str(error)
    return type(found).__name__


def ko_cpt(arguments: list[str]) -> Any:
    """The command line: its exit status."""
    from training.job_recipe import ko_cpt as run

    return run(arguments)


def _without_waits() -> list[float]:
    waits: list[float] = []
    time.sleep = waits.append
    return waits


def _serve() -> None:
    import datasets  # noqa: F401
    import forked_caches  # noqa: F401
    import peft  # noqa: F401
    import transformers.trainer  # noqa: F401

    import ko_cpt_callbacks.training.run  # noqa: F401

    for line in sys.stdin:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            _child(writer, *json.loads(line))
        os.close(writer)
        with os.fdopen(reader) as answer:
            text = answer.read()
        os.waitpid(child, 0)
        print(text or "null", flush=True)
    os._exit(0)


def _child(writer: int, job: str, arguments: list[Any], environment: dict[str, str], log: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    yes, typed = os.pipe()
    os.write(typed, b"y\n" * 9)  # whatever a library asks, the answer is the worst one
    os.close(typed)
    for target, number in ((yes, 0), (file, 1), (file, 2)):
        os.dup2(target, number)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)
    os.environ.update(environment)
    try:
        found = json.dumps(globals()[job](*arguments))
        with os.fdopen(writer, "w") as answer:
            answer.write(found)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    _serve()
