"""For every test: tiny models on few cores, and no network. Set before torch and transformers are imported."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
from collections.abc import Iterator
from typing import Final

import pytest
from typer import testing

# Several threads on a tiny model only wait for each other, the more so in tests with several processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
# bitsandbytes asks for compilation when it is imported, and torch imports its compiler for that: a second and more in
# every process. Tests of compiled models ask for the fixture `compiling`.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
# No test depends on how fast a machine is. Environments of frameworks have no hypothesis, and none of its tests.
with contextlib.suppress(ImportError):
    from hypothesis import HealthCheck, settings

    settings.register_profile("ko-cpt", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("ko-cpt")
# Sentences are compared in English, whatever the one who runs the tests speaks.
os.environ.pop("KO_CPT_LANG", None)

# CliRunner makes every command with all its options anew at every call, which takes longer than most commands do.
testing._get_command = functools.cache(testing._get_command)
importlib.import_module("composed_once")

TRAINING_ROOMS: Final = ("training", "e2e", "hf", "trainer_facts")
"""Folders whose files take seconds to minutes, the longest first."""


def pytest_configure(config: pytest.Config) -> None:
    """Let workers take files in the order below: by itself xdist puts files with few tests last, and those train."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files that train first: with several workers, the last one to end then ends with a small file."""
    order = {room: place for place, room in enumerate(TRAINING_ROOMS)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("/")[2].partition("/")[0], len(order)))


@pytest.fixture(autouse=True)
def _precision_ends_with_its_test() -> Iterator[None]:
    """Arguments with bf16 write it into the environment before transformers 5, and each later Trainer would take it."""
    before = os.environ.get("ACCELERATE_MIXED_PRECISION")
    yield
    if before is None:
        os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    else:
        os.environ["ACCELERATE_MIXED_PRECISION"] = before


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile compiles. torch_compile=True would write the environment for every later Trainer of the process."""
    import torch

    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "no")
    torch._dynamo.reset()
    assert torch.compile(identity := torch.nn.Identity(), backend="eager") is not identity


def pytest_collection_finish() -> None:
    """Every training collects garbage at its end, and most of its time goes into what torch and transformers are made
    of: from here on that is not looked through any more."""
    gc.collect()
    gc.freeze()
