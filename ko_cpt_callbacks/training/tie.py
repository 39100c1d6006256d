"""Two matrices out of one: an input embedding and a head that were tied, with the same numbers to begin with."""

from __future__ import annotations

from typing import Any

from torch import nn

from ko_cpt_callbacks.hf.block_reading import text_config
from ko_cpt_callbacks.hf.embedding_reading import embedding_parts


def is_tied(model: Any) -> bool:
    """Whether input embedding and head read one matrix; for a model with adapters the one inside them."""
    one, other = model.get_input_embeddings(), model.get_output_embeddings()
    return one is not None and other is not None and embedding_parts(one).same_as(embedding_parts(other))


def untie(model: Any) -> bool:
    """Give the head a matrix of its own, and say so in the configuration, so that it is saved and loaded so.

    Do it before rows or adapters are added.

    Args:
        model: A causal language model of transformers, without adapters.

    Returns:
        Whether there was anything to do.
    """
    tied = is_tied(model)
    if tied:
        head = model.get_output_embeddings()
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=head.weight.requires_grad)
    for config in (model.config, text_config(model)):
        if config is not None:
            config.tie_word_embeddings = False
    if getattr(model, "all_tied_weights_keys", None):  # transformers 5: what saving leaves out
        model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)
    return tied
