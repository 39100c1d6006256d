"""A recipe's training arguments: names, kinds and ranges of the installed class, which is read and not imported."""

from __future__ import annotations

import importlib.util
from dataclasses import MISSING, fields
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainingArguments

from ko_cpt_callbacks.errors import RecipeError
from ko_cpt_callbacks.recipe import arguments as argument_agreement
from ko_cpt_callbacks.recipe.arguments import OWN_ARGUMENTS, argument_mistakes
from ko_cpt_callbacks.recipe.bundle import find_recipe
from ko_cpt_callbacks.recipe.installed import installed_arguments, taken_kinds
from ko_cpt_callbacks.recipe.reading import read_recipe

OWN = "output_dir, seed, data_seed, disable_tqdm, resume_from_checkpoint, push_to_hub"
UNKNOWN = ("an unknown argument", "an argument of the installed transformers.TrainingArguments")
STEPS = "a whole number of at least 1, or a share of all steps, between 0 and 1"

# An argument, its value, what is found, what is expected, what was meant.
WRONG: list[tuple[str, Any, str, str, str | None]] = [
    (
        "load_best_model_at_end",
        True,
        "true",
        "false: a stage ends with its last weights, which are measured and handed on; patience ends it sooner",
        None,
    ),
    ("learning_rat", 1e-3, *UNKNOWN, "learning_rate"),
    ("qqqq", 1, *UNKNOWN, None),
    ("output_dir", "x", "an argument that ko-cpt train sets itself", f"none of {OWN}", None),
    ("seed", "x", "an argument that ko-cpt train sets itself", f"none of {OWN}", None),
    ("learning_rate", "fast", 'the text "fast"', "a number", None),
    ("learning_rate", "3e-4", 'the text "3e-4"', "a number, without quotation marks", "3e-4"),
    ("learning_rate", "nan", 'the text "nan"', "a number", None),
    ("learning_rate", -1, "-1", "at least 0", None),
    ("learning_rate", None, "nothing", "a number", None),
    ("max_steps", "ten", 'the text "ten"', "a whole number", None),
    ("max_steps", "8", 'the text "8"', "a number, without quotation marks", "8"),
    ("max_steps", "2.5", 'the text "2.5"', "a whole number", None),
    ("max_steps", 2.5, "2.5", "a whole number", None),
    ("max_steps", 1000.0, "1000.0", "a whole number", "1000"),
    ("max_steps", True, "true", "a whole number", None),
    ("max_steps", 0, "0", "at least 1, or -1 for num_train_epochs", None),
    ("max_steps", -2, "-2", "at least 1, or -1 for num_train_epochs", None),
    ("per_device_train_batch_size", "abc", 'the text "abc"', "a whole number", None),
    ("per_device_train_batch_size", 0, "0", "at least 1", None),
    ("per_device_train_batch_size", 2.5, "2.5", "a whole number", None),
    ("per_device_train_batch_size", [4], "a list of 1", "a whole number", None),
    ("per_device_train_batch_size", {"a": 4}, "a mapping (a)", "a whole number", None),
    ("per_device_train_batch_size", None, "nothing", "a whole number", None),
    ("per_device_train_batch_size", 10**13, "10000000000000", "at most 1,000,000,000,000", None),
    ("per_device_eval_batch_size", 0, "0", "at least 1", None),
    ("gradient_accumulation_steps", "x", 'the text "x"', "a whole number", None),
    ("gradient_accumulation_steps", 0, "0", "at least 1", None),
    ("bf16", "yes", 'the text "yes"', "true or false", "true"),
    ("bf16", "Off", 'the text "Off"', "true or false", "false"),
    ("bf16", "1", 'the text "1"', "true or false", None),
    ("bf16", 1, "1", "true or false", None),
    ("gradient_checkpointing", "maybe", 'the text "maybe"', "true or false", None),
    ("torch_compile", "x", 'the text "x"', "true or false", None),
    ("weight_decay", "x", 'the text "x"', "a number", None),
    ("weight_decay", -0.1, "-0.1", "at least 0", None),
    ("num_train_epochs", "x", 'the text "x"', "a number", None),
    ("num_train_epochs", 0, "0", "more than 0", None),
    ("max_grad_norm", "x", 'the text "x"', "a number", None),
    ("max_grad_norm", -1, "-1", "at least 0", None),
    ("adam_beta1", 2, "2", "at least 0 and less than 1", None),
    ("adam_beta2", 1, "1", "at least 0 and less than 1", None),
    ("adam_epsilon", -1e-8, "-1e-08", "at least 0", None),
    ("warmup_steps", -1, "-1", "at least 0", None),
    ("logging_steps", 0, "0", STEPS, None),
    ("eval_steps", 2.5, "2.5", STEPS, None),
    ("save_steps", "often", 'the text "often"', "a number", None),
    ("save_total_limit", 1.5, "1.5", "a whole number", None),
    ("lr_scheduler_type", 3, "3", "a text", None),
    ("eval_strategy", True, "true", "a text", None),
    ("lr_scheduler_kwargs", 3, "3", "a text or a mapping", None),
    ("report_to", 3, "3", "a text or a list", None),
    ("label_names", "x", 'the text "x"', "a list", None),
    ("run_name", 3, "3", "a text", None),
    ("include_num_input_tokens_seen", 3, "3", "true or false or a text", None),
    ("fsdp", 3, "3", "true or false or a text or a list", None),
    ("eval_strategy", "sometimes", 'the text "sometimes"', "one of no, steps, epoch", None),
]

RIGHT: list[tuple[str, Any]] = [
    ("learning_rate", 0),
    ("learning_rate", 1),
    ("learning_rate", 3e-4),
    ("max_steps", -1),
    ("max_steps", 1),
    ("num_train_epochs", 0.5),
    ("logging_steps", 0.1),
    ("eval_steps", 10),
    ("eval_steps", 10.0),
    ("eval_steps", None),
    ("weight_decay", 0),
    ("adam_beta1", 0),
    ("warmup_steps", 0),
    ("bf16", True),
    ("gradient_checkpointing", False),
    ("eval_strategy", "no"),
    ("lr_scheduler_type", "cosine"),
    ("lr_scheduler_kwargs", {"num_cycles": 2}),
    ("gradient_checkpointing_kwargs", {"use_reentrant": False}),
    ("report_to", "none"),
    ("report_to", ["none"]),
    ("report_to", None),
    ("run_name", "3"),
    ("save_total_limit", None),
    ("fsdp", True),
    ("fsdp", "full_shard"),
    ("fsdp", ["full_shard"]),
    ("fsdp_config", {"version": 2}),
    ("label_names", ["labels"]),
    ("include_num_input_tokens_seen", True),
    ("include_num_input_tokens_seen", "all"),
]

OLD = """
class Other:
    x: int = 1

@dataclass
class TrainingArguments:
    framework = "pt"
    _VALID_DICT_FIELDS: ClassVar[list[str]] = []
    many: typing.ClassVar = 3
    output_dir: Optional[str] = field(default=None, metadata={"help": "x"})
    max_steps: int = field(default=-1)
    learning_rate: float = field(default=5e-5)
    eval_steps: Optional[float] = field(default=None)
    eval_strategy: Union[IntervalStrategy, str] = field(default="no")
    fsdp_config: Optional[Union[dict[str, Any], str]] = None
    report_to: Union[None, str, list[str]] = None
    debug: Union[str, list[DebugOption]] = ""
    _n_gpu: int = field(init=False, repr=False, default=-1)

    def work(self):
        inner: int = 3
"""
NEW = """
@dataclass
class TrainingArguments:
    output_dir: str | None = field(default=None)
    max_steps: int = field(default=-1)
    learning_rate: float = field(default=5e-5)
    eval_steps: float | None = field(default=None)
    eval_strategy: IntervalStrategy | str = field(default="no")
    fsdp_config: dict[str, Any] | str | None = None
    report_to: None | str | list[str] = None
    debug: "str | list[DebugOption]" = ""
    _n_gpu: int = field(init=False, repr=False, default=-1)
"""


def _told(arguments: Any) -> list[tuple[Any, ...]]:
    return list(argument_mistakes({"stages": {"lora": {"arguments": arguments}}}))


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.both_versions
@pytest.mark.parametrize(("name", "value", "found", "expected", "near"), WRONG)
def test_what_is_wrong(name: str, value: Any, found: str, expected: str, near: str | None) -> None:
    """One mistake, at the argument, in these words: with each installed version."""
    assert _told({name: value}) == [(("stages", "lora", "arguments", name), found, expected, near)]


@pytest.mark.both_versions
@pytest.mark.parametrize(("name", "value"), RIGHT)
def test_what_is_right(name: str, value: Any) -> None:
    """Nothing is said of a value that the class takes, or that only the class can judge."""
    assert _told({name: value}) == []


@pytest.mark.both_versions
@pytest.mark.parametrize("field", [item for item in fields(TrainingArguments) if item.init], ids=lambda item: item.name)
def test_every_default_is_right(field: Any) -> None:
    """What the installed class has itself, written out in a recipe, is no mistake."""
    value = field.default_factory() if field.default is MISSING else field.default
    value = value.value if isinstance(value, Enum) else value
    assert field.name in OWN_ARGUMENTS or _told({field.name: value}) == []


def test_all_trainings_are_looked_at() -> None:
    """The pretraining of a base that is made, and every stage; what is no mapping is skipped."""
    build = {"pretraining": {"arguments": {"learning_rat": 1}}}
    stages = {"one": {"arguments": {"max_steps": "x", "bf16": "x"}}, "two": {"arguments": 3}, "three": None}
    told = argument_mistakes({"base": {"build": build}, "stages": stages})
    assert [key for key, *_ in told] == [
        ("base", "build", "pretraining", "arguments", "learning_rat"),
        ("stages", "one", "arguments", "max_steps"),
        ("stages", "one", "arguments", "bf16"),
    ]
    assert list(argument_mistakes(None)) == []


@pytest.mark.both_versions
def test_all_are_told_with_their_lines(tmp_path: Path) -> None:
    """Together with every other mistake of the recipe, each with file and line; those of ``--set`` say so."""
    text = find_recipe("quickstart").read_text("utf-8")
    for old, new in (
        ("        learning_rate: 5e-3", "        learning_rat: 5e-3"),
        ("      max_steps: 30\n", "      max_steps: thirty\n"),
        ("      learning_rate: 3e-3", "      learning_rate: -3e-3"),
        ("dtype: float32", "dtype: float3"),
        ("      max_steps: 40\n", "      max_steps: 40\n      output_dir: here\n"),
        ("stop_on: [non-finite]", "stop_on: [nonfinite]"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "quickstart.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(RecipeError) as caught:
        read_recipe(path, ["stages.lora.arguments.bf16=yes"])
    rows = text.splitlines()

    def at(part: str) -> str:
        return f"{path}:{next(number for number, row in enumerate(rows, 1) if part in row)}"

    assert str(caught.value).splitlines() == [
        '--set: stages.lora.arguments.bf16: found the text "yes", expected true or false. Did you mean true?',
        f"{at('learning_rat:')}: base.build.pretraining.arguments.learning_rat: found an unknown argument, expected an "
        "argument of the installed transformers.TrainingArguments. Did you mean learning_rate?",
        f'{at("dtype: float3")}: base.dtype: found the text "float3", expected bfloat16 or float16 or float32. '
        "Did you mean float32?",
        f'{at("thirty")}: stages.embedding.arguments.max_steps: found the text "thirty", expected a whole number.',
        f"{at('-3e-3')}: stages.embedding.arguments.learning_rate: found -0.003, expected at least 0.",
        f'{at("nonfinite")}: stages.embedding.watch.stop_on[0]: found the text "nonfinite", expected a finding\'s '
        "code. Did you mean non-finite?",
        f"{at('output_dir')}: stages.odd-layers.arguments.output_dir: found an argument that ko-cpt train sets itself, "
        f"expected none of {OWN}.",
    ]


# -- the installed class ----------------------------------------------------------------------------------------------


@pytest.mark.both_versions
def test_the_installed_class_is_read() -> None:
    """Its arguments, no more and no fewer, in its order."""
    assert list(installed_arguments() or ()) == [item.name for item in fields(TrainingArguments) if item.init]


@pytest.mark.parametrize("source", [OLD, NEW], ids=["old", "new"])
def test_both_ways_to_annotate(source: str, tmp_path: Path) -> None:
    """``Optional[…]`` and ``Union[…]`` as well as ``… | None``: the same arguments, which take the same."""
    (tmp_path / "training_args.py").write_text(source, "utf-8")
    found = installed_arguments(tmp_path)
    assert found is not None
    assert {name: taken_kinds(annotation) for name, annotation in found.items()} == {
        "output_dir": ("str", "None"),
        "max_steps": ("int",),
        "learning_rate": ("float",),
        "eval_steps": ("float", "None"),
        "eval_strategy": ("str",),
        "fsdp_config": ("str", "dict", "None"),
        "report_to": ("str", "list", "None"),
        "debug": ("str", "list"),
    }


@pytest.mark.parametrize(
    "annotation",
    ["Any", "str | Any", "object", "ParallelismConfig | None", "str | Literal[False]", "Callable[[int], str]", "1 + 1",
     "tuple[int, int] | None", "'| x'", "a b"],
)  # fmt: skip
def test_what_is_not_understood_takes_anything(annotation: str) -> None:
    """No value is refused for an annotation that could mean more than is known of it."""
    assert taken_kinds(annotation) is None


@pytest.mark.parametrize(
    "source",
    ["", "class TrainingArguments:\n    pass", "class Other:\n    x: int", "class TrainingArguments(Base):\n    x: int",
     "class TrainingArguments\n", "\0"],
)  # fmt: skip
def test_a_class_that_is_not_understood(source: str, tmp_path: Path) -> None:
    """None, not an empty class or half of one: every argument would be an unknown one."""
    (tmp_path / "training_args.py").write_text(source, "utf-8")
    assert installed_arguments(tmp_path) is None


def test_where_the_class_is_not_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No transformers, one that must not be imported, a folder of that name, bytes that are no text: not known."""

    def blocked(name: str) -> None:
        raise ImportError(name)

    (tmp_path / "bytes").mkdir()
    (tmp_path / "bytes" / "training_args.py").write_bytes(b"\xff\xfe\xff")
    folders = [None, [], [str(tmp_path)], [str(tmp_path / "bytes")]]
    ways = [blocked, lambda name: None]
    ways += [lambda name, found=found: SimpleNamespace(submodule_search_locations=found) for found in folders]
    for way in ways:
        monkeypatch.setattr(importlib.util, "find_spec", way)
        assert installed_arguments.__wrapped__() is None


def test_what_is_checked_without_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments that the memory is counted with, or that have a range, and those that are not the recipe's; no names,
    and nothing else."""
    monkeypatch.setattr(argument_agreement, "installed_arguments", lambda: None)
    given = {
        "learning_rat": "x",
        "run_name": "3",
        "bf16": "yes",
        "save_steps": 0.5,
        "eval_steps": None,
        "per_device_train_batch_size": "abc",
        "per_device_eval_batch_size": None,
        "learning_rate": "3e-4",
        "output_dir": "x",
    }
    assert {key[-1]: (found, near) for key, found, _, near in _told(given)} == {
        "output_dir": ("an argument that ko-cpt train sets itself", None),
        "per_device_train_batch_size": ('the text "abc"', None),
        "per_device_eval_batch_size": ("nothing", None),
        "learning_rate": ('the text "3e-4"', "3e-4"),
    }
