"""What a finding's sentences show, as values: tests of rules compare these, and the snapshots the words."""

from __future__ import annotations

from typing import Any

from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.messages.formatter import placeholders
from ko_cpt_callbacks.run.finding import Finding

__all__ = ["shown"]


def shown(finding: Finding) -> tuple[str, dict[str, Any]]:
    """Variant and values of a finding: those that its detail shows, numbers to four decimals; step and set apart."""
    names = placeholders(catalogue().wording(finding.code, finding.variant).detail)
    return finding.variant, {name: _plain(finding.values[name]) for name in sorted(names & finding.values.keys())}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value
