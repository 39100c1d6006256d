"""``ko-cpt check --plot``: a picture that opens by itself, of one run or several."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from check.made_run import sums, write_run
from report.page import HOSTILE, rows, state
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app

if TYPE_CHECKING:
    from click.testing import Result

SVG = "{http://www.w3.org/2000/svg}"


def _check(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["check", *arguments])


def _drawn(folder: Path, *arguments: str) -> ElementTree.Element:
    """The picture that the command writes, read back."""
    file = folder / "drawn.svg"
    result = _check(*arguments, "--plot", str(file))
    assert result.exit_code == 0, result.output
    assert f"{file.name}: written" in result.stderr
    return ElementTree.fromstring(file.read_text("utf-8"))


def _curves(picture: ElementTree.Element) -> dict[str, list[tuple[float, float]]]:
    """The points of every curve by its name, in units of the drawing."""
    found = {}
    for path in picture.iter(f"{SVG}path"):
        name = path.get("data-name")
        if name is not None:
            points = re.findall(r"[ML](-?[\d.e+-]+) (-?[\d.e+-]+)", path.get("d", ""))
            found[name] = [(float(x), float(y)) for x, y in points]
    return found


def _texts(picture: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in picture.iter(f"{SVG}text")]


def test_a_run_is_drawn_with_what_was_found(tmp_path: Path) -> None:
    """Training and evaluation are curves in the box, a spike is the highest point, and findings stand at their step."""
    run = state(tmp_path / "run", rows(300, spike=151), max_steps=300)
    picture = _drawn(tmp_path, run)
    curves = _curves(picture)
    assert {name: len(points) for name, points in curves.items()} == {"training": 300, "eval": 30}
    (box,) = picture.iter(f"{SVG}svg") if picture.tag != f"{SVG}svg" else list(picture.iter(f"{SVG}svg"))[1:]
    left, _, wide, _ = map(float, box.get("viewBox", "").split())
    assert all(left <= x <= left + wide for points in curves.values() for x, _ in points)
    assert curves["training"].index(min(curves["training"], key=lambda point: point[1])) == 150
    assert {"loss-spike", "run", "100", "300"} <= set(_texts(picture))


def test_several_runs_share_their_charts(tmp_path: Path) -> None:
    """A curve a run in the chart of training and in that of each set; a run that cannot be read leaves the others."""
    runs = [state(tmp_path / name, rows(100), max_steps=100) for name in "ab"]
    file = tmp_path / "drawn.svg"
    result = _check(*runs, str(tmp_path / "lost.json"), "--plot", str(file))
    assert result.exit_code == 2
    picture = ElementTree.fromstring(file.read_text("utf-8"))
    names = [path.get("data-name") for path in picture.iter(f"{SVG}path") if path.get("data-name")]
    assert names == ["a", "b"] * 2
    assert {"Loss: training · nats per token", "Loss: eval · nats per token"} <= set(_texts(picture))


def test_a_name_is_inert(tmp_path: Path) -> None:
    """Markup in the name of a set is text, and the picture has no script, link or address."""
    picture = _drawn(tmp_path, write_run(tmp_path / "run", {f"eval_{HOSTILE}": sums()}, keep_rows=False))
    assert {node.tag.removeprefix(SVG) for node in picture.iter()} <= {
        "svg", "title", "style", "rect", "text", "g", "path",
    }  # fmt: skip
    assert not any("href" in name or name.startswith("on") for node in picture.iter() for name in node.attrib)
    assert any("<script>" in text for text in _texts(picture))


def test_the_picture_speaks_korean(tmp_path: Path) -> None:
    """With --lang ko titles and axes are Korean."""
    picture = _drawn(tmp_path, state(tmp_path / "run", rows(100), max_steps=100), "--lang", "ko")
    assert {"손실 · 토큰당 nats", "스텝"} <= set(_texts(picture))


def test_a_png_has_twice_the_pixels(tmp_path: Path) -> None:
    """A .png is the same picture, 1,760 pixels wide."""
    pytest.importorskip("resvg_py", reason="the extra png is not installed")
    file = tmp_path / "drawn.png"
    assert _check(state(tmp_path / "run", rows(30), max_steps=30), "--plot", str(file)).exit_code == 0
    found = file.read_bytes()
    assert found.startswith(b"\x89PNG")
    assert int.from_bytes(found[16:20], "big") == 2 * 880


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("drawn.pdf", "expected a file that ends in .svg or .png"),
        ("drawn.png", "pip install 'ko-cpt-callbacks[png]', or a file that ends in .svg"),
        ("taken/drawn.svg", "expected a place to write to"),
    ],
)
def test_what_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    """Another ending, a PNG that nothing here draws, a place that is a file: one line on stderr, no picture."""
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    (tmp_path / "taken").write_text("")
    result = _check(state(tmp_path / "run", rows(30), max_steps=30), "--plot", str(tmp_path / name))
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / name).exists()


def test_more_runs_than_colors_are_not_drawn(tmp_path: Path) -> None:
    """Nine runs would share eight colors: refused before any is judged."""
    runs = [str(tmp_path / f"{at}.json") for at in range(9)]
    result = _check(*runs, "--plot", str(tmp_path / "drawn.svg"))
    assert (result.exit_code, "found 9 runs, expected at most 8" in result.stderr) == (2, True)


def test_a_run_without_a_loss_is_not_drawn(tmp_path: Path) -> None:
    """Nothing to draw is said, and no empty picture is left."""
    result = _check(state(tmp_path / "run", [], max_steps=100), "--plot", str(tmp_path / "drawn.svg"))
    assert (result.exit_code, "--plot: No row has a loss." in result.stderr) == (2, True)
    assert not (tmp_path / "drawn.svg").exists()
