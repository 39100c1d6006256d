"""What a recipe may say. Every key is known, every number has a range; nothing is converted on the quiet.

One recipe describes one run: a base model, a tokenizer, texts, evaluation sets and stages. What its parts must agree
on is in `agreement`; both are asked before anything is loaded.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ko_cpt_callbacks.recipe.model_schema import Base, Name, Part, Text, Tokenizer
from ko_cpt_callbacks.recipe.stage_schema import Defaults, Stage
from ko_cpt_callbacks.recipe.text_schema import Data, EvalSet


class Page(Part):
    """One recipe: what a run is, on a page."""

    id: Name = ""
    """What the run is called. Without it the file's name without ``.yaml``."""
    title: Text
    """One line for people."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """``numpy.random.seed`` takes no larger one."""
    task: Literal["cpt", "sft"] = "cpt"
    """What the run is judged as: continued pretraining (or pretraining from scratch), or instruction tuning."""
    base: Base
    tokenizer: Tokenizer | None = None
    data: Data
    eval: Annotated[dict[Name, EvalSet], Field(min_length=1)]
    defaults: Defaults = Defaults()
    """What counts in every stage that does not say it itself."""
    stages: Annotated[dict[Name, Stage], Field(min_length=1)]
    """In order; each goes on with the weights of the one before."""
    source: dict[str, Text] = Field(default_factory=dict)
    """Where the numbers come from: a key, or what it begins with, and a source or ``chosen, not measured``. In a recipe
    of your own as you like; in one that comes with the package every number has one."""
