"""What the tests of the runner do in processes of their own: the quickstart, shrunken, told how to end early."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

BASE_STEPS, STAGE_STEPS = 6, 8

# A small part of the texts and a smaller model; the recipe's way is the same.
SMALL = {
    "base.build.hidden_size": 32,
    "base.build.intermediate_size": 64,
    "base.build.num_hidden_layers": 1,
    "base.build.num_attention_heads": 2,
    "base.build.tokenizer.vocab_size": 400,
    "data.mix.ko": 3,  # of eight steps, most have to be Korean to be seen in it
    "base.build.arguments.max_steps": BASE_STEPS,
    "base.build.arguments.save_steps": 3,
    "base.build.arguments.eval_steps": 6,
    "data.sequence_length": 64,
    "data.sources.ko.bundled": "[ko_udhr.txt]",
    "data.sources.en.bundled": "[en_udhr.txt]",
    "stages.lora.arguments.max_steps": STAGE_STEPS,
    "stages.lora.arguments.save_steps": 4,
    "stages.lora.arguments.eval_steps": 4,
}


def command(folder: str, *more: str) -> list[str]:
    """The arguments of ``ko-cpt`` for the small quickstart."""
    sets = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    return ["train", "quickstart", "--output", folder, *sets, *more]


def ko_cpt(arguments: list[str], *, at: tuple[str, int, int] | None = None) -> Any:
    """The command line as a user runs it.

    Args:
        arguments: Of ``ko-cpt``.
        at: A phase, one of its steps and a signal's number: this process gets it when the step ends.

    Returns:
        The exit status.
    """
    from ko_cpt_callbacks.cli import main
    from ko_cpt_callbacks.training.bar import ProgressBar

    if at is not None:
        phase, step, number = at
        original = ProgressBar.on_step_end

        def on_step_end(self: Any, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
            original(self, args, state, *rest, **kwargs)
            if (self._title, state.global_step) == (phase, step):
                os.kill(os.getpid(), number)

        ProgressBar.on_step_end = on_step_end  # type: ignore[method-assign]
    # Python of a forked child may have inherited a parent's way with Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["ko-cpt", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    return 0
