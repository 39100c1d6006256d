"""Every number by which signals and rules decide, by name: its unit, what it means, and where it comes from.

Each is followed by a text of one or two sentences: unit first, then the meaning, and at its end the source, what was
measured, or "Chosen, not measured." A rule has its limits as fields, so that a user can set them
(``rules={"loss-spike": {"most": 3}}``); their defaults are these. Nothing else in a body of these rooms is a number
but 0, 1, 2 and one half.
"""

from __future__ import annotations

from typing import Final

# -- window and noise --------------------------------------------------------------------------------------------------

# -- excursions: spikes, shifts of level, divergence -------------------------------------------------------------------

# -- epochs ------------------------------------------------------------------------------------------------------------

# -- restarts ----------------------------------------------------------------------------------------------------------

# -- trend -------------------------------------------------------------------------------------------------------------

# -- evaluations -------------------------------------------------------------------------------------------------------

# -- levels ------------------------------------------------------------------------------------------------------------

MAD_TO_SD: Final = 1.4826
"""Standard deviations of normal noise per median absolute deviation. Source: 1 / quantile(0.75) of the normal law."""
