"""What the tests of the runner do in processes of their own: the quickstart, shrunken, told how to end early."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

STAGES = ("embedding", "odd-layers", "even-layers", "lora")
FOLDERS = {name: f"stages/{number:02d}-{name}" for number, name in enumerate(STAGES, start=1)}
BASE_STEPS, STAGE_STEPS, SAVE_STEPS = 6, 6, 3

# A small part of the texts and a smaller model; the recipe's way is the same.
SMALL = {
    "base.build.hidden_size": 32,
    "base.build.intermediate_size": 64,
    "base.build.num_attention_heads": 2,
    "base.build.tokenizer.vocab_size": 400,
    "base.build.pretraining.arguments.max_steps": BASE_STEPS,
    "base.build.pretraining.arguments.save_steps": SAVE_STEPS,
    "base.build.pretraining.arguments.eval_steps": BASE_STEPS,
    "base.build.pretraining.arguments.per_device_eval_batch_size": 64,
    "data.sequence_length": 64,
    "data.mix.ko": 3,  # of six steps, most have to be Korean to be seen in it
    "stages.embedding.arguments.learning_rate": "6e-3",
    "data.sources.ko.bundled": "[ko_udhr.txt]",
    "data.sources.en.bundled": "[en_udhr.txt]",
    **{
        f"stages.{stage}.arguments.{name}": value
        for stage in STAGES
        for name, value in (
            ("max_steps", STAGE_STEPS), ("save_steps", SAVE_STEPS), ("eval_steps", SAVE_STEPS),
            ("per_device_eval_batch_size", 64),
        )
    },
}
STEP, SAVE, MODEL = "after the step", "inside the save of the step", "inside the save of the model"


def command(folder: str, *more: str) -> list[str]:
    """The arguments of ``ko-cpt`` for the small quickstart."""
    sets = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    return ["train", "quickstart", "--output", folder, *sets, *more]


def ko_cpt(
    arguments: list[str], *, at: tuple[str, int, int] | None = None, when: str = STEP, report: bool = False
) -> Any:
    """The command line as a user runs it.

    Args:
        arguments: Of ``ko-cpt``.
        at: A phase, one of its steps and a signal's number: this process gets it.
        when: At which moment of that step.
        report: Whether a training writes its report, which takes as long as a third of the training.

    Returns:
        The exit status.
    """
    from ko_cpt_callbacks.cli import main, train

    if not report:
        train._report = lambda folder: None
    if at is not None:
        {STEP: _after_step, SAVE: _in_save, MODEL: _in_model}[when](*at)
    # Python of a forked child may have inherited a parent's way with Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["ko-cpt", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    return 0


def launch(arguments: list[str], folder: str) -> None:
    """``accelerate launch`` in a folder; the processes that it starts are new ones.

    Args:
        arguments: Of ``accelerate launch``.
        folder: Where it runs.
    """
    from accelerate.commands.launch import main

    os.chdir(folder)
    sys.argv = ["accelerate launch", *arguments]
    main()


def _after_step(phase: str, step: int, number: int) -> None:
    from ko_cpt_callbacks.training.trainer import ProgressBar

    original = ProgressBar.on_step_end

    def on_step_end(self: Any, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
        original(self, args, state, *rest, **kwargs)
        if (self._title, state.global_step) == (phase, step):
            os.kill(os.getpid(), number)

    ProgressBar.on_step_end = on_step_end  # type: ignore[method-assign]


def _in_save(phase: str, step: int, number: int) -> None:
    """Weights and optimizer are on disk, what closes the checkpoint is not."""
    from transformers import Trainer

    original = Trainer._save_rng_state

    def save(self: Any, folder: str) -> None:
        home = Path(self.args.output_dir).name
        if (home.partition("-")[2] or home, self.state.global_step) == (phase, step):
            os.kill(os.getpid(), number)
        original(self, folder)

    Trainer._save_rng_state = save  # type: ignore[method-assign]


def _in_model(phase: str, step: int, number: int) -> None:
    """The stage's weights are written, and not yet at their place."""
    from ko_cpt_callbacks.training import folder
    from ko_cpt_callbacks.training.model import weights

    original = folder.put_folder

    def put(part: Path, path: Path) -> None:
        if path == path.parent / "model" and path.parent.name.partition("-")[2] == phase:
            os.kill(os.getpid(), number)
        original(part, path)

    folder.put_folder = weights.put_folder = put
