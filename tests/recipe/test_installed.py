"""What the installed transformers knows is read from its source, and not imported."""

from __future__ import annotations

from pathlib import Path

import pytest
from training.made_family import INSTALLED
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from ko_cpt_callbacks.recipe.installed import causal_families, class_defaults, installed_folder

pytestmark = pytest.mark.both_versions

AUTO = 'MODEL_FOR_CAUSAL_LM_MAPPING_NAMES = OrderedDict([("one", "OneForCausalLM"), ("two", "Two")])\n'


def made(folder: Path, path: str, text: str | bytes) -> Path:
    """A folder with one file of transformers."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_the_families_are_those_of_the_library() -> None:
    """All that ``AutoModelForCausalLM`` has a class for, in order."""
    assert causal_families() == tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


@pytest.mark.parametrize("family", [name for name in INSTALLED if name != "gemma3"])
def test_defaults_are_those_of_the_class(family: str) -> None:
    """Sizes and ties as the configuration of a family has them when it is made."""
    found, config = class_defaults(family), CONFIG_MAPPING[family]()
    assert found is not None
    names = ("hidden_size", "n_embd", "num_hidden_layers", "n_layer", "vocab_size", "head_dim", "tie_word_embeddings")
    looked = [name for name in names if found.get(name) is not None]
    assert len(looked) >= 3
    assert {name: found[name] for name in looked} == {name: getattr(config, name) for name in looked}


@pytest.mark.parametrize(
    ("text", "families"),
    [
        (AUTO, ("one", "two")),
        (AUTO.replace("OrderedDict([", "OrderedDict(list(").replace("])", "))"), None),
        ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES = {}\n", None),
        ("def broken(:\n", None),
        (b"\xff\xfe\x00", None),
        ("", None),
    ],
)
def test_another_source_is_not_known(text: str | bytes, families: tuple[str, ...] | None, tmp_path: Path) -> None:
    """What is written in another way says nothing, and nothing fails."""
    assert causal_families(made(tmp_path, "models/auto/modeling_auto.py", text)) == families


def test_defaults_of_both_ways_to_write_a_class(tmp_path: Path) -> None:
    """Fields with a value, and arguments of ``__init__``; what is computed is not known; what all have is last."""
    fields = 'class AConfig(Base):\n    model_type = "a"\n    size: int = 3\n    wide: int = 2 * 4\n'
    taken = 'class BConfig(Base):\n    model_type = "b_text"\n    def __init__(self, size, depth=2, tie=None): ...\n'
    made(tmp_path, "models/a/configuration_a.py", fields)
    made(tmp_path, "models/b/configuration_b.py", taken)
    every = "class PretrainedConfig:\n    def __init__(self, *, tie=True, depth=9): ...\n"
    made(tmp_path, "configuration_utils.py", every.replace("*, ", ""))

    assert class_defaults("a", tmp_path) == {"model_type": "a", "size": 3, "tie": True, "depth": 9}
    assert class_defaults("b_text", tmp_path) == {"model_type": "b_text", "depth": 2, "tie": None}
    assert class_defaults("c", tmp_path) is None
    assert class_defaults("../a", tmp_path) is None


def test_where_it_is() -> None:
    """The folder that would be imported."""
    folder = installed_folder()
    assert folder is not None and (folder / "configuration_utils.py").is_file()
