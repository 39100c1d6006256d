"""How the processes of one run agree.

One primitive, :meth:`Ranks.gather`, is all that the package sends: every rank contributes some bytes and every
rank receives all of them, in rank order. What follows is computed from the same bytes by the same code, so every
rank decides alike. A rank that has nothing to say, or failed, still contributes, so that none waits for it.

A collective hangs when a rank does not take part, for example when the callback was added on the main process
only. So before the first one the ranks sign in at the process group's key-value store, with a time limit;
whoever is alone stays alone and says so.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import torch
import torch.distributed as dist

# Ranks reach this point together, after the Trainer's own collectives; a minute is ample (chosen, not measured).
_SIGN_IN_SECONDS: Final = 60.0


class Ranks:
    """The processes of one run, as one callback sees them.

    Args:
        device: Where collectives want their tensors (the accelerator under NCCL).
        serial: Number of this callback's run in the process; the same on every rank.
    """

    def __init__(self, device: torch.device, serial: int, sign_in_seconds: float = _SIGN_IN_SECONDS) -> None:
        self._device = device
        self._serial = serial
        self._sign_in_seconds = sign_in_seconds
        self._joined: bool | None = None
        ready = dist.is_available() and dist.is_initialized()
        self.size: int = dist.get_world_size() if ready else 1
        self.index: int = dist.get_rank() if ready else 0

    @property
    def alone(self) -> bool:
        """Whether other ranks exist that cannot be reached: numbers then cover this rank's share only."""
        return self.size > 1 and not self._join()

    def gather(self, payload: bytes) -> list[bytes]:
        """Every rank's payload, in rank order; only this rank's own when it is the only one or alone."""
        if self.size == 1 or not self._join():
            return [payload]
        length = torch.tensor([len(payload)], dtype=torch.int64, device=self._device)
        lengths = [torch.zeros_like(length) for _ in range(self.size)]
        dist.all_gather(lengths, length)
        sizes = [int(item) for item in lengths]
        width = max(1, *sizes)
        buffer = torch.zeros(width, dtype=torch.uint8)
        if payload:
            buffer[: len(payload)] = torch.frombuffer(bytearray(payload), dtype=torch.uint8)
        buffer = buffer.to(self._device)
        buffers = [torch.empty_like(buffer) for _ in range(self.size)]
        dist.all_gather(buffers, buffer)
        return [item.cpu().numpy().tobytes()[:size] for item, size in zip(buffers, sizes, strict=True)]

    def from_first(self, payload: bytes) -> bytes:
        """Rank 0's payload, on every rank; this rank's own when it is alone."""
        return self.gather(payload if self.index == 0 or self.alone else b"")[0]

    def _join(self) -> bool:
        if self._joined is None:
            self._joined = self._sign_in()
        return self._joined

    def _sign_in(self) -> bool:
        from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

        store = PrefixStore(f"ko_cpt_callbacks/{self._serial}", _get_default_store())
        store.set(f"rank/{self.index}", "here")
        everyone = [f"rank/{index}" for index in range(self.size)]
        try:
            store.wait(everyone, timedelta(seconds=self._sign_in_seconds))
            verdict = "joined"
        except (RuntimeError, ValueError):
            verdict = "alone"
        # The first verdict holds for all: a rank that came late must not wait for one that gave up.
        return bytes(store.compare_set("verdict", "", verdict)).decode() == "joined"
