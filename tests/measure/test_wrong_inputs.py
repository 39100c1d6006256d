"""What `ko-cpt measure` cannot use: one line that says where, what was found and expected; nothing is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.measure.model import ModelChoice


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that can be measured, ``good``, and a text, ``ko.jsonl``."""
    folder = tmp_path_factory.mktemp("wrong")
    tokenizer = tiny.byte_level_tokenizer()
    tiny.llama(len(tokenizer), layers=1).save_pretrained(folder / "good")
    tokenizer.save_pretrained(folder / "good")
    (folder / "ko.jsonl").write_text(json.dumps({"text": tiny.korean()[0][:60]}), encoding="utf-8")
    return folder


def _copy(place: Path, name: str) -> Path:
    return Path(shutil.copytree(place / "good", place / name))


def _no_tokenizer(place: Path) -> list[str]:
    folder = _copy(place, "no-tokenizer")
    for path in folder.glob("token*"):
        path.unlink()
    return [str(folder)]


def _no_weights(place: Path) -> list[str]:
    folder = _copy(place, "no-weights")
    (folder / "model.safetensors").unlink()
    return [str(folder)]


def _cut_weights(place: Path) -> list[str]:
    folder = _copy(place, "cut-weights")
    payload = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(payload[: len(payload) // 2])
    return [str(folder)]


def _without_head(place: Path) -> list[str]:
    from safetensors.torch import load_file, save_file

    folder = _copy(place, "without-head")
    kept = {name: part for name, part in load_file(folder / "model.safetensors").items() if name != "lm_head.weight"}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return [str(folder)]


def _encoder(place: Path) -> list[str]:
    from transformers import BertConfig, BertForMaskedLM

    folder = place / "encoder"
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertForMaskedLM(BertConfig(vocab_size=len(tiny.byte_level_tokenizer()), **sizes)).save_pretrained(folder)
    tiny.byte_level_tokenizer().save_pretrained(folder)
    return [str(folder)]


def _adapter(place: Path) -> Path:
    folder = place / "adapter"
    if not folder.exists():
        tiny.lora(tiny.llama(len(tiny.byte_level_tokenizer()), layers=1)).save_pretrained(folder)
    return folder


def _other_adapter(place: Path) -> list[str]:
    folder = place / "other-adapter"
    wide = tiny.llama(len(tiny.byte_level_tokenizer()), layers=1, hidden=64)
    tiny.lora(wide, modules_to_save=None).save_pretrained(folder)
    return [str(place / "good"), "--adapter", str(folder)]


def _other_tokenizer(place: Path) -> list[str]:
    folder = place / "other-tokenizer"
    tiny.llama(300, layers=1).save_pretrained(folder)
    tiny.byte_level_tokenizer().save_pretrained(folder)
    return [str(folder)]


def _own_code(place: Path) -> list[str]:
    folder = _copy(place, "own-code")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config |= {"model_type": "made_up", "auto_map": {"AutoConfig": "x.Y", "AutoModelForCausalLM": "x.Z"}}
    (folder / "config.json").write_text(json.dumps(config))
    return [str(folder)]


def _quantized_already(place: Path) -> list[str]:
    folder = _copy(place, "quantized")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    return [str(folder), "--quantization", "4-bit"]


def _blank_text(place: Path) -> list[str]:
    (place / "blank.txt").write_text("\n \n", encoding="utf-8")
    return [str(place / "good"), "--text", str(place / "blank.txt")]


def _other_column(place: Path) -> list[str]:
    (place / "column.jsonl").write_text(json.dumps({"body": "가"}), encoding="utf-8")
    return [str(place / "good"), "--text", str(place / "column.jsonl")]


def _not_utf8(place: Path) -> list[str]:
    (place / "cp949.txt").write_bytes("한국어".encode("cp949"))
    return [str(place / "good"), "--text", str(place / "cp949.txt")]


def _good(*more: str) -> Callable[[Path], list[str]]:
    return lambda place: [str(place / "good"), *(part.replace("HERE", str(place)) for part in more)]


WRONG: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "empty name": (lambda place: [""], "MODEL: found an empty text"),
    "no folder": (lambda place: [str(place / "none")], "MODEL: found no folder"),
    "a file": (lambda place: [str(place / "ko.jsonl")], "MODEL: found the file"),
    "no model in it": (lambda place: [str(place)], "MODEL: found no config.json"),
    "unknown id": (lambda place: ["nobody/nothing"], "MODEL: found no"),
    "twice": (lambda place: [str(place / "good"), str(place / "good")], "MODEL: found one twice"),
    "no tokenizer": (_no_tokenizer, "MODEL: found no tokenizer"),
    "no weights": (_no_weights, "MODEL: found no model that can be loaded"),
    "cut weights": (_cut_weights, "MODEL: found no model that can be loaded"),
    "weights missing": (_without_head, "MODEL: found 1 weights missing"),
    "encoder": (_encoder, "MODEL: found losses that depend on later tokens"),
    "own code": (_own_code, "code of its own, which is never run"),
    "other tokenizer": (_other_tokenizer, "the tokenizer is another model's"),
    "adapter alone": (lambda place: [str(_adapter(place))], "MODEL: found an adapter without its base"),
    "no adapter": (_good("--adapter", "HERE/good"), "--adapter: found no adapter_config.json"),
    "other adapter": (_other_adapter, "--adapter: found nothing in"),
    "adapter on two": (_good("HERE/other", "--adapter", "x"), "--adapter: found 2 models"),
    "dtype": (_good("--dtype", "bf16"), "--dtype: found 'bf16', expected one of"),
    "quantization": (_good("--quantization", "8bit"), "Did you mean 8-bit?"),
    "quantized already": (_quantized_already, "weights that were saved quantized"),
    "device": (_good("--device", "gpu"), "--device: found 'gpu'"),
    "device of another kind": (_good("--device", "meta"), "--device: found 'meta', expected cpu, cuda or cuda:1"),
    "no such GPU": (_good("--device", "cuda:99"), "--device cuda:99: found no such GPU"),
    "window": (_good("--window", "3"), "--window: found 3"),
    "window of more": (_good("--window", "4096"), "--window: found 4096, expected at most 512"),
    "context": (_good("--window", "64", "--context", "64"), "--context: found 64 tokens of a window of 64"),
    "no context": (_good("--context", "0"), "--context: found 0, expected a whole number from 1"),
    "batch": (_good("--batch-size", "0"), "--batch-size: found 0"),
    "unit": (_good("--unit", "page"), "--unit: found 'page'"),
    "no text": (_good("--text", "HERE/none.txt"), "--text: found no file"),
    "empty text": (_good("--text", ""), "--text: found an empty text"),
    "unknown base": (_good("--base", "nobody/nothing"), "--base: found no tokenizer"),
    "text of a kind": (_good("--text", "HERE/text.pdf"), "--text: found"),
    "blank text": (_blank_text, "--text: found no text in"),
    "other column": (_other_column, "no column 'text'"),
    "not UTF-8": (_not_utf8, "which cannot be read as text in UTF-8"),
    "a set twice": (_good("--text", "HERE/ko.jsonl", "--text", "HERE/sub/ko.jsonl"), "--text: found two sets named ko"),
}


@pytest.mark.parametrize("case", WRONG)
def test_one_line_and_nothing_written(case: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is said in one line on stderr with status 2, and no folder of results is begun."""
    monkeypatch.chdir(place)
    (place / "sub").mkdir(exist_ok=True)
    shutil.copy(place / "ko.jsonl", place / "sub" / "ko.jsonl")
    made, said = WRONG[case]
    args = made(place)
    text = [] if "--text" in args else ["--text", str(place / "ko.jsonl")]
    device = [] if "--device" in args else ["--device", "cpu"]
    found = CliRunner().invoke(app, ["measure", *args, *text, *device, "-o", str(tmp_path / "out")])
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr.startswith("ko-cpt measure: ")
    assert said in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_another_measurement_is_not_gone_on_with(place: Path, tmp_path: Path) -> None:
    """Sums made with another window, or damaged ones, are named in one line and stay as they are."""
    args: list[Any] = ["measure", str(place / "good"), "--text", str(place / "ko.jsonl"), "--device", "cpu"]
    first = CliRunner().invoke(app, [*args, "-o", str(tmp_path), "--window", "64"])
    assert first.exit_code == 0, first.output
    file = next(tmp_path.rglob("0.jsonl"))
    kept = file.read_bytes()
    other = CliRunner().invoke(app, [*args, "-o", str(tmp_path), "--window", "32"])
    assert (other.exit_code, "with window: 64, expected 32" in other.stderr) == (2, True)
    assert file.read_bytes() == kept
    file.write_bytes(b"{}\n" + kept)
    damaged = CliRunner().invoke(app, [*args, "-o", str(tmp_path), "--window", "64"])
    assert (damaged.exit_code, "found sums that cannot be read" in damaged.stderr) == (2, True)
    assert len(damaged.stderr.splitlines()) == 1


def test_a_run_of_the_same_name_stays(place: Path, tmp_path: Path) -> None:
    """Where the folder of results would be a run's with its model, it is refused, and no file of it changes."""
    run = tmp_path / "runs" / "mine"
    shutil.copytree(place / "good", run)
    (run / "ko_cpt").mkdir()
    (run / "ko_cpt" / "run.json").write_text("{}", encoding="utf-8")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    args = ["measure", str(run), "--text", str(place / "ko.jsonl"), "--device", "cpu", "-o", str(run.parent)]
    found = CliRunner().invoke(app, args)
    assert (found.exit_code, "that is no measurement" in found.stderr) == (2, True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_names_of_results(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is named ``..`` has its results inside the folder; two of one name are refused."""
    model = tmp_path / "b" / "good"
    shutil.copytree(place / "good", model)
    (model / "sub").mkdir()
    monkeypatch.chdir(model / "sub")
    assert ModelChoice("..").short_name == "good"
    args = ["measure", str(place / "good"), str(model), "--text", str(place / "ko.jsonl"), "-o", str(tmp_path / "out")]
    found = CliRunner().invoke(app, args)
    assert (found.exit_code, "expected names that differ" in found.stderr) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_model_that_fails_on_a_window_is_said(tmp_path: Path) -> None:
    """One that takes fewer tokens than its configuration says is named in one line, with what to try."""
    from transformers import RobertaConfig, RobertaForCausalLM

    tokenizer = tiny.byte_level_tokenizer()
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=66, is_decoder=True, **sizes)
    RobertaForCausalLM(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "ko.txt").write_text("가나다 " * 100, encoding="utf-8")
    args = ["measure", str(tmp_path / "model"), "--text", str(tmp_path / "ko.txt"), "--device", "cpu"]
    found = CliRunner().invoke(app, [*args, "-o", str(tmp_path / "out")])
    assert (found.exit_code, "that fails on windows of 66 tokens" in found.stderr) == (2, True), found.output
    assert len(found.stderr.splitlines()) == 1
