"""`ko-cpt measure`: its numbers against those of float64 and of a Trainer, its files, its pages."""

from __future__ import annotations

import json
import math
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from jsonschema import Draft202012Validator
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

import ko_cpt_callbacks
from ko_cpt_callbacks import KoCPTCallback, keys
from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.measure.document import SplitBy, row_sums
from ko_cpt_callbacks.measure.measurement import MeasuredModel
from ko_cpt_callbacks.measure.model import ModelChoice, load_measured
from ko_cpt_callbacks.measure.page import ladder_lines, markdown_lines, model_lines, part_lines
from ko_cpt_callbacks.measure.run import MeasureSettings, measure_model
from ko_cpt_callbacks.measure.scorer import token_windows
from ko_cpt_callbacks.measure.text import MeasuredText, read_text_sets
from ko_cpt_callbacks.run.folder import read_eval_rows

WINDOW, CONTEXT = 48, 16
_LN2 = math.log(2.0)


def _tokenizer(kind: str) -> Any:
    if kind == "byte-level":
        return tiny.byte_level_tokenizer()
    if kind == "extended":
        extended = tiny.byte_level_tokenizer.__wrapped__(500)
        extended.add_tokens(["사람", "자유", "모든"])
        return extended
    if kind == "bytes":
        from transformers import ByT5Tokenizer

        return ByT5Tokenizer()
    return tiny.metaspace_tokenizer()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four tiny models with tokenizers of different kinds, wide weights, saved."""
    found = {}
    for seed, kind in enumerate(("byte-level", "extended", "bytes", "metaspace")):
        folder = tmp_path_factory.mktemp("models") / kind
        tokenizer = _tokenizer(kind)
        tiny.llama(len(tokenizer), seed=seed, layers=1, initializer_range=0.4).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        found[kind] = folder
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two Korean sets and an English one: short rows, and one document of several windows."""
    folder = tmp_path_factory.mktemp("texts")
    korean, english = tiny.korean(), tiny.english()
    sets = {"ko_prose": [korean[0] * 2, *korean[1:4]], "ko_law": list(korean[50:58]), "en": list(english[:3])}
    for name, texts in sets.items():
        lines = [json.dumps({"text": text[:400] if name != "ko_prose" else text}) for text in texts]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return [str(folder / f"{name}.jsonl") for name in sets]


def _measured(model: Path, files: list[str], folder: Path, **more: Any) -> MeasuredModel:
    settings = MeasureSettings(folder, **{"window": WINDOW, "context": CONTEXT, **more})
    return measure_model(ModelChoice(str(model), device="cpu"), read_text_sets(files), settings)


def _reference(folder: Path, text: MeasuredText) -> dict[str, float]:
    """Bits per byte of every set in float64, from windows cut here, over the bytes of the texts themselves."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder).double()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    front = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    found = {}
    for item in text.sets:
        bits = 0.0
        for document in item.documents:
            ids = tokenizer(document.text, add_special_tokens=False)["input_ids"]
            done = 0
            while done < len(ids):
                end = min(len(ids), done + (WINDOW - 1 if not done else WINDOW - 1 - CONTEXT))
                row = torch.tensor([[front, *ids[max(0, end - WINDOW + 1) : end]]])
                with torch.no_grad():
                    scores = torch.log_softmax(model(row).logits[0, :-1], dim=-1)
                losses = -scores.gather(1, row[0, 1:, None]).squeeze(1)
                bits += float(losses[len(losses) - (end - done) :].sum()) / _LN2
                done = end
        found[item.name] = bits / sum(len(document.text.encode()) for document in item.documents)
    return found


@pytest.mark.parametrize("kind", ["byte-level", "extended", "bytes", "metaspace"])
def test_bits_per_byte_are_those_of_float64(
    kind: str, models: dict[str, Path], files: list[str], tmp_path: Path
) -> None:
    """Whatever the tokenizer and the batch size, bits per byte are those of a computation in float64, to 1e-6."""
    wanted = _reference(models[kind], read_text_sets(files))
    for size in (1, 3, 8):
        measured = _measured(models[kind], files, tmp_path / str(size), batch_size=size)
        found = {item.name: item.number(keys.BITS_PER_BYTE) for item in measured.sets}
        assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=1e-6)
        assert measured.changed == 0
        assert found["ko"] == pytest.approx(
            sum(item.rows.nll.sum() for item in measured.sets if item.name.startswith("ko_"))
            / _LN2
            / sum(item.rows.bytes.sum() for item in measured.sets if item.name.startswith("ko_")),
            abs=1e-12,
        )


def test_a_trainer_gives_the_same_number(models: dict[str, Path], files: list[str], tmp_path: Path) -> None:
    """The callback in a Trainer that evaluates the same rows finds the same losses, bytes and texts row by row."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    text = read_text_sets(files[1:])
    measured = _measured(models["metaspace"], files[1:], tmp_path / "measured", window=500, context=None)
    tokenizer = AutoTokenizer.from_pretrained(models["metaspace"])
    rows = {
        item.name: [
            {"input_ids": [0, *tokenizer(one.text, add_special_tokens=False)["input_ids"]]} for one in item.documents
        ]
        for item in text.sets
    }
    model = AutoModelForCausalLM.from_pretrained(models["metaspace"])
    callback = KoCPTCallback(rules=())
    trainer = tiny.trainer(model, tmp_path, evaluation=rows, callbacks=[callback], processing_class=tokenizer)
    found = trainer.evaluate()
    for item in measured.sets:
        for key in (keys.EXACT_LOSS, keys.EXACT_LOSS_SE, keys.BITS_PER_BYTE, keys.BITS_PER_BYTE_SE):
            assert found[f"eval_{item.name}_{key}"] == pytest.approx(item.number(key), abs=1e-6)
        theirs = read_eval_rows(tmp_path / "ko_cpt" / "eval_rows" / f"eval_{item.name}-0.npz")
        assert item.entries[keys.FINGERPRINT] == f"utf8-{theirs.fingerprint()}"
        assert np.array_equal(item.rows.bytes, theirs.bytes)
        assert np.array_equal(item.rows.flags, theirs.flags)


def test_what_was_killed_goes_on(models: dict[str, Path], files: list[str], tmp_path: Path) -> None:
    """Killed between two documents, in the middle of a line, the next call scores the rest only, with equal sums."""
    whole = _measured(models["byte-level"], files, tmp_path / "whole")

    class Killed(BaseException):
        """Stands for a signal."""

    def kill(done: int, of: int) -> None:
        if done > of / 2:
            raise Killed

    settings = MeasureSettings(tmp_path / "killed", window=WINDOW, context=CONTEXT)
    choice, text = ModelChoice(str(models["byte-level"]), device="cpu"), read_text_sets(files)
    with pytest.raises(Killed):
        measure_model(choice, text, settings, kill)
    lines = next((tmp_path / "killed").rglob("0.jsonl"))
    assert json.loads(lines.read_text("utf-8").splitlines()[0])["format"] == 1
    kept = lines.read_text("utf-8").splitlines()
    assert 1 < len(kept) < 1 + sum(len(item.documents) for item in text.sets)
    with lines.open("a", encoding="utf-8") as file:
        file.write(kept[-1][: len(kept[-1]) // 2])
    scored: list[int] = []
    again = measure_model(choice, text, settings, lambda done, of: scored.append(done))
    assert len(scored) == sum(len(item.documents) for item in text.sets) - len(kept) + 1
    for one, other in zip(whole.sets, again.sets, strict=True):
        assert one.entries[keys.FINGERPRINT] == other.entries[keys.FINGERPRINT]
        assert one.rows.nll == pytest.approx(other.rows.nll, abs=1e-4)
    nothing: list[int] = []
    third = measure_model(choice, text, settings, lambda done, of: nothing.append(done))
    assert nothing == []
    assert third.as_dict() == again.as_dict()


def test_parts_add_up(models: dict[str, Path], files: list[str], tmp_path: Path) -> None:
    """Bits by script, position and vocabulary add up to the set's to 1e-9, their bytes to its, in every vocabulary."""
    for kind, folder in models.items():
        for item in _measured(folder, files, tmp_path / kind, old_rows=500).sets:
            for by in SplitBy:
                parts = item.parts(by)
                assert sum(bits for bits, _ in parts.values()) == pytest.approx(item.rows.nll.sum() / _LN2, rel=1e-9)
                assert sum(size for _, size in parts.values()) == item.rows.bytes.sum()
                assert item.as_dict()["parts"][by].keys() == parts.keys()
            scripts = item.parts(SplitBy.SCRIPT)
            assert (("hangul" in scripts), ("latin" in scripts)) == (item.name != "en", item.name == "en")
            assert item.parts(SplitBy.POSITION).keys() >= {"0-64", "64-256"}
            if kind == "extended":  # its three new tokens are Korean words
                assert ("new" in item.parts(SplitBy.VOCABULARY)) == (item.name != "en")


def test_new_tokens_are_those_behind_the_base(models: dict[str, Path], files: list[str], tmp_path: Path) -> None:
    """By vocabulary: of several models the first is the base, of one it is named; without one, or of another tokenizer,
    nothing is measured."""
    base = tmp_path / "base"
    tiny.llama(500, layers=1).save_pretrained(base)
    tiny.byte_level_tokenizer.__wrapped__(500).save_pretrained(base)
    pages = []
    for number, more in enumerate(([str(base)], ["--base", str(base)], ["--base", "500"], [])):
        args = (
            ["measure", *more[:1], str(models["extended"])] if len(more) == 1 else ["measure", str(models["extended"])]
        )
        args += [
            *(more if len(more) == 2 else []),
            "--text",
            files[1],
            "--device",
            "cpu",
            "-o",
            str(tmp_path / str(number)),
        ]
        result = CliRunner().invoke(app, [*args, "--by", "vocabulary"])
        if not more:
            assert (result.exit_code, "--by vocabulary: found no --base" in result.stderr) == (2, True)
            assert not (tmp_path / str(number)).exists()
            continue
        assert result.exit_code == 0, result.output
        pages.append(result.stdout.split("extended, by vocabulary\n")[1].split("\n|")[0].split("| model")[0])
    assert pages[0] == pages[1] == pages[2]
    assert "new tokens: ids from 500 on" in pages[0]
    assert [line.split()[0] for line in pages[0].splitlines()[2:]][-2:] == ["old", "new"]
    kept = ["measure", str(tmp_path / "0" / "base"), "--text", files[1], "--by", "script"]
    assert CliRunner().invoke(app, kept).exit_code == 0
    other = ["measure", str(base), str(models["metaspace"]), "--text", files[1], "--by", "vocabulary"]
    refused = CliRunner().invoke(app, [*other, "-o", str(tmp_path / "other")])
    assert refused.exit_code == 2 and "tokens in their rows, expected one that was extended from it" in refused.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("tokens", "room", "context"), [(0, 5, 2), (1, 5, 2), (5, 5, 2), (6, 5, 4), (97, 10, 3)])
def test_every_token_is_scored_once_with_text_before_it(tokens: int, room: int, context: int) -> None:
    """Windows score each token once, hold no more than they have room for, and later ones reach back far enough."""
    windows = list(token_windows(tokens, room, context))
    assert [at for one in windows for at in range(one.scored, one.end)] == list(range(tokens))
    assert all(one.end - one.start <= room for one in windows)
    assert all(one.scored - one.start >= context for one in windows[1:])


def _wrong(name: str, value: Any) -> list[str]:
    """Where a value is not as its schema says."""
    folder = Path(ko_cpt_callbacks.__file__).parent / "schemas"
    validator = Draft202012Validator(json.loads((folder / f"{name}.schema.json").read_text("utf-8")))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def test_json_is_strict(files: list[str], tmp_path: Path) -> None:
    """JSON of a model with an infinite loss on some documents is strict, and as the schema says."""
    tokenizer = tiny.byte_level_tokenizer()
    model = tiny.llama(len(tokenizer), layers=1)
    with torch.no_grad():
        model.model.embed_tokens.weight[tokenizer.encode("다")[-1]] = math.nan
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    args = ["measure", str(tmp_path / "model"), "--text", files[1], "--text", files[2], "--base", "500"]
    result = CliRunner().invoke(app, [*args, "--device", "cpu", "-o", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout, parse_constant=pytest.fail)
    assert _wrong("measure", said) == []
    korean, english = said["models"][0]["sets"]
    assert (korean["exact_loss"], korean["parts"]["vocabulary"]["new"]["bits"]) == ("Infinity", "Infinity")
    assert english["exact_loss"] < math.log(700)
    assert _wrong("measure", {**said, "more": 1}) != []


def test_ladder_and_baseline(
    models: dict[str, Path], files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ladder has paired differences, from models and from results; what is kept is a baseline without training."""
    monkeypatch.setenv("KO_CPT_BASELINES", str(tmp_path / "own"))
    out = tmp_path / "out"
    options = [part for file in files for part in ("--text", file)]
    args = ["measure", str(models["byte-level"]), str(models["metaspace"]), *options, "-o", str(out)]
    result = CliRunner().invoke(app, [*args, "--window", "64", "--device", "cpu", "--json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert _wrong("measure", said) == []
    first, second = ({item["set"]: item for item in model["sets"]} for model in said["models"])
    paired = said["less_first"][0]["ko"]
    wanted = second["ko"][keys.BITS_PER_BYTE] - first["ko"][keys.BITS_PER_BYTE]
    assert paired["difference"] == pytest.approx(wanted, abs=1e-9)
    assert 0 < paired["se"] < math.hypot(first["ko"]["bits_per_byte_se"], second["ko"]["bits_per_byte_se"])
    text = CliRunner().invoke(app, [*args, "--window", "64", "--device", "cpu", "--by", "document"])
    assert text.exit_code == 0, text.output
    assert f"{paired['difference']:+.4f}" in text.stdout
    kept = ["measure", str(out / "byte-level"), str(out / "metaspace"), "-o", str(tmp_path / "none")]
    read = CliRunner().invoke(app, [*kept, *options, "--json"])
    assert read.exit_code == 0, read.output
    assert json.loads(read.stdout)["less_first"] == said["less_first"]
    other = CliRunner().invoke(app, [*kept, "--text", files[0]])
    assert (other.exit_code, "not whole or of another text" in other.stderr) == (2, True)
    published = text.stdout.split("as published")[1].splitlines()[1:6]
    assert [line.split()[0] for line in published][::2] == ["kotokenlab-0.5b-base", "eeve-korean", "polyglot-ko-12.8b"]
    assert [line.split(maxsplit=1)[1] for line in published][::2] == ["3.402", "3.350 to 3.597", "not stated"]
    page = text.stdout.split("| model |")[0].replace(str(out), "out")
    assert [line for line in page.splitlines() if len(line) > 80] == []
    run = json.loads((out / "metaspace" / "ko_cpt" / "run.json").read_text("utf-8"))
    assert _wrong("run", run) == []
    added = CliRunner().invoke(app, ["baselines", "add", str(out / "byte-level"), "--id", "measured-tiny"])
    assert added.exit_code == 0, added.output
    shown = CliRunner().invoke(app, ["baselines", "show", "measured-tiny", "--json"])
    entry = json.loads(shown.stdout)["entry"]
    assert entry["kind"] == "base model"
    values = {(value["set"], value["metric"]): value for value in entry["values"]}
    assert values["eval_ko", keys.BITS_PER_BYTE]["value"] == first["ko"][keys.BITS_PER_BYTE]
    assert values["eval_en", keys.BITS_PER_BYTE]["language"] == "en"
    compared = CliRunner().invoke(app, ["compare", str(out / "metaspace"), "--baseline", "measured-tiny", "--json"])
    assert compared.exit_code == 0, compared.output
    found = json.loads(compared.stdout)
    exact = [item["comparison"] for item in found["comparisons"] if item["measured"]["set"] == "eval_ko"]
    assert [one["outcome"] for one in exact] == ["exact"]
    assert exact[0]["seed_se"] == 0.0


@pytest.mark.parametrize("saved", [False, True])
def test_eight_bits_have_one_number(files: list[str], tmp_path: Path, saved: bool) -> None:
    """In 8 bits a window's loss does not depend on those beside it, which bitsandbytes makes it do in one batch."""
    tokenizer = tiny.byte_level_tokenizer()
    tiny.llama(len(tokenizer), hidden=64, layers=1, initializer_range=0.4).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    choice = ModelChoice(str(tmp_path / "model"), quantization="8-bit", device="cpu")
    if saved:
        loaded = load_measured(choice)
        loaded.model.save_pretrained(tmp_path / "saved")
        tokenizer.save_pretrained(tmp_path / "saved")
        choice = ModelChoice(str(tmp_path / "saved"), device="cpu")
    found = []
    for name, order in (("one", files), ("other", files[::-1])):
        measured = measure_model(choice, read_text_sets(order), MeasureSettings(tmp_path / name, window=WINDOW))
        found.append({item.name: item.number(keys.EXACT_LOSS) for item in measured.sets if not item.total})
        assert measured.facts["quantization"] == "8-bit"
    assert found[0] == found[1]
    with pytest.raises(ConfigurationError, match="batch_size"):  # another number, which is not gone on with
        measure_model(choice, read_text_sets(files), MeasureSettings(tmp_path / "one", window=WINDOW, batch_size=2))


def test_a_ladder_of_other_windows_says_so(models: dict[str, Path], files: list[str], tmp_path: Path) -> None:
    """More text before a token is fewer bits: ladder and card name both ways of cutting, one where it is one."""
    wide, narrow = (_measured(models["bytes"], files, tmp_path / str(size), window=size) for size in (64, WINDOW))
    told = f"windows of {WINDOW} tokens, {CONTEXT} of context"
    assert any(f"cut another way: {told}" in line for line in ladder_lines([wide, narrow]))
    assert list(markdown_lines([wide, narrow]))[-1].count("windows of ") == 2
    assert not any("cut another way" in line for line in ladder_lines([wide, wide]))
    assert "  bytes of the document before it" in part_lines([wide], SplitBy.POSITION)
    alone = replace(wide, sets=tuple(replace(one, rows=row_sums(one.documents[:1])) for one in wide.sets))
    lines = list(ladder_lines([wide, alone]))
    assert lines[2] == "    ko              not paired: different-text"
    lines = list(ladder_lines([alone, alone]))
    assert lines[2] == "    ko              +0.0000, 1 documents"
    assert list(markdown_lines([wide, wide]))[-1].count("windows of ") == 1


def test_bytes_that_are_not_those_of_the_text_are_said(tmp_path: Path) -> None:
    """A token without known bytes leaves no bits per byte, with the reason; a text that was normalized is counted."""
    inner = Tokenizer.from_str(tiny.byte_level_tokenizer().backend_tokenizer.to_str())
    inner.normalizer = normalizers.NFC()
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    changing = PreTrainedTokenizerFast(tokenizer_object=inner, **names)
    plain = Tokenizer(BPE(unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    plain.decoder = decoders.Metaspace(prepend_scheme="first")
    special = ["<s>", "</s>", "<pad>", "<unk>"]
    plain.train_from_iterator(tiny.korean(), BpeTrainer(vocab_size=900, special_tokens=special, show_progress=False))
    unknowing = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", **names)
    texts = [unicodedata.normalize("NFD", "한글 문서"), "한글 뷁 문서"]
    (tmp_path / "ko.txt").write_text("\n\n".join(texts), encoding="utf-8")
    pages = {}
    for name, tokenizer in (("changing", changing), ("unknowing", unknowing)):
        tiny.llama(len(tokenizer), layers=1).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        found = _measured(tmp_path / name, [str(tmp_path / "ko.txt")], tmp_path / "out")
        pages[name] = (found.sets[0], "\n".join(model_lines(found)))
    item, page = pages["changing"]
    assert item.number(keys.BYTES) == sum(len(unicodedata.normalize("NFC", text).encode()) for text in texts)
    assert "1 documents: the tokenizer changes their text" in page
    item, page = pages["unknowing"]
    assert item.number(keys.EXACT_LOSS) is not None
    assert item.number(keys.BITS_PER_BYTE) is None
    assert "no bits per byte: 2 rows score a token without known text" in page
