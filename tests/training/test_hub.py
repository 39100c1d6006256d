"""Data sets and models of the hub, read by the real libraries from a stand-in for it: what is asked for, and what is
told when it is not to be had."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import TEXT, byte_level_tokenizer, english, korean, llama
from training.hub_job import Worker
from training.hub_server import Fault, HubServer

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.training.data.sources import Source

pytestmark = pytest.mark.both_versions

STATUTE = [line for line in (TEXT / "ko_statute.txt").read_text("utf-8").splitlines() if len(line) > 10]
SHARDS = {"kor": [STATUTE, list(korean())], "eng": [list(english()[:20]), list(english()[20:])]}
TEST = ["시험 하나", "시험 둘"]
CORPUS, PACKED, MODEL = "org/corpus", "org/packed", "org/tiny-llama"
CARD = """---
configs:
- config_name: kor
  data_files:
  - {split: train, path: kor/train-*}
  - {split: test, path: kor/test-*}
- config_name: eng
  data_files:
  - {split: train, path: eng/train-*}
---
"""
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]}
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


@dataclass(frozen=True)
class Place:
    """A hub with a data set and a model on it, and a process that uses it.

    Attributes:
        hub: The stand-in.
        worker: Does jobs.
        old: The data set's first commit, which the tests use; ``main`` is another one.
        packed: The commit of the same texts in packed JSON lines.
        model: The model's commit.
        folder: Where jobs run.
    """

    hub: HubServer
    worker: Worker
    old: str
    packed: str
    model: str
    folder: Path

    def documents(self, **settings: Any) -> dict[str, Any]:
        """Of a source; what was asked of the hub for it is in ``asked``."""
        start = len(self.hub.requests)
        found = self.worker.do("documents", {"hub": CORPUS, "revision": self.old, "config": "kor", **settings})
        return {**found, "asked": [asked.path for asked in self.hub.requests[start:]]}


def shard(texts: list[str], ending: str) -> bytes:
    """Texts as the content of a file."""
    if ending == "parquet":
        file = io.BytesIO()
        pq.write_table(pa.table({"text": texts, "id": list(range(len(texts)))}), file)
        return file.getvalue()
    return gzip.compress("".join(json.dumps({"text": text, "id": 0}) + "\n" for text in texts).encode(), mtime=0)


def corpus(mark: str = "", ending: str = "parquet") -> dict[str, bytes]:
    """A data set of two configurations, each of two files; every text begins with the mark."""
    files = {"README.md": CARD.encode(), f"kor/test-00000-of-00001.{ending}": shard(TEST, ending)}
    for config, parts in SHARDS.items():
        for number, texts in enumerate(parts):
            files[f"{config}/train-{number:05}-of-00002.{ending}"] = shard([mark + text for text in texts], ending)
    return files


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The hub, and the process."""
    folder = tmp_path_factory.mktemp("hub")
    llama(600).save_pretrained(folder / "saved")
    byte_level_tokenizer().save_pretrained(folder / "saved")
    files = {path.name: path.read_bytes() for path in (folder / "saved").iterdir()}
    with HubServer() as hub:
        old = hub.publish("datasets", CORPUS, corpus())
        hub.publish("datasets", CORPUS, corpus("new "))
        packed = hub.publish("datasets", PACKED, corpus(ending="jsonl.gz"))
        model = hub.publish("models", MODEL, files)
        worker = Worker(hub.endpoint, folder / "home", folder)
        yield Place(hub, worker, old, packed, model, folder)
        worker.close()
        assert hub.unknown == [], "the stand-in lacks something"


# -- data sets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hub", "config"), [(CORPUS, "kor"), (PACKED, "eng")])
def test_only_what_is_needed_is_read(place: Place, hub: str, config: str) -> None:
    """A few documents: nothing of the second file is asked for. All of them: both files, in order, at the commit that
    is given and not at the newest; none of another configuration."""
    first, second = SHARDS[config]
    wanted = {"hub": hub, "config": config, "revision": place.old if hub == CORPUS else place.packed}
    few = place.documents(**wanted, limit=7)
    assert few["texts"] == first[:7]
    assert any("train-00000-of-00002" in path for path in few["asked"])
    assert not any("train-00001-of-00002" in path for path in few["asked"])
    everything = place.documents(**wanted)
    assert everything["texts"] == first + second
    other = "eng" if config == "kor" else "kor"
    assert not any(f"/{other}/train" in path for path in everything["asked"])
    assert all(wanted["revision"] in path for path in everything["asked"] if hub in path)


def test_split_and_commit(place: Place) -> None:
    """Another split, and another commit, give what is there."""
    assert place.documents(split="test")["texts"] == TEST
    new = place.hub.publish("datasets", CORPUS, corpus("new "))
    assert new != place.old
    assert place.documents(revision=new, limit=2)["texts"] == [f"new {text}" for text in STATUTE[:2]]


def test_held_out_is_never_trained_on(place: Place) -> None:
    """Every document is trained on or held out; the least that is held out is found without the second file."""
    train = place.documents(held_out=0.2, part="train")["texts"]
    held_out = place.documents(held_out=0.2, part="held-out")["texts"]
    whole = SHARDS["kor"][0] + SHARDS["kor"][1]
    assert set(train).isdisjoint(held_out)
    assert sorted(train + held_out) == sorted(whole)
    assert 0.1 < len(held_out) / len(whole) < 0.3
    few = place.documents(held_out=0.2, part="held-out", limit=5)
    assert few["texts"] == held_out[:5]
    assert not any("train-00001-of-00002" in path for path in few["asked"])


def test_new_tokens_are_judged_on_what_is_evaluated(place: Place, tmp_path: Path) -> None:
    """On as many held-out documents as the evaluation of the source is limited to: the rest is not asked for."""
    start = len(place.hub.requests)
    found = place.worker.do("held_out", str(write_recipe(tmp_path, place)))
    assert found == place.documents(held_out=0.2, part="held-out", limit=5)["texts"]
    assert not any("train-00001-of-00002" in asked.path for asked in place.hub.requests[start:])


def test_rows_are_asked_for_once(place: Place, tmp_path: Path) -> None:
    """Of a limited number of rows and of evaluation documents the second file is not asked for; the same rows come from
    the disk without a request, and anew in the same order; without a limit there are more, of both files."""
    recipe, start = str(write_recipe(tmp_path, place)), len(place.hub.requests)
    some = place.worker.do("rows", recipe, str(tmp_path / "rows"), 20)
    asked = [asked.path for asked in place.hub.requests[start:]]
    assert any("train-00000-of-00002" in path for path in asked)
    assert not any("train-00001-of-00002" in path for path in asked)
    assert len(some["rows"]) == 20
    assert some["documents"] == 5
    start = len(place.hub.requests)
    again = place.worker.do("rows", recipe, str(tmp_path / "rows"), 20)
    assert again == some and place.hub.requests[start:] == []
    anew = place.worker.do("rows", recipe, str(tmp_path / "anew"), 20)
    assert anew == some
    more = place.worker.do("rows", recipe, str(tmp_path / "rows"), None)["rows"]
    assert more[:20] == some["rows"] and len(more) > 100


# -- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"hub": "org/korpus"}, "no data set org/korpus at {old} that can be read (Dataset 'org/korpus' doesn't exist"),
        ({"revision": "0" * 40}, f"no data set org/corpus at {'0' * 40} that can be read (Revision '{'0' * 40}' does"),
        ({"config": "korr"}, "no configuration 'korr' for data set org/corpus, expected one of kor, eng. Did you mean"),
        ({"config": None}, "no configuration given for data set org/corpus, expected one of kor, eng"),
        ({"split": "tests"}, "no split 'tests' for data set org/corpus, expected one of train, test. Did you"),
        ({"column": "body"}, "no column 'body', expected one of id, text"),
        ({"column": "id"}, "int in column 'id', expected text"),
    ],
)
def test_what_is_not_there_is_told(place: Place, settings: dict[str, Any], told: str) -> None:
    """A wrong id, commit, configuration, split or field: one line with the source, what was found and what there is."""
    found = place.documents(**settings)
    assert found["texts"] == []
    assert found["error"].startswith(f"source ko: found {told.format(old=place.old)}"), found["error"]
    assert "\n" not in found["error"]


def test_an_id_has_an_owner() -> None:
    """An id without one could be the name of a format, and files that lie about would be read: refused at once."""
    for hub in ("json", "a/b/c"):
        with pytest.raises(ConfigurationError, match=f"source ko: found the hub id '{hub}', expected owner/name"):
            Source("ko", hub=hub, revision="0" * 40)


def test_a_gated_data_set_is_told(place: Place) -> None:
    """Without a token and with one that has no access: what to do is said; a data set with code or without texts is
    told too."""
    commit = place.hub.publish("datasets", "org/gated", corpus(), gated=True)
    for token, status in (({}, 401), ({"HF_TOKEN": "hf_made_up"}, 403)):
        start = len(place.hub.requests)
        found = place.worker.do("documents", {"hub": "org/gated", "revision": commit, "config": "kor"}, **token)
        assert found["error"].startswith(f"source ko: found no data set org/gated at {commit} that can be read (")
        assert {asked.status for asked in place.hub.requests[start:] if "/datasets/" in asked.path} == {status}
        assert "is a gated dataset" in found["error"] and found["error"].endswith("then: hf auth login")
    for name, files, said in (
        ("org/code", {**corpus(), "code.py": b"raise SystemExit"}, "scripts are no longer supported"),
        ("org/empty", {"README.md": b"nothing"}, "doesn't contain any data files"),
    ):
        commit = place.hub.publish("datasets", name, files)
        error = place.documents(hub=name, revision=commit)["error"]
        assert error.startswith(f"source ko: found data set {name} that cannot be read (") and said in error


@pytest.mark.parametrize("fault", [503, 429, "drop"])
def test_what_passes_is_asked_for_again(place: Place, fault: Fault) -> None:
    """The hub is busy, asks to wait, or the connection breaks in the middle of the second file: all documents come,
    each once."""
    name, mark = f"org/passing-{fault}", f"{fault} "
    commit = place.hub.publish("datasets", name, corpus(mark))
    place.hub.fail(f"{name}/kor/train-00001-of-00002.parquet", fault)
    found = place.documents(hub=name, revision=commit)
    assert found["error"] is None and found["waits"]
    assert found["texts"] == [mark + text for texts in SHARDS["kor"] for text in texts]


@pytest.mark.parametrize(("fault", "said"), [(503, "503"), ("drop", "onnect"), (401, "401"), (403, "403")])
def test_what_lasts_is_told(place: Place, fault: Fault, said: str) -> None:
    """From the middle on the hub is busy, breaks connections or refuses: what came before is there, then one line says
    that a run can go on later; it was waited for a busy hub, and not for one that refuses."""
    name, mark = f"org/lasting-{fault}", f"lasting {fault} "
    commit = place.hub.publish("datasets", name, corpus(mark))
    place.hub.fail(f"{name}/kor/train-00001-of-00002.parquet", *[fault] * 999)
    found = place.documents(hub=name, revision=commit)
    assert found["texts"] == [mark + text for text in STATUTE]
    assert found["error"].startswith(f"source ko: found data set {name} that cannot be read (")
    assert said in found["error"] and found["error"].endswith("go on later with --resume")
    assert "\n" not in found["error"]
    assert (sum(found["waits"]) > 20) == (fault not in (401, 403))


def test_nothing_else_stands_in_for_the_hub(place: Place) -> None:
    """A folder with the data set's name is not read in its place; nor, where the hub does not answer, what another
    program keeps of another commit: that is told."""
    name = "org/mirrored"
    old = place.hub.publish("datasets", name, corpus("mirrored "))
    near = place.folder / name
    near.mkdir(parents=True)
    (near / "train.jsonl").write_text('{"text": "not this"}\n')
    assert place.documents(hub=name, revision=old, limit=1)["texts"] == [f"mirrored {STATUTE[0]}"]
    (near / "train.jsonl").unlink()
    near.rmdir()
    assert place.worker.do("kept", name, "kor", old) == len(SHARDS["kor"][0] + SHARDS["kor"][1])
    new = place.hub.publish("datasets", name, corpus("newer "))
    place.hub.fail(f"{name}/resolve/{new}/README.md", *[500] * 99)
    found = place.documents(hub=name, revision=new)
    assert found["texts"] == []
    assert f"kept on this machine at {old}" in found["error"] and f"expected the commit {new}" in found["error"]


# -- models -----------------------------------------------------------------------------------------------------------


def test_a_model_is_loaded_or_told(place: Place) -> None:
    """At its commit or the newest; a wrong id or revision, a gated one and one that cannot be reached are one line."""
    assert place.worker.do("model", MODEL, place.model) == place.worker.do("model", MODEL, None) == "LlamaForCausalLM"
    place.hub.publish("models", "org/gated", {"config.json": b"{}"}, gated=True)
    busy = place.hub.publish("models", "org/busy", {"config.json": b"{}"})
    for revision in ("main", busy):
        place.hub.fail(f"org/busy/resolve/{revision}/config.json", *[503] * 99)
    for name, revision, said in (
        ("org/tiny-lama", None, "is not a valid model identifier"),
        (MODEL, "v2", "v2 is not a valid git identifier"),
        ("org/gated", None, "trying to access a gated repo"),
        ("org/busy", None, "couldn't connect"),
        ("./nowhere", None, "Repo id must"),
    ):
        told = place.worker.do("model", name, revision)
        at = "" if revision is None else f" at {revision}"
        assert told.startswith(f"base.model: found nothing that can be loaded from {name}{at} ("), told
        assert said in told and "\n" not in told


def test_code_of_a_model_is_never_run(place: Place) -> None:
    """A model that brings code of its own is refused, without a question, and its code is not even asked for."""
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
    files = {"config.json": json.dumps(config).encode(), "own.py": b"open('ran', 'w')"}
    place.hub.publish("models", "org/own-code", files)
    told = place.worker.do("model", "org/own-code", None)
    assert "(it has code of its own, which is never run)" in told
    assert "trust_remote_code" not in told
    assert not [asked for asked in place.hub.requests if asked.path.endswith("own.py")]


# -- a run ------------------------------------------------------------------------------------------------------------


def write_recipe(
    folder: Path, place: Place, texts: tuple[str, str] | None = None, model: tuple[str, str] | None = None
) -> Path:
    """A recipe whose model, shape and texts are on the hub: new tokens, and two stages of LoRA on 8 bits.

    Args:
        folder: Where it is written.
        place: The hub; its data set and model unless others are given.
        texts: Id and commit of a data set.
        model: Id and commit of a model.
    """
    source = dict(zip(("hub", "revision"), texts or (CORPUS, place.old), strict=True))
    base = dict(zip(("model", "revision"), model or (MODEL, place.model), strict=True))
    arguments = {
        "max_steps": 3, "per_device_train_batch_size": 2, "learning_rate": 1e-3, "logging_steps": 1, "save_steps": 3,
        "eval_strategy": "steps", "eval_steps": 3, "report_to": "none",
    }  # fmt: skip
    values = {
        "id": "from-hub",
        "title": "From the hub",
        "base": {**base, "dtype": "float32", "quantization": "8-bit"},
        "tokenizer": {"extend": {"source": "ko", "tokens": 40, "minimum_count": 3, "max_bytes": 30_000}},
        "data": {
            "sequence_length": 64, "packing": True, "held_out": 0.2, "mix": {"ko": 1},
            "sources": {"ko": {"language": "ko", "config": "kor", **source},
                        "en": {"language": "en", "config": "eng", **source}},
        },
        "eval": {"ko": {"source": "ko", "max_documents": 5},
                 "en": {"source": "en", "retention": True, "max_documents": 5}},
        "stages": {
            "first": {"trains": {"input": "all", "output": "all", "layers": "all"}, "lora": LORA,
                      "arguments": arguments},
            "second": {"trains": {"layers": "all"}, "lora": "first", "arguments": arguments},
        },
        "source": dict.fromkeys(["tokenizer", "data", "eval", "stages"], "made up for a test"),
    }  # fmt: skip
    path = folder / "from-hub.yaml"
    path.write_text(json.dumps(values), "utf-8")
    return path


class Trained(NamedTuple):
    """A run: its recipe, folder and output, what it asked the hub for, and the address of its model there."""

    recipe: Path
    folder: Path
    text: str
    asked: list[str]
    model: str


@pytest.fixture(scope="module")
def trained(place: Place) -> Trained:
    """A run from the command line, by a process that knows the hub by its environment alone. No other test asks for its
    texts and its model, so nothing is kept of them yet."""
    texts, model = ("org/corpus-of-a-run", "org/model-of-a-run")
    at = place.hub.publish("datasets", texts, corpus())
    saved = {path.name: path.read_bytes() for path in (place.folder / "saved").iterdir()}
    commit = place.hub.publish("models", model, saved)
    recipe, start = write_recipe(place.folder, place, (texts, at), (model, commit)), len(place.hub.requests)
    folder = place.folder / "run"
    status = place.worker.do("ko_cpt", ["train", str(recipe), "--device", "cpu", "--output", str(folder)])
    text = (place.folder / "ko_cpt.log").read_text("utf-8")
    assert status == 0, text[-6000:]
    asked = [asked.path for asked in place.hub.requests[start:]]
    return Trained(recipe, folder, text, asked, f"{model}/resolve/{commit}")


def test_a_run_from_the_hub(trained: Trained) -> None:
    """Model, tokenizer and texts come from the hub; the tokenizer is extended from the Korean source, both stages train
    an adapter on 8 bits, Korean and English are evaluated; of no data set more than its first file is asked for."""
    _, folder, text, asked, model = trained
    assert json.loads((folder / "ko_cpt" / "plan.json").read_text("utf-8"))["finished"] is True
    assert "new tokens; on held-out ko" in text
    for stage in ("01-first", "02-second"):
        run = json.loads((folder / "stages" / stage / "ko_cpt" / "run.json").read_text("utf-8"))["model"]
        assert (run["quantization"], run["adapter"]) == ("8-bit", "LORA")
        assert (folder / "stages" / stage / "model").is_dir()
        rows = (folder / "stages" / stage / "ko_cpt" / "rows.jsonl").read_text("utf-8").splitlines()
        splits = {row["split"] for row in map(json.loads, rows) if row["kind"] == "eval"}
        assert splits == {"eval_ko", "eval_en"}
    assert any(path.endswith(f"{model}/model.safetensors") for path in asked)
    assert {name for name in SHARDS if any(f"/{name}/train-00000-of-00002" in path for path in asked)} == {*SHARDS}
    assert not any("train-00001-of-00002" in path for path in asked)


def test_a_finished_run_asks_for_nothing(trained: Trained, place: Place) -> None:
    """``--resume`` on it sums it up, without a request."""
    start = len(place.hub.requests)
    words = ["train", str(trained.recipe), "--device", "cpu", "--output", str(trained.folder), "--resume"]
    assert place.worker.do("ko_cpt", words) == 0
    assert "is finished; nothing was left to do" in (place.folder / "ko_cpt.log").read_text("utf-8")
    assert place.hub.requests[start:] == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("base.model=org/tiny-lama", "base.model: found nothing that can be loaded from org/tiny-lama at "),
        ("data.sources.ko.config=korr", "source ko: found no configuration 'korr' for data set org/corpus, expected"),
        ("eval.en.max_documents=4000", None),
    ],
)
def test_a_run_says_what_is_wrong(place: Place, tmp_path: Path, change: str, told: str | None) -> None:
    """A wrong model and a wrong source: status 2 and one line; a hub that refuses in the middle: the same, and
    ``--resume`` goes on to the end."""
    words = ["train", str(write_recipe(tmp_path, place)), "--device", "cpu", "--output", str(tmp_path / "run"), "--set"]
    words.append(change)
    if told is None:
        place.hub.fail(f"{CORPUS}/eng/train-00001-of-00002.parquet", 403)
        told = "eval en: source en: found data set org/corpus that cannot be read ("
    assert place.worker.do("ko_cpt", words) == 2
    text = (place.folder / "ko_cpt.log").read_text("utf-8")
    lines = [line for line in text.splitlines() if line.startswith("ko-cpt train: ")]
    assert len(lines) == 1 and lines[0].startswith(f"ko-cpt train: {told}"), text[-3000:]
    assert "Traceback" not in text
    if change.startswith("eval"):
        assert place.worker.do("ko_cpt", [*words, "--resume"]) == 0
