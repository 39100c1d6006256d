"""A recipe, run: base model, then stage after stage; killed anywhere, it goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import set_seed

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.hf.model.trained_parts import moving_numbers
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.recipe.reading import RecipeFile
from ko_cpt_callbacks.recipe.smoke import on_device
from ko_cpt_callbacks.rules.setup.setup_rule import CORPUS_USE
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.training.arguments import check_arguments, check_launch, training_arguments, wrapper_line
from ko_cpt_callbacks.training.data.reading import BadInputs
from ko_cpt_callbacks.training.data.recipe_data import RecipeTexts
from ko_cpt_callbacks.training.data.report import (
    SourceUse,
    bad_lines,
    evaluation_line,
    left_out,
    needed_rows,
    row_lines,
    source_uses,
    stage_rows,
    use_lines,
    use_notes,
    write_data_report,
)
from ko_cpt_callbacks.training.data.rows import Making, PackedRows
from ko_cpt_callbacks.training.folder import RecipeFolder, locked
from ko_cpt_callbacks.training.model.config import read_base
from ko_cpt_callbacks.training.model.vocabulary import FERTILITY
from ko_cpt_callbacks.training.model.weights import Weights
from ko_cpt_callbacks.training.recipe import Recipe
from ko_cpt_callbacks.training.smoke import WeightChange
from ko_cpt_callbacks.training.trainer import train_stage


class FailedStageError(Exception):
    """A stage stopped itself because something is wrong with it, and the next was not begun."""


@dataclass(frozen=True)
class RunOptions:
    """How a recipe is run.

    Attributes:
        resume: Whether to go on with a run that is there; a finished one is only summed up again.
        stage: The only stage to train; None for all. Those before it must have ended.
        smoke: Whether this only tries out that all fits together: after every stage it is looked whether what it
            trains moved and nothing else did, and no curve is judged.
        device: ``cpu`` or ``cuda``, where it was asked for; None: as the recipe's arguments say.
        data: Whether to make the rows alone, and train nothing.
        making: How rows are made.
        bad: Where what cannot be read of the texts is noted, and left out; None to refuse it.
    """

    resume: bool = False
    stage: str | None = None
    smoke: bool = False
    device: str | None = None
    data: bool = False
    making: Making | None = None
    bad: BadInputs | None = None


def run_recipe(file: RecipeFile, output: Path, options: RunOptions) -> RecipeFolder:
    """Train what a recipe says.

    Args:
        file: The recipe.
        output: The folder of the run.
        options: How.

    Returns:
        The folder, with everything written.

    Raises:
        RecipeError: If the installed transformers cannot be given the recipe's arguments.
        ConfigurationError: If the folder holds a run and it was not asked to go on with it, or something else.
        InterruptedTrainingError: After Ctrl-C, with a checkpoint saved.
        FailedStageError: If a stage stopped itself on an error, such as a loss that is not finite.
    """
    folder = RecipeFolder(output, file.document.values)
    _check_stage(file, folder, options)
    _refuse_started(folder, options)
    if options.data and not torch.cuda.is_available():
        file = on_device(file, "cpu")  # rows need no GPU; the folder keeps the recipe as it is, for where it trains
    check_arguments(file)
    recipe = Recipe(file)
    for name in recipe.stages:
        recipe.callback(name)  # what cannot be watched is reported before anything is loaded
    if file.recipe.base.build is not None and "OMP_NUM_THREADS" not in os.environ:
        # A model made on the spot is tiny: more threads would wait for each other, and on a busy machine for the
        # cores (measured on two shared ones: four times the processor time with two threads).
        torch.set_num_threads(1)
    first = _arguments(file, folder, recipe.stages[0])
    check_launch(file.recipe, first, options.device)
    device = "cpu" if first.device.type == "cpu" else str(first.device)
    processes = PartialState()  # as the arguments have set it up
    say = _say if processes.is_main_process else _silent
    texts = RecipeTexts(file, folder.data, device, options.making, options.bad)
    texts.check()
    if options.resume and not folder.started:
        say(f"{output}: nothing to go on with; this is a new run")
    with processes.main_process_first():
        folder.open()
    _check_stores(folder, processes)
    if folder.whole:
        say(f"{output} is finished; nothing was left to do.")
        return folder
    with locked(folder.plan.parent, output) if processes.is_main_process else nullcontext():
        try:
            _check_processes(folder, processes)
            file = _with_config(file, processes, say)
            _Runner(file, folder, texts, Weights(file, folder, texts, device, say), options, say).run()
        except ConfigurationError:
            # What could not be known before: the mended recipe is not to find the folder taken.
            with suppress(ConfigurationError):  # the first error is the one to tell
                if processes.is_main_process:
                    folder.give_back()
            raise
    return folder


def _check_processes(folder: RecipeFolder, processes: PartialState) -> None:
    """As many processes as the stage was begun with: with others a step has another batch."""
    count = processes.num_processes
    with processes.main_process_first():
        noted = folder.agree("processes", count)
    if noted is None:
        return
    if folder.in_a_stage:
        raise ConfigurationError(
            f"{folder.path}: found a stage that was begun by {noted} processes, and {count} now, expected {noted}: a "
            "step's batch would be another; start as many, or name another folder with --output"
        )
    with processes.main_process_first():
        if processes.is_main_process:
            folder.note("processes", count)
            folder.note("rows", None)  # how many are made of a stream depends on them


def _with_config(file: RecipeFile, processes: PartialState, say: Callable[[str], None]) -> RecipeFile:
    """The recipe with what it leaves to its base's configuration, with which it must agree."""
    base = file.recipe.base
    if base.model is None:
        return file
    with processes.main_process_first():
        page, _, count = read_base(file.recipe, file.path.parent)
    experts = count.experts
    if experts and any(stage.lora is not None for stage in page.stages.values()):
        left = "" if base.quantization == "none" else f", and they are not in {base.quantization}"
        said = f"base: all experts of a layer are one parameter ({', '.join(experts)})"
        say(f"{said}: no adapter is put on them{left}")
    return replace(file, recipe=page)


class _Runner:
    def __init__(
        self,
        file: RecipeFile,
        folder: RecipeFolder,
        texts: RecipeTexts,
        weights: Weights,
        options: RunOptions,
        say: Callable[[str], None],
    ) -> None:
        self._file = file
        self._page = file.recipe
        self._folder = folder
        self._texts = texts
        self._weights = weights
        self._options = options
        self._say = say
        self._processes = PartialState()
        given = {name: _arguments(file, folder, name) for name in file.recipe.stages}
        self._needed = {name: needed_rows(arguments) for name, arguments in given.items()}
        self._epochs = {name: arguments.num_train_epochs for name, arguments in given.items()}

    def run(self) -> None:
        """Everything that is left to do."""
        self._weights.make_base()
        tokenizer = self._weights.tokenizer()
        names = tuple(self._page.stages)
        # Rows that all stages can use; None where one goes through the corpus by epochs.
        wanted = None if None in self._needed.values() else sum(number or 0 for number in self._needed.values())
        with self._processes.main_process_first():
            mixed = self._texts.mixed_rows(tokenizer, wanted)
            sets = self._texts.evaluation_rows(tokenizer, list(self._page.eval))
            self._check_rows({"train": mixed, **{f"eval_{name}": part for name, part in sets.items()}})
        # From here on texts are not encoded any more, and a forked loader would be warned of the tokenizer's threads.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        taken = (number or self._epochs[name] * len(mixed.rows) for name, number in self._needed.items())
        uses = source_uses(mixed, sum(taken))
        shown = [evaluation_line(name, part) for name, part in sets.items()]
        bad = bad_lines(left_out([mixed, *sets.values()]))
        self._say("\n".join(["data", *row_lines(mixed), *use_lines(uses), *shown, *bad]))
        if self._processes.is_main_process:
            write_data_report(self._folder.data, mixed, sets, self._folder.noted(FERTILITY))
        if self._options.data:
            return
        evaluated = {name: part.rows for name, part in sets.items()}
        for number, name in enumerate(names, start=1):
            if self._options.stage not in (None, name):
                continue
            if self._folder.ended(name):
                self._say(f"{number}/{len(names)} {name}: there already")
                continue
            noted = uses if number == 1 else ()
            self._stage(name, f"{number}/{len(names)} {name}", tokenizer, mixed.rows, evaluated, noted)
        if all(self._folder.ended(name) for name in names):
            with self._processes.main_process_first():
                self._folder.note("finished", True)

    def _check_rows(self, rows: dict[str, PackedRows]) -> None:
        """The rows that the run was begun with: from others a stage would go on with something else."""
        noted = self._folder.agree("rows", {name: part.folder.name for name, part in rows.items()})
        if noted is not None:
            changed = [name for name, part in rows.items() if noted.get(name) != part.folder.name]
            raise ConfigurationError(
                f"{self._folder.path}: found other texts than the run was begun with ({', '.join(changed)}), expected "
                "the same to go on with; put the files back as they were, or name another folder with --output"
            )

    def _stage(
        self, name: str, title: str, tokenizer: Any, rows: Any, evaluated: dict[str, Any], uses: Sequence[SourceUse]
    ) -> None:
        arguments = _arguments(self._file, self._folder, name)
        set_seed(self._page.seed)
        model = self._weights.model_for(name)
        moving = sum(moving_numbers(part) for part in model.parameters() if part.requires_grad)
        total = sum(part.numel() for part in model.parameters())
        body = "" if self._page.base.quantization == "none" else f", body in {self._page.base.quantization}"
        self._say(f"{title}: {moving:,} of {total:,} parameters trained{body}")
        movement = WeightChange(model) if self._options.smoke else None
        callback = Recipe(self._file).callback(name, **({"rules": ()} if self._options.smoke else {}))
        for values in use_notes(uses):
            callback.note(CORPUS_USE, values)
        own = rows.select(stage_rows(self._needed, name, len(rows)))
        trainer = train_stage(name, model, tokenizer, own, evaluated, arguments, callback)
        if self._processes.num_processes > 1:
            self._say(wrapper_line(trainer))
        reason = callback.stop_reason
        if reason is not None and reason.severity is Severity.ERROR:
            raise FailedStageError(
                f"stage {name} stopped at step {reason.step}: {reason.code}: {reason.message()} "
                "--resume would come to the same: change the recipe, and name another folder with --output."
            )
        if movement is not None:
            self._say(movement.check(name))
        self._weights.save(trainer, name)


def _arguments(file: RecipeFile, folder: RecipeFolder, name: str) -> Any:
    return training_arguments(file.recipe.stages[name].arguments, folder.stage(name), file.recipe.seed)


def _check_stage(file: RecipeFile, folder: RecipeFolder, options: RunOptions) -> None:
    """Whether it is the turn of the one stage that is asked for."""
    name = options.stage
    if name is None:
        return
    known = list(file.recipe.stages)
    lacking = [before for before in known[: known.index(name)] if not folder.ended(before)]
    if lacking:
        raise ConfigurationError(
            f"{folder.path}: found no end of stage {', '.join(lacking)}, expected those before {name} to have ended; "
            "train them first, or leave --stage out"
        )


def _check_stores(folder: RecipeFolder, processes: PartialState) -> None:
    """Look whether what was kept is whole: the first process alone, since each byte is read."""
    broken: ConfigurationError | None = None
    with processes.main_process_first():
        try:
            if processes.is_main_process:
                folder.check_stores()
        except ConfigurationError as error:
            broken = error
    if broken is not None:
        raise broken


def _refuse_started(folder: RecipeFolder, options: RunOptions) -> None:
    if not folder.started or options.resume:
        return
    if options.stage is not None and not folder.stage(options.stage).exists():
        return  # it goes on, but with a stage that was not begun
    state = "a finished run" if folder.finished else "a run that is not finished"
    fix = "name another folder with --output" + ("" if folder.finished else ", or go on with --resume")
    raise ConfigurationError(f"{folder.path}: found {state}, which is not written over; {fix}")


def _say(text: str) -> None:
    """Print lines, without what the name of a source could do to the terminal."""
    print("\n".join(map(printable, text.split("\n"))))


def _silent(text: str) -> None:
    """What other processes than the first have to say."""
