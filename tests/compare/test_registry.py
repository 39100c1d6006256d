"""Baselines by their id: those of the package first, then the user's own from a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from compare.tiny_run import VALID, write

import ko_cpt_callbacks
from ko_cpt_callbacks.compare.registry import (
    FOLDER_VARIABLE,
    baseline_ids,
    bundled_ids,
    efficiency_table,
    entries,
    find_baseline,
    own_folder,
)
from ko_cpt_callbacks.errors import BaselineError, ConfigurationError


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the user's own baselines."""
    folder = tmp_path / "own"
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    return folder


def test_by_id() -> None:
    """The package's function finds RedWhale, with its five stages in order."""
    found = ko_cpt_callbacks.find_baseline("redwhale")

    assert isinstance(found, ko_cpt_callbacks.Baseline)
    assert [stage.name for stage in found.stages] == ["embedding", "odd-layers", "even-layers", "lora", "sft"]
    assert [stage.reference for stage in found.stages] == [True, True, True, True, False]


def test_an_unknown_id() -> None:
    """Says what was found, what there is and what was meant."""
    with pytest.raises(ConfigurationError) as caught:
        find_baseline("redwale")

    assert str(caught.value) == (
        f"baseline 'redwale': found no such id, expected one of {', '.join(bundled_ids())}; list them with "
        "`ko-cpt baselines`. Did you mean redwhale?"
    )


@pytest.mark.parametrize("name", ["", "..", "../data/redwhale", "/etc/passwd", "redwhale.yaml"])
def test_an_id_is_no_path(name: str) -> None:
    """Nothing outside the two folders is ever opened."""
    with pytest.raises(ConfigurationError, match=r"found (no such id|a path), expected"):
        find_baseline(name)


def test_own_baselines_stand_beside(own: Path) -> None:
    """A file in the user's folder is found by its id, after those of the package."""
    write(own)

    assert baseline_ids() == (*bundled_ids(), "tiny")
    assert find_baseline("tiny").title == "Tiny"


def test_an_own_baseline_hides_none_of_the_package(own: Path) -> None:
    """A file with the id of a published run is left aside: the id means the same for everybody."""
    write(own, VALID.replace("id: tiny", "id: redwhale"), "redwhale.yaml")

    assert baseline_ids() == bundled_ids()
    assert find_baseline("redwhale").title != "Tiny"


def test_a_broken_own_baseline_harms_no_other(own: Path) -> None:
    """The others are listed, its error comes beside them, and asking for it raises that error."""
    path = write(own, "id: tiny\n")
    write(own, VALID.replace("id: tiny", "id: whole"), "whole.yaml")
    found, errors = entries()

    assert [entry.file.id for entry in found] == [*bundled_ids(), "whole"]
    assert [str(error).startswith(str(path)) for error in errors] == [True]
    with pytest.raises(BaselineError):
        find_baseline("tiny")


def test_where_own_baselines_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder that the variable names, else in the home folder; it need not exist."""
    monkeypatch.delenv(FOLDER_VARIABLE)
    monkeypatch.setenv("HOME", "/nowhere")

    assert own_folder() == Path("/nowhere/.ko_cpt/baselines")
    assert baseline_ids() == bundled_ids()


def test_efficiency_is_the_note_s_table() -> None:
    """Tokens per GPU hour of three runs, the fewest first, with the GPU: 2.5M, 19.5M and 32.4M."""
    rows = [(row.id, row.gpu, round(row.tokens_per_gpu_hour / 1e6, 1)) for row in efficiency_table()]

    assert rows == [
        ("medgemma-a6000-unconfirmed", "A6000 (48GB)", 2.5), ("redwhale", "H100", 19.5), ("thunder-llm", "H100", 32.4)
    ]  # fmt: skip
    assert [row.grade for row in efficiency_table()] == ["UNCONFIRMED", "S", "UNCONFIRMED"]
    assert all(row.low < row.tokens_per_gpu_hour < row.high for row in efficiency_table())


def test_quantisation_offsets() -> None:
    """8-bit loading added 0.0109 nats to a Chinese model, 4-bit loading 0.0779; Korean models lost less to 4 bits."""
    found = [
        (entry.file.id, item.quantization, round(item.reach().value, 4))
        for entry in entries()[0] for item in entry.file.quantization_offsets
    ]  # fmt: skip

    assert found == [
        ("chinese-llama-2-7b", "8-bit", 0.0109), ("chinese-llama-2-7b", "4-bit", 0.0779),
        ("kanana-1.5-v-3b", "4-bit", 0.0444), ("kanana-1.5-v-3b", "4-bit", 0.0633),
        ("llama-3.2-11b-vision", "4-bit", 0.0742), ("phi4-pruned-quantized", "4-bit", 0.0121),
    ]  # fmt: skip


def test_finding_one_loads_nothing_heavy() -> None:
    """A baseline is found where torch and numpy are not even looked for."""
    code = (
        "import sys; from ko_cpt_callbacks import find_baseline; find_baseline('redwhale');"
        "print([n for n in ('torch', 'transformers', 'numpy', 'typer', 'rich') if n in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )

    assert found.stdout == "[]\n"
