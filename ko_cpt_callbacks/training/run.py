"""A recipe, run: base model, then the stage; interrupted anywhere, it goes on where it was."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from transformers import Trainer, set_seed

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.hf.callback import KoCPTCallback
from ko_cpt_callbacks.recipe.reading import RecipeFile
from ko_cpt_callbacks.recipe.schema import Recipe
from ko_cpt_callbacks.training.argument import check_arguments, training_arguments
from ko_cpt_callbacks.training.base_model import base_tokenizer, load_eight_bit, new_base, save_base
from ko_cpt_callbacks.training.folder import RunFolder, remove_checkpoints, whole_folder
from ko_cpt_callbacks.training.phase import Texts, train_phase
from ko_cpt_callbacks.training.stage import stage_callback, with_adapters
from ko_cpt_callbacks.training.summary import closing_lines
from ko_cpt_callbacks.training.text import Split, mix_sources, read_sources


def run_recipe(file: RecipeFile, output: Path, *, resume: bool = False) -> RunFolder:
    """Train what a recipe says.

    Args:
        file: The recipe.
        output: The folder of the run.
        resume: Whether to go on with a run that is there; a finished one is only summed up again.

    Returns:
        The folder, with everything written.

    Raises:
        RecipeError: If the installed transformers cannot be given the recipe's arguments.
        ConfigurationError: If the folder holds a run and ``resume`` is not asked for, or something else.
        InterruptedTrainingError: After Ctrl-C, with a checkpoint saved.
    """
    recipe = file.recipe
    folder = RunFolder(output, file.document.values)
    if folder.started and not resume:
        state = "a finished run" if folder.finished else "a run that is not finished"
        fix = "name another folder with --output" + ("" if folder.finished else ", or go on with --resume")
        raise ConfigurationError(f"{output}: found {state}, which is not written over; {fix}")
    check_arguments(file)
    (name, stage), *_ = recipe.stages.items()
    callback = stage_callback(recipe, stage)
    if "OMP_NUM_THREADS" not in os.environ:
        # A model made on the spot is tiny: more threads would wait for each other, and on a busy machine for the
        # cores (measured on two shared ones: four times the processor time with two threads).
        torch.set_num_threads(1)
    folder.open()
    if folder.finished:
        print(f"{output} is finished; nothing was left to do.")
    else:
        sources = read_sources(recipe.data)
        _make_base(recipe, sources, folder)
        _train_stage(recipe, name, sources, folder, callback)
        folder.finish()
    print("\n".join(closing_lines(recipe, folder)))
    return folder


def _make_base(recipe: Recipe, sources: dict[str, Split], folder: RunFolder) -> None:
    build = recipe.base.build
    if folder.base_model.exists():
        print("1/2 base: there already")
        return
    arguments = training_arguments(build.arguments, folder.base, recipe.seed)
    tokenizer = base_tokenizer(build, sources, folder)
    set_seed(recipe.seed)
    model = new_base(build, tokenizer, recipe.data.sequence_length)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"1/2 base: a {build.architecture} of {size:,} parameters, from scratch on {', '.join(build.sources)}")
    texts = Texts(
        [piece for name in build.sources for piece in sources[name].train],
        {name: sources[part.source].held_out for name, part in recipe.eval.items() if part.source in build.sources},
    )
    # Shown, not judged and not recorded: the run begins with the stage.
    callback = KoCPTCallback(rules=(), outputs=("console",))
    train_phase("base", model, tokenizer, texts, arguments, recipe.data.sequence_length, callback)
    save_base(model, tokenizer, folder)
    remove_checkpoints(folder.base)


def _train_stage(
    recipe: Recipe, name: str, sources: dict[str, Split], folder: RunFolder, callback: KoCPTCallback
) -> Trainer:
    stage = recipe.stages[name]
    arguments = training_arguments(stage.arguments, folder.path, recipe.seed)
    tokenizer = base_tokenizer(recipe.base.build, sources, folder)
    set_seed(recipe.seed)
    base = load_eight_bit(folder.base_model, cpu=arguments.use_cpu)
    model = with_adapters(base, stage.lora, arguments)
    trainable, total = model.get_nb_trainable_parameters()
    print(f"2/2 {name}: the base in {recipe.base.quantization}, {trainable:,} of {total:,} parameters trained")
    texts = Texts(
        mix_sources(sources, recipe.data.mix),
        {name: sources[part.source].held_out for name, part in recipe.eval.items()},
    )
    trainer = train_phase(name, model, tokenizer, texts, arguments, recipe.data.sequence_length, callback)
    with whole_folder(folder.model) as part:
        model.save_pretrained(str(part))
        tokenizer.save_pretrained(str(part))
    return trainer


