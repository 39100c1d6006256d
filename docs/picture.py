"""Draws README's picture, a public run with what ``ko-cpt check`` finds in it: ``python docs/picture.py``.

With ``--check`` nothing is written, and the status is 1 where the picture differs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from made_page import keep

ROOT: Final = Path(__file__).resolve().parents[1]
LOG: Final = ROOT / "examples" / "padding" / "trainer_state.json"
PICTURE: Final = ROOT / "docs" / "images" / "padding.svg"
COMMAND: Final = "python docs/picture.py"
GOAL: Final = 1.0986
"""Nats per token: a perplexity of 3, the goal of the run."""

_WIDTH: Final = 880
_HEIGHT: Final = 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 864, 44, 336
_HIGHEST: Final = 10.0
"""Nats per token at the upper edge."""
_COLORS: Final = {"error": "#b42318", "warning": "#b54708", "info": "#475467"}


def findings() -> list[dict[str, Any]]:
    """What the judge finds in the log, by step."""
    words = ["check", str(LOG), "--task", "cpt", "--json"]
    found = subprocess.run(
        [sys.executable, "-m", "ko_cpt_callbacks", *words], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    return sorted(json.loads(found.stdout)["findings"], key=lambda one: int(one["step"]))


def drawn() -> str:
    """The picture as SVG."""
    state = json.loads(LOG.read_text("utf-8"))
    rows = [(row["step"], row["loss"]) for row in state["log_history"] if "loss" in row]
    last_step, last_loss = rows[-1]

    def x(step: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * step / last_step

    def y(loss: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * min(loss, _HIGHEST) / _HIGHEST

    found = findings()
    padded = next(one["step"] for one in found if one["code"] == "run-seam")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
        ' font-family="system-ui, sans-serif" font-size="13" fill="#344054" role="img"'
        ' aria-labelledby="title description">',
        '<title id="title">Training loss of a public run, with findings</title>',
        f'<desc id="description">{escape(_description(found, last_step, last_loss))}</desc>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="8" fill="#ffffff"/>',
        f'<rect x="{x(padded):.1f}" y="{_TOP}" width="{_RIGHT - x(padded):.1f}" height="{_BOTTOM - _TOP}"'
        ' fill="#fef0c7"/>',
        f'<text x="{_LEFT}" y="26" font-size="15" font-weight="600">The goal was a perplexity below 3. The log says '
        "1.56, and it means nothing.</text>",
    ]
    for loss in range(0, 11, 2):
        parts.append(f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y(loss):.1f}" y2="{y(loss):.1f}" stroke="#e4e7ec"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss}</text>')
    for step in range(0, last_step + 1, 1000):
        parts.append(f'<text x="{x(step):.1f}" y="{_BOTTOM + 18}" text-anchor="middle">{step:,}</text>')
    parts += [
        f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">step</text>',
        f'<text x="16" y="{(_TOP + _BOTTOM) / 2}" text-anchor="middle" transform="rotate(-90 16 '
        f'{(_TOP + _BOTTOM) / 2})">training loss, nats per token</text>',
        f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y(GOAL):.1f}" y2="{y(GOAL):.1f}" stroke="#667085"'
        ' stroke-dasharray="5 4"/>',
        f'<text x="{_LEFT + 8}" y="{y(GOAL) - 6:.1f}">perplexity 3</text>',
        '<polyline fill="none" stroke="#175cd3" stroke-width="1.6" points="'
        + " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in rows)
        + '"/>',
    ]
    for index, one in enumerate(found):
        color, at, level = _COLORS[one["severity"]], x(one["step"]), _TOP + 22 + 21 * index
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{level:.1f}" y2="{_BOTTOM}" stroke="{color}" stroke-width="1"'
            ' opacity="0.6"/>'
        )
        side, gap = ("end", -6) if at > _RIGHT - 200 else ("start", 6)
        parts.append(
            f'<text x="{at + gap:.1f}" y="{level + 4:.1f}" fill="{color}" text-anchor="{side}">'
            f"<tspan font-weight=\"600\">{escape(one['code'])}</tspan> @{one['step']:,}</text>"
        )
    return "\n".join([*parts, "</svg>", ""])


def _description(found: list[dict[str, Any]], last_step: int, last_loss: float) -> str:
    named = ", ".join(f"{one['code']} at step {one['step']:,}" for one in found)
    return f"The loss falls from 6.1 to {last_loss:.2f} at step {last_step:,}. Findings: {named}."


def main(*, check: bool) -> int:
    """Write the picture, or with ``check`` compare it; the exit status."""
    return keep({PICTURE: drawn()}, "picture", check=check)


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
