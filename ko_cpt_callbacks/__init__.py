"""Exact loss, perplexity and bits per byte for continued pretraining, and a judge that says what is wrong.

Public names are loaded on first use, so that importing the package loads neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ko_cpt_callbacks.compare.baseline import Baseline
    from ko_cpt_callbacks.compare.reference import target_from_baseline
    from ko_cpt_callbacks.compare.registry import find_baseline
    from ko_cpt_callbacks.errors import BaselineError, ConfigurationError, KoCPTError, RecipeError, UnreadableRunError
    from ko_cpt_callbacks.hf.callback import KoCPTCallback
    from ko_cpt_callbacks.rules.monitor import Monitor
    from ko_cpt_callbacks.run.finding import Finding, Severity
    from ko_cpt_callbacks.run.output import MemoryOutput, Output
    from ko_cpt_callbacks.training.recipe import Recipe
    from ko_cpt_callbacks.watch.target import Target

__version__ = "0.1.0"

_HOMES = {
    "Baseline": "ko_cpt_callbacks.compare.baseline",
    "BaselineError": "ko_cpt_callbacks.errors",
    "ConfigurationError": "ko_cpt_callbacks.errors",
    "Finding": "ko_cpt_callbacks.run.finding",
    "KoCPTCallback": "ko_cpt_callbacks.hf.callback",
    "KoCPTError": "ko_cpt_callbacks.errors",
    "MemoryOutput": "ko_cpt_callbacks.run.output",
    "Monitor": "ko_cpt_callbacks.rules.monitor",
    "Output": "ko_cpt_callbacks.run.output",
    "Recipe": "ko_cpt_callbacks.training.recipe",
    "RecipeError": "ko_cpt_callbacks.errors",
    "Severity": "ko_cpt_callbacks.run.finding",
    "Target": "ko_cpt_callbacks.watch.target",
    "UnreadableRunError": "ko_cpt_callbacks.errors",
    "find_baseline": "ko_cpt_callbacks.compare.registry",
    "target_from_baseline": "ko_cpt_callbacks.compare.reference",
}

__all__ = [
    "Baseline",
    "BaselineError",
    "ConfigurationError",
    "Finding",
    "KoCPTCallback",
    "KoCPTError",
    "MemoryOutput",
    "Monitor",
    "Output",
    "Recipe",
    "RecipeError",
    "Severity",
    "Target",
    "UnreadableRunError",
    "__version__",
    "find_baseline",
    "target_from_baseline",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
