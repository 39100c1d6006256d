"""Every number by which signals and rules decide, by name: its unit, what it means, and where it comes from.

Each is followed by a text of one or two sentences: unit first, then the meaning, and at its end the source, what was
measured, or "Chosen, not measured." A rule has its limits as fields, so that a user can set them
(``rules={"loss-spike": {"most": 3}}``); their defaults are these. Nothing else in a body of these rooms is a number
but 0, 1, 2 and one half.
"""

from __future__ import annotations

import math
from typing import Final

from ko_cpt_callbacks.core import plausibility

# -- window and noise --------------------------------------------------------------------------------------------------

# -- excursions: spikes, shifts of level, divergence -------------------------------------------------------------------

# -- epochs ------------------------------------------------------------------------------------------------------------

# -- restarts ----------------------------------------------------------------------------------------------------------

# -- trend -------------------------------------------------------------------------------------------------------------

# -- evaluations -------------------------------------------------------------------------------------------------------

# -- levels ------------------------------------------------------------------------------------------------------------

FLOOR_BITS: Final = plausibility.FLOOR_BITS
"""Bits per byte, 0.415: no published Korean pretraining is below it. Source: `ko_cpt_callbacks.core.plausibility`,
where targets need it too."""
FLOOR_NATS: Final = math.log(3.0)
"""Nats per token, perplexity 3: the floor while bytes are not known, for a note or beside a sudden fall. It is
FLOOR_BITS at 3.8 bytes per token, as tokenizers for Korean have (2 to 5). Chosen, not measured."""
NEAR_ZERO_BITS: Final = plausibility.NEAR_ZERO_BITS
"""Bits per byte, 0.072: nothing is left to predict. Where bytes are not known a token counts as one byte, so that it is
so in any tokenizer: 0.05 nats per token. Source: `ko_cpt_callbacks.core.plausibility`."""
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
What it is made of, no threshold."""

EQUAL_ROWS: Final = 5
"""Log rows in a row with exactly as many tokens per step, while the loss is below what it was, that show padding.
Chosen, not measured: among 2,099 different rates of a healthy log of 2,666 rows no two neighbors are equal."""
EQUAL_QUIET_ROWS: Final = 12
"""The same while the loss is not lower. Chosen, not measured."""
VARIED_ROWS: Final = 5
"""Rows in a row, each with its own tokens per step, that show rows neither padded nor packed. Chosen, not measured."""
PADDED_FALL_NATS: Final = 0.1
"""Nats per token by which the loss of such rows is below that of the rows before, and"""
PADDED_FALL_NOISES: Final = 3.0
"""standard deviations of one point. Both chosen, not measured."""
COLLAPSE_SHARE: Final = 0.25
"""Share of the first loss below which a loss collapsed, within twice LEVEL_POINTS. A share is free of the tokenizer.
Chosen, not measured."""
COLLAPSE_EARLY_SHARE: Final = 0.33
"""The same within 25 rows. Chosen, not measured."""
COLLAPSE_EARLY: Final = 1.25
"""LEVEL_POINTS that are early. Chosen, not measured."""
COLLAPSE_DEPTH: Final = 0.6
"""Share of the floor below which a loss collapsed at any row of the first epoch: no text is learned by heart in one.
Chosen, not measured."""
EQUAL_LABELS: Final = 16
"""Labels in runs of one token at the rows' ends that look like padding. Chosen, not measured."""

FINITE_ROWS: Final = 3
"""Rows in a row without a NaN that end an episode of them. Chosen, not measured."""
DROP_WINDOW: Final = 12
"""Recent training losses from which the next one is expected. Chosen, not measured."""
DROP_LEAST_POINTS: Final = 4
"""Fewer than these tell nothing about a drop. Chosen, not measured."""
DROP_SDS: Final = 6.0
"""Standard deviations of the recent losses around their line beyond which a drop with a NaN gradient norm is no
progress, and"""
DROP_SHARE: Final = 0.05
"""share of the expected loss. Measured together: with 12, 4, 6 and 0.05, 11 of 5,721 rows of 16 logs would have passed
for a drop had their gradient norm been NaN, 6 of them in one broken run; of NaNs that start after 1, 3, 5, 7 of 10
steps 95, 89, 71, 4 % are seen at once, the rest one row later."""
SCALER_ROWS: Final = 3
"""Rows with a NaN or infinite gradient norm and a healthy loss that are a warning. Chosen, not measured: a healthy fp16
run has shown two in 20 rows."""
SCALER_SEARCH: Final = 16
"""Rows before the first finite gradient norm that do not count for that: a loss scaler begins at 2 ** 16 and halves at
every overflow. Source: torch.amp.GradScaler, init_scale and backoff_factor."""
RATE_ROWS: Final = 4
"""Rows within which the learning rate moved, so that one where it stands still is a step that the loss scaler skipped.
Chosen, not measured."""
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

MAD_TO_SD: Final = 1.4826
"""Standard deviations of normal noise per median absolute deviation. Source: 1 / quantile(0.75) of the normal law."""
