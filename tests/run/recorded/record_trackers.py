"""Record one tiny run by the Trainer's own log and by every tracker, for the readers' tests.

``python tests/run/recorded/record_trackers.py FOLDER`` with transformers, tensorboard, wandb, mlflow and trackio
installed; it writes ``FOLDER/{output,tensorboard,wandb,mlruns,mlflow.db,trackio,train.log}``. What is kept of it under
``tests/run/recorded/`` is copied from there by hand.

The run: 100 steps, a row every second one, two evaluation sets every 20; at step 60 the head is multiplied, so that
there is something to find.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHILD = "--child"


def settings(folder: Path) -> dict[str, str]:
    """The environment of the run: everything local, and nothing of the machine in the files."""
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard"),
        "TRACKIO_DIR": str(folder / "trackio"),
        "TRACKIO_PROJECT": "tiny",
        "MLFLOW_TRACKING_URI": f"file:{folder / 'mlruns'}",
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "HF_MLFLOW_LOG_ARTIFACTS": "0",
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(folder),
        "WANDB_PROJECT": "tiny",
        "WANDB_HOST": "host",
        "WANDB_USERNAME": "user",
        "WANDB_DISABLE_GIT": "true",
        "WANDB_DISABLE_CODE": "true",
        "WANDB_CONSOLE": "off",
        "WANDB_X_DISABLE_META": "true",
        "WANDB_X_DISABLE_STATS": "true",
        "WANDB_X_DISABLE_MACHINE_INFO": "true",
        "WANDB_SILENT": "true",
    }


def train(folder: Path) -> None:
    """The run itself."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    import tiny
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

    from ko_cpt_callbacks import KoCPTCallback

    class Shift(TrainerCallback):
        """Damage at step 60."""

        def on_step_begin(self, args, state, control, model=None, **kwargs):
            if state.global_step == 60:
                with torch.no_grad():
                    model.lm_head.weight.mul_(12.0)

    set_seed(0)
    tokenizer = tiny.byte_level_tokenizer()
    korean, english = tiny.rows(tiny.korean(), tokenizer), tiny.rows(tiny.english(), tokenizer)
    arguments = TrainingArguments(
        output_dir=str(folder / "output"),
        max_steps=100,
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=20,
        eval_on_start=True,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=3,
        learning_rate=2e-3,
        lr_scheduler_type="constant",
        save_strategy="no",
        report_to=["tensorboard", "wandb", "mlflow", "trackio"],
        run_name="tiny",
        use_cpu=True,
        seed=0,
    )
    trainer = Trainer(
        model=tiny.llama(len(tokenizer)),
        args=arguments,
        train_dataset=korean[:-12],
        eval_dataset={"ko": korean[-12:], "en": english[:10]},
        data_collator=tiny.collate,
        processing_class=tokenizer,
        callbacks=[Shift(), KoCPTCallback()],
    )
    trainer.train()
    trainer.save_state()


def main(folder: Path) -> None:
    """Run it with its output kept as a terminal would show it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "train.log").open("wb") as log:
        command = [sys.executable, __file__, str(folder), CHILD]
        subprocess.run(command, env=settings(folder), cwd=folder, stdout=log, stderr=log, check=True)


if __name__ == "__main__":
    where = Path(sys.argv[1]).absolute()
    train(where) if CHILD in sys.argv else main(where)
