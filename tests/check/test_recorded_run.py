"""run.json to what a run was told; a file that cannot be trusted is refused rather than half believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ko_cpt_callbacks.check.asked import read_recorded_run
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.watch.spec import WatchSpec
from ko_cpt_callbacks.watch.target import parse_targets


def _run(path: Path, **changes: Any) -> Path:
    told = {"task": "sft", "rules": ["non-finite"], "targets": ["ppl<20"], "language": "en", **changes}
    path.write_text(json.dumps({"format": 1, "watch": told, "stop": None}))
    return path


def test_what_a_run_was_told(tmp_path: Path) -> None:
    """Task, targets, rules and language; what is missing is the default."""
    spec = WatchSpec(parse_targets(["ppl<20"]), "sft", ("non-finite",), language="ko")
    assert read_recorded_run(_run(tmp_path / "a.json", language="ko")).spec == spec
    assert read_recorded_run(_run(tmp_path / "c.json", language="xx")).spec.language == "en"
    (tmp_path / "b.json").write_text('{"format": 1, "watch": {"task": "cpt"}}')
    assert read_recorded_run(tmp_path / "b.json").spec == WatchSpec()


def test_codes_of_an_earlier_version(tmp_path: Path) -> None:
    """They are read by their present names, each once, in their place: a run of then is judged as one of now."""
    then = ["trackers-not-reached", "exact-loss-absent", "non-finite", "nan-filter-on", "of-a-later-version"]
    found = read_recorded_run(_run(tmp_path / "a.json", rules=then)).spec
    assert found.rules == ("note", "non-finite", "of-a-later-version")
    assert read_recorded_run(_run(tmp_path / "b.json", rules=["stopped-before"])).spec.rules == ("note",)


def test_limits(tmp_path: Path) -> None:
    """As they were given; a file of a version without them has none."""
    limits = {"not-enough-data": {"min_evaluations": 5}, "of-a-later-version": {"height": 2.5}}
    assert read_recorded_run(_run(tmp_path / "a.json", limits=limits)).spec.limits == limits
    assert read_recorded_run(_run(tmp_path / "b.json")).spec.limits == {}


def test_why_it_was_stopped(tmp_path: Path) -> None:
    """Code, step and sentence; what is no finding is left out."""
    path = tmp_path / "run.json"
    stop = '{"code": "a", "step": 3, "short": "s", "detail": "d", "x": 1}'
    path.write_text(f'{{"format": 1, "watch": {{"task": "cpt"}}, "stop": {stop}}}')
    assert read_recorded_run(path).stop == {"code": "a", "step": 3, "short": "s", "detail": "d"}
    path.write_text('{"format": 1, "watch": {"task": "cpt"}, "stop": {"code": "a", "step": 3, "message": "m"}}')
    assert read_recorded_run(path).stop == {"code": "a", "step": 3, "short": "m", "detail": "m"}
    path.write_text('{"format": 1, "watch": {"task": "cpt"}, "stop": {"code": "a", "step": true, "short": 1}}')
    assert read_recorded_run(path).stop == {"code": "a", "step": None, "short": "", "detail": ""}
    path.write_text('{"format": 1, "watch": {"task": "cpt"}, "stop": [1]}')
    assert read_recorded_run(path).stop is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"format": 1,', ":1: JSON cut off or damaged; expected a run.json; move it away"),
        ("[" * 100_000, ": JSON cut off or damaged; expected a run.json"),
        ("[]", ": found a list, expected a run.json (an object)"),
        ('{"format": 2}', ': "format" is 2, expected 1; a newer ko-cpt reads it, or move it away'),
        ('{"format": true}', ': "format" is True, expected 1'),
        ('{"format": 1}', ': found null under "watch", expected an object'),
        ('{"format": 1, "watch": {"task": "ctp"}}', ": \"watch.task\" is 'ctp', expected one of cpt, sft, other"),
        ('{"format": 1, "watch": {"task": ["cpt"]}}', ": \"watch.task\" is ['cpt'], expected one of cpt, sft, other"),
        ('{"format": 1, "watch": {"task": "cpt", "rules": "all"}}', ": \"watch.rules\" is 'all', expected a list of"),
        ('{"format": 1, "watch": {"task": "cpt", "limits": [3]}}', ': "watch.limits" is [3], expected limits by code'),
        ('{"format": 1, "watch": {"task": "cpt", "limits": {"a": 3}}}', ": \"watch.limits\" is {'a': 3}, expected"),
        (
            '{"format": 1, "watch": {"task": "cpt", "limits": {"a": {"b": true}}}}',
            ': "watch.limits.a.b" is True, expected a number',
        ),
        (
            '{"format": 1, "watch": {"task": "cpt", "targets": [3]}}',
            ': "watch.targets" is [3], expected a list of texts',
        ),
    ],
    ids=lambda text: text[:40],
)
def test_what_cannot_be_believed(tmp_path: Path, text: str, expected: str) -> None:
    """One line: where, found, expected, what to do."""
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(UnreadableRunError) as caught:
        read_recorded_run(path)
    assert str(caught.value).startswith(f"{path}{expected}")
    assert "\n" not in str(caught.value)
    assert "move it away" in str(caught.value)
