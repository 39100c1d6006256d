"""The checks of the set-up that need no limit: a table of what a row must say for each to speak.

A check is a row of the table: its code, and its reasons, each with its severity, the values that its sentence shows and
what of the row makes it a mistake. The first reason that fits is reported. The row is of the kind that the code names,
but for what is counted in the first batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import (
    FIRST_BATCH,
    Reading,
    SetupReason,
    SetupRule,
    count_of,
    names_of,
    some_names,
    some_of,
    text_of,
)
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.fold import RECORD_BEHIND
from ko_cpt_callbacks.run.observation import SetupObservation

__all__ = [
    "AdaptersFrozen", "EmbeddingsFrozen", "EmbeddingsNotPadded", "EmbeddingsUntied", "EosNotTrained",
    "ForeignRecord", "HalfPrecisionModules", "MetricNotDelivered", "NoTrainableParameters", "PromptInLoss",
    "RecordBehind", "TwoWriters", "WorstModelKept",
]  # fmt: skip


def _info(code: str, reasons: tuple[SetupReason, ...], *, may_stop: bool, place: int = 10) -> RuleInfo:
    """The metadata of a check; its severities are those of its reasons."""
    severities = tuple(one for one in reversed(Severity) if one in {reason.severity for reason in reasons})
    return RuleInfo(code, severities, (SetupObservation,), may_stop, place=place)


@dataclass(frozen=True, slots=True)
class NoTrainableParameters(SetupRule):
    """Reads the set-up row of this code's name, written when training begins.

    Training usually dies in the first backward pass with an error that names no parameter. With gradient
    checkpointing the inputs require a gradient all the same, and it trains nothing to the end without a word.
    """

    reasons: ClassVar[tuple[SetupReason, ...]] = (SetupReason("", Severity.ERROR, {"parameters": some_of}),)
    info: ClassVar[RuleInfo] = _info("no-trainable-parameters", reasons, may_stop=True)


_OF_ADAPTERS: Final[Mapping[str, Reading]] = {"adapter_parameters": some_of, "trainable_parameters": count_of}


def _beside_adapters(seen: SetupObservation) -> bool:
    """Whether all that is trained is what PEFT saves beside the adapters: they were frozen on purpose."""
    others = some_of(seen, "trainable_parameters")
    return others is not None and count_of(seen, "beside_adapters") == others


@dataclass(frozen=True, slots=True)
class AdaptersFrozen(SetupRule):
    """Reads the set-up row of this code's name, written when training begins.

    An adapter that is loaded rather than made is frozen unless asked otherwise (PEFT's ``is_trainable``), and some
    trainers freeze the adapters of a model that they are given (TRL issue 3926).
    """

    reasons: ClassVar[tuple[SetupReason, ...]] = (
        SetupReason("beside-trained", Severity.INFO, _OF_ADAPTERS, _beside_adapters),
        SetupReason(
            "others-trained", Severity.ERROR, _OF_ADAPTERS,
            lambda seen: some_of(seen, "trainable_parameters") is not None,
        ),
        SetupReason("nothing-trained", Severity.ERROR, _OF_ADAPTERS),
    )  # fmt: skip
    info: ClassVar[RuleInfo] = _info("adapters-frozen", reasons, may_stop=True)


_OF_NEW_ROWS: Final[Mapping[str, Reading]] = {"new_tokens": some_of, "frozen": some_names, "fix": text_of}


def _untrained(seen: SetupObservation) -> bool:
    return seen.values.get("untrained") is True


@dataclass(frozen=True, slots=True)
class EmbeddingsFrozen(SetupRule):
    """Reads the set-up row of this code's name, written when training begins.

    The row is written where the tokenizer has tokens beyond the vocabulary that the model was built with, or that it
    did not have when it was read, and the input embeddings or the head are frozen. A warning where the new rows are
    still what a resize makes of them: all nearly the same, so that no earlier stage can have trained them. An info
    where that cannot be seen. Where an earlier script saved the resized model, such rows of text tokens at the end of
    the vocabulary are all that is left of it (``seen``: ``rows``), and they are enough.
    """

    reasons: ClassVar[tuple[SetupReason, ...]] = (
        SetupReason(
            "alike", Severity.WARNING, _OF_NEW_ROWS,
            lambda seen: _untrained(seen) and text_of(seen, "seen") == "rows",
        ),
        SetupReason("untrained", Severity.WARNING, _OF_NEW_ROWS, _untrained),
        SetupReason("maybe-trained", Severity.INFO, _OF_NEW_ROWS),
    )  # fmt: skip
    info: ClassVar[RuleInfo] = _info("embeddings-frozen", reasons, may_stop=True)


@dataclass(frozen=True, slots=True)
class EmbeddingsUntied(SetupRule):
    """Reads the set-up row of this code's name, written when training begins.

    ``modules_to_save=["embed_tokens", "lm_head"]`` makes two copies of one matrix. They drift apart, and anyone who
    loads the merged model ties them again, by the configuration, and loses one of them.
    """

    reasons: ClassVar[tuple[SetupReason, ...]] = (
        SetupReason("", Severity.WARNING, {"trained": some_names, "fix": text_of}),
    )
    info: ClassVar[RuleInfo] = _info("embeddings-untied", reasons, may_stop=True)


@dataclass(frozen=True, slots=True)
class EmbeddingsNotPadded(SetupRule):
    """Reads the set-up row of this code's name, written when training begins.

    It is written where the vocabulary has certainly grown, and where its rows were a multiple of eight before and are
    none now. The numbers of the run are not touched by it, its speed may be.
    """

    reasons: ClassVar[tuple[SetupReason, ...]] = (
        SetupReason("", Severity.INFO, {"rows": some_of, "padded_rows": some_of, "multiple": some_of}),
    )  # fmt: skip
    info: ClassVar[RuleInfo] = _info("embeddings-not-padded", reasons, may_stop=False)


def _quantization(seen: SetupObservation, name: str) -> str:
    return text_of(seen, name) or "none"


_OF_HALVES: Final[Mapping[str, Reading]] = {
    "tensors": some_of, "modules": some_names, "quantization": _quantization, "fix": text_of,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class HalfPrecisionModules(SetupRule):
    """Reads the set-up row of this code's name, written when training begins.

    Typical is an 8-bit model whose other weights were loaded in fp16: PEFT keeps its LoRA in fp32, but copies
    ``modules_to_save`` as they are. The loss then goes to 0 or NaN after a few steps (PEFT issues 334 and 389). The
    sentence differs where the model is quantised.
    """

    reasons: ClassVar[tuple[SetupReason, ...]] = (
        SetupReason("plain", Severity.WARNING, _OF_HALVES, lambda seen: _quantization(seen, "quantization") == "none"),
        SetupReason("quantized", Severity.WARNING, _OF_HALVES),
    )
    info: ClassVar[RuleInfo] = _info("half-precision-modules", reasons, may_stop=True)


def _trained(seen: SetupObservation) -> bool:
    """Whether the first batch is one of training, not of an evaluation."""
    return text_of(seen, keys.SPLIT) == keys.TRAIN_PREFIX


def _ends_masked(seen: SetupObservation) -> bool:
    """Whether no label of the first training batch is the end token, which pads it."""
    return _trained(seen) and seen.values.get("pad_is_end") is True and count_of(seen, "end_labels") == 0


@dataclass(frozen=True, slots=True)
class EosNotTrained(SetupRule):
    """Reads the counts of the first training batch: texts that end with the end token, and labels that are it.

    transformers' ``DataCollatorForLanguageModeling`` and many others give every pad token the label -100. Where the
    end token serves as pad (``tokenizer.pad_token = tokenizer.eos_token``) the end of every text is masked with them.
    An end counts where it is text by the attention mask, or is followed by more text, and stands right behind a
    labeled token: an end within a masked prompt is none. The weights get better all the same: nothing to stop for.
    """

    reasons: ClassVar[tuple[SetupReason, ...]] = (
        SetupReason("", Severity.WARNING, {"ends": some_of, "rows": some_of}, _ends_masked),
    )
    row: ClassVar = FIRST_BATCH
    info: ClassVar[RuleInfo] = _info("eos-not-trained", reasons, may_stop=False)


@dataclass(frozen=True, slots=True)
class PromptInLoss(SetupRule):
    """Reads the counts of the first training batch: of all text in it, how much has no label.

    Args:
        task: What the run was declared to be; only ``sft`` has prompts. In continued pretraining every token is
            labeled, and that is right.
    """

    reasons: ClassVar[tuple[SetupReason, ...]] = (
        SetupReason(
            "", Severity.WARNING, {"rows": some_of, "tokens": some_of},
            lambda seen: _trained(seen) and count_of(seen, "unlabelled") == 0,
        ),
    )  # fmt: skip
    row: ClassVar = FIRST_BATCH
    info: ClassVar[RuleInfo] = _info("prompt-in-loss", reasons, may_stop=True, place=20)

    task: str = "cpt"

    def judge(self, seen: SetupObservation) -> Finding | None:
        """A warning where every row is labeled from its second token to its end."""
        return SetupRule.judge(self, seen) if self.task == "sft" else None


@dataclass(frozen=True, slots=True)
class WorstModelKept(SetupRule):
    """Reads the set-up rows of this code's name, written when training begins; ``keeps`` says what is kept.

    The Trainer takes every metric whose name does not end in ``loss`` for one that is better the higher: with
    ``eval_ppl`` it keeps the worst model. And ``save_strategy="best"`` with ``eval_strategy="epoch"`` undoes the
    checkpoint that a stop asks for.
    """

    reasons: ClassVar[tuple[SetupReason, ...]] = (
        SetupReason("stop-unsaved", Severity.WARNING, when=lambda seen: text_of(seen, "keeps") == "stop-unsaved"),
        SetupReason("highest", Severity.WARNING, {"metric": text_of}, lambda seen: text_of(seen, "keeps") == "highest"),
        SetupReason("lowest", Severity.WARNING, {"metric": text_of}, lambda seen: text_of(seen, "keeps") == "lowest"),
    )
    info: ClassVar[RuleInfo] = _info("worst-model-kept", reasons, may_stop=True)


_OF_METRIC: Final[Mapping[str, Reading]] = {"metric": text_of, "near": text_of, "there": names_of}


@dataclass(frozen=True, slots=True)
class MetricNotDelivered(SetupRule):
    """Reads the set-up row of this code's name, written when training begins.

    The Trainer looks the name up after its first evaluation and raises a KeyError, hours into a run. An error where
    no one can add the name; an info where something of the user's may (``others``).
    """

    reasons: ClassVar[tuple[SetupReason, ...]] = (
        SetupReason(
            "unless", Severity.INFO, {**_OF_METRIC, "others": names_of},
            lambda seen: seen.values.get("certain") is not True,
        ),
        SetupReason("unmeasured", Severity.ERROR, {**_OF_METRIC, "reason": text_of}),
        SetupReason("unknown", Severity.ERROR, _OF_METRIC),
    )  # fmt: skip
    info: ClassVar[RuleInfo] = _info("metric-not-delivered", reasons, may_stop=True)


@dataclass(frozen=True, slots=True)
class RecordBehind(SetupRule):
    """Reads the set-up row that a reader puts where the record ends and the state's rows begin.

    It never asks to stop: the run is over, or its record is being made whole.
    """

    reasons: ClassVar[tuple[SetupReason, ...]] = (
        SetupReason(
            "", Severity.WARNING,
            {"record_step": count_of, "state_step": count_of, "rows": count_of, "file": text_of},
        ),
    )  # fmt: skip
    info: ClassVar[RuleInfo] = _info(RECORD_BEHIND, reasons, may_stop=False, place=310)


@dataclass(frozen=True, slots=True)
class ForeignRecord(SetupRule):
    """Reads the set-up row that the callback writes when it resumes beside a record that is not its own.

    It never asks to stop: the foreign rows are superseded, and what is judged is this run.
    """

    info: ClassVar[RuleInfo] = RuleInfo("foreign-record", (Severity.WARNING,), (SetupObservation,), place=320)

    def judge(self, seen: SetupObservation) -> Finding | None:
        """A warning, with how many rows do not count any more and, where there is one, the first that differs."""
        rows = count_of(seen, "rows")
        if rows is None:
            return None
        first = count_of(seen, "first_step")
        values, variant = {"rows": rows, "first_step": first}, "apart" if first is None else "differs"
        return Finding(self.code, Severity.WARNING, seen.step, values=values, variant=variant)


@dataclass(frozen=True, slots=True)
class TwoWriters(SetupRule):
    """Reads the set-up row that the callback notes when another process holds the folder's lock.

    That run writes no files, so the finding is in its console and its ``callback.findings`` alone. It never asks to
    stop: both runs go on.
    """

    reasons: ClassVar[tuple[SetupReason, ...]] = (SetupReason("", Severity.WARNING, {"process": text_of}),)
    info: ClassVar[RuleInfo] = _info("two-writers", reasons, may_stop=False, place=330)
