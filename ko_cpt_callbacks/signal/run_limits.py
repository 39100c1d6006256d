"""The numbers of `ko_cpt_callbacks.signal.limits` that are about the whole run: epochs, trend, evaluations, levels."""

from __future__ import annotations

import math
from typing import Final

from ko_cpt_callbacks.watch import plausibility
from ko_cpt_callbacks.watch.argument import ShareLimit

# -- epochs ------------------------------------------------------------------------------------------------------------

EPOCH_LEAST: Final = 3
"""Points. An end of an epoch is judged by so many on either side, at least. Chosen, not measured."""
EPOCH_MOST: Final = 12
"""Points. And by so many, at most: a step is sudden. Chosen, not measured."""
EPOCH_EXACT: Final = 1e-6
"""Epochs by which one that is not rounded may be off. Source: 64-bit floats in a log."""
STEP_ENDS: Final = 2
"""Ends of epochs, of the last three, at which the loss steps down. Chosen, not measured."""
STEP_REMEMBERED: Final = 3
"""Ends of epochs that are remembered. Chosen, not measured."""
STEP_DROP: Final = ShareLimit(0.07)
"""Share of the level. A drop by more is a step. Chosen: a public run of three epochs drops by 15 to 20 %."""
STEP_DROP_ERRORS: Final = 2.0
"""Standard errors that such a drop has, at least. Chosen, not measured."""
STEP_KEPT: Final = ShareLimit(0.5)
"""Share of the drop by which the epoch begins lower than the one before: rows grouped by length fall there too, and
rise again within the epoch. Chosen, not measured."""
FAR_LEARNING: Final = ShareLimit(0.85)
"""Share of its first half's level. An epoch whose second half lies lower is one of learning: recognized text is lower
from an epoch's first row on. Chosen, not measured."""
FAR_BELOW: Final = ShareLimit(0.5)
"""Share of the first epoch's level below which the loss is far below it. Chosen, not measured."""
FAR_EPOCHS: Final = 4
"""Epochs after the first that are many. Chosen: up to four epochs are as good as new text (arXiv 2305.16264)."""
FAR_POINTS: Final = 5
"""Points whose median is the level then. Chosen, not measured."""
FAR_FELL_ALONG: Final = ShareLimit(0.7)
"""Share of what it was at the end of the first epoch. An evaluation set that fell below it makes it learning. Chosen,
not measured."""

# -- restarts: the same counters, the same schedule? -------------------------------------------------------------------

PACES_KEPT: Final = 6
"""Rows whose pace is remembered. Chosen, not measured."""
PACE_JUMP: Final = 5.0
"""Times the fastest of them by which a counter jumps. Chosen, not measured."""
EPOCH_SLACK: Final = 0.03
"""Epochs by which one may be off: they have two decimals in old logs. Chosen, not measured."""
RATE_SAME: Final = 1e-9
"""Share by which a learning rate that stays may fall. Source: 64-bit floats."""
RATE_NOTHING: Final = 0.1
"""Share of its peak below which a learning rate has come to nothing. Chosen, not measured."""
RATE_AT_ONCE: Final = 0.3
"""Share of the peak by which a learning rate rises at once. Chosen, not measured."""
RATE_DROP: Final = 0.2
"""Share of itself by which it falls at once. Chosen, not measured."""
RATE_HIGHER: Final = 1.1
"""Times the row before: a learning rate that was back at once and rises on warms up. Chosen, not measured."""
REWARM_ROWS: Final = 3
"""Rows of a rise that are no accident. Chosen, not measured."""
REWARM_SHARE: Final = 0.005
"""Share of the peak by which it then rose. Chosen, not measured."""
CYCLES_ALIKE: Final = 0.1
"""Share of its steps by which a cycle of a learning rate may differ from the one before. Chosen, not measured."""
ANNOUNCED_ROWS: Final = 5
"""Rows after an announcement that it covers. Chosen, not measured."""

# -- trend -------------------------------------------------------------------------------------------------------------

LINE_LEAST: Final = 6
"""Values that a line with an error needs. Chosen, not measured."""
LINE_CLIP: Final = 3.0
"""Standard deviations. A value farther off counts as that far. Chosen, not measured."""
LINE_TURNS: Final = 3
"""Times that the line is fitted, after the first with the outliers pulled in. Chosen, not measured."""
LINE_LINKED: Final = 0.6
"""Correlation of neighbors that is taken into the error, at most: short series overstate it. Chosen, not measured."""
TREND_LOOKS: Final = 40
"""Times that the whole run is looked at while it doubles. Chosen, not measured."""
TREND_HEAD: Final = 5
"""Points whose median is the level at the start. Chosen, not measured."""
PLATEAU_SHARE: Final = ShareLimit(0.3)
"""Share of the run so far that must have brought nothing; nor is anything reported, while it goes on, before this share
of the planned steps. Chosen, not measured."""
PLATEAU_RATE_SHARE: Final = ShareLimit(0.3)
"""Share of its peak at which a learning rate still lets a model learn. Chosen, not measured."""
PLATEAU_RATE_RISE: Final = 1.001
"""Times. A learning rate that rose by more over that part is still warming up. Chosen: more than rounding."""
PLATEAU_POINTS: Final = 27
"""Training points before which nothing is reported. Chosen, not measured."""
PLATEAU_ERRORS: Final = 1.0
"""Standard errors that the fall over that part is below. Chosen, not measured: it is looked at again and again, so
that a run at a standstill is found although at one look chance may hide it."""
PLATEAU_END_ERRORS: Final = 1.75
"""Standard errors. The same at the end of the run, where no one looks again. Chosen, not measured."""
PLATEAU_HIDDEN: Final = ShareLimit(0.02)
"""Share of all that the loss had fallen before. While the run goes on, the fall and two of its standard errors are
below it. Chosen, not measured."""
PLATEAU_RISE_ERRORS: Final = 1.5
"""Standard errors. While the run goes on, a rise by so many is no standstill. Chosen, not measured."""
PLATEAU_FALLEN_ERRORS: Final = 4.0
"""Standard errors by which the loss had fallen before, at least. Chosen, not measured."""
STANDSTILL_POINTS: Final = 20
"""Training points before which nothing is reported. Chosen, not measured."""
STANDSTILL_PART: Final = 0.9
"""Share of the run, its last, that must not fall: most is learned at the start. Chosen, not measured."""
STANDSTILL_AFTER: Final = 40
"""Training points past the warm-up while the run goes on. Chosen, not measured."""
STANDSTILL_LONGER: Final = 4
"""Times as long as so far that such a run is taken to be. Chosen, not measured."""
STANDSTILL_ERRORS: Final = 2.0
"""Standard errors that the fall from start to end is below. Chosen, not measured."""
STANDSTILL_FALLEN: Final = 0.018
"""Share of the level by which the start is higher than now at most: a model that learned what there was in its first
points has learned. Chosen, not measured."""
STANDSTILL_FALLEN_NOISES: Final = 1.5
"""Standard deviations of a point by which the start is higher, at most. Chosen, not measured."""
STANDSTILL_FIRST: Final = 0.04
"""Share of the level by which the very first loss is higher than now, at most. Chosen between 0.024 of made runs that
are stuck where guessing is and 0.065 of the least of made ones that learn in their first row."""
STANDSTILL_FIRST_NOISES: Final = 3.0
"""Standard deviations of a point by which the very first is higher than now, at most, where that is more than the
share. Chosen, not measured."""
STANDSTILL_HIDDEN: Final = ShareLimit(0.03)
"""Share of the level that the fall and one of its standard errors are below. Chosen, not measured."""
STANDSTILL_RISE: Final = 0.003
"""Share of the level up to which a rise is none, however sure. Chosen, not measured."""
STANDSTILL_RISE_ERRORS: Final = 3.0
"""Standard errors. A rise by more is no standstill: the weights move. Chosen, not measured."""
STANDSTILL_LEVEL: Final = 0.1
"""Nats per token. A loss around 0 is none that has to fall (policy gradients). Chosen, not measured."""
STANDSTILL_HIDDEN_LIVE: Final = ShareLimit(0.008)
"""Share of the level that, while the run goes on, they come to at its end, at most (as planned, or as the learning
rate tells, or else four times as long). Chosen, not measured."""
# -- evaluations -------------------------------------------------------------------------------------------------------

EVAL_KEPT: Final = 40
"""Evaluations of a set that are kept beside the first and the best. Chosen, not measured."""
EVAL_EARLY: Final = 8
"""Gaps of the beginning that are kept. Chosen, not measured."""
EVAL_NEAR: Final = 8
"""Training points that make the level at an evaluation, at most. Chosen, not measured."""
EVAL_NOISE_VALUES: Final = 3
"""Differences of second or third order that tell a noise. Chosen, not measured."""
SECOND_DIFFERENCE: Final = 6**0.5
"""Standard deviations of one value in a second difference. Source: 1 + 4 + 1 variances, where values are
independent."""
THIRD_DIFFERENCE: Final = 20**0.5
"""Standard deviations of one value in a third difference. Source: 1 + 9 + 9 + 1 variances."""
EVAL_BENT: Final = 0.6
"""Share of the noise of second differences. Third ones that say less are believed: the series bends. Simulated:
without a bend it is so by chance in 7 % of series of 8 values and in 1 % of 20."""
EVAL_FALLEN: Final = 0.003
"""Share of its level that an evaluation falls by, twice that where its rows are not known to be the same. Chosen: as
`no-learning` has it of training."""
EVAL_SAME_ERRORS: Final = 0.7
"""Joint standard errors of two evaluations of the same rows by which a loss falls: such rows differ by far less than
the errors say. Chosen, not measured."""
EVAL_OTHER_ERRORS: Final = 3.0
"""Joint standard errors of two evaluations of rows that are not known to be the same. Chosen, not measured."""
EVAL_LINE_ERRORS: Final = 3.0
"""Standard errors by which a line through many evaluations falls. Chosen, not measured."""
JUMP_BEFORE: Final = 3
"""Evaluations of a set before one that can be at another level. Chosen, not measured."""
JUMP_LOOK: Final = 8
"""Evaluations before it whose changes are usual, at most. Chosen, not measured."""
JUMP_TIMES: Final = 4.0
"""Times the largest change between two evaluations before: from there on the level may be another. Chosen, not
measured."""
JUMP_SHARE: Final = 0.12
"""Share of the level that such a change is, at least. Chosen, not measured."""
JUMP_ERRORS: Final = 8.0
"""Standard errors of an evaluation that it is, at least. Chosen, not measured."""
JUMP_TRAIN: Final = 0.25
"""Share of the change by which the training loss beside it may move: where it falls, the model overfits. Chosen, not
measured."""
JUMP_STAYS: Final = 0.25
"""Share of the change within which the next evaluation lies of the first one there. Chosen, not measured."""
OVERFIT_EVALUATIONS: Final = 2
"""Evaluations in a row above the best, where no patience is asked for. Chosen, not measured."""
OVERFIT_NOISES: Final = 3.0
"""Standard deviations of an evaluation above the best. Chosen, not measured."""
OVERFIT_NATS: Final = 0.012
"""Nats per token above the best, at least, unless ``min_delta`` says otherwise. Chosen: healthy evaluations of small
sets differ by 0.002 to 0.01."""
OVERFIT_SHARE: Final = 0.006
"""Share of the best above it, at least. Chosen: as the nats."""
OVERFIT_DRAWN: Final = 0.33
"""Share of its standard error. An evaluation whose noise is more scores other rows each time; the same rows differ by
far less. Chosen, not measured."""
OVERFIT_DRAWN_ERRORS: Final = 2.8
"""Standard errors of one that it then takes. Source: twice that of a difference, 2 * sqrt(2)."""
OVERFIT_FEW: Final = 7
"""Evaluations up to which their noise is badly known. Chosen, not measured."""
OVERFIT_FEW_TIMES: Final = 3.0
"""Times the least rise, with fewer than five evaluations, of whose noise nothing is known. Chosen, not measured."""
OVERFIT_FEW_NOISE: Final = 1.7
"""Times that again which noise comes to, at most, up to OVERFIT_FEW evaluations: most of it may be the bend of the
curve. Chosen, not measured."""
OVERFIT_LEVEL: Final = 4.0
"""Standard deviations above the best. Evaluations within compete for being the best by chance. Chosen, not
measured."""
OVERFIT_COMPETE: Final = 3
"""Evaluations that compete, at least. Chosen, not measured."""
BLOM: Final = 0.375
"""Ranks taken off the lowest of normal values. Source: Blom 1958, the expected rank of an order statistic."""
OVERFIT_EACH: Final = ShareLimit(0.7)
"""Share of the threshold. One of these evaluations may be no more above the best; their mean may not. Chosen, not
measured."""
OVERFIT_TRAIN_SHARE: Final = 0.5
"""Share of the evaluations' rise. Training rises along where its loss rises by more. Chosen, not measured."""
OVERFIT_TRAIN_ERRORS: Final = 0.5
"""Standard errors that are added to its rise: where the training points are too few to tell, it waits. Chosen, not
measured."""
OVERFIT_RESTART_ERRORS: Final = 2.0
"""Standard errors that are added where the learning rate is higher than at the best evaluation. Chosen, not
measured."""
OVERFIT_RESTART: Final = 1.2
"""Times the learning rate at the best evaluation, from which on it was restarted. Chosen, not measured."""
GAP_NATS: Final = 0.10
"""Nats per token beyond the median gap of the beginning. Chosen: that of RedWhale's stages (arXiv 2408.11294) differs
by 0.02, and the interval of evaluation sets of 100 rows is 0.08 wide."""
GAP_ERRORS: Final = 5.0
"""Standard errors beyond it, at least. Measured on seeds 0 to 12, 169 faults and 4,760 healthy logs: of 4: three alarms
more, and no fault."""
GAP_EVALUATIONS: Final = 3
"""Evaluations in a row. Chosen, not measured."""
GAP_EARLY: Final = 3
"""Gaps of the beginning that make the median, at least. Chosen, not measured."""
GAP_EARLY_SHARE: Final = 0.2
"""Share of all that makes it where that is more. Chosen, not measured."""
GAP_EARLY_ERROR: Final = 1.25
"""Times the error of their mean that their median has. Source: sqrt(pi / 2), for normal noise."""
GAP_FALL_SHARE: Final = ShareLimit(0.2)
"""Share of training's fall by which it has fallen, too. Chosen, not measured."""
FORGET_SHARE: Final = 0.03
"""Share of the first evaluation. Above it by more, unless ``retention`` says otherwise (``en<5%``). Source: the limit
T of the D-CPT law's worked example (arXiv 2406.01375)."""
FORGET_EVALUATIONS: Final = 2
"""Evaluations in a row. Chosen, not measured."""
FORGET_BEGINNING: Final = ShareLimit(0.1)
"""Share of the run that does not count. Chosen: of the stability gap (arXiv 2406.14833)."""
FORGET_FEW: Final = 2
"""Evaluations after the first that do not count where the length of the run is not known. Chosen, not measured."""
FORGET_RECOVERY: Final = ShareLimit(0.9)
"""Share of the rise one evaluation before. A rise below it is on its way back. Chosen, not measured."""
TOO_SMALL_NATS: Final = 0.05
"""Nats per token. Half the interval's width, which that of a set without a target should not exceed. Chosen: the steps
between training stages that were published are 0.03 to 0.2 nats (RedWhale, arXiv 2408.11294)."""
TOO_SMALL_DISTANCE: Final = 0.01
"""Nats per token, bits per byte, or a fraction. A target nearer than this is not worth telling apart: every run passes
it on its way. Chosen, not measured: a target is set on a level, not on the difference of two runs."""
SCALED_TIMES: Final = 1.8
"""Times the evaluation's loss. Chosen: dropout and unlike texts make less; 2 is the least accumulation."""
SCALED_EVALUATIONS: Final = 3
"""Evaluations in a row, of one set, that agree. Chosen, not measured."""
SCALED_AGREE: Final = ShareLimit(0.05)
"""Share of each other within which they agree. Chosen, not measured."""
SCALED_FALL: Final = ShareLimit(0.15)
"""Share by which the evaluation must have fallen over them: with less a sum looks like a product. Chosen, not
measured."""
SCALED_POINTS: Final = 3
"""Training points before an evaluation, at least. Chosen, not measured."""

JUDGED_POINTS: Final = 10
"""Training points that are enough to judge a run: with less neither a trend nor its noise can be had. Chosen, not
measured."""
JUDGED_EVALUATIONS: Final = 3
"""Evaluations of one set that are enough: a first, a last, and one between. Chosen, not measured."""
CONSTANT_ROWS: Final = 3
"""Rows with as many tokens per step each that are no chance. Chosen, not measured."""
TRAINED_ON_SHARE: Final = ShareLimit(0.01)
"""Share of an evaluation set, estimated, from which on it is reported that it is trained on. Chosen, not measured."""
TRAINED_ON_ROWS: Final = 2
"""Rows found where a sample was looked at: one may be a text that everybody quotes. Chosen, not measured."""
CONFIDENCE: Final = ShareLimit(0.95, most=0.9999)
"""Share of intervals, two-sided, that hold what they are of. Chosen, not measured: as everywhere in this package."""
ERROR_SHOWN: Final = 300
"""Characters of an error that are shown; some hold a whole row. Chosen, not measured."""

# -- levels ------------------------------------------------------------------------------------------------------------

FLOOR_BITS: Final = plausibility.FLOOR_BITS
"""Bits per byte, 0.415: no published Korean pretraining is below it. Source: `ko_cpt_callbacks.watch.plausibility`,
where targets need it too."""
FLOOR_NATS: Final = math.log(3.0)
"""Nats per token, perplexity 3: the floor while bytes are not known, for a note or beside a sudden fall. It is
FLOOR_BITS at 3.8 bytes per token, as tokenizers for Korean have (2 to 5). Chosen, not measured."""
NEAR_ZERO_BITS: Final = plausibility.NEAR_ZERO_BITS
"""Bits per byte, 0.072: nothing is left to predict. Where bytes are not known a token counts as one byte, so that it is
so in any tokenizer: 0.05 nats per token. Source: `ko_cpt_callbacks.watch.plausibility`."""
LEVEL_POINTS: Final = 20
"""Training points of which the median is a level: one point never is. Chosen, not measured."""
LEVEL_ERRORS: Final = 1.96
"""Standard errors between an evaluation and the upper end of its interval. Source: 0.975 quantile of the normal law."""
FALL_NATS: Final = 0.5
"""Nats per token by which a sudden fall is one while bytes are not known. Chosen, and tried on 14 real logs: only the
one whose padding entered the loss has such a fall after its first 15 points."""
FALL_BITS: Final = 0.18
"""Bits per byte by which it is one where they are: 0.5 nats at 4 bytes per token. Chosen, not measured."""
FALL_RATIO: Final = plausibility.FALL_RATIO
"""Times what the level had moved just before by which a fall is sudden. Chosen, tried as FALL_NATS."""
FALL_SIDE: Final = 5
"""Points of the short medians between which a training loss falls. Chosen, tried as FALL_NATS."""
FALL_REACH: Final = 15
"""Points from the earliest of three such medians to the last: what the level had moved before is between the first two,
two thirds of it. Chosen, tried as FALL_NATS."""
FALL_EVALS: Final = 3
"""Evaluations that show a sudden fall: two before it, of which the first tells how far the loss had moved, and itself.
Source: what it is made of; no threshold."""

EQUAL_ROWS: Final = 5
"""Log rows in a row with exactly as many tokens per step, while the loss is below what it was, that show padding.
Chosen, not measured: among 2,099 different rates of a healthy log of 2,666 rows no two neighbors are equal."""
EQUAL_QUIET_ROWS: Final = 12
"""Log rows in a row that show it while the loss is not lower. Chosen, not measured."""
VARIED_ROWS: Final = 5
"""Rows in a row, each with its own tokens per step, that show rows neither padded nor packed. Chosen, not measured."""
PADDED_FALL_NATS: Final = 0.1
"""Nats per token by which the loss of such rows is below that of the rows before, at least. Chosen, not measured."""
PADDED_FALL_NOISES: Final = 3.0
"""Standard deviations of one point by which it is, too. Chosen, not measured."""
COLLAPSE_SHARE: Final = ShareLimit(0.25)
"""Share of the first loss below which a loss collapsed, within twice LEVEL_POINTS. A share is free of the tokenizer.
Chosen, not measured."""
COLLAPSE_EARLY_SHARE: Final = ShareLimit(0.33)
"""The same within 25 rows. Chosen, not measured."""
COLLAPSE_EARLY: Final = 1.25
"""Times LEVEL_POINTS: points that are early. Chosen, not measured."""
COLLAPSE_DEPTH: Final = ShareLimit(0.6)
"""Share of the floor below which a loss collapsed at any row of the first epoch: no text is learned by heart in one.
Only where bytes are known: of seeds 0 to 9 three healthy runs fell as low, and no fault needed it. Chosen."""
EQUAL_LABELS: Final = 16
"""Labels in runs of one token at the rows' ends that look like padding. Chosen, not measured."""

FINITE_ROWS: Final = 3
"""Rows in a row without a NaN that end an episode of them. Chosen, not measured."""
SCALER_ROWS: Final = 3
"""Rows with a NaN or infinite gradient norm and a healthy loss that are a warning. Chosen, not measured: a healthy fp16
run has shown two in 20 rows."""
SCALER_SEARCH: Final = 16
"""Rows before the first finite gradient norm that do not count for that: a loss scaler begins at 2 ** 16 and halves at
every overflow. Source: torch.amp.GradScaler, init_scale and backoff_factor."""
ZERO_NATS: Final = 0.2
"""Nats per token: a loss, the median of the last three, that cannot fall to 0 within a row in any tokenizer. Chosen,
not measured: memorizing runs reach 0.0000 in small steps from far below."""
ZERO_LAST: Final = 3
"""Losses of which that median is. Chosen, not measured."""
ZERO_SMALL_NATS: Final = 0.002
"""Nats per token: forty times what four decimals, as older Trainers log, round to 0. A loss above it that is exactly 0
from one row to the next was not learned away in small steps. Chosen, not measured."""
ZERO_ROWS: Final = 5
"""Rows of exactly 0 in a row after it that are a warning. Chosen, not measured."""

# -- the corpus of a recipe --------------------------------------------------------------------------------------------

CORPUS_USED: Final = ShareLimit(0.9)
"""Share of a source's documents, below which a mixture leaves too much of it. Chosen, not measured."""
CORPUS_PASSES: Final = 4
"""Epochs of a text up to which repeating it is worth almost as much as new text. Source: Muennighoff et al. 2023,
https://arxiv.org/abs/2305.16264."""
CORPUS_LEAST: Final = 100_000
"""Bytes of all sources together below which a corpus is there to try a recipe out, and is not judged. Chosen, not
measured: the quickstart's has some 48,000."""

DROP_NOISES: Final = 6.0
"""Noises below the line at which a loss with a NaN gradient norm is no progress. Chosen, not measured."""
DROP_SHARE: Final = 0.05
"""Share of the expected loss by which it must be below. Chosen, not measured."""
