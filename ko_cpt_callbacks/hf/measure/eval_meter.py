"""Exact sums of an evaluation through a forward hook.

Nothing here judges and nothing is gathered but sums: no logits leave the device they were made on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import get_ident
from typing import Any, Final

from accelerate.state import GradientState
from torch import Tensor

from ko_cpt_callbacks.errors import error_text
from ko_cpt_callbacks.hf.measure.evidence import Absent
from ko_cpt_callbacks.hf.measure.measurement import Measurement, merge, pack
from ko_cpt_callbacks.hf.measure.model_output import ForwardOutput
from ko_cpt_callbacks.hf.measure.row_reader import RowReader
from ko_cpt_callbacks.hf.measure.tally import PendingPass, Tally, length_of
from ko_cpt_callbacks.hf.ranks import Ranks
from ko_cpt_callbacks.metrics.row_sums import RowSums

# Batches kept on the device before their sums are read: reading waits for the device, so not at every batch.
_HELD_BATCHES: Final = 8

NO_PASS: Final = "no forward pass of the model was seen in a prediction step"
NO_LABELS: Final = "no labels of shape (rows, length) were seen, neither in the model's call nor in the batch"
_ALONE: Final = "the callback is not on every rank, so this rank's share is all it could measure"


class EvalMeter:
    """Sums of one evaluation at a time.

    A forward pass with labels is only *pending* until the Trainer ends its prediction step; so a forward pass
    outside an evaluation is never counted and a batch is never counted twice.

    Args:
        reader: Makes the row reader on first use (the byte table of a large vocabulary takes a moment).
        ranks: The processes whose parts are added up.
        on_error: Called with the exception of a batch that could not be counted; the evaluation then has no exact loss.
    """

    def __init__(
        self, reader: Callable[[], RowReader], ranks: Ranks, on_error: Callable[[Exception], None]
    ) -> None:
        self._reader, self._ranks, self._on_error = reader, ranks, on_error
        self._pending: list[PendingPass] = []
        self._passes = 0
        self._unlabelled_loss: Tensor | None = None
        self._tally = Tally()
        self.refused: str | None = None
        """Why the set-up rules out an exact loss of any evaluation; None where one may have it."""
        self._measured: Measurement | None = None

    @property
    def running(self) -> bool:
        """Whether prediction steps were seen since the last evaluation ended."""
        return self._tally.steps > 0

    @property
    def elsewhere(self) -> bool:
        """Whether another thread than this one is evaluating."""
        return self.running and self._tally.thread != get_ident()

    def observe(self, step: PendingPass) -> None:
        """A forward pass in evaluation mode whose labels are known."""
        before = next((item for item in self._pending if step.same_labels(item)), None)
        if before is not None:
            if step.taken and isinstance(step.evidence, Absent):
                return  # a generated text begins with the batch's tokens too
            if not (step.taken and isinstance(before.evidence, Absent)):
                step.differs = step.differs_from(before)
        # Two passes with different labels say what a hundred say; a loop of the user's own must not fill the memory.
        others = [item for item in self._pending if not step.same_labels(item)]
        self._pending = [*others[-2:], step]

    @property
    def has_labelled_pass(self) -> bool:
        """Whether the current prediction step has a pass with labels in its call: it counts before any other."""
        active = GradientState().active_dataloader
        return any(not item.taken and item.dataloader is active for item in self._pending)

    def see_unlabelled(self, output: ForwardOutput) -> None:
        """A forward pass in evaluation mode without labels anywhere: at most it counts as a broken batch."""
        self._passes += 1
        if output.scalar_loss is not None:
            self._unlabelled_loss = output.scalar_loss.isfinite()

    def refuse(self, reason: str) -> None:
        """No exact loss for the evaluation that is running, or about to."""
        self._tally.refuse(reason)

    def drop_pending(self) -> None:
        """Forget forward passes that no prediction step claimed, and an evaluation that was broken off."""
        self._clear()
        self._measured = None
        if self._tally.steps:
            self._tally = Tally()

    def _clear(self) -> None:
        self._pending, self._passes, self._unlabelled_loss = [], 0, None

    def commit(self, dataloader: Any) -> None:
        """The Trainer ended a prediction step over ``dataloader``."""
        # A pass under another data loader, or under none, came before this evaluation: it is no one's.
        active = GradientState().active_dataloader
        here = get_ident()
        pending = [item for item in self._pending if item.dataloader is active and item.thread == here]
        passes, unlabelled_loss = self._passes, self._unlabelled_loss
        self._clear()
        if self._tally.dataloader is not dataloader and self._tally.steps:
            self._tally = Tally()  # the evaluation before this one was broken off
        self._measured = None  # its row would have come by now
        tally = self._tally
        tally.dataloader = dataloader
        tally.thread = here
        tally.steps += 1
        tally.at_end = bool(GradientState().end_of_dataloader)
        pending = [item for item in pending if not item.taken] or pending
        try:
            if not pending:
                tally.refuse(NO_LABELS if passes else NO_PASS)
                if unlabelled_loss is not None:
                    tally.batches += 1
                    tally.finite.append(unlabelled_loss)
            elif any(not item.same_labels(pending[0]) for item in pending):
                tally.refuse("one prediction step made several forward passes with different labels")
            else:
                tally.count(pending[-1], self._ranks.index, self._ranks.size)
            if len(tally.held) + len(tally.finite) >= 2 * _HELD_BATCHES:
                tally.read(self._reader)
        except Exception as error:  # the loss would lack this batch
            tally.refuse(f"the meter failed: {error_text(error)}")
            self._on_error(error)

    def ends(self, dataloader: Any) -> bool:
        """Whether the prediction step that was just committed is the last over ``dataloader``; every rank alike."""
        state = GradientState()
        if dataloader is not None and state.active_dataloader is dataloader:
            return bool(state.end_of_dataloader)
        return self._tally.steps > 0 and self._tally.steps == length_of(dataloader)

    def close(self) -> bytes:
        """This rank's part of the evaluation that ends, and begin anew; it never raises."""
        tally, self._tally = self._tally, Tally()
        self._clear()
        tally.reason = self.refused or tally.reason
        try:
            tally.end(self._reader, self._ranks.size)
        except Exception as error:  # the others are waiting: say what happened instead of raising
            tally.refuse(f"the meter failed: {error_text(error)}")
        rows = RowSums.concatenate(tally.rows) if tally.reason is None else RowSums.empty()
        if self._ranks.alone:
            tally.reason = _ALONE
            if not tally.nonfinite_batches:
                tally.batches = 0  # no bad batch here says nothing of the others
        return pack(tally, rows)

    def keep(self, parts: Sequence[bytes]) -> None:
        """The parts of all ranks, until the evaluation's row is logged."""
        self._measured = merge(parts)

    @property
    def measured(self) -> bool:
        """Whether an evaluation ended and its row was not logged yet."""
        return self._measured is not None

    def finish(self) -> Measurement:
        """What the evaluation that ended came to; where its end was not seen, what this rank can say of it."""
        found, self._measured = self._measured, None
        if found is not None:
            return found
        if self._ranks.together:
            self._tally.refuse("the end of the evaluation was not seen, so the ranks could not add up")
        return merge([self.close()])
