"""Rows that show every finding once in each severity: the examples of `docs/findings`, judged by the rules themselves.

The rows are made up, and each example says how; the sentences are what the rules print of them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ko_cpt_callbacks.compare.baseline import Baseline, BaselineStage, BaselineValue
from ko_cpt_callbacks.compare.registry import find_baseline
from ko_cpt_callbacks.forecast.family import FamilyRun, family_row, family_run
from ko_cpt_callbacks.forecast.outlook import outlook_of
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.registry import rules_for
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.observation import (
    EndObservation,
    EvalObservation,
    Observation,
    SetupObservation,
    TrainObservation,
)
from ko_cpt_callbacks.watch.spec import WatchSpec
from ko_cpt_callbacks.watch.stopping import Patience
from ko_cpt_callbacks.watch.target import parse_targets

__all__ = ["EXAMPLES", "Example"]


@dataclass(frozen=True)
class Example:
    """Rows of a run, and what is to be known of them.

    Args:
        of: What run it is, in a few words; a sentence without its full stop.
        rows: Its rows.
        told: For `WatchSpec`.
        findings: How many findings of the code they show; the last is the example.
    """

    of: str
    rows: Sequence[Observation]
    told: Mapping[str, Any] = field(default_factory=dict)
    findings: int = 1

    def finding(self, code: str) -> Finding:
        """What the rule of a code says of the rows.

        Raises:
            ValueError: If it says more or less than was expected.
        """
        found = Monitor(rules_for(WatchSpec(rules=(code,), **self.told))).judge(self.rows)[1]
        if len(found) != self.findings:
            said = "; ".join(f"step {one.step}, {one.severity.value}" for one in found) or "none"
            raise ValueError(f"example of {code} ({self.of}): expected {self.findings} findings, found {said}")
        return found[-1]


# -- rows --------------------------------------------------------------------------------------------------------------


def noise(count: int, deviation: float = 0.03) -> list[float]:
    """Normal noise that is always the same."""
    draw = random.Random(1)
    return [draw.gauss(0.0, deviation) for _ in range(count)]


def curve(count: int, start: float = 3.4, end: float = 2.6, length: float = 40.0) -> list[float]:
    """A loss that falls as losses do, with noise."""
    return [end + (start - end) * math.exp(-i / length) + off for i, off in enumerate(noise(count))]


def warm(step: int) -> float:
    """A learning rate that warms up for 50 steps and stays."""
    return 2e-4 * min(1.0, step / 50)


def training(
    losses: Sequence[float], *, rate: Callable[[int], float] = warm, first: int = 1, per_epoch: int = 0, **more: Any
) -> list[TrainObservation]:
    """A row every ten steps.

    Args:
        losses: One a row.
        rate: Learning rate of a step.
        first: Number of the first row.
        per_epoch: Rows of an epoch; 0: one epoch is far longer than the run.
        more: Further fields, the same in every row.
    """
    epochs = per_epoch or 10_000
    return [
        TrainObservation(10 * i, i / epochs, loss, **{"grad_norm": 1.0, "learning_rate": rate(10 * i), **more})
        for i, loss in enumerate(losses, start=first)
    ]


def evaluation(step: int, loss: float, split: str = "eval_ko", **more: Any) -> EvalObservation:
    """An evaluation of 400 rows: exact, with an error of 0.01, four bytes per token."""
    known: dict[str, Any] = {
        "loss": loss, "exact_loss": loss, "exact_loss_se": 0.01, "bits_per_byte": loss / math.log(2.0) / 4.0,
        "bits_per_byte_se": 0.01 / math.log(2.0) / 4.0, "tokens": 100_000, "bytes": 400_000, "rows": 400,
        "fingerprint": "utf8-00bb",
    }  # fmt: skip
    return EvalObservation(step, split=split, **{**known, **more})


def evaluated(rows: Sequence[TrainObservation], levels: Sequence[float], split: str = "eval_ko") -> list[Observation]:
    """Training rows with evaluations at step 0 and at even distances."""
    seen: list[Observation] = [evaluation(0, levels[0], split)]
    each = len(rows) // (len(levels) - 1)
    for i, row in enumerate(rows, start=1):
        seen.append(row)
        if i % each == 0:
            seen.append(evaluation(row.step, levels[i // each], split))
    return seen


def told(kind: str, step: int = 0, **values: Any) -> SetupObservation:
    """What the callback noted."""
    return SetupObservation(step, kind, values)


def attempt(step: int, rows: int, version: str) -> SetupObservation:
    """What an attempt trains with, in short."""
    return told("attempt", step, batch={"rows_per_step": rows}, versions={"transformers": version})


def plan(steps: int) -> SetupObservation:
    """How long the run is to be."""
    return told("plan", planned_steps=steps)


def decaying(step: float, last: int) -> float:
    """A learning rate that decays to zero along a cosine."""
    return 2e-4 * (1 + math.cos(math.pi * step / last)) / 2


def ahead(last: int) -> SetupObservation:
    """The same, as the callback notes it."""
    steps = [float(step) for step in range(0, last + 1, last // 80)]
    return told("rate-ahead", scheduler="LambdaLR", steps=steps, rates=[decaying(step, last) for step in steps])


def heading(until: int, last: int) -> list[Observation]:
    """A run that loses less and less, evaluated every 40 steps."""
    seen: list[Observation] = []
    for off, step in zip(noise(until // 40, 0.003), range(40, until + 1, 40), strict=True):
        loss = 2.32 + 2.0 * (step + 100) ** -0.25 - 0.1 * (1 - decaying(step, last) / 2e-4) + off
        seen += [TrainObservation(step, loss=loss, learning_rate=decaying(step, last)), evaluation(step, loss)]
    return seen


def seed(number: int, until: int, last: int, rate: float = 1.0) -> list[Observation]:
    """The same run with another seed, 2,048 tokens a step; at twice the rate it falls by 8 % more until its end."""
    off, seen = noise(number + 1, 0.002)[number], [plan(last), ahead(last)]
    for row in heading(until, last):
        if isinstance(row, TrainObservation):
            row = replace(row, tokens_seen=2048 * row.step, learning_rate=rate * decaying(row.step, last))
        elif isinstance(row, EvalObservation):
            row = evaluation(row.step, (row.exact_loss or 0.0) * math.exp(off - 0.08 * (rate - 1) * row.step / last))
        seen.append(row)
    rates = [rate * one for one in seen[1].values["rates"]]  # type: ignore[union-attr]
    return [seen[0], told("rate-ahead", **{**seen[1].values, "rates": rates}), *seen[2:]]  # type: ignore[union-attr]


def with_seeds(rows: list[Observation], last: int) -> list[Observation]:
    """The rows of a run that was given five finished runs as its family."""
    runs = [family_run(outlook_of(seed(number, last, last)), f"seed-{number}") for number in range(1, 6)]
    return [*rows[:2], told("family", **family_row([run for run in runs if isinstance(run, FamilyRun)])), *rows[2:]]


def spiked() -> list[float]:
    """A healthy curve with one high point."""
    losses = curve(60)
    losses[40] += 1.4
    return losses


def stairs(epochs: int, each: int) -> list[float]:
    """A loss that steps down by 12 % where epochs end."""
    return [2.5 * 0.88 ** (i // each) - 0.001 * i + off for i, off in enumerate(noise(epochs * each, 0.02))]


def padded() -> list[TrainObservation]:
    """Twenty rows of many lengths, then every row of 16 times 2,048 tokens; the loss falls."""
    rows, tokens = [], 0
    for i, row in enumerate(training(curve(40)), start=1):
        tokens += 10 * (20_000 + 37 * (i * i % 101) if i <= 20 else 32_768)
        loss = row.loss if i <= 20 or row.loss is None else row.loss - 1.5
        rows.append(replace(row, loss=loss, input_tokens=tokens))
    return rows


def own_baseline() -> Baseline:
    """A run of one's own, on the text that is evaluated, with its sums per row."""
    known: dict[str, Any] = {
        "set": "eval_ko", "fingerprint": "utf8-00aa", "grade": "OWN", "origin": "measured",
        "rows_file": "own/eval_ko-100.npz", "tokens": 100_000, "bytes": 400_000,
    }  # fmt: skip
    values = (
        BaselineValue("loss", "eval", 2.8, low=2.8, high=2.8, se=0.03, **known),
        BaselineValue("bits_per_byte", "eval", 1.01, low=1.01, high=1.01, se=0.01, **known),
    )
    stages = (BaselineStage("whole", values=values),)
    return Baseline("first-run", "My run", "continued pretraining", "OWN", stages=stages, tokenizer_hash="abc")


def difference(step: int, nats: float) -> SetupObservation:
    """A difference from one's own baseline, paired row by row."""
    return told(
        "baseline-difference", step, split="eval_ko", baseline="first-run", unit="nats per token", difference=nats,
        se=0.004, rows=400,
    )  # fmt: skip


def joined() -> list[Observation]:
    """A run that decayed to nothing, and a second one that warms up again."""
    first = training(curve(60), rate=lambda step: 2e-4 * (1.0 - step / 605))
    second = training(curve(40, 2.9), rate=lambda step: 2e-4 * min(1.0, (step - 600) / 50), first=61)
    return [*first, *second]


def scaled(*skipped: int) -> list[TrainObservation]:
    """A healthy curve in fp16; in some rows the gradient norm is NaN."""
    rows = training(HEALTHY, nonfinite_steps=0)
    return [replace(row, grad_norm=math.nan) if i in skipped else row for i, row in enumerate(rows)]


HEALTHY: Final = curve(60)
FALLING: Final = [3.3, 3.0, 2.9, 2.84, 2.8, 2.77, 2.75, 2.73, 2.72, 2.71, 2.7]
_PADS: Final = {"split": "train", "rows": 8, "tokens": 4096}
_NEW: Final = {"new_tokens": 8000, "frozen": ["model.embed_tokens", "lm_head"]}
_BOTH: Final = 'LoraConfig(..., modules_to_save=["embed_tokens", "lm_head"]).'

# -- examples, a severity each -----------------------------------------------------------------------------------------

EXAMPLES: Final[Mapping[str, tuple[Example, ...]]] = {
    "non-finite": (
        Example(
            "Step 205 had a NaN loss, and the Trainer logs a number as if nothing had happened",
            [
                *training(HEALTHY[:20], nonfinite_steps=0),
                TrainObservation(210, loss=2.7, grad_norm=math.nan, nonfinite_steps=1, nonfinite_first_step=205),
            ],
        ),
        Example("fp16: the third NaN gradient norm among healthy losses", scaled(20, 30, 40), findings=2),
        Example("fp16: the first", scaled(20)),
        Example(
            "An old log without gradient norms: 0.033 once, then exactly 0",
            [TrainObservation(10, loss=0.0328), *(TrainObservation(10 * i, loss=0.0) for i in range(2, 30))],
        ),
        Example(
            "All labels of one batch are -100",
            [
                *training(HEALTHY[:20], nonfinite_steps=0),
                TrainObservation(210, loss=math.nan, grad_norm=0.9, nonfinite_steps=0, targetless_micro_batches=1),
            ],
        ),
    ),
    "no-trainable-parameters": (
        Example(
            "A model of 4.3 billion parameters, all frozen",
            [told("no-trainable-parameters", parameters=4_300_079_472)],
        ),
    ),
    "adapters-frozen": (
        Example(
            "A LoRA that was loaded with `PeftModel.from_pretrained(model, path)`",
            [told("adapters-frozen", adapter_parameters=18_350_080, trainable_parameters=0)],
        ),
        Example(
            "A stage of embeddings: `modules_to_save` is trained, the LoRA waits",
            [told("adapters-frozen", adapter_parameters=18_350_080, trainable_parameters=4_096, beside_adapters=4_096)],
        ),
    ),
    "embeddings-frozen": (
        Example(
            "8,000 Korean tokens were added, and LoRA trains the attention alone",
            [told("embeddings-frozen", **_NEW, untrained=True, fix=_BOTH)],
        ),
        Example(
            "The resized model was saved by an earlier script, and nothing but its rows tells of it",
            [told("embeddings-frozen", **_NEW, untrained=True, seen="rows", fix=_BOTH)],
        ),
        Example(
            "The same in a second stage: the new rows are no longer alike",
            [told("embeddings-frozen", **_NEW, untrained=False, fix=_BOTH)],
        ),
    ),
    "embeddings-not-padded": (
        Example(
            "8,185 tokens were added to Llama 2's 32,000",
            [told("embeddings-not-padded", rows=40_185, multiple=64, padded_rows=40_192)],
        ),
    ),
    "embeddings-untied": (
        Example(
            'Gemma with `modules_to_save=["embed_tokens", "lm_head"]`',
            [
                told(
                    "embeddings-untied",
                    trained=["embed_tokens", "lm_head"],
                    fix="To keep them one: LoraConfig(..., ensure_weight_tying=True). To save both: "
                    "model.config.tie_word_embeddings = False.",
                )
            ],
        ),
    ),
    "half-precision-modules": (
        Example(
            "An 8-bit model loaded with `dtype=torch.float16`, whose embeddings and head are trained",
            [
                told(
                    "half-precision-modules",
                    tensors=2,
                    modules=["model.embed_tokens", "lm_head"],
                    quantization="8-bit",
                    fix="Before get_peft_model: model = prepare_model_for_kbit_training(model).",
                )
            ],
        ),
    ),
    "prompt-in-loss": (
        Example(
            "Eight instructions with their answers, all of it labeled",
            [told("padding-in-loss", **_PADS, masked_labels=0, pad_run_rows=0, unlabelled=0)],
            {"task": "sft"},
        ),
    ),
    "eos-not-trained": (
        Example(
            "`tokenizer.pad_token = tokenizer.eos_token` with `DataCollatorForLanguageModeling(tokenizer, mlm=False)`",
            [
                told(
                    "padding-in-loss", **_PADS, masked_labels=0, pad_run_rows=0, unlabelled=0, ends=8, end_labels=0,
                    pad_is_end=True,
                )
            ],
        ),
    ),
    "worst-model-kept": (
        Example(
            '`metric_for_best_model="eval_ppl"`',
            [told("worst-model-kept", keeps="highest", metric="eval_ppl")],
        ),
    ),
    "metric-not-delivered": (
        Example(
            "`load_best_model_at_end` with a dict of two evaluation sets",
            [
                told(
                    "metric-not-delivered", metric="eval_loss", certain=True, near="eval_ko_loss",
                    there=["eval_ko_loss", "eval_en_loss", "eval_ko_exact_loss", "eval_en_exact_loss"], others=[],
                )
            ],
        ),
        Example(
            "The same in a Trainer class of one's own that has an `evaluate` of its own",
            [
                told(
                    "metric-not-delivered", metric="eval_loss", certain=False, near="eval_ko_loss",
                    there=["eval_ko_loss", "eval_en_loss"], others=["MyTrainer"],
                )
            ],
        ),
    ),
    "eval-in-training": (
        Example(
            "A split by chance of text that holds every article twice",
            [
                told(
                    "eval-in-training", split="eval_ko", found=212, compared=400, set_rows=400, train_compared=12_000,
                    train_rows=12_000,
                )
            ],
        ),
    ),
    "corpus-unused": (
        Example(
            "`mix: {ko: 3, en: 1}` with 50 MB of Korean and 10 KB of English",
            [
                told(
                    "corpus-use", source="ko", share=0.75, read=17, available=28_975, passes=1.0,
                    corpus_bytes=50_010_000, shortest=["en"],
                )
            ],
        ),
    ),
    "corpus-repeated": (
        Example(
            "The stages of the same recipe, which take 484 rows of its 93",
            [
                told(
                    "corpus-use", source="ko", share=0.75, read=17, available=28_975, passes=5.2,
                    corpus_bytes=50_010_000, shortest=["en"],
                )
            ],
        ),
    ),
    "padding-in-loss": (
        Example(
            "The first batch of a run whose pads are labeled",
            [told("padding-in-loss", **_PADS, masked_labels=900, pad_run_rows=6, unlabelled=0)],
        ),
        Example(
            "No mask, no tokenizer: seven of eight rows end with 30 and more labels of one token",
            [
                told(
                    "padding-in-loss", **_PADS, masked_labels=0, pad_run_rows=0, unlabelled=0, equal_ends=7,
                    equal_tokens=402,
                )
            ],
        ),
        Example("A bare log: from step 210 on rows are padded to 2,048 tokens, and the loss falls by 1.5", padded()),
    ),
    "below-floor": (
        Example(
            "Continued pretraining on a few short texts, again and again; an evaluation tells the bytes per token",
            [evaluation(0, 2.7), *training([0.9] * 40)],
        ),
        Example("The same log, of a task that is not named",
                [evaluation(0, 2.7), *training([0.9] * 40)], {"task": "other"}),
        Example("The same losses in a log that has no bytes", training([0.9] * 40)),
    ),
    "run-seam": (
        Example("A run of 600 steps whose learning rate decayed, and a second one in the same log", joined()),
        Example(
            "The token counter starts again at step 310; nothing else does",
            [
                replace(row, input_tokens=30_000 * (i if i <= 30 else i - 30))
                for i, row in enumerate(training(HEALTHY), start=1)
            ],
        ),
    ),
    "loss-spike": (Example("A healthy run with one row 1.4 nats too high", training(spiked())),),
    "diverged": (
        Example(
            "After 40 healthy rows the loss rises by 0.05 nats a row",
            training([loss + max(0.0, 0.05 * (i - 40)) for i, loss in enumerate(curve(70))]),
        ),
    ),
    "level-shift": (
        Example(
            "From step 410 on the prompt is in the loss as well: 0.4 nats more, at once and for good",
            training([loss + (0.4 if i >= 40 else 0.0) for i, loss in enumerate(curve(90))]),
        ),
    ),
    "eval-too-small": (
        Example("One hundred rows", [evaluation(100, 3.078, exact_loss_se=0.043, rows=100)]),
    ),
    "target-met": (
        Example(
            '`targets=["eval_ko_exact_loss<3.0@end"]`',
            evaluated(training(HEALTHY), FALLING),
            {"targets": parse_targets(["eval_ko_exact_loss<3.0@end"])},
        ),
    ),
    "target-missed": (
        Example(
            '`targets=["eval_ko_exact_loss<2.5@step:500"]`',
            evaluated(training(HEALTHY), FALLING),
            {"targets": parse_targets(["eval_ko_exact_loss<2.5@step:500"])},
        ),
    ),
    "target-unreachable": (
        Example(
            '`targets=["eval_ko_exact_loss<2.5@end"]`, planned for 1,600 steps; the loss falls towards 2.6',
            [plan(1600), ahead(1600), *heading(640, 1600)],
            {"targets": parse_targets(["eval_ko_exact_loss<2.5@end"])},
        ),
    ),
    "target-likely": (
        Example(
            '`targets=["eval_ko_exact_loss<2.66@end"]`, the same run',
            [plan(1600), ahead(1600), *heading(640, 1600)],
            {"targets": parse_targets(["eval_ko_exact_loss<2.66@end"])},
        ),
    ),
    "target-inconclusive": (
        Example(
            '`targets=["eval_ko_exact_loss<2.71@end"]`, and the run ends at 2.700',
            [*evaluated(training(HEALTHY), FALLING), EndObservation(600)],
            {"targets": parse_targets(["eval_ko_exact_loss<2.71@end"])},
        ),
        Example(
            '`targets=["eval_kr_exact_loss<3.0@end"]`, where the set is called `ko`',
            [*evaluated(training(HEALTHY), FALLING), EndObservation(600)],
            {"targets": parse_targets(["eval_kr_exact_loss<3.0@end"])},
        ),
    ),
    "attempt-differs": (
        Example(
            "A run that is resumed at step 300 on one card in place of two, with another version of transformers",
            [
                attempt(0, 128, "5.22.0"),
                *training(HEALTHY[:30]),
                attempt(300, 64, "5.23.0"),
                *training(HEALTHY)[30:],
            ],
        ),
    ),
    "eval-set-changed": (
        Example(
            "A resume at step 300 with another file as evaluation set",
            [
                replace(row, fingerprint="utf8-5f0c" if row.step < 350 else "utf8-91ab")
                if isinstance(row, EvalObservation) else row
                for row in evaluated(training(HEALTHY), [3.3, 3.0, 2.9, 3.6, 3.55])
            ],
        ),
        Example(
            "The same in a log without fingerprints",
            [
                EvalObservation(row.step, split="eval", loss=row.loss) if isinstance(row, EvalObservation) else row
                for row in evaluated(training(HEALTHY), [3.3, 3.1, 3.0, 2.95, 2.93, 4.1, 4.08])
            ],
        ),
        Example(
            "A set that is sampled anew for every evaluation",
            [evaluation(100 * i, 2.8, fingerprint=f"utf8-00{i}0") for i in range(1, 6)],
        ),
    ),
    "overfitting": (
        Example(
            "A small text for many epochs: training falls on, the evaluation rises from step 400 on",
            evaluated(training(curve(80, 3.4, 1.8)), [3.3, 3.0, 2.9, 2.84, 2.82, 2.87, 2.93, 3.0, 3.08]),
        ),
    ),
    "loss-scaled": (
        Example(
            "Gradient accumulation of 8, and a `compute_loss` that returns the mean of a micro-batch",
            [
                plan(600),
                told("loss-scaled", 10, factor=8.0, logged=27.2, measured=3.4, by="accumulation", accumulation=8,
                     processes=1),
                *training([8.0 * loss for loss in HEALTHY]),
            ],
        ),
        Example(
            "The same as a bare log shows it",
            evaluated(training([8.0 * loss for loss in HEALTHY]), FALLING),
        ),
    ),
    "gap-widening": (
        Example(
            "Training falls on, the evaluation stays where it is",
            evaluated(training(curve(100, 3.4, 2.0, 60.0)), [3.3, 2.9, 2.72, 2.66, *[2.65] * 7]),
        ),
    ),
    "memorizing": (Example("Four epochs of twenty rows", training(stairs(4, 20), per_epoch=20)),),
    "forgetting": (
        Example(
            "Korean alone, and an English set to watch",
            [plan(1000), *evaluated(training(curve(100)), [2.0, 2.06, 2.09, 2.12, 2.14, 2.15], "eval_en")],
        ),
        Example(
            "The same with a little English in the training text",
            [plan(1000), *evaluated(training(curve(100)), [2.0, 2.07, 2.04, 2.03, 2.02, 2.02], "eval_en")],
        ),
    ),
    "plateau": (
        Example(
            "A constant learning rate, and no fall since step 700",
            [plan(3000), *training([max(2.6, 3.4 - 0.012 * i) + off for i, off in enumerate(noise(200, 0.02))])],
        ),
    ),
    "no-learning": (
        Example("A learning rate of 2e-9", [*training([3.4 + off for off in noise(80)]), EndObservation(800)]),
    ),
    "no-improvement": (
        Example(
            "`patience=3, min_delta=\"1%\"`",
            evaluated(training(HEALTHY), [3.3, 3.0, 2.9, 2.89, 2.88, 2.88, 2.88]),
            {"patience": Patience(3, 0.01, True)},
        ),
    ),
    "baseline-ahead": (
        Example(
            "`baseline=\"redwhale\"`, on a text of one's own",
            [evaluation(1000, 2.2)],
            {"baseline": find_baseline("redwhale").as_dict(), "stage": "lora"},
        ),
    ),
    "baseline-behind": (
        Example(
            "A second run on the text of the first",
            [evaluation(1000, 2.9, fingerprint="utf8-00aa"), difference(1000, 0.1), EndObservation(1000)],
            {"baseline": own_baseline().as_dict()},
        ),
        Example(
            "`baseline=\"redwhale\"`, on a text of one's own",
            [evaluation(1000, 2.9), EndObservation(1000)],
            {"baseline": find_baseline("redwhale").as_dict(), "stage": "lora"},
        ),
    ),
    "not-comparable": (
        Example(
            "`baseline=\"redwhale\"` and a log without bytes",
            [EvalObservation(1000, split="eval", loss=3.078)],
            {"baseline": find_baseline("redwhale").as_dict(), "stage": "lora"},
        ),
    ),
    "off-family": (
        Example("Five seeds of one set-up, and a run at twice their rate", with_seeds(seed(0, 800, 1600, 2.0), 1600)),
        Example("The same five seeds, and a run that is planned for longer", with_seeds(seed(0, 400, 2000), 1600)),
    ),
    "stage-regression": (
        Example(
            "A stage whose learning rate was too high",
            [
                told(
                    "stage-difference", 400, stage="even-layers", before="odd-layers", split="eval_ko", difference=0.05,
                    unit="nats per token", se=0.01, paired=True, value_before=2.8, value_after=2.85,
                )
            ],
        ),
    ),
    "note": (
        Example(
            "Several forward passes over one batch, one of them of a reference model",
            [
                evaluation(
                    100, 2.9, exact_loss=None, exact_loss_se=None, bits_per_byte=None, bits_per_byte_se=None,
                    exact_loss_absent="one prediction step made several forward passes over the same labels, with "
                    "different results (a reference model?)",
                )
            ],
        ),
        Example(
            "Two GPUs, and `python train.py` in place of a launcher",
            [
                told(
                    "exact-loss-absent",
                    reason="several GPUs in one process (nn.DataParallel) are not measured; start one process per GPU, "
                    "with accelerate launch or torchrun",
                )
            ],
        ),
        Example(
            "`torch_compile=True` and a fused loss that never makes the logits",
            [
                evaluation(
                    100, 2.9, exact_loss_se=None, bits_per_byte_se=None,
                    error_bar_absent="the output has no logits, and no hidden states or head to make them from",
                )
            ],
        ),
        Example("A Trainer of another library, which calls its callbacks by itself", [told("trackers-not-reached")]),
        Example("Both were given to the Trainer", [told("early-stopping-twice", other="EarlyStoppingCallback")]),
        Example("`compute_loss_func` is set", [told("nan-filter-on")]),
        Example('`eval_strategy="steps"` alone', [told("no-first-evaluation")]),
        Example(
            "A run that `target-met` stopped at step 800 is resumed from there",
            [told("stopped-before", 800, reason="target-met", reason_step=800, stops=True)],
        ),
        Example(
            '`eval_strategy="epoch"` with `eval_steps`',
            [told("no-first-evaluation", eval_steps=50, eval_strategy="epoch")],
        ),
        Example(
            '`retention=["wiki_en"]`, and the sets are `ko` and `en`',
            [told("retention-not-evaluated", names=["wiki_en"], sets=["ko", "en"])],
        ),
        Example(
            "The same run resumed without `stop_on`",
            [told("stopped-before", 800, reason="target-met", reason_step=800, stops=False)],
        ),
    ),
    "rule-failed": (
        Example(
            "`memorizing` raised in the row of step 70",
            [told("rule-failed", 70, rule="memorizing", error="IndexError: tuple index out of range")],
        ),
    ),
    "record-behind": (
        Example(
            "A disk that was full from step 12 on, until the process was killed; `ko-cpt check` on the folder",
            [
                told(
                    "record-behind", 12, record_step=12, state_step=20, rows=9,
                    file="checkpoint-20/trainer_state.json",
                )
            ],
        ),
    ),
    "foreign-record": (
        Example(
            "`resume_from_checkpoint=` of one run with the `output_dir` of another",
            [told("foreign-record", 400, rows=86, first_step=10)],
        ),
    ),
    "two-writers": (
        Example("A job that was sent twice", [told("two-writers", process="4711")]),
    ),
    "not-enough-data": (Example("Four rows", [*training(HEALTHY[:4]), EndObservation(40)]),),
}  # fmt: skip
"""By code; where a code has several severities, an example of each."""
