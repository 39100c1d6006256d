"""Whether a model is what the recipe says it is: every refusal and the memory table were decided by that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.schema import Page

_PLAIN: Final = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_TYPES: Final = {"gemma3": ("gemma3", "gemma3_text")}


def check_shape(config: Any, page: Page) -> None:
    """Compare a model's configuration with its recipe.

    Args:
        config: Of transformers; of a model with a vision tower its text part is looked at.
        page: A recipe whose base is loaded.

    Raises:
        ConfigurationError: If they differ; all differences together.
    """
    text = config.get_text_config()
    wrong = [f"{name} {found!r} and not {expected!r}" for name, found, expected in _different(text, page)]
    if wrong:
        raise ConfigurationError(
            f"base.shape: found in the config.json of {page.base.model}: {', '.join(wrong)}; expected what the recipe "
            "says; correct its shape, or name another model"
        )
    known = getattr(text, "max_position_embeddings", None)
    if isinstance(known, int) and page.data.sequence_length > known:
        raise ConfigurationError(
            f"data.sequence_length: found {page.data.sequence_length:,}, expected at most the {known:,} tokens that "
            f"{page.base.model} has positions for"
        )


def _different(config: Any, page: Page) -> Iterator[tuple[str, Any, Any]]:
    shape = page.base.sizes
    types = _TYPES.get(shape.family, (shape.family,))
    if config.model_type not in types:
        yield "family", config.model_type, shape.family
        return
    expected = {name: getattr(shape, name) for name in _PLAIN}
    if hasattr(config, "num_key_value_heads"):
        expected["num_key_value_heads"] = shape.num_key_value_heads or shape.num_attention_heads
    if shape.head_dim is not None:
        expected["head_dim"] = shape.head_dim
    for name, value in expected.items():
        found = getattr(config, name, None)
        if found != value:
            yield name, found, value
    tied = bool(getattr(config, "tie_word_embeddings", False))
    if tied != shape.tie_word_embeddings:
        yield "tie_word_embeddings", tied, shape.tie_word_embeddings
