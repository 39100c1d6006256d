"""What is allowed in a recipe and hardly ever meant, with the usual range and its source. Nothing is refused here.

Reported by ``ko-cpt validate`` and when a training begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ko_cpt_callbacks.compare.reference import bits_of
from ko_cpt_callbacks.compare.registry import find_baseline
from ko_cpt_callbacks.compare.value import Reason
from ko_cpt_callbacks.errors import near_miss
from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.recipe.reading import RecipeFile
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.run.observation import finite_number
from ko_cpt_callbacks.signal.limits import CORPUS_PASSES

LOWEST_RATE: Final = 1e-6
HIGHEST_RATE: Final = 1e-2
"""Learning rates between which published continued pretraining lies with room to spare: 1e-5 (beomi/llama-2-ko-7b) to
2e-4 (Chinese-LLaMA, embeddings and LoRA). How much room is chosen, not measured."""

FEWEST_TOKENS: Final = 2**12
MOST_TOKENS: Final = 2**23
"""Tokens of an optimizer step. The most that was found is Thunder-LLM's 8.39M (1,024 rows of 8,192); the fewest is an
eighth of the 32,768 of medgemma_korean's run on one card. The eighth is chosen, not measured."""

MOST_EPOCHS: Final = float(CORPUS_PASSES)

_EPOCHS: Final = 3.0  # what TrainingArguments does without num_train_epochs, as of transformers 4.57 and 5.23
_ROWS: Final = 8  # the same for per_device_train_batch_size
_RATE_SAID: Final = (
    f"usual are {LOWEST_RATE:g} to {HIGHEST_RATE:g} (published: 1e-5, llama-2-ko, to 2e-4, Chinese-LLaMA; the room "
    "around is chosen, not measured)"
)
_WARM_UP_SAID: Final = "usual are 5 % (Chinese-LLaMA, Tesser-Llama-3-Ko) to 10 % of the steps (medgemma_korean)"
_TOKENS_SAID: Final = (
    f"usual are {FEWEST_TOKENS:,} to {MOST_TOKENS:,} (published: 32,768, medgemma_korean, to 8,388,608, Thunder-LLM; "
    "the room below is chosen, not measured)"
)
_EPOCHS_SAID: Final = (
    f"up to {MOST_EPOCHS:g} repeated text is worth almost as much as new text (Muennighoff et al. 2023, "
    "https://arxiv.org/abs/2305.16264)"
)


def recipe_notes(file: RecipeFile) -> list[str]:
    """All notes on a recipe, as they are printed; what is the same of every stage once."""
    page = file.recipe
    where: dict[tuple[str, str], list[str]] = {}
    for name in page.stages:
        for key, text in _stage_notes(page, name):
            where.setdefault((key, text), []).append(name)
    found = [("base.shape", file.base.note)] if file.base.note else []
    for (key, text), names in where.items():
        shared = len(names) == len(page.stages) > 1
        found += [(f"stages.{name}.{key}", text) for name in (["*"] if shared else names)]
    pretraining = page.base.build.pretraining if page.base.build is not None else None
    if pretraining is not None:
        notes = _rate_notes(pretraining.arguments)
        found += [(f"base.build.pretraining.arguments.{key}", text) for key, text in notes]
    return [f"note: {key}: {text}" for key, text in found]


def _stage_notes(page: Page, name: str) -> Iterator[tuple[str, str]]:
    stage = page.stages[name]
    notes = [*_rate_notes(stage.arguments), *_size_notes(page, stage.arguments)]
    yield from ((f"arguments.{key}", text) for key, text in notes)
    yield from _metric_notes(page, stage.arguments)
    yield from _baseline_notes(stage.watch.baseline, stage.watch.stage)


def _rate_notes(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    rate = finite_number(arguments.get("learning_rate"))
    if rate is not None and not LOWEST_RATE <= rate <= HIGHEST_RATE:
        yield "learning_rate", f"{rate:g} is no usual learning rate; {_RATE_SAID}"
    steps, warm = finite_number(arguments.get("max_steps")), finite_number(arguments.get("warmup_steps"))
    if steps and steps > 0 and warm and warm >= steps:
        yield "warmup_steps", f"the warm-up of {warm:,g} steps takes all of the stage's {steps:,g}; {_WARM_UP_SAID}"
    share = finite_number(arguments.get("warmup_ratio"))
    if share is not None and share >= 1:
        yield "warmup_ratio", f"the warm-up takes all of the stage; {_WARM_UP_SAID}"


def _size_notes(page: Page, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    rows = finite_number(arguments.get("per_device_train_batch_size", _ROWS))
    times = finite_number(arguments.get("gradient_accumulation_steps", 1))
    # A model made on the spot may be of any size: nothing published says what is usual.
    if page.base.build is None and rows and times:
        tokens = int(rows * times * page.data.sequence_length)
        if not FEWEST_TOKENS <= tokens <= MOST_TOKENS:
            text = f"{int(rows):,} rows × {int(times):,} × {page.data.sequence_length:,} tokens"
            yield "gradient_accumulation_steps", f"{text} are {tokens:,} a step and card; {_TOKENS_SAID}"
    if (finite_number(arguments.get("max_steps")) or -1) > 0:
        return  # how often the text is gone through is known when it is rows
    epochs = finite_number(arguments.get("num_train_epochs", _EPOCHS)) or 0.0
    name, passes = max(((name, page.data.sources[name].passes) for name in page.data.mix), key=lambda item: item[1])
    if epochs * passes > MOST_EPOCHS:
        by = f"{epochs:g} epochs" if passes == 1 else f"{epochs:g} epochs of {passes:,} passes of {name}"
        yield "num_train_epochs", f"{by} go over the text {epochs * passes:g} times; {_EPOCHS_SAID}"


def _metric_notes(page: Page, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A metric that no evaluation delivers: the Trainer looks for it after the first one, and ends."""
    metric = arguments.get("metric_for_best_model")
    if not isinstance(metric, str) or metric == "loss":
        return
    whole = metric if metric.startswith("eval_") else f"eval_{metric}"
    if not any(whole.startswith(f"eval_{name}_") for name in page.eval):
        known = [f"eval_{name}_loss" for name in page.eval]
        near = near_miss(whole, known)
        hint = "" if near is None else f"; probably {near} is meant"
        text = f"{metric} is of no set of eval ({', '.join(page.eval)}), and ends the training in an error{hint}"
        yield "arguments.metric_for_best_model", text


def _baseline_notes(id: str | None, stage: str) -> Iterator[tuple[str, str]]:
    """A baseline that no run can be compared with, whatever it measures."""
    if id is None:
        return
    found = bits_of(find_baseline(id), stage)
    if isinstance(found, Reason):
        text = catalogue().reason(found.as_dict()).rstrip(".")
        yield "watch.baseline", f"{id} will be shown, but not compared with: {text}"
