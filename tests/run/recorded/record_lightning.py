"""Record a tiny Lightning training: ``python tests/run/recorded/record_lightning.py FOLDER``.

It writes ``FOLDER/lightning_logs/version_0/metrics.csv`` and ``FOLDER/seen.json``, the losses as the training itself
saw them. Only ``metrics.csv`` and ``seen.json`` are kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lightning
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader


class Tiny(lightning.LightningModule):
    """Names of three tokens, guessed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
        self.seen: dict[str, list[list[float]]] = {"train": [], "val": []}

    def _loss(self, batch):
        return torch.nn.functional.cross_entropy(self.layer(batch), (batch.sum(1) > 0).long())

    def training_step(self, batch, index):
        """The loss of a batch, kept too."""
        loss = self._loss(batch)
        self.log("train_loss", loss)
        self.seen["train"].append([self.global_step, float(loss)])
        return loss

    def validation_step(self, batch, index):
        """Likewise of the held-out rows."""
        loss = self._loss(batch)
        self.log("val_loss", loss)
        self.seen["val"].append([self.global_step, float(loss)])

    def configure_optimizers(self):
        """Plain descent."""
        return torch.optim.SGD(self.parameters(), lr=0.5)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    lightning.seed_everything(0)
    rows = torch.randn(40, 4)
    model = Tiny()
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", log_every_n_steps=1, logger=CSVLogger(folder), enable_checkpointing=False
    )
    trainer.fit(model, DataLoader(rows, batch_size=4), DataLoader(rows[:4], batch_size=4))
    (folder / "seen.json").write_text(json.dumps(model.seen), "utf-8")
