"""A loss that was given as numbers on the command line, in place of a run."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Final

from ko_cpt_callbacks.core.comparison_value import Measured
from ko_cpt_callbacks.errors import ConfigurationError

__all__ = ["SPLITS", "LoneLoss"]

SPLITS: Final = ("eval", "train")

_LN2: Final = math.log(2.0)
_AGREE: Final = 0.01  # how far three printed numbers may disagree, as a share. Chosen, not measured.


@dataclass(frozen=True, slots=True)
class LoneLoss:
    """The options beside ``--loss``, None where not given.

    Args:
        loss: Nats per token.
        split: ``eval`` or ``train``.
        bytes_per_token: UTF-8 bytes of the scored text per token.
        bits_per_byte: Bits per byte of the same text.
        se: Standard error of the loss, nats per token.
    """

    loss: float | None = None
    split: str | None = None
    bytes_per_token: float | None = None
    bits_per_byte: float | None = None
    se: float | None = None

    def measured(self) -> Measured | None:
        """What the numbers say; None where no loss was given.

        Raises:
            ConfigurationError: If one cannot be used, or they contradict each other.
        """
        numbers = {
            "--loss": self.loss,
            "--bytes-per-token": self.bytes_per_token,
            "--bits-per-byte": self.bits_per_byte,
            "--se": self.se,
        }
        given = {name: value for name, value in numbers.items() if value is not None}
        if self.loss is None:
            beside = [*given, *(["--split"] if self.split is not None else [])]
            if beside:
                raise ConfigurationError(f"{beside[0]}: found it without --loss, expected both; give the loss it is of")
            return None
        for name, value in given.items():
            if not math.isfinite(value) or value <= 0:
                raise ConfigurationError(f"{name}: found {value!r}, expected a number above 0")
        reach, bits = self._reach(self.loss)
        per_byte = None if self.se is None or reach is None else self.se / (_LN2 * reach)
        if self._split() == "train":
            return Measured("train", "train", self.loss, self.se, bits, per_byte, reach)
        return Measured("eval", "eval", self.loss, self.se, bits, per_byte, reach)

    def _split(self) -> str:
        split = SPLITS[0] if self.split is None else self.split
        if split not in SPLITS:
            near = difflib.get_close_matches(split, SPLITS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigurationError(f"--split: found {split!r}, expected one of {', '.join(SPLITS)}{hint}")
        return split

    def _reach(self, loss: float) -> tuple[float | None, float | None]:
        """Bytes per token and bits per byte: each follows from the other and the loss."""
        reach, bits = self.bytes_per_token, self.bits_per_byte
        if reach is None:
            return (None, None) if bits is None else (loss / (_LN2 * bits), bits)
        of_both = loss / (_LN2 * reach)
        if bits is not None and abs(bits / of_both - 1.0) > _AGREE:
            raise ConfigurationError(
                f"--bits-per-byte: found {bits:g}, expected {of_both:.3f}, which --loss and --bytes-per-token come to; "
                "leave one of the three out"
            )
        return reach, of_both
