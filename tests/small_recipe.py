"""A recipe on which little is trained, for what happens to its texts before."""

from __future__ import annotations


def small_recipe(sources: str, mix: str, held_out: float) -> str:
    """The page of one stage of two steps, on a tiny Llama with its own tokenizer, without near duplicates.

    Args:
        sources: A line of YAML each; ``ko`` is evaluated on, and the tokenizer learns from it.
        mix: In braces.
        held_out: Share of ``ko``.
    """
    listed = "".join(f"    {line}\n" for line in sources.splitlines())
    return _PAGE.format(sources=listed, mix=mix, held_out=held_out)


_PAGE = """
id: small
title: "Small"
base:
  build:
    family: llama
    hidden_size: 32
    intermediate_size: 64
    num_hidden_layers: 1
    num_attention_heads: 2
    tokenizer: {{algorithm: byte-level-bpe, vocab_size: 400, sources: [ko]}}
  dtype: float32
data:
  sequence_length: 64
  packing: true
  held_out: {held_out}
  duplicates: near
  sources:
{sources}  mix: {mix}
eval:
  ko: {{source: ko}}
stages:
  all:
    trains: {{input: all, output: all, layers: all}}
    arguments: {{max_steps: 2, per_device_train_batch_size: 2, report_to: none, use_cpu: true}}
"""
