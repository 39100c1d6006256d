"""Axolotl's plugin: ``plugins: [ko_cpt_callbacks.integrations.axolotl.KoCPTPlugin]`` and a block ``ko_cpt:``.

Axolotl loads a plugin before it checks its page, and goes on without one whose import fails with an ``ImportError``:
what this package lacks is raised as another error, so that no training begins unwatched.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from axolotl.integrations.base import BasePlugin

try:
    from pydantic import BaseModel

    from ko_cpt_callbacks.errors import ConfigurationError
    from ko_cpt_callbacks.integrations.block import KEY, Block, read_block
except ImportError as error:
    raise RuntimeError(f"ko_cpt_callbacks cannot be used here: {error}; install what is missing") from error

if TYPE_CHECKING:
    from transformers import Trainer

__all__ = ["KoCPTArgs", "KoCPTPlugin"]

_log = logging.getLogger("ko_cpt_callbacks")


class KoCPTArgs(BaseModel):
    """What the plugin adds to Axolotl's page."""

    ko_cpt: Block | None = None


class KoCPTPlugin(BasePlugin):  # type: ignore[misc, unused-ignore]
    """Puts the callback first in the trainer's list, and names the evaluation sets apart where the block names them."""

    def get_input_args(self) -> str:
        """The class whose fields Axolotl checks with its own."""
        return f"{KoCPTArgs.__module__}.{KoCPTArgs.__qualname__}"

    def post_trainer_create(self, cfg: Any, trainer: Trainer) -> None:
        """Join the trainer.

        Raises:
            ConfigurationError: If there are not as many names of evaluation sets as sets.
        """
        block = read_block(cfg.get(KEY))
        if block.eval_sets:
            trainer.eval_dataset = self._named(cfg, block.eval_sets)
        if trainer.args.dataloader_drop_last or (
            cfg.get("sample_packing") and cfg.get("eval_sample_packing") is not False
        ):
            _log.warning(
                "Axolotl's packing drops the last rows of an evaluation set, that fill no batch: what is measured "
                "is exact for the others; `eval_sample_packing: false` and `dataloader_drop_last: false` keep them"
            )
        callback = block.callback()
        trainer.add_callback(callback)
        callback.attach(trainer)

    def _named(self, cfg: Any, names: list[str]) -> dict[str, Any]:
        """Each entry of ``test_datasets`` by itself; Axolotl would join them to one set."""
        from axolotl.common.datasets import load_datasets
        from axolotl.utils.dict import DictDefault

        entries = cfg.get("test_datasets") or []
        if len(entries) != len(names):
            raise ConfigurationError(
                f"{KEY}.eval_sets: found {len(names)} names, expected {len(entries)}, one for each of test_datasets"
            )
        return {
            name: load_datasets(cfg=DictDefault({**cfg, "test_datasets": [entry]})).eval_dataset
            for name, entry in zip(names, entries, strict=True)
        }
