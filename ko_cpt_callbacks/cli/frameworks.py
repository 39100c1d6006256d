"""``ko-cpt axolotl`` and ``ko-cpt llamafactory``: their own command lines, with the page's ``ko_cpt:`` block in force.

Axolotl drops a block whose plugin is not named, and goes on where a plugin cannot be imported; LLaMA-Factory has no way
from its page to a callback. Both are reported, or done, here, before the framework begins.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any, Final

import typer

from ko_cpt_callbacks.check.terminal import guarded
from ko_cpt_callbacks.errors import ConfigurationError

__all__ = ["PLUGIN", "axolotl", "llamafactory"]

PLUGIN: Final = "ko_cpt_callbacks.integrations.axolotl.KoCPTPlugin"
_PAGES: Final = (".yaml", ".yml")


def axolotl(context: typer.Context) -> None:
    """Run Axolotl's own command, such as `train page.yaml`, after a look at the page's ko_cpt block."""
    guarded("axolotl", lambda: _axolotl(_words(context, "axolotl")))


def llamafactory(context: typer.Context) -> None:
    """Run LLaMA-Factory's `train page.yaml` with the callback that the page's ko_cpt block describes."""
    guarded("llamafactory", lambda: _llamafactory(_words(context, "llamafactory")))


def _words(context: typer.Context, name: str) -> list[str]:
    if importlib.util.find_spec(name) is None:
        raise ConfigurationError(f"{name} is not installed in this environment ({sys.prefix})")
    return context.args


def _page(words: list[str]) -> tuple[Path, dict[str, Any]]:
    """The page among the words of a command line, and what is in it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    name = next((word for word in words if word.endswith(_PAGES)), None)
    if name is None:
        raise ConfigurationError("found no page of YAML among the arguments, expected one; write `train page.yaml`")
    try:
        page = YAML(typ="safe").load(Path(name).read_text("utf-8"))
    except (OSError, YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name}: cannot be read ({str(error).splitlines()[0]})") from None
    if not isinstance(page, dict):
        raise ConfigurationError(f"{name}: found no keys, expected those of a training")
    return Path(name), page


def _axolotl(words: list[str]) -> None:
    from ko_cpt_callbacks.integrations.block import KEY, read_block

    path, page = _page(words)
    plugins = page.get("plugins") or []
    if KEY in page:
        read_block(page[KEY])
    if not isinstance(plugins, list) or PLUGIN not in plugins:
        raise ConfigurationError(f"{path}: plugins: found {plugins}, expected [{PLUGIN}] among them")
    # Axolotl calls accelerate by its bare name, which is on no path where the environment is not activated.
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    os.execve(sys.executable, [sys.executable, "-m", "axolotl.cli.main", *words], {**os.environ, "PATH": places})


def _llamafactory(words: list[str]) -> None:
    from ko_cpt_callbacks.integrations.block import KEY, read_block

    path, page = _page(words)
    if words[:1] != ["train"]:
        raise ConfigurationError(f"found {words[:1]}, expected train; other commands are llamafactory-cli's own")
    block = read_block(page.pop(KEY, None))
    if block.eval_sets:
        raise ConfigurationError(f"{path}: {KEY}.eval_sets: sets have the names of eval_dataset here; leave it out")
    from llamafactory.train.tuner import run_exp  # its own reading of the page, without our block
    from omegaconf import OmegaConf

    more = [word for word in words[1:] if word != str(path)]
    merged = OmegaConf.merge(OmegaConf.create(page), OmegaConf.from_cli(more))
    run_exp(OmegaConf.to_container(merged), callbacks=[block.callback()])
