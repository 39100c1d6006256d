"""Writes the parts of ``docs/findings`` that follow from the code: ``python docs/findings.py``.

A page has three parts, with marks between them: what the catalogue has of the code, with examples that the rule has
just judged (`example_rows`); what is written by hand; and how the rule decides, with its numbers. The first and the
last are made here. Without an argument the pages are written, a page that is missing with an empty middle; with
``--check`` nothing is, and the status is 1 where a page differs. A page of a code that is gone is not removed.
``docs/ko/findings.md`` is made whole: every code in Korean, on one page.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import Final

from example_rows import EXAMPLES
from made_page import keep

from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.rules.registry import ALL_RULES
from ko_cpt_callbacks.rules.rule import Rule, limits_of
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.signal import limits, run_limits

FOLDER: Final = Path(__file__).parent / "findings"
KOREAN: Final = Path(__file__).parent / "ko" / "findings.md"
COMMAND: Final = "python docs/findings.py"
MADE: Final = f"<!-- Made from the code by `{COMMAND}`, down to the next mark. -->"
BY_HAND: Final = "<!-- Written by hand, down to the next mark. -->"
MIDDLE: Final = "## What it is not\n\nNothing is written here yet."

_WIDTH: Final = 118
_RULES: Final = {rule.code: rule for rule in ALL_RULES}


# -- one page ----------------------------------------------------------------------------------------------------------


def findings(code: str) -> list[Finding]:
    """The examples of a code, judged."""
    return [example.finding(code) for example in EXAMPLES[code]]


def severities(code: str) -> str:
    """The severities that its findings can have, the gravest first."""
    *others, last = [one.value for one in _RULES[code].info.severities]
    return f"{', '.join(others)} or {last}" if others else last


def top(code: str) -> str:
    """Title, severity, meaning, what to do, examples."""
    said, info = catalogue().explanation(code), _RULES[code].info
    stop = f'May stop a run: `stop_on={{"{code}"}}`.' if info.may_stop else "Never stops a run."
    parts = [
        f"# `{code}`", MADE, f"Severity: {severities(code)}. {stop} Since version {info.since}.",
        "## What it means", _facts(said.meaning),
        "## What to do", _facts(said.advice), "## What it says",
    ]  # fmt: skip
    for example, found in zip(EXAMPLES[code], findings(code), strict=True):
        parts += [_wrapped(f"{example.of}:"), f"```text\n{found.line()}\n```", _wrapped(found.message(), "> ")]
    if said.reasons:
        parts.append("## Its reasons")
    for reason, of_reason in said.reasons.items():
        parts += [f"### `{reason}`", _wrapped(of_reason.meaning)]
        parts += [_wrapped(f"Decided: {of_reason.decided}"), _wrapped(f"To do: {of_reason.advice}")]
    return "\n\n".join(parts)


def bottom(code: str) -> str:
    """How it is decided, and the rule's numbers."""
    rule = _RULES[code]
    path = f"{type(rule).__module__.replace('.', '/')}.py"
    text, explained = _docstring(rule)
    parts = [
        MADE, "## How it is decided", _facts(catalogue().explanation(code).decided),
        f"## The rule\n\n[{path}](../../{path})", text,
    ]  # fmt: skip
    explained = {**_limits(rule), **explained}
    numbers = [(name, value) for name, value in limits_of(rule).items() if name in explained]
    if numbers:
        rows = [f"| `{name}` | {value:.4g} | {_cell(explained[name])} |" for name, value in numbers]
        parts += [
            "A number that names no source is chosen, not measured.",
            "\n".join(["| number | value | what it is |", "|---|---|---|", *rows]),
        ]
    return "\n\n".join(parts)


def page(code: str, by_hand: str) -> str:
    """The whole page around its middle."""
    return f"{top(code)}\n\n{BY_HAND}\n\n{by_hand.strip()}\n\n{bottom(code)}\n"


def middle(path: Path) -> str:
    """What is written by hand in a page.

    Raises:
        ValueError: If the page has lost its marks.
    """
    _, mark, rest = path.read_text("utf-8").partition(f"\n{BY_HAND}\n")
    by_hand, end, _ = rest.partition(f"\n{MADE}\n")
    if not (mark and end):
        raise ValueError(f"{path.name}: expected a line {BY_HAND!r} and after it a line {MADE!r}")
    return by_hand.strip()


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _facts(text: str) -> str:
    """A paragraph, or a list where there are several facts."""
    facts = text.split("\n")
    if len(facts) == 1:
        return _wrapped(text)
    return "\n".join(_wrapped(fact, "  ").replace("  ", "- ", 1) for fact in facts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _docstring(rule: Rule) -> tuple[str, dict[str, str]]:
    """What a rule's class says of itself, and of its arguments."""
    text = (inspect.getdoc(type(rule)) or "").replace("``", "`")
    said, _, arguments = text.partition("\n\nArgs:\n")
    explained: dict[str, str] = {}
    name = ""
    for line in arguments.splitlines():
        begins = re.match(r"    (\w+): (.*)", line)
        if begins:
            name = begins[1]
            explained[name] = begins[2]
        elif line.strip() and name:
            explained[name] += " " + line.strip()
    return said, explained


def _limits(rule: Rule) -> dict[str, str]:
    """What `signal/limits.py` says of the limits that are a rule's defaults, by the rule's names of them."""
    texts: dict[str, str] = {}
    body = [one for module in (limits, run_limits) for one in ast.parse(inspect.getsource(module)).body]
    for one, text in pairwise(body):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and isinstance(text, ast.Expr):
            texts[one.target.id] = " ".join(str(ast.literal_eval(text.value)).replace("``", "`").split())
    found: dict[str, str] = {}
    kinds = [kind for kind in reversed(type(rule).__mro__) if issubclass(kind, Rule)]
    for one in (one for kind in kinds for one in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(kind))))):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and isinstance(one.value, ast.Attribute):
            found[one.target.id] = texts.get(one.value.attr, "")
    return found


# -- all of them -------------------------------------------------------------------------------------------------------


def index() -> str:
    """The list of all codes."""
    rows = []
    for code, rule in _RULES.items():
        stops = "yes" if rule.info.may_stop else ""
        rows.append(f"| [`{code}`]({code}.md) | {severities(code)} | {stops} | {_cell(_first(code))} |")
    head = ["| code | severity | may stop a run | what it means |", "|---|---|---|---|"]
    return "\n\n".join([
        "# Findings", MADE,
        _wrapped(
            "Everything that `KoCPTCallback` and `ko-cpt check` can say, each on a page of its own: what it means, "
            "what to do, what looks like it and is healthy, and how it is decided, with every number. "
            "`ko-cpt explain CODE` says the same in short."
        ),
        "\n".join([*head, *rows]),
        _wrapped(
            "Nothing stops a run unless `stop_on` names the code. The sentences in the pages are what the rules print "
            "of the rows in [example_rows.py](../example_rows.py), which are made up."
        ),
    ]) + "\n"  # fmt: skip


def _first(code: str) -> str:
    """The first sentence of what it means."""
    return catalogue().explanation(code).meaning.replace("\n", " ").partition(". ")[0].rstrip(".") + "."


def korean() -> str:
    """Every code in Korean: what it means, and what to do."""
    parts = [
        "# 찾아내는 문제", MADE,
        "`KoCPTCallback`과 `ko-cpt check`가 찾아내는 모든 것입니다. 예문, 정상인데 비슷해 보이는 경우, 규칙의 숫자는\n"
        "코드마다 한 쪽인 [영어 문서](../findings/README.md)에 있습니다. `stop_on`에 적은 코드만 학습을 멈춥니다.",
    ]  # fmt: skip
    for code, rule in _RULES.items():
        said = catalogue("ko").explanation(code)
        stops = "학습을 멈출 수 있음" if rule.info.may_stop else "학습을 멈추지 않음"
        grades = ", ".join(one.value for one in rule.info.severities)
        parts += [f"## [`{code}`](../findings/{code}.md)", f"{grades} · {stops}", _facts(said.meaning)]
        parts.append(f"할 일:\n\n{_facts(said.advice)}")
    return "\n\n".join(parts) + "\n"


def pages() -> dict[Path, str]:
    """What every file is to hold."""
    texts = {}
    for code in _RULES:
        path = FOLDER / f"{code}.md"
        texts[path] = page(code, middle(path) if path.exists() else MIDDLE)
    return {**texts, FOLDER / "README.md": index(), KOREAN: korean()}


def main(*, check: bool) -> int:
    """Write what differs, or with ``check`` name it; the exit status."""
    try:
        made = pages()
    except ValueError as error:  # an example that shows something else now, a page without its marks
        print(f"docs/findings: {error}")
        return 1
    return keep(made, "findings", check=check)


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
