"""Two ranks in which one of ours fails: an exception at the entry of any function of the package, on one rank.

One launch serves many faults, one small training after the other; each reports what a run without the callback would
have to report too: steps and weights.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import pytest
import torch.distributed as dist
from e2e import job
from transformers import TrainerCallback

import ko_cpt_callbacks
from ko_cpt_callbacks import KoCPTCallback
from ko_cpt_callbacks.hf import ranks

PACKAGE: Final = str(Path(ko_cpt_callbacks.__file__).parent)
STEPS: Final = 4

EVENT: Final = "hf/guarded_run:GuardedRun.do"
"""What is called once in every event of the Trainer."""

# Frames that are called from outside and do nothing but guard: an exception at their own entry is nobody's to catch.
# What they do themselves (counting events) comes before anything that can fail. Not ours to lose either: PyTorch calls
# them with the model's work in hand.
GUARDS: Final = ("_guarded.<locals>.guarded", "KoCPTCallback.on_train_begin", "GuardedRuns.do", "ModelHook.__call__")
GUARDS_OF_TORCH: Final = ("_NllWatch.__torch_dispatch__", "_ForwardEnd.__del__")


class FaultError(Exception):
    """Broken on purpose."""


class Fault:
    """Raises at the ``nth`` call of a function of the package in this thread, once; without a place it only counts.

    Args:
        place: ``module:qualified name``; empty for none.
        nth: Which call, from 1.
        late: Seconds to wait before it raises: other ranks go as far as they can meanwhile.
        slow: Seconds to wait at each of the Trainer's events: other ranks are ahead, as far as they can be.
    """

    def __init__(self, place: str = "", nth: int = 1, late: float = 0.0, slow: float = 0.0) -> None:
        self.calls: Counter[str] = Counter()
        self.raised = False
        self._place, self._nth = place, nth
        self._late, self._slow = late, slow
        self._names: dict[CodeType, str | None] = {}

    def __enter__(self) -> Fault:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, arg: Any) -> None:
        if event != "call":
            return
        code = frame.f_code
        if code not in self._names:
            self._names[code] = _name(code)
        name = self._names[code]
        if name is None:
            return
        self.calls[name] += 1
        if name == EVENT:
            time.sleep(self._slow)
        if name == self._place and self.calls[name] == self._nth and not self.raised:
            self.raised = True
            time.sleep(self._late)
            raise FaultError(f"broken on purpose in {name}")


def _name(code: CodeType) -> str | None:
    """``module:qualified name`` of a function of the package that a fault can be put into."""
    if not code.co_filename.startswith(PACKAGE) or code.co_name in ("<module>", "__new__", "__del__"):
        return None
    if code.co_name == "<genexpr>":  # called once more when it is dropped, where an exception goes nowhere
        return None
    if code.co_qualname.endswith(GUARDS) or code.co_qualname.endswith(GUARDS_OF_TORCH):
        return None
    module = Path(code.co_filename).relative_to(PACKAGE).with_suffix("").as_posix()
    return f"{module}:{code.co_qualname}"


class RankZeroAlone(TrainerCallback):
    """What a user's callback may do on the main process alone."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Rows that are none of the Trainer's, in the middle of a step; events that no other rank sees."""
        if state.is_world_process_zero and state.global_step in (1, 2):
            self.trainer.log({"aux_loss": 0.1})
            self.trainer.log({"loss": 0.5, "aux_loss": 0.1})
            self.trainer.log({"generation_runtime": 1.0})
            handler = self.trainer.callback_handler
            handler.on_save(args, state, self.trainer.control)
            handler.on_evaluate(args, state, self.trainer.control, {"eval_x": 1.0})


class _Heard(logging.Handler):
    """What the package says."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.texts.append(record.getMessage())


def run(folder: str, fault: Sequence[Any] | None, *, watched: bool = True, stop: bool = False) -> dict[str, Any]:
    """One training on this rank.

    Args:
        folder: ``output_dir``.
        fault: Rank, place and number of the call, then, where they are not 0, how late it raises and how slow the
            other ranks are; None for none.
        watched: Whether the callback is there.
        stop: Whether the callback may stop the run.
    """
    rank = int(os.environ["RANK"])
    heard, log = _Heard(), logging.getLogger("ko_cpt_callbacks")
    log.addHandler(heard)
    alone = RankZeroAlone()
    callback = KoCPTCallback(outputs=["files"], stop_on={"non-finite"} if stop else ())
    failing, place, nth, late, slow = (*(fault or (None, "", 1)), 0.0, 0.0)[:5]
    mine = Fault(place, nth, late) if failing == rank else Fault(slow=slow)
    counts = {"max_steps": STEPS, "logging_steps": 1, "eval_steps": 2, "save_steps": 2, "per_device_eval_batch_size": 5}
    crash = None
    with mine:
        trainer = job.build(folder, [callback, alone] if watched else [], eval_dataset=job.rows()[24:30], **counts)
        alone.trainer = trainer
        try:
            trainer.train()
            trainer.evaluate()
        except Exception:
            crash = traceback.format_exc(limit=-8)
    log.removeHandler(heard)
    callback.detach()
    state = trainer.state
    return {
        "step": state.global_step,
        "crash": crash,
        "weights": digest(trainer.model),
        "raised": mine.raised,
        "calls": dict(mine.calls),
        "said": [text for text in heard.texts if "on purpose" in text],
        "off": any("is off for the rest" in text for text in heard.texts),
        "exact": sum("eval_exact_loss" in row for row in state.log_history),
        "reasons": _reasons(state.log_history, callback),
        "codes": sorted({finding.code for finding in callback.findings}),
    }


def _reasons(rows: Sequence[Mapping[str, Any]], callback: KoCPTCallback) -> list[str]:
    """Why there is no exact loss; and where rows and findings name a fault: no bits per byte, a rule set aside."""
    absent = [row["eval_exact_loss_absent"] for row in rows if "eval_exact_loss_absent" in row]
    texts = [value for row in rows for name, value in row.items() if name.endswith("_per_byte_absent")]
    texts += [str(finding.values) for finding in callback.findings]
    return [*absent, *(text for text in texts if "on purpose" in text)]


def runs(folder: str, faults: Sequence[Sequence[Any] | None], notes: str = "") -> list[dict[str, Any]]:
    """A run without the callback, then one for every fault; `run` says what each reports.

    After a run that crashed there is no other: the processes are no longer connected.

    Args:
        folder: For the runs' folders.
        faults: For `run`; None for a run without any.
        notes: A file for every rank, with the rank at its end, that names the fault at hand: for who waits in vain, or
            where a process ends.
    """
    found = [run(f"{folder}/plain", None, watched=False)]
    for number, fault in enumerate(faults):
        if notes:
            Path(f"{notes}{os.environ['RANK']}").write_text(str(number), "utf-8")
        found.append(run(f"{folder}/{number}", fault))
        if found[-1]["crash"]:
            break
    return found


def cut_off(folder: str, change: str) -> list[dict[str, Any]]:
    """A run without the callback, then one in which rank 1 fails in an exchange in the second step for good.

    Args:
        folder: For the runs' folders.
        change: ``store``: the key-value store answers no more; ``between``: once, after the lengths were exchanged;
            ``removed``: nothing fails, but the callback is taken off the Trainer's list there.
    """
    plain = run(f"{folder}/plain", None, watched=False)
    calls = Counter[str]()

    def broken(name: str, right: Callable[..., Any], first: int, last: float) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if sys._getframe(1).f_code.co_filename == ranks.__file__:
                calls[name] += 1
                if os.environ["RANK"] == "1" and first <= calls[name] <= last:
                    raise FaultError(f"broken on purpose in {name}")
            return right(*args, **kwargs)

        return wrapped

    def remove(self: RankZeroAlone, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if os.environ["RANK"] == "1" and state.global_step == 2:
            self.trainer.remove_callback(KoCPTCallback)

    with pytest.MonkeyPatch.context() as patch:
        if change == "removed":
            patch.setattr(RankZeroAlone, "on_step_end", remove)
        elif change == "store":
            patch.setattr(ranks.Ranks, "_store", broken("the store", ranks.Ranks._store, 5, math.inf))
        else:
            patch.setattr(dist, "all_gather", broken("the second half", dist.all_gather, 6, 6))
        return [plain, {**run(f"{folder}/{change}", None), "raised": bool(calls)}]


def digest(model: Any) -> str:
    """The weights, bit by bit."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def verdict(plain: Mapping[str, Any], both: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong with a run in which something of ours failed on one rank; empty where nothing is."""
    wrong = []
    for rank, one in enumerate(both):
        if one["crash"]:
            wrong.append(f"rank {rank} crashed: {one['crash']}")
        elif one["step"] != STEPS:
            wrong.append(f"rank {rank} ended at step {one['step']}")
        elif one["weights"] != plain["weights"]:
            wrong.append(f"rank {rank} has other weights")
        if len(one["said"]) > 1:
            wrong.append(f"rank {rank} says it {len(one['said'])} times: {one['said']}")
    named = any(one["said"] or any("on purpose" in text for text in one["reasons"]) for one in both)
    if any(one["raised"] for one in both) and not named:
        wrong.append("nobody names it")
    return wrong
