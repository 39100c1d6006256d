"""What the parts of a recipe must agree on: names, what can be trained, numbers and where they come from.

Asked of the raw values, so that these mistakes are told together with those of shape; a value of the wrong shape
is skipped here.
"""

from __future__ import annotations

from collections.abc import Iterable

from ko_cpt_callbacks.document.mistake import Key, Mistake
from ko_cpt_callbacks.document.shape import line_of
from ko_cpt_callbacks.document.yaml_text import Document
from ko_cpt_callbacks.recipe.argument_agreement import argument_mistakes
from ko_cpt_callbacks.recipe.data_agreement import data_mistakes
from ko_cpt_callbacks.recipe.model_agreement import model_mistakes
from ko_cpt_callbacks.recipe.number_source import source_mistakes
from ko_cpt_callbacks.recipe.raw import Told
from ko_cpt_callbacks.recipe.stage_agreement import stage_mistakes
from ko_cpt_callbacks.recipe.watch_agreement import watch_mistakes


def agreement_mistakes(document: Document, overridden: Iterable[Key] = ()) -> list[Mistake]:
    """Where parts of the document contradict each other.

    Args:
        document: The document, overrides applied.
        overridden: Keys whose values are not the file's; their numbers need no source.
    """
    values = document.values
    found: list[Told] = [
        *data_mistakes(values),
        *model_mistakes(values),
        *stage_mistakes(values),
        *watch_mistakes(values),
        *argument_mistakes(values),
        *source_mistakes(document, tuple(overridden)),
    ]
    return [
        Mistake(key, line_of(document, key), what, expected, near, hides=False) for key, what, expected, near in found
    ]
