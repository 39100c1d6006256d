"""Sentences of the rules on how a run develops: overfitting, gaps, epochs, forgetting, standstill.

See `ko_cpt_callbacks.core.message`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ko_cpt_callbacks.core.explanation import Explanation

__all__ = ["CODES", "MESSAGES"]

_BY_HEART: Final = (
    "The text is recognised rather than learned from; held-out text gains little from here on. Use more text or fewer "
    "epochs, and judge by an evaluation set that was not trained on."
)

MESSAGES: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("eval-set-changed", ""): {
        "en": "{split}, step {step:n}: other rows are evaluated under this name than at step {before_step:n}. Losses "
        "before and after are of different text: the best, patience, relative targets and every comparison start anew "
        "here. If it was not meant so, resume with the evaluation set of before; else give the new one a name of its "
        "own."
    },
    ("eval-set-changed", "labels"): {
        "en": "{split}, step {step:n}: the text is that of step {before_step:n}, but other tokens of it are scored. "
        "Losses before and after are of different tokens: the best, patience, relative targets and every comparison "
        "start anew here. Look what masks the labels now (a collator, a chat template, completion_only_loss)."
    },
    ("eval-set-changed", "level"): {
        "en": "{split}, step {step:n}: the loss went from {before:loss} at step {before_step:n} to {after:loss} "
        "between two evaluations and has stayed there, while training beside them went from {train_before:loss} to "
        "{train_after:loss}. It looks as if other rows, or other tokens of them, are evaluated since. Patience, "
        "overfitting and gap-widening start anew here. Look what changed in the evaluation set, its collator or its "
        "template; if it was meant so, give the new set a name of its own."
    },
    ("eval-set-changed", "drawn"): {
        "en": "{split}, step {step:n}: other rows, or other tokens of them, in each of {evaluations:n "
        "evaluation|evaluations}: the set is drawn anew each time. Small differences are the draw's. For exact "
        "comparisons evaluate the same rows each time."
    },
    ("overfitting", ""): {
        "en": "{split}, step {step:n}: {evaluations:n evaluation|evaluations in a row} above the best, {best:loss} at "
        "step {best_step:n} (now {loss:loss}; more than {threshold:loss} is beyond the noise), while the training loss "
        "beside them changed by {train_rise:signed}. The model gets better at its training text only. Go back to the "
        "checkpoint of step {best_step:n}; use more text, fewer epochs, or a lower learning rate."
    },
    ("gap-widening", ""): {
        "en": "{split}, step {step:n}: evaluation less training was {early_gap:signed} in the beginning and has been "
        "wider by {widened:loss} in the last {evaluations:n evaluation|evaluations} (beyond {threshold:loss}; now "
        "{gap:signed}), and the evaluation does not fall along. Training goes on down without it: look for repeated "
        "rows, further epochs over the same text, or other data than before, and judge by the evaluation."
    },
    ("memorising", "steps"): {
        "en": "Step {step:n}: the training loss steps down where epochs end, {ends:n time|times} now, last by "
        "{last_share:percent} beyond its trend (from {before:loss} to {after:loss}). " + _BY_HEART
    },
    ("memorising", "far-below"): {
        "en": "Step {step:n}: after {epochs_done:n epoch|epochs} the training loss is {level:loss}, {share:percent} of "
        "the {first_level:loss} of the first one. " + _BY_HEART
    },
    ("forgetting", ""): {
        "en": "{split}, step {step:n}: {evaluations:n evaluation|evaluations in a row} more than {limit:percent} above "
        "the {first:loss} of step {first_step:n} (now {loss:loss}, {rise:percent} above). The model loses what it "
        "knew. Mix in text of that kind (published runs: 5 to 25 %), lower the learning rate, or go back to an "
        "earlier checkpoint."
    },
    ("forgetting", "recovered"): {
        "en": "{split}, step {step:n}: the loss was {depth:percent} above its beginning at step {depth_step:n}, and is "
        "back within {limit:percent} of it. This gap at the start of continued pretraining has closed; nothing to do."
    },
    ("plateau", ""): {
        "en": "Step {step:n}: over the last {share:percent} of the run so far the training loss, {level:loss}, has not "
        "fallen by more than its noise ({fall:signed} ± {error:loss}), and the learning rate is still "
        "{rate_share:percent} of its peak. Let the learning rate decay, or stop: more steps at this rate bring little."
    },
    ("no-learning", ""): {
        "en": "Step {step:n}: after {points:n training point|training points} the training loss is {level:loss}, where "
        "it was at the start ({start:loss}). Nothing is learned. Look whether parameters are trainable and in the "
        "optimizer, whether the learning rate is far too low, and what the labels of one batch spell."
    },
}

CODES: Final[Mapping[str, Mapping[str, Explanation]]] = {
    "eval-set-changed": {
        "en": Explanation(
            meaning="Two evaluations under one name scored different rows, as after a resume with another file or "
            "another split. Their losses say nothing of how the model changed.",
            decided="warning, once per change: the set's fingerprint, a hash of its rows, is another than before, or "
            "it is the same and another number of tokens is scored. Fingerprints of different versions, and missing "
            "ones, are not compared. Where no two evaluations of the set had the same rows yet, it is said at the next "
            "one, or at the end. Where the log has no fingerprints, and not of retention sets: an evaluation differs "
            "from the one before by more than four times what any two of the last eight did, by 12 % and by eight "
            "standard errors, the training loss beside it moved less than a quarter as far, and the next evaluation "
            "is at the new level too. info, once: the rows were others in four evaluations in a row. From a change on "
            "the first, last and best of the summary, patience, relative targets, overfitting, gap-widening, "
            "forgetting and memorising start anew; in a set that is drawn each time they go on. From a change of "
            "level on the summary and targets go on, too.",
            action="Resume with the evaluation set of before, or give the new one a name of its own.",
        )
    },
    "overfitting": {
        "en": Explanation(
            meaning="An evaluation set gets worse while training does not: the model fits its training text at the "
            "cost of other text.",
            decided="warning, asks to stop, once per set, not of retention sets: two evaluations in a row (or "
            "patience=) above the best by more than 0.012 nats, 0.6 % (or min_delta=), the set's standard error where "
            "known, and three times the noise that second and third differences of its evaluations show, more where "
            "many evaluations competed for the best; and the training loss over the same intervals has risen by less "
            "than half as much. With up to seven evaluations the noise counts for less if they rise one after the "
            "other, and below five not at all: then it takes 0.036 nats or 1.8 %. A log without training losses is "
            "not judged.",
            action="Use the checkpoint of the best evaluation. Then more text, fewer epochs, or a lower learning rate.",
        )
    },
    "gap-widening": {
        "en": Explanation(
            meaning="Training goes on down while an evaluation set stays where it was. What is learned is of "
            "no use there: often the first sign of memorising, or of training data that changed.",
            decided="warning, once per set, not of retention sets: evaluation less the mean training loss over the "
            "same interval is wider than its median in the beginning by 0.10 nats and four standard errors, in three "
            "evaluations in a row, and the evaluation has not fallen along since the gap began to widen. The size of "
            "the gap itself means nothing: RedWhale's is 1.16 nats from its first stage on (arXiv 2408.11294).",
            action="Judge by the evaluation. Look for repeated rows, for further epochs over the same text, and for a "
            "change of data; stop if the evaluation no longer falls.",
        )
    },
    "memorising": {
        "en": Explanation(
            meaning="The model recognises text that it has seen in the epochs before. The training loss then says "
            "little about the model.",
            decided="warning, once. Steps: at two of the last three ends of epochs the training loss drops, beyond the "
            "trend around it, by more than 7 %, or by more than 2.5 standard deviations and 3 %, the new epoch begins "
            "lower than the one before, and no fall of the learning rate explains it. Far below: four or more epochs "
            "after the first in whose course it fell by less than 15 %, the loss is below half of that epoch's level, "
            "and no evaluation set has fallen along (to 70 % of what it was).",
            action="Use more text or fewer epochs: up to four are about as good as new text (arXiv 2305.16264). Judge "
            "by an evaluation set that was not trained on.",
        )
    },
    "forgetting": {
        "en": Explanation(
            meaning="The loss on a retention set (text of the kind the base model was trained on, usually English) has "
            "risen and stays there: the model loses what it knew.",
            decided="warning, asks to stop, once per set named en, english, retention, base or orig, or named by "
            "retention=: two evaluations in a row more than 3 % above the set's first one (the limit of the D-CPT "
            "law's example, arXiv 2406.01375; retention=('en<5%',) sets another) and not on their way back, after the "
            "warm-up and the first tenth of the run. Where the length of the run is not known, the first two "
            "evaluations after the first do not count. "
            "info: it was above in the beginning and has come back; depth and step are in the finding.",
            action="Mix in 5 to 25 % text of that kind (arXiv 2403.08763), lower the learning rate, or go back to an "
            "earlier checkpoint.",
        )
    },
    "plateau": {
        "en": Explanation(
            meaning="The training loss has stopped falling although the learning rate would let it.",
            decided="info, once, where the log has learning rates: the rate is at least 30 % of its peak and past its "
            "warm-up, and over the last 30 % of the run so far (of 27 training points or more) the training loss fell "
            "by less than its noise. While the run goes on also: 30 % of its planned steps are done, that fall is "
            "surely less than 2 % of all it had fallen before, and it is no rise beyond the noise.",
            action="Let the learning rate decay (a constant rate hides gains that its decay brings out), or stop.",
        )
    },
    "no-learning": {
        "en": Explanation(
            meaning="The training loss is where it was at the start: the weights that matter do not move.",
            decided="warning, once, from 20 training points on: past the warm-up the fall from the start is within two "
            "of its standard errors or below 0.3 % of the level, and so is a rise (three errors); the first points "
            "were no higher than 2 % (the very first: 4 %), no evaluation set falls, and what the noise can hide is "
            "below 3 % of the level. "
            "While the run goes on also: at this pace its end would bring less than 0.8 % (the end as planned, as a "
            "falling learning rate tells, or, from 100 points on, four times as far). A log without learning rates is "
            "judged at its end.",
            action="Look whether parameters are trainable and in the optimizer, whether the learning rate is far too "
            "low, and what the labels of one batch spell.",
        )
    },
}
