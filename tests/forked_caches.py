"""What every process of `forked` would otherwise make anew: the fork server imports this, and its children have it."""

from __future__ import annotations

import contextlib

import tiny

from ko_cpt_callbacks.messages.catalogue import catalogue

# Hundreds of patterns are compiled for it as the first checkpoint of a process is written; transformers 4.57 has none.
with contextlib.suppress(ImportError):
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("llama")

catalogue()
tiny.byte_level_tokenizer()
