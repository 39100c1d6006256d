"""A metric that no evaluation gives: said before the first step wherever the Trainer really dies, and nowhere else."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import tiny
from datasets import Dataset
from transformers import Trainer, TrainerCallback

from ko_cpt_callbacks import Finding, KoCPTCallback
from ko_cpt_callbacks.hf.audit.run import unmeasured

pytestmark = pytest.mark.both_versions

CODE = "metric-not-delivered"
ROWS = tiny.rows(tiny.korean()[:12], tiny.byte_level_tokenizer(), 40)
SETS = {"ko": ROWS[:3], "en": ROWS[3:6]}


class OwnEvaluate(Trainer):
    """Gives the mean of all sets' losses the name that the Trainer asks for."""

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The metrics of all sets, and their mean loss."""
        metrics = super().evaluate(*args, **kwargs)
        losses = [value for name, value in metrics.items() if name.startswith("eval_") and name.endswith("_loss")]
        return {**metrics, "eval_loss": sum(losses) / len(losses)}


class Adds(TrainerCallback):
    """Gives the name in ``on_evaluate``, into the dictionary that the Trainer looks at."""

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """Add it."""
        metrics["eval_loss"] = 1.0


class Watches(TrainerCallback):
    """Looks at the rows and adds nothing."""

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Nothing."""


def _train(folder: Path, metric: str | None, evaluation: Any, **settings: Any) -> tuple[bool, list[Finding]]:
    """Whether the Trainer died of the metric at its first evaluation, and the findings of the code."""
    callback = KoCPTCallback(outputs=[])
    others = settings.pop("others", [])
    trainer = tiny.trainer(
        tiny.llama(len(tiny.byte_level_tokenizer()), layers=1), folder, ROWS, evaluation,
        callbacks=[callback, *others],
        **{"max_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": metric, **settings},
    )  # fmt: skip
    try:
        trainer.train()
        died = ""
    except KeyError as error:
        died = str(error)
    assert not died or ("metric_for_best_model" in died and trainer.state.global_step == 2)
    found = [item for item in callback.findings if item.code == CODE]
    assert all(item.step == 0 for item in found)
    return bool(died), found


@pytest.mark.parametrize(
    ("metric", "evaluation", "near"),
    [
        ("eval_loss", SETS, "eval_ko_loss"),
        ("loss", SETS, "eval_ko_loss"),
        ("loss", {"ko": SETS["ko"]}, "eval_ko_loss"),
        ("eval_exact_loss", SETS, "eval_ko_exact_loss"),
        ("bits_per_byte", SETS, "eval_ko_bits_per_byte"),
        ("eval_jp_loss", SETS, "eval_ko_loss"),
        ("ko_exct_loss", SETS, "eval_ko_exact_loss"),
        ("eval_exact_los", SETS["ko"], "eval_exact_loss"),
        ("eval_fingerprint", SETS["ko"], None),
        ("accuracy", SETS["ko"], None),
    ],
)
def test_the_trainer_dies_where_it_is_said(metric: str, evaluation: Any, near: str | None, tmp_path: Path) -> None:
    """Each of these names is missing: an error at step 0 that names what will be there, then the Trainer's KeyError."""
    died, found = _train(tmp_path, metric, evaluation)
    assert died
    (finding,) = found
    assert (finding.severity, finding.asks_to_stop, finding.variant) == ("error", True, "unknown")
    assert near in (None, finding.values["near"])
    assert _train(tmp_path / "mended", finding.values["near"], evaluation) == (False, [])


@pytest.mark.parametrize(
    ("metric", "evaluation", "settings"),
    [
        ("eval_ko_loss", SETS, {}),
        ("en_exact_loss", SETS, {}),
        ("loss", SETS["ko"], {}),
        ("exact_loss", SETS["ko"], {}),
        ("eval_nonfinite_batches", SETS["ko"], {"greater_is_better": False}),
        ("eval_runtime", SETS["ko"], {"greater_is_better": False}),
        ("accuracy", SETS["ko"], {"compute_metrics": lambda _: {"accuracy": 0.5}}),
        ("eval_ko_f1", SETS, {"compute_metrics": lambda _: {"f1": 0.5}}),
        (None, SETS, {}),
    ],
)
def test_silent_where_the_trainer_goes_on(
    metric: str | None, evaluation: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    """The name is there, or there is none: nothing is said, and the Trainer evaluates."""
    assert _train(tmp_path, metric, evaluation, **settings) == (False, [])


def test_names_of_compute_metrics_have_the_sets_prefix(tmp_path: Path) -> None:
    """``compute_metrics`` gives every name a set's prefix: ``eval_accuracy`` never comes with two sets. A name inside a
    prefix is not judged, although it may be missing."""
    given = {"compute_metrics": lambda _: {"accuracy": 0.5}}
    died, found = _train(tmp_path, "accuracy", SETS, **given)
    assert died and [item.severity for item in found] == ["error"]
    assert _train(tmp_path, "eval_ko_acuracy", SETS, **given) == (True, [])


@pytest.mark.parametrize(
    ("settings", "dies"),
    [({"trainer_class": OwnEvaluate}, False), ({"others": [Adds()]}, False), ({"others": [Watches()]}, True)],
    ids=["own evaluate", "a callback adds it", "a callback looks on"],
)
def test_a_note_where_another_may_add_it(settings: dict[str, Any], dies: bool, tmp_path: Path) -> None:
    """Where somebody's own code may add the name, an info says so; a name that is none of ours is left to that code."""
    died, found = _train(tmp_path / "a", "loss", SETS, **settings)
    assert died is dies
    (finding,) = found
    assert (finding.severity, finding.asks_to_stop, finding.variant) == ("info", False, "unless")
    assert {"OwnEvaluate", "Adds", "Watches"} & set(finding.values["others"])
    assert _train(tmp_path / "b", "eval_score", SETS, **settings)[1] == []


def test_load_best_model_asks_for_the_loss(tmp_path: Path) -> None:
    """``load_best_model_at_end`` and a plateau schedule set the metric by themselves: with a dict of sets it is
    missing."""
    saves = {"save_strategy": "steps", "save_steps": 2, "load_best_model_at_end": True}
    for told in (saves, {"lr_scheduler_type": "reduce_lr_on_plateau"}):
        died, found = _train(tmp_path, None, SETS, **told)
        assert died and [item.values["metric"] for item in found] == ["eval_loss"]


def test_without_evaluation_nothing_dies(tmp_path: Path) -> None:
    """A Trainer that never evaluates never asks for the metric."""
    assert _train(tmp_path, "nonsense", SETS, eval_strategy="no") == (False, [])


def test_a_stop_spares_the_run(tmp_path: Path) -> None:
    """Named in ``stop_on``, the run ends after its first step, not in a KeyError."""
    callback = KoCPTCallback(outputs=[], stop_on=[CODE])
    trainer = tiny.trainer(
        tiny.llama(len(tiny.byte_level_tokenizer()), layers=1), tmp_path, ROWS, SETS, callbacks=[callback], max_steps=9,
        eval_strategy="steps", eval_steps=3, metric_for_best_model="loss",
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 1
    assert callback.stop_reason is not None and callback.stop_reason.code == CODE


def test_bytes_that_cannot_be_counted(tmp_path: Path) -> None:
    """Without a tokenizer there are no bits per byte, and the sentence says why; the exact loss is there all the
    same."""
    died, found = _train(tmp_path / "a", "bits_per_byte", SETS["ko"], processing_class=None, greater_is_better=False)
    assert died
    (finding,) = found
    assert finding.variant == "unmeasured" and finding.values["reason"]
    assert _train(tmp_path / "b", "exact_loss", SETS["ko"], processing_class=None) == (False, [])


def test_a_run_that_cannot_be_measured() -> None:
    """What refuses the exact loss refuses all numbers of ours, none of the Trainer's."""
    absent = unmeasured("several GPUs", None)
    assert {"exact_loss", "ppl", "bits_per_byte", "tokens"} <= set(absent) and set(absent.values()) == {"several GPUs"}
    assert not {"loss", "nonfinite_batches"} & set(absent) and unmeasured(None, None) == {}


def test_trl_adds_no_loss(tmp_path: Path) -> None:
    """TRL's Trainers put names of their own into the log, never ``eval_loss`` with a dict of sets: an error there, and
    silence about names that may be TRL's."""
    trl = pytest.importorskip("trl")
    trl_rows = {name: Dataset.from_list(rows) for name, rows in SETS.items()}

    def run(metric: str) -> tuple[bool, list[Finding]]:
        callback = KoCPTCallback(outputs=[])
        trainer = trl.SFTTrainer(
            model=tiny.llama(len(tiny.byte_level_tokenizer()), layers=1),
            args=trl.SFTConfig(
                output_dir=str(tmp_path), report_to="none", use_cpu=True, bf16=False, max_steps=2, logging_steps=1,
                save_strategy="no", eval_strategy="steps", eval_steps=2, metric_for_best_model=metric,
                per_device_train_batch_size=2, disable_tqdm=True, gradient_checkpointing=False,
            ),
            train_dataset=Dataset.from_list(ROWS), eval_dataset=trl_rows,
            processing_class=tiny.byte_level_tokenizer(), callbacks=[callback],
        )  # fmt: skip
        try:
            trainer.train()
            died = False
        except KeyError:
            died = True
        return died, [item for item in callback.findings if item.code == CODE]

    died, found = run("loss")
    assert died and [(item.severity, item.values["near"]) for item in found] == [("error", "eval_ko_loss")]
    assert run("eval_ko_exact_loss") == (False, [])
    assert run("eval_ko_mean_token_accuracy")[1] == []


def test_an_exact_loss_of_pairs(tmp_path: Path) -> None:
    """A DPO run has no exact loss, and asking for it as the metric is an error with that reason."""
    trl = pytest.importorskip("trl")
    pairs = Dataset.from_list([{"prompt": "가", "chosen": f" 나{i}", "rejected": f" 다{i}"} for i in range(4)])
    callback = KoCPTCallback(outputs=[])
    model = tiny.llama(len(tiny.byte_level_tokenizer()), layers=1)
    trainer = trl.DPOTrainer(
        model=model, ref_model=copy.deepcopy(model),
        args=trl.DPOConfig(
            output_dir=str(tmp_path), report_to="none", use_cpu=True, bf16=False, max_steps=1, logging_steps=1,
            save_strategy="no", eval_strategy="steps", eval_steps=1, metric_for_best_model="exact_loss",
            per_device_train_batch_size=2, disable_tqdm=True, gradient_checkpointing=False,
        ),
        train_dataset=pairs, eval_dataset=pairs, processing_class=tiny.byte_level_tokenizer(), callbacks=[callback],
    )  # fmt: skip
    with pytest.raises(KeyError, match="eval_exact_loss"):
        trainer.train()
    (finding,) = [item for item in callback.findings if item.code == CODE]
    assert (finding.severity, finding.variant, finding.values["near"]) == ("error", "unmeasured", "eval_loss")
    assert "DPOTrainer scores pairs" in str(finding.values["reason"])
