"""Sentences of the rules on the training curve: `loss-spike`, `diverged`, `level-shift`, `run-seam`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ko_cpt_callbacks.core.explanation import Explanation

__all__ = ["CODES", "MESSAGES", "NOTES"]

_SPIKE: Final = (
    "back at {back:loss}. The level before was {level:loss} with a noise of {noise:loss}, so the height is "
    "{noises:n} times the noise ({threshold:loss} nats were needed). One spike that comes back does no harm; look at "
    "the batches of these steps, and if there are more, lower the learning rate or max_grad_norm."
)
_DIVERGED: Final = (
    "Step {step:n}: the training loss has left its level: {level:loss}, {rise:loss} above its lowest, {lowest:loss} at "
    "step {lowest_step:n} ({threshold:loss} was needed, noise {noise:loss}), "
)
_DIVERGED_ACTION: Final = (
    " Stop, go back to a checkpoint from before step {lowest_step:n}, and lower the learning rate or lengthen the "
    "warm-up; with a resume, check that the optimizer's state was loaded."
)
_SHIFT: Final = (
    "Step {step:n}: at step {first_step:n} the level of the training loss went from {before:loss} to {after:loss} at "
    "once ({noises:n} times its noise of {noise:loss}) and has stayed there for {points:n point|points}. "
)
_SHIFT_ACTION: Final = (
    "Neither the learning rate nor an epoch's end explains it: compare data, masking, padding and format before and "
    "after that step. Losses of the two sides cannot be compared."
)

MESSAGES: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("loss-spike", "point"): {
        "en": "Step {step:n}: the training loss was {peak:loss} at step {peak_step:n} and is " + _SPIKE
    },
    ("loss-spike", "points"): {
        "en": "Step {step:n}: the training loss rose at step {first_step:n} to {peak:loss} (step {peak_step:n}), for "
        "{points:n point|points}, and is " + _SPIKE
    },
    ("diverged", "rising"): {"en": _DIVERGED + "and it still rises." + _DIVERGED_ACTION},
    ("diverged", "staying"): {"en": _DIVERGED + "and it does not come back." + _DIVERGED_ACTION},
    ("diverged", "swinging"): {"en": _DIVERGED + "and it swings up and down, mostly up." + _DIVERGED_ACTION},
    ("level-shift", "up"): {"en": _SHIFT + _SHIFT_ACTION},
    ("level-shift", "down"): {"en": _SHIFT + "No model learns that fast. " + _SHIFT_ACTION},
    ("level-shift", "seam"): {
        "en": "Step {step:n}: the run that begins at step {first_step:n} is at {after:loss} after {points:n points}, "
        "where the run before it was at {before:loss} (noise {noise:loss}). No model learns that fast: something else "
        "is measured now. Compare data, masking, padding and format before and after that step."
    },
    ("attempt-differs", ""): {
        "en": "From step {step:n} on the run trains otherwise than the attempt that began at step {before_step:n}: "
        "{changed:names}. Losses before and after are not one curve. If that is not meant, resume with what was "
        "before."
    },
    ("run-seam", "joined"): {
        "en": "Step {step:n}: the rows from here on belong to another run.{signs:notes} Levels before and after are "
        "not one curve: look whether a resume changed the data or the settings, and judge the two runs apart."
    },
    ("run-seam", "note"): {
        "en": "Step {step:n}: another run may begin here.{signs:notes} If it is a resume or a schedule with restarts "
        "that you know of, there is nothing to do."
    },
}

NOTES: Final[Mapping[str, Mapping[str, str]]] = {
    "step-back": {"en": "The step goes back."},
    "epoch-back": {"en": "The epoch goes back."},
    "epoch-jump": {"en": "The epoch jumps ahead."},
    "tokens-back": {"en": "The token counter starts again."},
    "tokens-jump": {"en": "The token counter jumps ahead."},
    "rewarm": {"en": "The learning rate had come down and warms up again."},
    "rate-back": {"en": "The learning rate had come down to nearly nothing and is back at once."},
    "rate-break": {"en": "The learning rate rises at once in the middle of its schedule."},
    "rate-drop": {"en": "The learning rate falls at once."},
    "level": {"en": "The level of the loss is another."},
    "tokens-pace": {"en": "A step has another number of tokens."},
}
"""One sentence per sign of `ko_cpt_callbacks.signal.restart`, and per one that `run-seam` adds."""

CODES: Final[Mapping[str, Mapping[str, Explanation]]] = {
    "loss-spike": {
        "en": Explanation(
            meaning="The training loss rose suddenly, far above its noise, and came back. A batch that was odd, or a "
            "step that was too large. Models survive one spike; several announce a divergence.",
            decided="warning, when the loss is back (70 % of the height gone, or within 2.5 noises of the level "
            "before): one point must have been 8.5 noises high (more after many points), two or three 6.5, more 5.8; "
            "and 0.08 nats, 3 % of the level, and well above the farthest points and the largest dips of the window "
            "(level: a robust line through the last 30 points; noise: what is left around it, or second differences "
            "where the curve bends). A point that closes an epoch needs 16 noises and 0.8 nats, a slow rise just "
            "after the warm-up 0.65 nats, one in the first points 0.35 nats, and one that comes back slowly must be "
            "above the whole window. Ten a run at most.",
            action="Look at the batches of the named steps. If spikes come back, lower the learning rate, lower "
            "max_grad_norm, or lengthen the warm-up.",
        )
    },
    "diverged": {
        "en": Explanation(
            meaning="The training loss left its level and does not come back: fast or slowly, from the start, or after "
            "a spike. What is trained from there on is usually lost.",
            decided="error, asks to stop, once per run: the median of five points is above the lowest such median by "
            "5.5 noises, 0.4 nats and 8 % (0.65 nats while the learning rate warms up or just has), and by 1.6 times "
            "what it rose before and came back from; and it has been rising for 12 points and still does (6, if ever "
            "faster and to twice that height), or has stayed in the upper half of the rise for 16 points or more, or "
            "swings and is mostly up over 26 points. In logs of up to 40 points less is enough where the rise is huge. "
            "A change between two points of up to 1 nat is a level-shift instead. Everything "
            "starts afresh at a seam and where a scheduler restarts.",
            action="Stop and go back to a checkpoint from before the named step. Lower the learning rate, lengthen the "
            "warm-up, check gradient clipping and, after a resume, that the optimizer's state was loaded.",
        )
    },
    "level-shift": {
        "en": Explanation(
            meaning="The level of the training loss changed between two points and stayed: the data, the masking of "
            "labels, padding, the prompt format, or how the loss is averaged changed.",
            decided="warning: six points (large shifts) or nine (from about 5 noises) lie on one side of what the 24 "
            "points before expected, all at least half as far as their median, with no trend across the jump, and "
            "nearer to a step than to a ramp. Silent where the learning rate dropped at once, or rises and the shift "
            "is small; at an epoch's end (unless beyond half the level); where a spike comes back; where a jump only "
            "undoes the drift, of the loss or of the tokens per step, since the last one, or is one of several (rows "
            "grouped by length); a jump within 18 points of the start is watched for as long again. Across a seam only "
            "a fall by 0.5 nats.",
            action="Compare one batch from before and one from after the named step: text, labels, attention_mask. Do "
            "not compare losses across it.",
        )
    },
    "attempt-differs": {
        "en": Explanation(
            meaning="A resumed run goes on with something else than it was begun with. A Trainer takes up the step, "
            "the weights and the optimizer, and does not look at the data.",
            decided="warning, once per attempt, from what the callback notes when an attempt begins: the number of "
            "rows of the training set and a hash of 32 of them (lists and map-style datasets without transforms), rows "
            "per optimizer step over all processes, arguments that move the weights otherwise, quantisation, trainable "
            "parameters, the versions of transformers, torch, peft, bitsandbytes, accelerate and trl, and schedule "
            "and optimizer, which a Trainer begins anew where the checkpoint lacks their files; or, over three "
            "training rows, tokens per step that are constant and another number than before. It is compared with "
            "the attempt whose steps it goes on from. How long the run is to be does not count.",
            action="Resume with the data, batch size, arguments and versions of before; where the change is meant, "
            "judge the losses after it by themselves.",
        )
    },
    "run-seam": {
        "en": Explanation(
            meaning="Two runs are joined in one log, by a resume with other settings or by files put together. Their "
            "curves are not one curve, and the other checks start afresh.",
            decided="warning: the step or the epoch goes back, the learning rate warms up a second time, or two of: "
            "the token counter starts again, it or the epoch jumps ahead (five times the pace of the last rows), the "
            "learning rate is back at once, breaks upwards, or drops together with another sign, or, five points after "
            "a counter, the level or the tokens per step are others; within six rows. info: one of these alone, as the "
            "token counter that TRL starts again at every resume. At a resume of the "
            "callback's own run a token counter and the place in the schedule may change; the beginning of another "
            "stage (a stage row) and restarts of the learning rate at even distances say nothing.",
            action="If it was a resume, look whether data, batch size or schedule changed. Judge the runs apart.",
        )
    },
}
