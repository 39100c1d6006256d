"""Every name this package writes into a row, a tracker or a file. No one types them again.

An evaluation row carries its keys under the Trainer's own prefix (``eval``, ``eval_<name>``, or whatever
``metric_key_prefix`` is); a training row carries them bare, beside the Trainer's ``loss``.

===========================  ===============  =================================================================
evaluation key               unit             meaning
===========================  ===============  =================================================================
``_exact_loss``              nats per token   sum of the negative log-likelihood / number of target tokens
``_exact_loss_se``           nats per token   its standard error, the row as cluster
``_exact_loss_change_se``    nats per token   that of its change since the set's evaluation before, on the same rows
``_ppl``                     1                exp(exact loss)
``_bits_per_byte``           bits per byte    the same sum over the UTF-8 bytes of the scored text
``_bits_per_byte_se``        bits per byte    its standard error, the row as cluster
``_tokens``                  count            target tokens
``_bytes``                   count            UTF-8 bytes of the scored text
``_rows``                    count            rows with at least one target token
``_nonfinite_batches``       count            batches with a NaN or infinite loss, over all ranks
``_targetless_batches``      count            batches without a target token; absent when there is none
``_fingerprint``             text             which text was evaluated (``log_history`` and our files only)
``_exact_loss_absent``       text             why there is no exact loss (likewise)
``_bits_per_byte_absent``    text             why there are no bits per byte (likewise)
``_error_bar_absent``        text             why the exact loss has no standard error (likewise)
``_final_loss_median``       nats per token   forecast of the set's loss at the end of the run; absent
                                              while that is not known (likewise the next four)
                                              While the set has too few evaluations, training's stands in, as
                                              ``train_final_loss_median``.
``_final_loss_lower``        nats per token   lower end of its 90 % interval
``_final_loss_upper``        nats per token   upper end
``_final_loss_family``       count            finished runs of the same set-up that it is made from; absent where it is
                                              made from the run's own curve
``_target_probability``      1                how likely the loss is below the set's first target at its deadline
``_at_resume``               truth            made because training resumed (``eval_on_start``): no point of the run
                                              (likewise)
===========================  ===============  =================================================================

===========================  ===============  =================================================================
training key                 unit             meaning
===========================  ===============  =================================================================
``ppl``                      1                exp(the Trainer's loss), where that is the tokens' cross-entropy; of the
                                              model's own loss where a ``compute_loss`` adds to it
``tokens_seen``              count            target tokens trained on since the start, over all ranks
``tokens_per_second``        tokens / s       target tokens per second of training, evaluation and saving left out
                                              (trackers and our files only)
``tokens_per_gpu_hour``      tokens / GPU h   the same per accelerator and hour (likewise); absent on CPU
``nonfinite_steps``          count            optimizer steps since the last row with a NaN or infinite loss
``nonfinite_micro_batches``  count            micro-batches behind them, over all ranks
``nonfinite_first_step``     step             the first such step; absent when there is none
``targetless_micro_batches`` count            micro-batches without a target token; absent when there is none
===========================  ===============  =================================================================
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

# The suffix ends in "loss" so that `metric_for_best_model` minimises it (transformers decides by the name).
EXACT_LOSS: Final = "exact_loss"
EXACT_LOSS_SE: Final = "exact_loss_se"
EXACT_LOSS_CHANGE_SE: Final = "exact_loss_change_se"
PPL: Final = "ppl"
BITS_PER_BYTE: Final = "bits_per_byte"
BITS_PER_BYTE_SE: Final = "bits_per_byte_se"
TOKENS: Final = "tokens"
BYTES: Final = "bytes"
ROWS: Final = "rows"
NONFINITE_BATCHES: Final = "nonfinite_batches"
TARGETLESS_BATCHES: Final = "targetless_batches"
FINGERPRINT: Final = "fingerprint"
EXACT_LOSS_ABSENT: Final = "exact_loss_absent"
BITS_PER_BYTE_ABSENT: Final = "bits_per_byte_absent"
ERROR_BAR_ABSENT: Final = "error_bar_absent"
AT_RESUME: Final = "at_resume"
FINAL_LOSS_MEDIAN: Final = "final_loss_median"
FINAL_LOSS_LOWER: Final = "final_loss_lower"
FINAL_LOSS_UPPER: Final = "final_loss_upper"
FINAL_LOSS_FAMILY: Final = "final_loss_family"
TARGET_PROBABILITY: Final = "target_probability"

# Numbers of a forecast: not before there is one.
FORECAST_SUFFIXES: Final = (
    FINAL_LOSS_MEDIAN, FINAL_LOSS_LOWER, FINAL_LOSS_UPPER, FINAL_LOSS_FAMILY, TARGET_PROBABILITY,
)  # fmt: skip
EVAL_SUFFIXES: Final = (
    EXACT_LOSS,
    EXACT_LOSS_SE,
    EXACT_LOSS_CHANGE_SE,
    PPL,
    BITS_PER_BYTE,
    BITS_PER_BYTE_SE,
    TOKENS,
    BYTES,
    ROWS,
    NONFINITE_BATCHES,
    TARGETLESS_BATCHES,
    FINGERPRINT,
    EXACT_LOSS_ABSENT,
    BITS_PER_BYTE_ABSENT,
    ERROR_BAR_ABSENT,
    *FORECAST_SUFFIXES,
    AT_RESUME,
)

TOKENS_SEEN: Final = "tokens_seen"
TOKENS_PER_SECOND: Final = "tokens_per_second"
TOKENS_PER_GPU_HOUR: Final = "tokens_per_gpu_hour"
NONFINITE_STEPS: Final = "nonfinite_steps"
NONFINITE_MICRO_BATCHES: Final = "nonfinite_micro_batches"
NONFINITE_FIRST_STEP: Final = "nonfinite_first_step"
TARGETLESS_MICRO_BATCHES: Final = "targetless_micro_batches"

TRAIN_KEYS: Final = (
    PPL,
    TOKENS_SEEN,
    TOKENS_PER_SECOND,
    TOKENS_PER_GPU_HOUR,
    NONFINITE_STEPS,
    NONFINITE_MICRO_BATCHES,
    NONFINITE_FIRST_STEP,
    TARGETLESS_MICRO_BATCHES,
)

# Taken by the clock: to trackers and our files only, so that equal runs have equal states.
CLOCK_KEYS: Final = (TOKENS_PER_SECOND, TOKENS_PER_GPU_HOUR)

# The Trainer's own names.
LOSS: Final = "loss"
GRAD_NORM: Final = "grad_norm"
LEARNING_RATE: Final = "learning_rate"
EPOCH: Final = "epoch"
STEP: Final = "step"
RUNTIME: Final = "runtime"
# Tokens fed to the model since the start: TRL's name, then the Trainer's (include_num_input_tokens_seen).
INPUT_TOKENS: Final = ("num_tokens", "num_input_tokens_seen")
TRAIN_PREFIX: Final = "train"

# What a line of rows.jsonl says about itself, beside the row.
KIND: Final = "kind"
ATTEMPT: Final = "attempt"
SUPERSEDED: Final = "superseded"
MODE: Final = "mode"
SPLIT: Final = "split"
KIND_TRAIN: Final = "train"
KIND_EVAL: Final = "eval"
KIND_END: Final = "end"
KIND_CHECKPOINT: Final = "checkpoint"
KIND_SETUP: Final = "setup"
MODE_EVALUATE: Final = "evaluate"

# The run folder.
FOLDER: Final = "ko_cpt"
RUN_FILE: Final = "run.json"
ROWS_FILE: Final = "rows.jsonl"
FINDINGS_FILE: Final = "findings.jsonl"
EVAL_ROWS_FOLDER: Final = "eval_rows"
# In run.json: how `ko-cpt measure` measured a model that it did not train.
MEASURED: Final = "measured"
# Bytes of a file's name on most systems.
_LONGEST_FILE: Final = 255
# Digits of a step; a damaged row may have one of hundreds.
_LONGEST_STEP: Final = 20


def key(prefix: str, suffix: str) -> str:
    """The name of ``suffix`` under an evaluation's prefix: ``key("eval_ko", PPL) == "eval_ko_ppl"``."""
    return f"{prefix}_{suffix}"


def eval_rows_file(prefix: str, step: int) -> str:
    """The file in ``eval_rows/`` with the per-row sums of an evaluation: ``eval_ko-100.npz``."""
    # Letters of any script stay: sets named in Hangul must not fall onto one file.
    name = re.sub(r"[^\w.-]", "_", prefix)
    if len(number := str(step)) > _LONGEST_STEP:
        number = hashlib.sha256(number.encode()).hexdigest()[:_LONGEST_STEP]
    file = f"{name}-{number}.npz"
    if len(file.encode()) <= _LONGEST_FILE:
        return file
    # 85 letters of Hangul fill a name: its beginning, and what tells it from others with the same one.
    mark = f"~{hashlib.sha256(prefix.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}-{number}.npz"
    return name.encode()[: _LONGEST_FILE - len(mark)].decode(errors="ignore") + mark
