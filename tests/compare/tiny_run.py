"""A baseline's file that is valid, to be broken by tests: made up, with one figure of each kind."""

from __future__ import annotations

from pathlib import Path

VALID = """\
id: tiny
title: Tiny
version: 1
status: published
kind: continued pretraining
language: ko
base_model: {quoted: Base, grade: V, source: paper, locator: page 1}
parameters: {quoted: 1.3B, value: 1.3e9, grade: V, source: paper, locator: page 1}
tokenizer:
  name: not stated
  vocabulary: {quoted: "32,000", value: 32000, grade: S, source: paper, locator: page 2}
  bytes_per_token: not stated
data:
  text: not stated
  tokens: {quoted: 2.0B, value: 2.0e9, grade: V, source: paper, locator: page 1}
  bytes: {quoted: 8.0 GB, value: 8.0e9, grade: V, source: paper, locator: page 1}
  documents: not stated
hardware: {gpu: not stated, gpu_hours: not stated, quantization: not stated}
method: {summary: one stage, new_rows: not stated, hyper_parameters: {learning_rate: not stated}}
stages:
  - name: whole
    title: all of it
    trains: {input: all, output: all, layers: all, adapter: none}
    reference: true
    grade: V
    source: paper
    locator: page 3
values:
  - stage: whole
    split: eval
    metric: loss
    unit: nats per token
    quoted: "3.1"
    value: 3.1
    grade: V
    source: paper
    locator: table 1
    position: not stated
    set: not stated
  - stage: whole
    split: eval
    metric: bits_per_byte
    unit: bits per byte
    origin: computed
    formula: loss / ln 2 / (bytes / tokens)
    inputs: {loss: "3.1", tokens: 2.0B, bytes: 8.0 GB}
    value: 1.0797
    low: 1.0413
    high: 1.1181
    grade: D
    position: not stated
    set: not stated
benchmarks: not stated
efficiency: not stated
sources:
  paper:
    title: A paper
    url: https://arxiv.org/abs/0000.00000
    bibtex: "@misc{a, url = {https://arxiv.org/abs/0000.00000}}"
"""


def write(folder: Path, text: str | bytes = VALID, name: str = "tiny.yaml") -> Path:
    """A file with this text."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path
