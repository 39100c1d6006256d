"""How well does the reference text tell two checkpoints of a run apart, and does its interval hold the pool's number?

``python benchmarks/reference_error.py SOURCES``

A tiny model (``tests/tiny.py``, a byte-level tokenizer of 1,000 tokens) is trained by a Trainer from scratch, once a
seed, on rows drawn from the pool that the reference text was drawn from, four fifths of it, each row once. So the
documents of the reference text are as much trained on as those of the pool, and nothing but the draw sets them apart.
The learning rate falls with the cube of the steps left, to a seventh by the middle, so the two checkpoints are near, as
late in a run: the error grows with how far apart they are. This schedule was chosen on seeds 10 and 11, on the
reference text alone, for 0.03 to 0.06 bits per byte; `--steps 400 --schedule cosine` has them 0.1 apart.
Middle and end are measured on the whole pool by `ko-cpt measure`'s own code; the pool has ten times the bytes
of the reference text, each kind with the same share in both.

* **difference, error**: end less middle on the reference text, bits per byte, paired; its standard error.
* **pool**: the same difference on all documents of the pool, and whether the reference text's 95 % interval holds it.
  The seeds share the one draw that was published, so these are a count, of which no share is asked.
* **draws hold**: the share of 400 other draws from the pool, made as the reference text was (a tenth of each kind),
  whose 95 % interval holds the pool's difference. This is what the interval claims. Draws are without putting back,
  and the interval is of a draw with: of a normal mean 96.1 % would hold.
* **level**: the share of the same draws whose interval holds the end's bits per byte on the pool, by the error that
  counts the kinds; and **one draw**: by the error of one draw of all documents.

Exit status 1 where a difference on the reference text is below 0.02 or its error above 0.002 bits per byte (a seed and
language), or where fewer than 90 or more than 98 % of the draws hold a difference or a level (a language, all seeds
together).

SOURCES is the folder of the archives (``make bench-reference`` fetches them). About two minutes of processor time a
seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import reference_pool
import reference_text
import torch
from numpy.typing import NDArray
from reference_pool import Twin
from transformers import PrinterCallback
from transformers.utils import logging

from ko_cpt_callbacks.compare.pairing import paired_with
from ko_cpt_callbacks.measure.model import ModelChoice
from ko_cpt_callbacks.measure.run import MeasureSettings, measure_model
from ko_cpt_callbacks.measure.text import read_text_sets
from ko_cpt_callbacks.metrics.perplexity import interval
from ko_cpt_callbacks.metrics.row_sums import RowSums
from ko_cpt_callbacks.metrics.uncertainty import RatioEstimate, ratio_estimate

sys.path.insert(0, str(reference_pool.ROOT / "tests"))
STEPS, ROWS, LENGTH = 800, 16, 128
SCHEDULES: dict[str, dict[str, Any]] = {
    "cubic": {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": 3.0}},
    "cosine": {"lr_scheduler_type": "cosine"},
}
VOCABULARY, HIDDEN = 1000, 32
DRAWS = 400
APART, ERROR = 0.02, 0.002
LOWEST, HIGHEST = 0.90, 0.98
SIDES = {"ko": "korean", "en": "english"}


def train(texts: list[str], seed: int, folder: Path, steps: int, schedule: str) -> tuple[Path, Path]:
    """Folders of the model in the middle and at the end of its run."""
    import tiny

    tokenizer = tiny.byte_level_tokenizer.__wrapped__(300).train_new_from_iterator(texts, VOCABULARY)
    rows = tiny.packed(tuple(texts), tokenizer, LENGTH)
    model = tiny.llama(len(tokenizer), seed=seed, hidden=HIDDEN)
    settings = {
        "max_steps": steps,
        "per_device_train_batch_size": ROWS,
        "learning_rate": 3e-3,
        **SCHEDULES[schedule],
        "warmup_steps": steps // 20,
        "logging_steps": steps,
        "save_strategy": "steps",
        "save_steps": steps // 2,
        "save_only_model": True,
        "seed": seed,
    }
    trainer = tiny.trainer(model, folder, rows, processing_class=tokenizer, **settings)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    middle, end = (folder / f"checkpoint-{step}" for step in (steps // 2, steps))
    return middle, end


@dataclass(frozen=True)
class Language:
    """The pool in one language under the middle and the end of a run; the rows of a kind stand together.

    Attributes:
        middle: Per-document sums.
        end: The same documents.
        places: The rows of each kind.
        sizes: Bytes of each document in Korean, by which it is drawn.
        reference: Rows that are in the reference text.
    """

    middle: RowSums
    end: RowSums
    places: Mapping[str, NDArray[np.intp]]
    sizes: NDArray[np.int64]
    reference: NDArray[np.intp]

    def difference(self, chosen: NDArray[np.intp] | None = None) -> tuple[float, float, int]:
        """End less middle in bits per byte, its standard error, documents; of the chosen rows, or of all."""
        sides = (self.middle, self.end) if chosen is None else (rows_at(one, chosen) for one in (self.middle, self.end))
        found = paired_with(*sides, same_tokenizer=False)
        assert found.difference is not None and found.se is not None, found.reasons
        return found.difference, found.se, found.rows

    def shares_that_hold(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Shares of draws like the reference text whose interval holds the difference, and the level by both errors."""
        truth = self.difference()[0]
        level = self.level(np.arange(len(self.end))).value
        held = np.zeros(3)
        for _ in range(DRAWS):
            orders = [rng.permutation(one) for one in self.places.values()]
            parts = [one[: reference_text.fitting(self.sizes[one].tolist())] for one in orders]
            chosen = np.concatenate(parts)
            strata = [kind for kind, part in enumerate(parts) for _ in part]
            difference, error, _ = self.difference(chosen)
            for at, (wanted, value, se) in enumerate(
                [(truth, difference, error)]
                + [(level, found.value, found.se) for found in (self.level(chosen, strata), self.level(chosen))]
            ):
                low, high = interval(value, se)
                held[at] += low <= wanted <= high
        return held / DRAWS

    def level(self, chosen: NDArray[np.intp], strata: list[int] | None = None) -> RatioEstimate:
        """Bits per byte at the end, of the chosen rows."""
        return ratio_estimate(self.end.nll[chosen] / np.log(2.0), self.end.bytes[chosen], strata)


def rows_at(rows: RowSums, places: NDArray[np.intp]) -> RowSums:
    """Some rows."""
    return RowSums(**{one.name: getattr(rows, one.name)[places] for one in fields(RowSums)})


def write_pool(pool: Mapping[str, Sequence[Twin]], folder: Path) -> list[str]:
    """The pool's files, one a language and kind, documents in the pool's order."""
    files = []
    for language, side in SIDES.items():
        for kind, twins in pool.items():
            texts = [getattr(twin, side) for twin in twins]
            if any(texts):
                files.append(folder / f"{language}_{kind}.jsonl")
                files[-1].write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    return [str(file) for file in files]


def measured(
    pool: Mapping[str, Sequence[Twin]], files: list[str], models: Sequence[Path], folder: Path
) -> Iterator[Any]:
    """Each language under two models."""
    found = []
    for number, model in enumerate(models):
        settings = MeasureSettings(folder / f"measured-{number}", context=64, batch_size=4)
        result = measure_model(ModelChoice(str(model), device="cpu"), read_text_sets(files), settings)
        found.append({item.name: item.rows for item in result.sets})
    for language in SIDES:
        places: dict[str, NDArray[np.intp]] = {}
        chosen: list[int] = []
        sizes: list[int] = []
        at = 0
        for kind, twins in pool.items():
            if f"{language}_{kind}" in found[0]:
                assert len(found[0][f"{language}_{kind}"]) == len(twins)
                drawn = set(reference_text.drawn(kind, twins))
                chosen += [at + place for place, twin in enumerate(twins) if twin in drawn]
                sizes += [len(twin.korean.encode()) for twin in twins]
                places[kind] = np.arange(at, at + len(twins))
                at += len(twins)
        middle, end = (
            RowSums(
                **{
                    one.name: np.concatenate([getattr(sets[f"{language}_{kind}"], one.name) for kind in places])
                    for one in fields(RowSums)
                }
            )
            for sets in found
        )
        yield language, Language(middle, end, places, np.array(sizes), np.array(chosen))


def main(arguments: list[str]) -> int:
    """Print a line a seed and language; 1 where a bound is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--schedule", choices=SCHEDULES, default="cubic")
    asked = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    say = partial(print, flush=True)
    pool = reference_pool.pool(asked.sources)
    texts = [text for twins in pool.values() for twin in twins for text in (twin.korean, twin.english) if text]
    shares: dict[str, list[NDArray[np.float64]]] = {language: [] for language in SIDES}
    wrong, hits = 0, 0
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        files = write_pool(pool, scratch)
        say("seed set  difference   error documents      pool documents  draws hold   level  one draw")
        for seed in asked.seeds:
            models = train(texts, seed, scratch / str(seed), asked.steps, asked.schedule)
            for language, rows in measured(pool, files, models, scratch / str(seed)):
                difference, error, documents = rows.difference(rows.reference)
                whole, _, every = rows.difference()
                low, high = interval(difference, error)
                held = rows.shares_that_hold(np.random.default_rng(seed))
                shares[language].append(held)
                hits += low <= whole <= high
                apart = "" if low <= whole <= high else "  the reference text does not hold it"
                wrong += abs(difference) < APART or error > ERROR
                say(
                    f"{seed:<5}{language:4}{difference:>+11.4f}{error:>8.4f}{documents:>10}{whole:>+10.4f}{every:>10}"
                    f"{held[0]:>12.1%}{held[1]:>8.1%}{held[2]:>10.1%}{apart}"
                )
    say(f"the reference text's own interval holds the pool's difference in {hits} of {len(SIDES) * len(asked.seeds)}")
    for language, found in shares.items():
        difference, level, plain = np.mean(found, axis=0)
        say(
            f"draws like it, {language}: of {DRAWS * len(found):,} {difference:.1%} hold the difference, {level:.1%} "
            f"the level, {plain:.1%} by the error of one draw"
        )
        wrong += not LOWEST <= difference <= HIGHEST or not LOWEST <= level <= HIGHEST
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
