"""What a stage trains: its name, and the stage of a published run that trains the same."""

from __future__ import annotations

import json

import pytest

from ko_cpt_callbacks.compare.baseline import (
    Baseline,
    BaselineStage,
    StageMatch,
    matching_stage,
    stage_values,
)
from ko_cpt_callbacks.compare.stage import LoraFacts, StageFacts, Trains, stage_name

FULL = Trains("all", "all", "all", "none")
EMBEDDING = Trains("all", "all")
ODD, EVEN = Trains(layers="odd"), Trains(layers="even")
LORA = Trains(layers="all", adapter="lora")

NAMES = {
    Trains(): "frozen",
    FULL: "full",
    EMBEDDING: "embedding",
    Trains("new", "new"): "new rows",
    Trains("new", "none"): "new input rows",
    Trains("none", "new"): "new output rows",
    Trains("all", "none"): "input embedding",
    Trains("none", "all"): "output head",
    Trains("new", "all"): "new input rows and output head",
    Trains("all", "new"): "input embedding and new output rows",
    ODD: "odd layers",
    EVEN: "even layers",
    Trains(layers="some"): "some layers",
    Trains(layers="all"): "all layers",
    Trains("all", "all", "odd"): "odd layers and embedding",
    LORA: "LoRA",
    Trains(layers="odd", adapter="lora"): "LoRA on odd layers",
    Trains(layers="some", adapter="lora"): "LoRA on some layers",
    Trains("all", "all", "all", "lora"): "LoRA and embedding",
    Trains("new", "none", "odd", "lora"): "LoRA on odd layers and new input rows",
    Trains("all", "none", "none", "lora"): "LoRA on input embedding",
    Trains(layers="all", adapter="other"): "another adapter",
    Trains(adapter="other"): "another adapter",
    Trains("unknown", "none", "all", "none"): "unknown",
    Trains("all", "all", "unknown", "lora"): "unknown",
    Trains("not stated", "not stated", "all", "lora"): "LoRA",
    Trains("not stated", "not stated", "not stated", "not stated"): "not stated",
}


@pytest.mark.parametrize("trains", NAMES, ids=lambda trains: "-".join(trains.as_dict().values()))
def test_name(trains: Trains) -> None:
    """Each state has its name; one unknown word makes the name unknown; what is not stated adds nothing."""
    assert stage_name(trains) == NAMES[trains]


def test_no_two_states_share_a_name() -> None:
    """Where all four words are known, a name says which state it is."""
    known = [name for trains, name in NAMES.items() if "not stated" not in trains.as_dict().values()]
    assert sorted(set(known) - {"unknown", "another adapter"}) == sorted(
        name for name in known if name not in ("unknown", "another adapter")
    )


def test_words_there_and_back() -> None:
    """Trains to words and back; a word of another part is refused."""
    assert Trains.from_dict(ODD.as_dict()) == ODD
    for wrong in ({"layers": "new"}, {"adapter": "LoRA"}, {"head": "all"}, {"input": None}):
        with pytest.raises(ValueError, match="trains: found"):
            Trains.from_dict(wrong)


# -- matching --------------------------------------------------------------------------------------------------------


def _baseline(*stages: BaselineStage) -> Baseline:
    return Baseline("some-run", "Some run", "continued pretraining", "S", stages=stages)


REDWHALE = _baseline(
    BaselineStage("embedding", trains=EMBEDDING),
    BaselineStage("odd-layers", trains=ODD),
    BaselineStage("even-layers", trains=EVEN),
    BaselineStage("lora", trains=Trains("not stated", "not stated", "all", "lora")),
    BaselineStage("sft", trains=Trains("not stated", "not stated", "not stated", "lora"), reference=False),
)
EEVE = _baseline(
    BaselineStage("1", trains=Trains("new", "none")),
    BaselineStage("2", trains=Trains("none", "new")),
    BaselineStage("3", trains=Trains("new", "new")),
    BaselineStage("4", trains=Trains("none", "all")),
    BaselineStage("5", trains=Trains("new", "all")),
    BaselineStage("6", trains=Trains("not stated", "not stated", "all", "lora")),
    BaselineStage("7", trains=Trains("none", "none", "all", "not stated")),
)

MATCHES = [
    (EMBEDDING, StageMatch("embedding", "same", ("embedding",))),
    (ODD, StageMatch("odd-layers", "same", ("odd-layers",))),
    (EVEN, StageMatch("even-layers", "same", ("even-layers",))),
    (LORA, StageMatch("lora", "as-stated", ("lora",))),
    (Trains("all", "all", "all", "lora"), StageMatch("lora", "as-stated", ("lora",))),
    (Trains("unknown", "none", "all", "lora"), StageMatch("lora", "as-stated", ("lora",))),
    (Trains(layers="odd", adapter="lora"), StageMatch("odd-layers", "through-lora", ("odd-layers",))),
    (FULL, StageMatch(None, "none")),
    (Trains("new", "new"), StageMatch(None, "none")),
    (Trains(layers="some"), StageMatch(None, "none")),
    (Trains("unknown"), StageMatch(None, "unknown")),
    (Trains(), StageMatch(None, "nothing-trains")),
]


@pytest.mark.parametrize(("trains", "match"), MATCHES, ids=[stage_name(trains) for trains, _ in MATCHES])
def test_matching_a_staged_run(trains: Trains, match: StageMatch) -> None:
    """Word for word, then as far as stated, then the same layers through LoRA; otherwise none, with the reason."""
    assert matching_stage(trains, REDWHALE) == match


@pytest.mark.parametrize("stage", EEVE.stages, ids=lambda stage: stage.name)
def test_each_of_eeves_stages_matches_itself(stage: BaselineStage) -> None:
    """Seven stages, no two the same: each finds itself, word for word."""
    assert stage.trains is not None
    assert matching_stage(stage.trains, EEVE) == StageMatch(stage.name, "same", (stage.name,))


def test_two_that_fit_are_none() -> None:
    """LoRA on all layers fits both of EEVE's last stages as far as they are stated: no guess, both are named."""
    assert matching_stage(LORA, EEVE) == StageMatch(None, "several", ("6", "7"))


def test_stages_that_say_nothing() -> None:
    """A stage of which nothing is known, one of which nothing is stated, and one that is no reference fit nothing."""
    silent = Trains("not stated", "not stated", "not stated", "not stated")
    tuned = BaselineStage("sft", trains=LORA, reference=False)
    baseline = _baseline(BaselineStage("whole"), BaselineStage("silent", trains=silent), tuned)
    assert matching_stage(LORA, baseline) == StageMatch(None, "none")


def test_the_bundled_runs_match_themselves() -> None:
    """Of every bundled run with stages, each reference stage whose four words are known finds itself."""
    registry = pytest.importorskip("ko_cpt_callbacks.compare.registry")
    seen = 0
    for name in registry.baseline_ids():
        baseline = registry.find_baseline(name)
        for stage in baseline.stages:
            if stage.trains is not None and stage.reference and len(baseline.stages) > 1:
                match = matching_stage(stage.trains, baseline)
                seen += 1
                assert (match.stage, match.reason) == (stage.name, "same"), (name, stage.name)
    assert seen >= 4


# -- the set-up row --------------------------------------------------------------------------------------------------

FACTS = StageFacts(
    trains=Trains("all", "all", "odd", "lora"),
    layer_count=4,
    layer_indices=(1, 3),
    adapters=("LORA",),
    lora=LoraFacts(8, 16.0, ("q_proj",), (1, 3), ("embed_tokens", "lm_head"), rslora=True),
    quantization="8-bit",
    tied="silently untied",
    rows=50,
    parameters=1000,
    trainable={"input": 50, "adapter": 20},
)


def test_stage_values_are_json() -> None:
    """The row holds name, words, layers, the adapter's settings and counts, as JSON gives them back."""
    values = stage_values(FACTS)
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["name"] == "LoRA on odd layers and embedding"
    assert (values["layers"], values["layer_indices"]) == ("odd", [1, 3])
    assert Trains.from_dict({name: values[name] for name in Trains().as_dict()}) == FACTS.trains
    assert values["trainable"] == {"input": 50, "adapter": 20}
    assert values["trainable_parameters"] == 70
    assert values["lora"]["target_modules"] == ["q_proj"]
    assert (values["baseline"], values["baseline_stage"], values["baseline_stage_reason"]) == (None, None, None)


def test_stage_values_name_the_baselines_stage() -> None:
    """With a baseline: its id, the stage and why; where several fit, no stage and their names."""
    values = stage_values(StageFacts(trains=ODD), REDWHALE)
    named = ("baseline", "baseline_stage", "baseline_stage_reason")
    assert [values[name] for name in named] == ["some-run", "odd-layers", "same"]
    values = stage_values(StageFacts(trains=LORA), EEVE)
    assert (values["baseline_stage"], values["baseline_stage_reason"]) == (None, "several")
    assert values["baseline_stages"] == ["6", "7"]
