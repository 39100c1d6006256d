"""Kinds of values of a recipe, and the mapping that all its parts are: nothing is converted on the quiet."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
"""A name that the recipe gives: it becomes part of keys (``eval_ko``), folders and error messages. 64 letters are as
many as a baseline's id has; a file's name may have 255 bytes on most systems."""

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]
# The largest sizes are chosen, not measured: far beyond any model, and small enough to compute with.
MOST = 10**12
Count = Annotated[int, Field(ge=1, le=MOST)]
Index = Annotated[int, Field(ge=0, le=MOST)]
Depth = Annotated[int, Field(ge=1, le=10_000)]
"""Blocks of a model: they are counted one by one."""

Share = Annotated[float, Field(gt=0, lt=1)]
Limit = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(gt=0)]
Size = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,3}$")]
Width = Annotated[int, Field(ge=32, le=MOST, multiple_of=32)]
"""A multiple of 32: the 8-bit kernels want it."""

Family = Literal["llama", "mistral", "gemma3", "gpt_neox", "qwen2"]
"""``model_type`` of transformers; ``gemma3`` is its text model, with or without the vision tower around it."""

NewRow = Literal["mean", "first", "random"]
RowsWord = Literal["none", "new", "all"]
LayersWord = Literal["none", "odd", "even", "all"]
Quantization = Literal["none", "8-bit", "4-bit"]


class Part(BaseModel):
    """A mapping of a recipe: unknown keys are refused, a text is no number, and nothing changes once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
