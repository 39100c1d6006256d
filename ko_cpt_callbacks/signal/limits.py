"""Every number by which signals and rules decide, by name: its unit, what it means, and where it comes from.

Each is followed by a text of one or two sentences: unit first, then the meaning, and at its end the source, what was
measured, or "Chosen, not measured." A rule has its limits as fields, so that a user can set them
(``rules={"loss-spike": {"most": 3}}``); their defaults are these. Nothing else in a body of these rooms is a number
but 0, 1, 2 and one half. Those of the whole run, its epochs and its evaluations stand in
`ko_cpt_callbacks.signal.run_limits`, and have their names here too.
"""

from __future__ import annotations

from typing import Final

from ko_cpt_callbacks.signal.run_limits import *  # noqa: F403
from ko_cpt_callbacks.watch.argument import PointLimit, ShareLimit

# -- window and noise --------------------------------------------------------------------------------------------------

WINDOW: Final = 50
"""Training points in the window. Chosen: the field looks at 50 to 128 (llm-foundry 100, OLMo 128) single steps, and a
log point is mostly ten."""
ENOUGH: Final = 6
"""Points from which a line and a noise can be had. Chosen, not measured."""
QUIET: Final = 0.002
"""Nats: no training loss is quieter; what measures less was rounded or made up. Measured: ten-step log points of two
healthy runs have 0.018 and 0.023."""
THIRDS: Final = 3
"""Parts into which points are cut: a resistant line goes through the medians of the first and the last. Source:
Tukey's resistant line."""
CORRELATED: Final = 1.4
"""Times. Standard deviation over that of second differences where neighbors correlate by 0.4. Chosen: of healthy logs
the highest seen is 0.16."""
BENT_POINTS: Final = 12
"""Points, the last of a young curve, that bend little. Chosen, not measured."""
FAR: Final = 4
"""Points between those that hardly correlate any more; as many such are needed. Chosen, not measured."""
BLOCK: Final = 4
"""Points of the smallest block, and of the medians that make its level. Chosen, not measured."""
BLOCKS: Final = 64
"""Blocks of points that a whole segment is kept in: of twice as many points each once there are so many. Chosen, not
measured."""

YOUNG_POINTS: Final = 30
"""Points of a segment that is young in any case. Chosen, not measured."""
YOUNG_WARM: Final = 6.5
"""Times the points of its warm-up that a segment is young. Chosen, not measured."""
YOUNG_RATE: Final = 0.93
"""Share of its peak below which a learning rate is on its way down: nothing is young then. Chosen, not measured."""

LINE: Final = 30
"""Points through which the line goes: a longer piece of a learning curve bends too much. Chosen, not measured."""
SHORT: Final = 5
"""Points of a short median, the level of the moment. Chosen, not measured."""

# -- excursions and shifts of level ------------------------------------------------------------------------------------

MIDDLES: Final = 128
"""Points whose short medians are kept. Chosen: two mega-batches of 50 batches and what came before them."""

BAND: Final = 4.5
"""Noises above which a point begins a rise. Chosen, not measured."""
BAND_FEW: Final = 4
"""Points. Their share of the window's makes the band wider: noise of few is badly known. Chosen, not measured."""
NORMAL_LEAST: Final = 3
"""Points before which no level is normal. Chosen, not measured."""
BENT_LESS: Final = 0.8
"""Share of the noise around a line below which that of second differences is believed. Chosen, not measured."""
STRAIGHT: Final = 40
"""Points from which on the whole window tells the noise. Chosen, not measured."""

LONGEST_RISE: Final = 30
"""Points after which a rise is no spike any more. Chosen, not measured."""

BACK: Final = 0.3
"""Share of its height at which a rise is over. Chosen, not measured."""

SEAM_ROWS: Final = 6
"""Rows after the first sign of another run in which others belong to it. Chosen: a second warm-up takes three."""

RAMPS: Final = (4.0, 6.0, 9.0)
"""Points. Lengths of the ramps that a step must fit better than. Chosen: the public log of a fall that is a phase of
learning takes eight."""

FAR_OFF: Final = 3.0
"""Noises. A point that is farther off a fit counts as so far off. Chosen, not measured."""

SHIFT_SURE: Final = 4.2
"""Standard errors of its size that a shift of the level must have. Measured on seeds 0 to 19: of 4.6 three shifts of
460 less; on 0 to 9 two alarms of 3,669 healthy logs less."""

SHIFT_JITTERS: Final = 3.6
"""Noises, as first differences of the window tell it, that a shift must have: that of the points before may be small by
chance. Measured by leaving out what had been found on seeds 0 to 19: none of 328 shifts is lost, 8 of 68 alarms are
gone; 4: 3 lost, 11 gone."""

SHIFT_MOVED_NOISES: Final = 2.4
"""Noises by which the short medians before and after must differ. Measured on seeds 0 to 12, 299 shifts and 4,760
healthy logs of up to 700 rows: of 3.2: two shifts and two alarms less."""

SHIFT_GAIN: Final = 1.5
"""Squared noises by which a step must fit better than a ramp or a curve. Measured on seeds 0 to 9: recall and alarms
of 2: .943 and 13, of 1.5: .948 and 13."""

SHIFT_BEND: Final = 0.8
"""Share of a shift by which the slope may differ after it, over the points after it. Measured on seeds 0 to 4: 0.4:
recall .91; 1.0: as 0.6."""

SHIFT_WANES: Final = 0.2
"""Share of a shift up, beside two noises, by which its slope may lead back over the points after it: more is a spike.
Measured on seeds 0 to 4: recall of 0.1 to 0.4 is one."""

SHIFT_SMALL: Final = 0.05
"""Share of the level below which a shift may be what a rising learning rate does. Chosen, not measured."""
EPOCH_NATS: Final = 0.5
"""Nats, or this share of the level, up to which the end of an epoch explains a shift: memorizing has its own rule.
Chosen, not measured."""
SHIFT_LARGE: Final = 9.0
"""Noises from which a shift is reported after few points. Measured on seeds 0 to 9: alarms of 8: 1 more, of 10: 1 less
at a recall .005 lower."""

SHIFT_FEW: Final = PointLimit(6, least=3, most=22)
"""Points after a large shift. Chosen, not measured."""

SHIFT_MANY: Final = PointLimit(9, least=3, most=22)
"""Points after a small shift. Chosen, not measured."""

SHIFT_BEFORE: Final = 14
"""Points before a shift through which its line goes. Measured on seeds 0 to 4: recall of 10: .93, 20: .90."""

SHIFT_LEAST: Final = 9
"""Points before a shift, at least. Chosen, not measured."""

SHIFT_HELD: Final = (0.2, 0.45)
"""Shares of a shift that the nearest and the second nearest point after it must keep. Measured on seeds 0 to 9: recall
of .25 and .5: .005 less, at as many alarms."""

SHIFT_NEW: Final = 0.6
"""Share of a fall by which it must be lower than the loss was lately: else it is the return from a spike, or ends a
mega-batch. Measured on seeds 0 and 1: alarms of .4: four more in 2,044 healthy logs, at the same recall."""

SEAM_NATS: Final = 0.5
"""Nats by which the loss must be lower after a seam to be reported: a second run may begin anywhere above.
Chosen, not measured."""

MEGA_BATCH_EARLY: Final = 27
"""Points since the start within which a jump may be the end of a first mega-batch: as many again are waited for.
Measured on seeds 0 to 9: recall and alarms of 20: .005 more and 4 more, of 30: .03 less and 2 less."""

MEGA_BATCH_WAIT: Final = 24
"""Points that are waited for whether a jump is a mega-batch's, at most. Chosen: later is too late."""

MEGA_BATCH_STAYS: Final = 0.5
"""Share of a jump that must be left by then. Measured on seeds 0 to 9: recall of .55: .005 less, at as many alarms."""

MEGA_BATCH_FALLS: Final = 0.95
"""Share of a fall later than that: one that learns goes on down, a mega-batch drifts up. Measured on seeds 0 to 19, 460
shifts and 200 logs with mega-batches: no shift is lost, of 16 alarms 8 are gone, of 0.8: 6."""

MEGA_BATCH_AT: Final = 0.4
"""Share of a jump by which the level before may differ from that where it went. Measured on seeds 0 to 9: alarms of
.25: 3 more."""

MEGA_BATCH_FROM: Final = 0.55
"""Share of a jump by which the loss was away from there before that: then it drifted. Measured on seeds 0 to 9: alarms
of .8: 3 more."""

MEGA_BATCH_MIDDLE: Final = 0.8
"""Share of a jump by which the median of the points since then is away from there: a spike's are farther. Chosen, not
measured."""

MEGA_BATCH_LONGEST: Final = 50
"""Points of a mega-batch. Source: a mega-batch of the Trainer's has 50 batches."""

MEGA_STEPS: Final = 25
"""Steps of which a mega-batch has a multiple, on one process or two. Source: a mega-batch of the Trainer's has 50
batches."""

AROUND: Final = 3
"""Points around a place in which the loss went most. Chosen, not measured."""

NEAR: Final = 6
"""Points before a place in which a change of the learning rate explains it. Chosen, not measured."""

RATE_RISES: Final = 0.02
"""Share of the peak by which a learning rate rises that explains a small shift. Chosen, not measured."""

RATE_FALLS: Final = 0.08
"""Share of the peak by which a learning rate falls at once that explains a fall. Chosen, not measured."""

PACES_DIFFER: Final = 1.3
"""Ratio of tokens per step from which rows are of another length. Chosen: text packed or not differs by 2 %."""

# -- restarts ----------------------------------------------------------------------------------------------------------

MAD_TO_SD: Final = 1.4826
"""Standard deviations of normal noise per median absolute deviation. Source: 1 / quantile(0.75) of the normal law."""

# -- where a target's loss is heading ----------------------------------------------------------------------------------

HEADING_EVALUATIONS: Final = 2
"""Evaluations in a row whose forecasts must agree on a target. Chosen, not measured: a single one may be unlucky."""
HEADING_FROM: Final = ShareLimit(0.3)
"""Share of the steps to a target's deadline before which nothing is reported of it. Measured: the earliest cut at which
forecasts were compared with the end (benchmarks/forecast.py)."""
HEADING_UNREACHABLE: Final = ShareLimit(0.05)
"""Share of the drawn ends, below which a target is out of reach. Measured: of 39 forecasts of 13 public curves, six
targets each, none that was so sure was wrong (benchmarks/forecast.py)."""
HEADING_LIKELY: Final = ShareLimit(0.95)
"""Share of the drawn ends, above which a target is likely met. Measured together with HEADING_UNREACHABLE."""

# -- runs of the same set-up -------------------------------------------------------------------------------------------

FAMILY_EVALUATIONS: Final = 2
"""Evaluations in a row that must be outside the band of a family. Measured on simulated runs (benchmarks/family.py): of
those that are of their family two in a row are in at most 0.5 % with 20 evaluations and 2 % with 100."""
FAMILY_RATE_APART: Final = 0.02
"""Share of a family's highest learning rate by which that of a run may differ to go unnamed: rounding in a log, and a
skipped step. Chosen, not measured."""

# -- diverged ----------------------------------------------------------------------------------------------------------

DIVERGED_NOISES: Final = 5.5
"""Noises of the time of the lowest level by which the loss must be above it. Chosen, not measured."""
DIVERGED_NATS: Final = 0.4
"""Nats by which it must be. Chosen: healthy runs of the suite rise by less than 0.15 after the warm-up."""
DIVERGED_YOUNG_NATS: Final = 0.65
"""Nats, while the run is young. Chosen: healthy runs of the suite rise by up to 0.5 in a warm-up."""
DIVERGED_SHORT: Final = 40
"""Points of a log that is short. Chosen, not measured."""
DIVERGED_SHORT_RISING: Final = 8
"""Points of a huge rise that goes on in a short log. Chosen, not measured."""
DIVERGED_SHORT_STAYING: Final = 11
"""Points in the upper half of a huge rise in a short log. Chosen, not measured."""
DIVERGED_HUGE: Final = 3
"""Times what is needed, from which a rise is huge. Chosen, not measured."""
DIVERGED_RISING: Final = 12
"""Points since the level was within a fifth of a rise that goes on. Chosen, not measured."""
DIVERGED_STAYING: Final = 16
"""Points in the upper half of a rise. Chosen: spikes of 20 points are back before."""
DIVERGED_SWINGING: Final = 26
"""Points of which more than half are up. Chosen, not measured."""
DIVERGED_MOSTLY: Final = 0.55
"""Share of the points of a loss that swings that are up. Chosen, not measured."""
DIVERGED_CLIMBING: Final = 6
"""Points since the level was within a fifth of a rise that is ever faster. Chosen, not measured."""
DIVERGED_SHIFT_NATS: Final = 1.0
"""Nats up to which a change between two points is a shift of the level. Chosen, not measured."""
DIVERGED_BESIDE: Final = ShareLimit(0.7)
"""Share of the rise that training beside a best evaluation must have. Chosen, not measured."""
DIVERGED_BEGAN: Final = 0.2
"""Share of a rise from which on it is going on. Chosen, not measured."""
DIVERGED_BEGAN_NEEDED: Final = 0.6
"""Share of the height needed, where that is less: so high a rise is going on in any case. Chosen, not measured."""
DIVERGED_GOES_ON: Final = 0.12
"""Share of a rise that its last three points bring where it goes on. Chosen, not measured."""
DIVERGED_SWUNG: Final = 0.35
"""Share of the way up by which a loss that swings came down and went up again. Chosen, not measured."""
DIVERGED_EASES: Final = 0.15
"""Share of a rise by which its level may have come down over eight points, and it stays. Chosen, not measured."""
DIVERGED_SHIFT_SHARE: Final = (0.85, 1.2)
"""Shares of a rise between which its change from one point to the next is all of it. Chosen, not measured."""
DIVERGED_SHIFT_STILL: Final = 0.1
"""Share of such a change by which the loss may have risen since. Chosen, not measured."""
DIVERGED_FASTER: Final = 1.15
"""Times as steep as the third before is each third of a rise that is ever faster. Chosen, not measured."""
DIVERGED_FASTER_SHARE: Final = 0.7
"""Share of a rise that the points since it began bring where it is ever faster. Chosen, not measured."""

SOAR_POINTS: Final = 6
"""Points from which a run that only rises can be reported to diverge. Chosen: the shortest such log known has eight."""
SOAR_FROM: Final = 2
"""Points within which the loss was lowest in such a run. Chosen, not measured."""
SOAR_UNTIL: Final = 20
"""Points after which a run is judged as any other. Chosen, not measured."""
SOAR_TIMES: Final = 2.5
"""Times its lowest level to which the loss must have risen. Chosen: no bump of a warm-up comes near."""
SOAR_NATS: Final = 2.0
"""Nats above it, too. Chosen, likewise."""

# -- loss-spike --------------------------------------------------------------------------------------------------------

SPIKE_ONE_NOISES: Final = 9.2
"""Noises of a single point. Measured by leaving out what had been found on seeds 0 to 19: 8.5 keeps one spike more of
160, with 3 alarms more of 68."""
SPIKE_FEW: Final = 3
"""Points of a rise that are few. Chosen, not measured."""
SPIKE_FAR: Final = 0.7
"""Share of how far the second farthest point of the window was, for up to three points. Measured on seeds 5 to 12, 160
spikes: up to 1.0 none less, of 2.0 three. Below 1, or of two spikes of one height the second would be none."""
SPIKE_DIPS: Final = 2.5
"""Times as high as the points before went low. Measured on 2,044 healthy logs of seeds 5 to 8 and 80 with a spike,
together with the noises of few points and the second farthest point: without the three 6 alarms and one spike more."""
SPIKE_NOISES: Final = 7.4
"""Noises of more points. Measured on seeds 0 to 19, by leaving out what had been found: 6.5 of two or three points and
5.8 of more keep no spike more of 219, with 3 alarms more of 68; on seeds 4 to 6, 14 to 16 6.8 finds what 7.4 does."""
SPIKE_LEAST_NATS: Final = 0.08
"""Nats of any spike. Chosen, not measured."""
SPIKE_EPOCH_END_NATS: Final = 0.8
"""Nats of a rise that begins at the end of an epoch. Chosen, not measured."""
SPIKE_EARLY_NATS: Final = 0.65
"""Nats of a spike after fewer than twelve points. Chosen, not measured."""
SPIKE_MORE: Final = 0.05
"""Share by which a single point must be higher with each doubling of the points beyond 128. Measured on seeds 0 to 2:
without it one alarm more in a thousand healthy logs."""
SPIKE_MEGA_BATCH_POINTS: Final = 8
"""Points of a rise that was up at once, from which it may be a mega-batch's. Chosen, not measured."""
SPIKE_MOST: Final = 10
"""Spikes that are reported of one run. Chosen, not measured."""
SPIKE_MORE_FROM: Final = 128
"""Points from which on a single point must be higher with each doubling. Chosen, not measured."""
SPIKE_AT_ONCE: Final = 0.7
"""Share of its height that a rise which may be a mega-batch's has with its first point. Chosen, not measured."""
SPIKE_CEILING: Final = 0.7
"""Share of its height up to which the window before reached where it may be a mega-batch's. Chosen, not measured."""
