"""A recipe in pieces: what a script with a Trainer of its own takes from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from check.test_heading import run_folder
from forecast.family_rows import seed_rows
from peft import PeftModel
from tiny import byte_level_tokenizer, collate, korean
from training.made_recipe import EXTEND, FIVE_STAGES, LORA, ROWS, loaded, made_model, made_recipe, trainable
from transformers import Trainer, TrainingArguments

from ko_cpt_callbacks import ConfigurationError, Recipe, RecipeError
from ko_cpt_callbacks.hf.model.trained_parts import read_stage
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.fold import FAMILY
from ko_cpt_callbacks.training.model.vocabulary import FIRST_NEW_ROW, old_pieces

pytestmark = pytest.mark.both_versions

NEW_ROWS = {
    "input": {"input": "new"},
    "output": {"output": "new"},
    "both": {"input": "new", "output": "new"},
    "head": {"output": "all"},
    "more": {"input": "new", "output": "all"},
}


def train(recipe: Recipe, model: Any, stage: str, folder: Path, tokenizer: Any = None, **arguments: Any) -> Any:
    """A few steps on Korean."""
    encode = byte_level_tokenizer() if tokenizer is None else tokenizer
    rows = [{"input_ids": encode(text, add_special_tokens=False)["input_ids"][:60]} for text in korean()[:12]]
    trainer = Trainer(
        model=model,
        args=recipe.training_arguments(stage, folder, **arguments),
        train_dataset=rows,  # type: ignore[arg-type]
        data_collator=collate,
        callbacks=[recipe.callback(stage, outputs=())],
    )
    trainer.train(resume_from_checkpoint=arguments.pop("resume_from_checkpoint", None))
    return trainer


def matrices(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Copies of what input and head read: of a module trained whole beside an adapter, the copy that is trained."""
    found = []
    while hasattr(model, "get_base_model"):
        model = model.get_base_model()
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        found.append(module.weight.detach().clone())
    return found[0], found[1]


# -- reading ----------------------------------------------------------------------------------------------------------


def test_loaded_by_id_and_by_path(tmp_path: Path) -> None:
    """A bundled recipe by its id, a file by its path, with other values; a wrong one is told as a recipe's mistake."""
    assert Recipe.load("quickstart").page.id == "quickstart"
    path = made_recipe(tmp_path, FIVE_STAGES).file.path
    recipe = Recipe.load(path, ["stages.odd.arguments.max_steps=7", "seed=5"])
    assert recipe.stages == ("embedding", "odd", "even", "two", "all")
    assert (recipe.page.seed, recipe.page.stages["odd"].arguments["max_steps"]) == (5, 7)
    with pytest.raises(RecipeError, match="Did you mean quickstart"):
        Recipe.load("quikstart")
    with pytest.raises(
        RecipeError, match=r"^--set: stages.odd.trains.layers: found the text \"ood\", expected none or "
    ):
        Recipe.load(path, ["stages.odd.trains.layers=ood"])


def test_an_unknown_stage(tmp_path: Path) -> None:
    """Every piece of a stage says which stages there are."""
    recipe = made_recipe(tmp_path, FIVE_STAGES)
    sentence = "recipe made: found no stage 'evn', expected one of embedding, odd, even, two, all. Did you mean even?"
    for piece in (
        lambda: recipe.training_arguments("evn", tmp_path),
        lambda: recipe.lora_config("evn", None),
        lambda: recipe.apply_trainable(None, "evn"),
        lambda: recipe.callback("evn"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            piece()
        assert str(caught.value) == sentence


def test_training_arguments(tmp_path: Path) -> None:
    """The recipe's, unchanged, with its seed; what the caller gives counts more; a class of one's own may be made."""

    class Own(TrainingArguments):
        pass

    recipe = made_recipe(tmp_path, FIVE_STAGES, overrides=("seed=3",))
    plain = recipe.training_arguments("odd", tmp_path / "out")
    assert type(plain) is TrainingArguments
    assert (plain.max_steps, plain.learning_rate, plain.seed) == (3, 0.01, 3)
    assert plain.output_dir == str(tmp_path / "out")
    own = recipe.training_arguments("odd", tmp_path / "out", Own, max_steps=9)
    assert type(own) is Own
    assert own.max_steps == 9


def test_arguments_that_the_installed_class_does_not_take(tmp_path: Path) -> None:
    """Unknown names all together, when the recipe is read; what it refuses with its reason; both with file and line."""
    with pytest.raises(RecipeError) as caught:
        made_recipe(tmp_path, FIVE_STAGES, arguments={"max_stepps": 3})
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    assert lines[1] == (
        f"{tmp_path / 'made.yaml'}:1: stages.odd.arguments.max_stepps: found an unknown argument, expected an argument "
        "of the installed transformers.TrainingArguments. Did you mean max_steps?"
    )
    recipe = made_recipe(tmp_path, FIVE_STAGES, arguments={"debug": "sometimes"})
    refused = r'made.yaml:1: stages.odd.arguments.debug: found the text "sometimes" \('
    with pytest.raises(RecipeError, match=refused):
        recipe.training_arguments("odd", tmp_path)


def test_quantization_config(tmp_path: Path) -> None:
    """None, LLM.int8, or NF4 that computes in the recipe's precision."""
    assert made_recipe(tmp_path, FIVE_STAGES).quantization_config() is None
    eight = made_recipe(tmp_path, FIVE_STAGES, quantization="8-bit").quantization_config()
    assert eight is not None
    assert (eight.load_in_8bit, eight.load_in_4bit) == (True, False)
    dtype = {"dtype": "bfloat16"}
    four = made_recipe(tmp_path, FIVE_STAGES, quantization="4-bit", base=dtype).quantization_config()
    assert four is not None
    assert (four.load_in_4bit, four.bnb_4bit_quant_type, four.bnb_4bit_compute_dtype) == (True, "nf4", torch.bfloat16)


def test_lora_config(tmp_path: Path) -> None:
    """Over a quantised body one for all stages, whatever a stage trains; elsewhere that of the stages around it, with
    the modules that they train whole, and on the layers that they move."""
    model = made_model("llama")
    run = made_recipe(tmp_path, FIVE_STAGES, quantization="8-bit")
    first, *others = (run.lora_config(stage, model) for stage in run.stages)
    assert first is not None
    assert (first.r, first.lora_alpha, first.target_modules) == (4, 8, {"q_proj", "down_proj"})
    assert first.modules_to_save == ["embed_tokens", "lm_head"]
    assert all(other is not None and other.to_dict() == first.to_dict() for other in others)

    adapters = {"odd": LORA, "even": "odd", "all": {**LORA, "r": 2, "use_rslora": True}}
    plain = made_recipe(tmp_path, FIVE_STAGES, adapters=adapters)
    assert plain.lora_config("embedding", model) is plain.lora_config("two", model) is None
    odd, even, last = (plain.lora_config(stage, model) for stage in ("odd", "even", "all"))
    assert odd is not None and even is not None and last is not None
    assert odd.to_dict() == even.to_dict()
    assert (odd.modules_to_save, odd.layers_to_transform) == (None, None)
    assert (last.r, last.use_rslora, last.modules_to_save) == (2, True, ["embed_tokens", "lm_head"])
    alone = made_recipe(tmp_path, {"odd": {"layers": "odd"}}, adapters={"odd": LORA}).lora_config("odd", model)
    assert alone is not None and alone.layers_to_transform == [1, 3]


def test_alerts_of_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage names a severity and variables with addresses; an address itself is refused, one not set too. What
    follows its scheme is in no error."""
    monkeypatch.delenv("KO_CPT_ALERTS", raising=False)
    recipe = made_recipe(tmp_path, FIVE_STAGES, overrides=("stages.odd.watch.alerts=[error]",))
    assert [one.name for one in recipe.callback("odd")._outputs if not isinstance(one, str)] == ["alerts"]
    assert [one for one in recipe.callback("even")._outputs if not isinstance(one, str)] == []
    for given, said in (
        ("['slack://a-token/another']", r'alerts\[0\]: found the text "slack://…", expected info, warning, error, or'),
        ("['https://hooks.example/a-token']", r'alerts\[0\]: found the text "https://…"'),
        ("https://hooks.example/a-token", r'alerts: found the text "https://…", expected a list'),
        ("{'https://hooks.example/a-token': 1}", r"alerts: found a mapping \(https://…\), expected a list"),
    ):
        with pytest.raises(RecipeError, match=said) as refused:
            made_recipe(tmp_path, FIVE_STAGES, overrides=(f"stages.odd.watch.alerts={given}",))
        assert "token" not in str(refused.value)
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    recipe = made_recipe(tmp_path, FIVE_STAGES, overrides=("stages.odd.watch.alerts=['$NOT_SET_HERE']",))
    with pytest.raises(ConfigurationError, match="NOT_SET_HERE, which is not set"):
        recipe.callback("odd")


def test_family_of_a_stage(tmp_path: Path) -> None:
    """Finished runs that a stage names are noted by its callback; one that is not there is said before training."""
    runs = [str(run_folder(tmp_path / f"run-{seed}", seed_rows(seed))) for seed in range(2)]
    recipe = made_recipe(tmp_path, FIVE_STAGES, overrides=(f"stages.odd.watch.family={runs}",))
    ((kind, values),) = recipe.callback("odd").notes()
    assert kind == FAMILY and [run["name"] for run in values["runs"]] == runs
    assert recipe.callback("even").notes() == ()
    missing = made_recipe(tmp_path, FIVE_STAGES, overrides=("stages.odd.watch.family=[not-there]",))
    with pytest.raises(ConfigurationError, match="not-there"):
        missing.callback("odd")


def test_callback(tmp_path: Path) -> None:
    """It watches for what the stage says; a preset is asked of the set that is to be learnt; the caller may add."""
    overrides = (
        "eval.en={source: ko, retention: true}",
        "task=cpt",
        "stages.odd.watch={targets: [korean-loss-3, eval_ko_ppl<20@end], baseline: redwhale, stage: odd-layers, "
        "stop_on: [target-met], grace: 'tokens:1e3', patience: 2, min_delta: 1%}",
        "stages.odd.arguments.eval_strategy=steps",
    )
    recipe = made_recipe(tmp_path, FIVE_STAGES, overrides=overrides)
    told = recipe.callback("odd", language="en")._spec.to_json()
    assert told["targets"] == ["eval_ko_exact_loss<3.0@end", "eval_ko_ppl<20.0@end"]
    assert (told["retention"], told["task"], told["stage"]) == (["en"], "cpt", "odd-layers")
    assert (told["patience"], told["min_delta"], told["grace"]["tokens"]) == (2, "1%", 1000)
    assert told["stop_on"] == ["no-improvement", "target-met"]
    assert told["baseline"]["id"] == "redwhale"
    assert recipe.callback("even")._spec.to_json()["targets"] == []
    with pytest.raises(ConfigurationError, match=r"^langage: found no such argument, .* Did you mean language\?$"):
        recipe.callback("odd", langage="en")


# -- new rows ---------------------------------------------------------------------------------------------------------


def extended(folder: Path, quantization: str = "none", **extend: Any) -> tuple[Recipe, Any, Any]:
    """A recipe of stages of new rows, a Llama with them, and the tokenizer."""
    adapters = {} if quantization == "none" else {"last": LORA}
    stages = {**NEW_ROWS, **({"last": {"layers": "all"}} if adapters else {})}
    recipe = made_recipe(folder, stages, quantization=quantization, adapters=adapters, extend={**EXTEND, **extend})
    model = loaded(recipe, made_model("llama"), folder / "base")
    return recipe, model, recipe.extend(model, byte_level_tokenizer(), korean())


@pytest.mark.parametrize(("one", "other"), [("mean", None), ("mean", "first"), ("first", "random"), ("random", "mean")])
def test_new_rows_begin_as_stated(one: str, other: str | None, tmp_path: Path) -> None:
    """Each matrix in its own way, old rows bit by bit, the first new row noted in the configuration."""
    given = {} if other is None else {"new_output_rows": other}
    before = matrices(loaded(made_recipe(tmp_path, FIVE_STAGES), made_model("llama"), tmp_path / "base"))
    _, model, tokenizer = extended(tmp_path, new_input_rows=one, **given)
    pieces = old_pieces(byte_level_tokenizer(), tokenizer)
    assert len(tokenizer) == ROWS + 40 == len(matrices(model)[0])
    assert getattr(model.config, FIRST_NEW_ROW) == ROWS
    for old, new, method in zip(before, matrices(model), (one, other or one), strict=True):
        assert torch.equal(new[:ROWS], old)
        means = torch.stack([old[list(pieces[index])].mean(0) for index in range(ROWS, ROWS + 40)])
        firsts = torch.stack([old[pieces[index][0]] for index in range(ROWS, ROWS + 40)])
        if method == "random":
            for known in (means, firsts):
                assert not any(torch.equal(row, expected) for row, expected in zip(new[ROWS:], known, strict=True))
            assert 0.5 < new[ROWS:].std() / old.std() < 2
        else:
            torch.testing.assert_close(new[ROWS:], means if method == "mean" else firsts, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("quantization", ["none", "8-bit"])
def test_only_new_rows_move(quantization: str, tmp_path: Path) -> None:
    """EEVE's stages: new rows of one matrix, of the other, of both, all of the head; old rows stay bit by bit where
    they must, and the stage is read from the model as one of new rows. A text without new tokens teaches nothing."""
    recipe, model, tokenizer = extended(tmp_path, quantization)
    saved = "" if quantization == "none" else ".modules_to_save.default"
    names = {"input": f"model.embed_tokens{saved}.weight", "output": f"lm_head{saved}.weight"}
    for stage, parts in NEW_ROWS.items():
        model = recipe.apply_trainable(model, stage)
        assert trainable(model) == {names[side] for side in parts}
        facts = read_stage(model)
        assert (facts.trains.input, facts.trains.output) == (parts.get("input", "none"), parts.get("output", "none"))
        assert facts.notes == ()
        before = matrices(model)
        train(recipe, model, stage, tmp_path / stage, tokenizer)
        for side, old, new in zip(("input", "output"), before, matrices(model), strict=True):
            word = parts.get(side, "none")
            assert torch.equal(new[:ROWS], old[:ROWS]) == (word != "all")
            assert torch.equal(new[ROWS:], old[ROWS:]) == (word == "none")


def test_the_first_new_row_is_saved_with_the_model(tmp_path: Path) -> None:
    """A model saved after it was extended and loaded again trains its new rows and no others."""
    recipe, model, tokenizer = extended(tmp_path)
    model.save_pretrained(tmp_path / "extended")
    again = recipe.apply_trainable(type(model).from_pretrained(tmp_path / "extended"), "input")
    before = matrices(again)[0]
    train(recipe, again, "input", tmp_path / "run", tokenizer)
    assert torch.equal(matrices(again)[0][:ROWS], before[:ROWS])
    assert not torch.equal(matrices(again)[0][ROWS:], before[ROWS:])


def test_new_rows_that_nobody_added(tmp_path: Path) -> None:
    """A model that was not extended has no new rows to train."""
    recipe = made_recipe(tmp_path, NEW_ROWS, extend=EXTEND)
    with pytest.raises(ConfigurationError, match=r"input: found no new rows in this model, expected some; extend it"):
        recipe.apply_trainable(made_model("llama"), "input")


def test_a_text_without_new_tokens(tmp_path: Path) -> None:
    """Nothing that is written often enough is told, and the model left alone; without ``extend`` the tokenizer is."""
    recipe = made_recipe(tmp_path, NEW_ROWS, extend={**EXTEND, "minimum_count": 10_000})
    with pytest.raises(ConfigurationError, match=r"tokenizer.extend: found no new token that is written 10000 times"):
        recipe.extend(made_model("llama"), byte_level_tokenizer(), korean())
    kept = made_recipe(tmp_path, FIVE_STAGES)
    assert kept.extend(made_model("llama"), byte_level_tokenizer(), korean()) is byte_level_tokenizer()


# -- adapters from stage to stage -------------------------------------------------------------------------------------


def test_an_adapter_goes_on_and_is_merged(tmp_path: Path) -> None:
    """In full precision: two stages of one adapter share it; before a stage without, or with another, it is merged,
    and the model says what it said before; what was trained whole beside it stays trained."""
    stages = {
        "odd": {"input": "all", "output": "all", "layers": "odd"},
        "even": {"layers": "even"},
        "plain": {"layers": [2]},
        "last": {"layers": "all"},
    }
    recipe = made_recipe(tmp_path, stages, adapters={"odd": LORA, "even": "odd", "last": {**LORA, "r": 2}})
    model = made_model("llama")
    ids = torch.arange(3, 30).unsqueeze(0)
    seen = []
    for stage in recipe.stages:
        before = None if stage == "odd" else model.eval()(input_ids=ids).logits
        model = recipe.apply_trainable(model, stage)
        seen.append(model)
        if before is not None:
            torch.testing.assert_close(model.eval()(input_ids=ids).logits, before, rtol=1e-4, atol=1e-5)
        train(recipe, model, stage, tmp_path / stage)
    odd, even, plain, last = seen
    assert odd is even
    assert not hasattr(plain, "peft_config") or last is not plain
    assert not [name for name, _ in plain.named_parameters() if "original_module" in name]
    assert last.peft_config["default"].r == 2


def test_another_adapter_over_a_quantised_body_is_refused(tmp_path: Path) -> None:
    """A recipe other than the one that a quantised model was prepared with: nothing is merged into integers."""
    one = made_recipe(tmp_path, FIVE_STAGES, quantization="8-bit")
    model = one.apply_trainable(loaded(one, made_model("llama"), tmp_path / "base"), "embedding")
    other = made_recipe(tmp_path, {"all": {"layers": "all"}}, quantization="8-bit", adapters={"all": LORA})
    with pytest.raises(ConfigurationError, match="whose weights are in 8-bit, expected the same: one adapter for the"):
        other.apply_trainable(model, "all")


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("stage", ["embedding", "odd"])
def test_a_resumed_stage_trains_the_same(stage: str, family: str, tmp_path: Path) -> None:
    """A Trainer that resumes asks PEFT for a trainable adapter; the stage still trains its part alone, from the same
    optimizer state, and comes to the same weights. The adapter itself may have been loaded."""
    recipe = made_recipe(tmp_path, FIVE_STAGES, family=family, quantization="8-bit")
    base = loaded(recipe, made_model(family), tmp_path / "base")
    again = loaded(recipe, made_model(family), tmp_path / "base")
    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole = recipe.apply_trainable(base, stage)
    whole.save_pretrained(str(tmp_path / "adapter"))
    names = trainable(whole)
    train(recipe, whole, stage, tmp_path / "run", **settings)
    saved = PeftModel.from_pretrained(again, str(tmp_path / "adapter"), is_trainable=True)
    resumed = recipe.apply_trainable(saved, stage)
    assert resumed is saved
    assert trainable(resumed) == names
    rows = [{"input_ids": byte_level_tokenizer()(text)["input_ids"][:60]} for text in korean()[:12]]
    trainer = Trainer(
        model=resumed,
        args=recipe.training_arguments(stage, tmp_path / "run", **settings),
        train_dataset=rows,  # type: ignore[arg-type]
        data_collator=collate,
    )
    trainer.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert trainable(resumed) == names
    ours, theirs = resumed.state_dict(), whole.state_dict()
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=0, atol=1e-6)


def test_checkpointed_blocks_behind_a_frozen_embedding(tmp_path: Path) -> None:
    """With gradient checkpointing the odd layers' adapters get a gradient though nothing before them has one."""
    stages = {"odd": {"layers": "odd"}, "even": {"layers": "even"}}
    recipe = made_recipe(tmp_path, stages, quantization="8-bit", arguments={"gradient_checkpointing": True})
    model = loaded(recipe, made_model("llama"), tmp_path / "base")
    for stage in recipe.stages:
        model = recipe.apply_trainable(model, stage)
        before = {name: part.detach().clone() for name, part in model.named_parameters() if part.requires_grad}
        reentrant = {"gradient_checkpointing_kwargs": {"use_reentrant": True}}
        train(recipe, model, stage, tmp_path / stage, **reentrant)
        assert all(not torch.equal(part, before[name]) for name, part in model.named_parameters() if name in before)


def test_bfloat16_stays_bfloat16(tmp_path: Path) -> None:
    """Embedding and head train in the recipe's precision over an 8-bit body, adapters in float32."""
    recipe = made_recipe(tmp_path, FIVE_STAGES, quantization="8-bit", base={"dtype": "bfloat16"})
    model = recipe.apply_trainable(loaded(recipe, made_model("llama"), tmp_path / "base"), "all")
    kinds = {part.dtype for name, part in model.named_parameters() if "lora_" in name}
    assert kinds == {torch.float32}
    assert {part.dtype for part in matrices(model)} == {torch.bfloat16}
    before = matrices(model)
    train(recipe, model, "all", tmp_path / "run")
    assert all(not torch.equal(old, new) for old, new in zip(before, matrices(model), strict=True))


def test_a_stage_of_embeddings_is_no_finding(tmp_path: Path) -> None:
    """Adapters that wait for their stage are a note and no more, and tied embeddings trained whole stay one."""
    for family in ("llama", "gemma3"):
        recipe = made_recipe(tmp_path, FIVE_STAGES, family=family, quantization="8-bit")
        model = loaded(recipe, made_model(family), tmp_path / "base")
        for stage in ("embedding", "odd"):
            model = recipe.apply_trainable(model, stage)
            trainer = train(recipe, model, stage, tmp_path / family / stage)
            callback = next(item for item in trainer.callback_handler.callbacks if hasattr(item, "findings"))
            found = {finding.code: finding.severity for finding in callback.findings}
            assert not found.keys() & {"no-trainable-parameters", "embeddings-untied"}
            waiting = Severity.INFO if stage == "embedding" else None
            assert found.get("adapters-frozen") is waiting
            assert json.dumps(callback.summary())


@pytest.mark.both_versions
def test_four_bits_train_the_same_after_an_evaluation(tmp_path: Path) -> None:
    """bitsandbytes packs 4-bit layers for inference on some CPUs, and their gradients are wrong from then on: the
    gradient of a batch is the same after an evaluation as before it."""
    recipe = made_recipe(tmp_path, {"all": FIVE_STAGES["all"]}, quantization="4-bit")
    model = recipe.apply_trainable(loaded(recipe, made_model("llama"), tmp_path / "base"), "all")
    ids = torch.arange(40).reshape(2, 20) + 5
    found = []
    for _ in range(2):
        model.train()
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        found.append([part.grad.clone() for part in model.parameters() if part.grad is not None])
        model.eval()
        with torch.no_grad():
            model(input_ids=ids)
    assert found[0]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
