"""The numbers of `ko_cpt_callbacks.signal.limits` that `diverged` and `loss-spike` decide by."""

from __future__ import annotations

from typing import Final

# -- diverged ----------------------------------------------------------------------------------------------------------

DIVERGED_NOISES: Final = 5.5
"""Noises of the time of the lowest level by which the loss must be above it. Chosen, not measured."""
DIVERGED_NATS: Final = 0.4
"""Nats by which it must be. Chosen: healthy runs of the suite rise by less than 0.15 after the warm-up."""
DIVERGED_RISING: Final = 12
"""Points since the level was within a fifth of a rise that goes on. Chosen, not measured."""
DIVERGED_STAYING: Final = 16
"""Points in the upper half of a rise. Chosen: spikes of 20 points are back before."""
DIVERGED_SWINGING: Final = 26
"""Points of which more than half are up. Chosen, not measured."""
DIVERGED_MOSTLY: Final = 0.55
"""Share of the points of a loss that swings that are up. Chosen, not measured."""
DIVERGED_LATELY: Final = 4
"""Points of its last eight that are up. Chosen, not measured."""
DIVERGED_CLIMBING: Final = 6
"""Points since the level was within a fifth of a rise that is ever faster. Chosen, not measured."""
DIVERGED_SHIFT_NATS: Final = 1.0
"""Nats up to which a change between two points is a shift of the level. Chosen, not measured."""
DIVERGED_BESIDE: Final = 0.7
"""Share of the rise that training beside a best evaluation must have. Chosen, not measured."""
DIVERGED_BEGAN: Final = 0.2
"""Share of a rise from which on it is going on. Chosen, not measured."""
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
SPIKE_MANY_NOISES: Final = 6.8
"""Noises of more points. Measured in the same way: 5.8 keeps none more of 109, with one alarm more of 68."""
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
