"""Values for every sentence of the catalogue, by the names that the sentences show: those that a long run may have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ko_cpt_callbacks.messages.catalogue import Wording
from ko_cpt_callbacks.messages.formatter import placeholders

__all__ = ["TRAINING", "every_value", "values_of"]

TRAINING: Final = frozenset({
    "attempt-differs", "diverged", "level-shift", "loss-spike", "loss-scaled", "memorizing", "no-learning", "plateau",
    "run-seam",
})  # fmt: skip
"""Codes whose findings are of training rows."""
_OF_RUN: Final = frozenset({
    "adapters-frozen", "corpus-repeated", "corpus-unused", "embeddings-frozen", "embeddings-not-padded",
    "embeddings-untied", "foreign-record", "half-precision-modules", "metric-not-delivered", "no-trainable-parameters",
    "not-enough-data", "record-behind", "rule-failed", "two-writers", "worst-model-kept",
})  # fmt: skip
"""Codes whose findings are of no set."""

_VALUES: Final[Mapping[str, Any]] = {
    "accumulation": 16, "adapter_parameters": 18_350_080, "after": 3.3061, "back": 2.9087, "baseline": "redwhale",
    "before": 2.9134, "before_step": 12_000, "below": 3.0, "best": 2.8799, "best_step": 11_500, "bits": 0.3254,
    "by": "redwhale-v2", "bytes_per_token": 4.0, "changed": ["rows_per_step 128 → 64", "transformers 5.22.0 → 5.23.0"],
    "coarser": "8-bit", "compared": 400, "confidence": 0.95, "confirm": 3, "confirmed": 2, "constant_rows": 12,
    "looks": 12, "cost": 0.0109, "counted": "input tokens", "depth": 0.035, "depth_step": 800, "difference": -0.0312,
    "early_gap": -0.252, "ends": 2, "epochs_done": 4, "equal_ends": 7, "equal_tokens": 120,
    "error": "IndexError: tuple index out of range", "eval_steps": 50, "eval_strategy": "epoch",
    "evaluated_step": 12_400, "evaluation": 2.9, "evaluations": 3, "exact_loss": "NaN", "expected_loss": 2.91,
    "factor": 16.0, "fall": -0.014, "file": "checkpoint-12400/trainer_state.json", "first": 2.0, "first_level": 2.95,
    "first_step": 12_380, "fix": 'LoraConfig(..., modules_to_save=["embed_tokens", "lm_head"]).', "floor_bits": 0.415,
    "formula": "loss / (ln 2 · bytes per token)", "found": 212, "from": 2.68,
    "frozen": ["model.embed_tokens", "lm_head"], "gap": 0.086, "grad_norm": "NaN", "grade": "B", "half": 0.084,
    "healthy_below": 3.8, "high": -0.021, "kind": "pretraining from scratch", "language": "ja", "last_share": 0.11,
    "last_step": 12_400, "level": 0.9, "level_ppl": 2.4596, "limit": 0.03, "logged": 27.2, "loss": 2.9991,
    "low": -0.041,
    "lowest": 2.78, "lowest_bits": 0.895, "lowest_ppl": 4.33, "lowest_published": 0.519, "lowest_step": 9_800,
    "masked_labels": 900, "meaning": "printed by its authors", "meant_loss": 3.0, "meant_ppl": 20.1, "measured": 3.4,
    "metric": "eval_loss", "min_delta": 0.0, "min_evaluations": 3, "min_train_points": 10, "modules": ["lm_head"],
    "multiple": 64, "names": ["wiki_en"], "near": "eval_ko_loss", "new_tokens": 8_000, "noise": 0.0248, "noises": 15.8,
    "nonfinite_batches": 2, "nonfinite_first_step": 12_391, "nonfinite_steps": 3, "notes": [],
    "other": "EarlyStoppingCallback", "others": ["MyTrainer"], "pad_run_rows": 7, "padded_rows": 40_192,
    "parameters": 4_300_000_000, "patience": 3, "peak": 4.354, "peak_step": 12_390, "points": 22,
    "previous_loss": 2.9134, "process": "4711", "processes": 8, "quantization": "8-bit", "rate_share": 0.95,
    "reason": "the model returned no logits", "reason_step": 12_000,
    "reasons": [{"code": "no-bytes"}], "record_step": 12_000, "reference": 32_000, "reference_high": 0.895,
    "reference_low": 0.833, "resolution": 0.05, "rise": 0.32, "rows": 400, "rows_needed": 1_537, "rule": "memorizing",
    "run": 40_192, "scaler_rows": 3, "se": 0.00017, "set": "eval_ko", "set_rows": 400, "sets": ["eval_ko", "eval_en"],
    "share": 0.3,
    "signs": ["rewarm"], "split": "eval_ko", "stage": "odd-layers", "start": 3.402, "state_step": 12_400,
    "step": 12_400,
    "target": "eval_ko_exact_loss<3.0@end", "targetless_micro_batches": 2, "tensors": 2,
    "there": ["eval_ko_loss", "eval_en_loss"], "threshold": 0.12, "to": 0.44, "tokens": 4_096,
    "tokens_per_step": 131_072, "train_after": 2.86, "train_before": 2.94, "train_compared": 2_000,
    "train_points": 4, "train_rise": -0.02, "train_rows": 12_000, "trainable_parameters": 4_096,
    "trained": ["embed_tokens"], "unit": "nats per token", "value": 2.7103, "why": "its text is not published",
    "widened": 0.21, "would_help": [{"code": "count-bytes"}], "zero_rows": 5,
}  # fmt: skip
_OF_CORPUS: Final = {
    "source": "wikipedia-ko", "read": 17, "available": 28_975, "used": 17 / 28_975, "shortest": ["wikipedia-en"],
    "passes": 5.2, "most_passes": 4,
}  # fmt: skip
_OF_TARGET: Final = {"unit": "loss", "low": 2.6903, "high": 2.7303, "metric": "bits_per_byte"}
_OF_FORECAST: Final = {
    "probability": 0.01, "bound": 3.0, "median": 3.104, "lower": 3.051, "upper": 3.163, "last_step": 40_000,
    "evaluations": 2,
}  # fmt: skip
_OF_CODE: Final[Mapping[str, Mapping[str, Any]]] = {
    "corpus-unused": _OF_CORPUS, "corpus-repeated": _OF_CORPUS,
    "target-met": _OF_TARGET, "target-missed": _OF_TARGET, "target-inconclusive": _OF_TARGET,
    "eval-too-small": _OF_TARGET, "target-unreachable": _OF_FORECAST, "target-likely": _OF_FORECAST,
    "stage-regression": {"before": "even-layers"},
    "plateau": {"error": 0.012, "level": 2.594},
    "off-family": {"runs": 5, "lower": 3.0012, "upper": 3.0418, "level": 0.998, "rate_ratio": 2.0, "evaluations": 2,
                   "reason": "other-schedule"},
    "diverged": {"level": 3.3061}, "loss-spike": {"level": 2.9}, "no-learning": {"level": 3.3997},
}  # fmt: skip


def every_value() -> dict[str, Any]:
    """A value for every name."""
    return dict(_VALUES)


def values_of(code: str, wording: Wording) -> dict[str, Any]:
    """The values that a finding of a code would have: its step, its set and all that its sentences show."""
    names = placeholders(wording.short) | placeholders(wording.detail) | placeholders(wording.action)
    known = {**_VALUES, **_OF_CODE.get(code, {})}
    if "{reason_step" in wording.detail:
        known["reason"] = "target-met"
    split = None if code in _OF_RUN else "train" if code in TRAINING else "eval_ko"
    return {**{name: known[name] for name in names}, "step": known["step"], "split": split}
