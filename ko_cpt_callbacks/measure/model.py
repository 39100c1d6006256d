"""The model that is measured: found, loaded without running code of its own, and tried out before it is believed."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from ko_cpt_callbacks.errors import ConfigurationError, near_miss, refuse_empty
from ko_cpt_callbacks.hf.measure.calibration import NoLogitsError, sees_later
from ko_cpt_callbacks.hf.measure.hooks import virtual_tokens
from ko_cpt_callbacks.hf.measure.model_output import ForwardOutput, alignment_of
from ko_cpt_callbacks.hf.model.structure import text_config
from ko_cpt_callbacks.measure.record import is_measured
from ko_cpt_callbacks.training.hub import said

__all__ = [
    "DTYPES",
    "QUANTIZATIONS",
    "LoadedModel",
    "ModelChoice",
    "is_8_bit",
    "load_measured",
    "old_rows",
    "place_files",
]

DTYPES: Final = ("auto", "float32", "bfloat16", "float16", "float64")
"""``auto``: as the weights were saved."""
QUANTIZATIONS: Final = ("none", "8-bit", "4-bit")

_DEFAULT_WINDOW: Final = 2048
"""Tokens. Chosen, not measured: what most open models can take, and what others state for Korean (KoTokenLab)."""
_KEPT_ROWS: Final = 0.5
"""Part of a base's tokens that a tokenizer extended from it has in the same rows: one that took Korean tokens into the
place of others keeps most of them, one of its own next to none. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model, and how it is loaded.

    Attributes:
        name: A folder, or an id of the hub.
        adapter: A folder of PEFT's, or an id of the hub; None: none.
        dtype: One of `DTYPES`.
        quantization: One of `QUANTIZATIONS`.
        device: ``cpu``, ``cuda`` or ``cuda:1``; empty: a GPU where there is one.
    """

    name: str
    adapter: str | None = None
    dtype: str = "auto"
    quantization: str = "none"
    device: str = ""

    def __post_init__(self) -> None:
        for option, value, known in (
            ("--dtype", self.dtype, DTYPES),
            ("--quantization", self.quantization, QUANTIZATIONS),
        ):
            if value not in known:
                near = near_miss(value, known)
                hint = "" if near is None else f". Did you mean {near}?"
                raise ConfigurationError(f"{option}: found {value!r}, expected one of {', '.join(known)}{hint}")
        _check_folder("MODEL", self.name, "config.json")
        if self.adapter is not None:
            _check_folder("--adapter", self.adapter, "adapter_config.json")

    @property
    def measured(self) -> bool:
        """Whether it is the folder of a measurement, and no model is to be loaded."""
        return is_measured(Path(self.name))

    @property
    def short_name(self) -> str:
        """The last part of the name, with adapter and quantization: of a folder of results."""
        parts = [_last(self.name), _last(self.adapter), "" if self.quantization == "none" else self.quantization]
        return "+".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A causal model that can be measured.

    Attributes:
        model: In evaluation mode.
        tokenizer: Its own.
        device: Where it is.
        prefix: The token in front of a text: the one that begins texts, else the one that ends them; None: neither.
    """

    model: Any
    tokenizer: Any
    device: torch.device
    prefix: int | None

    def window(self, asked: int | None) -> int:
        """Tokens of a window.

        Args:
            asked: As the user wants it; None: 2,048, or fewer where the model takes fewer.

        Raises:
            ConfigurationError: If the model takes fewer than were asked for, or fewer than 2 were.
        """
        most = getattr(text_config(self.model), "max_position_embeddings", None)
        most = most - virtual_tokens(self.model) if isinstance(most, int) and most > 1 else None
        if asked is None:
            return _DEFAULT_WINDOW if most is None else min(_DEFAULT_WINDOW, most)
        if most is not None and asked > most:
            raise ConfigurationError(f"--window: found {asked}, expected at most {most}, the positions of the model")
        return asked


def place_files(choice: ModelChoice) -> dict[str, Any]:
    """What tells a model from another of the same name: its files with size and time, or its commit on the hub."""
    found: dict[str, Any] = {"quantization": choice.quantization, "dtype": choice.dtype}
    for kind, name in (("model", choice.name), ("adapter", choice.adapter)):
        if name is None:
            continue
        folder = Path(name)
        if folder.is_dir():
            paths = sorted(path for path in folder.iterdir() if path.is_file())
            found[kind] = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
        else:
            commit = getattr(_loaded(AutoConfig, choice), "_commit_hash", None) if kind == "model" else None
            found[kind] = [name, commit]
    return found


def old_rows(base: str, extended: Sequence[ModelChoice] = ()) -> int:
    """Rows of the vocabulary that a model was extended from: ids from there on are new.

    Args:
        base: Their number, or a model whose tokenizer has them.
        extended: The models whose tokens it distinguishes; where ``base`` is a number they are not looked at.

    Raises:
        ConfigurationError: If it is neither, or a model's tokenizer does not come from its tokenizer.
    """
    if base.isdecimal():
        return int(base)
    try:
        old = _loaded(AutoTokenizer, ModelChoice(base))
    except ConfigurationError as error:
        raise ConfigurationError(str(error).replace("MODEL:", "--base:", 1)) from error
    for choice in extended:
        if choice.measured or choice.name == base:
            continue
        rows = _loaded(AutoTokenizer, choice).get_vocab()
        kept = sum(rows.get(token) == row for token, row in old.get_vocab().items()) / len(old)
        if kept < _KEPT_ROWS:
            raise ConfigurationError(
                f"--base: found {choice.name}, whose tokenizer has {kept:.0%} of {base}'s tokens in their rows, "
                "expected one that was extended from it; measure it without --by vocabulary"
            )
    return len(old)


def is_8_bit(choice: ModelChoice) -> bool:
    """Whether bitsandbytes has the weights in 8 bits, asked for or saved so."""
    if choice.quantization != "none":
        return choice.quantization == "8-bit"
    saved = getattr(_loaded(AutoConfig, choice), "quantization_config", None)
    return isinstance(saved, dict) and bool(saved.get("load_in_8bit"))


def load_measured(choice: ModelChoice) -> LoadedModel:
    """The model, its adapter and its tokenizer.

    Raises:
        ConfigurationError: If something cannot be loaded, weights are missing, the model is no causal one, the
            tokenizer is another model's, or the device or the quantization cannot be had.
    """
    device = _device(choice.device)
    tokenizer = _loaded(AutoTokenizer, choice)
    model = _loaded_model(choice, device)
    if choice.adapter is not None:
        model = _adapted(model, choice.adapter)
    model.eval()
    if choice.quantization == "none":
        model.to(device)
    prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    _check_vocabulary(model, tokenizer)
    _check_causal(model, device)
    return LoadedModel(model, tokenizer, device, prefix)


def _last(name: str | None) -> str:
    if not name:
        return ""
    if not Path(name).is_dir():
        return name.rpartition("/")[2]
    path = Path(os.path.abspath(name))  # of `..` the name would lead out of the folder of results
    # Of a stage or a checkpoint its run says more.
    return f"{path.parent.name}-{path.name}" if re.fullmatch(r"model|checkpoint-\d+", path.name) else path.name


def _check_folder(where: str, name: str, wanted: str) -> None:
    """Refuse what is no folder of a model before a library says it in its own way."""
    path = Path(name)
    what = "a model" if where == "MODEL" else "an adapter"
    refuse_empty(where, name.strip(), "a folder or an id")
    if path.is_file():
        raise ConfigurationError(
            f"{where}: found the file {name}, expected the folder with {wanted} beside the weights"
        )
    if not path.exists():
        if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
            raise ConfigurationError(f"{where}: found no folder {name}, expected one with {wanted}; check the path")
        return
    if (path / wanted).is_file() or (where == "MODEL" and is_measured(path)):
        return
    other = path / "adapter_config.json"
    if wanted == "config.json" and other.is_file():
        base = _base_of(other)
        raise ConfigurationError(
            f"MODEL: found an adapter without its base in {name}, expected a model; ko-cpt measure {base} "
            f"--adapter {name}"
        )
    checkpoints = sorted(path.glob("checkpoint-*"), key=lambda one: one.stat().st_mtime)
    hint = f"; did you mean {checkpoints[-1]}?" if checkpoints else ""
    raise ConfigurationError(f"{where}: found no {wanted} in {name}, expected the folder of {what}{hint}")


def _base_of(config: Path) -> str:
    try:
        found = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        found = None
    return found if isinstance(found, str) and found else "BASE"


def _device(named: str) -> torch.device:
    known = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(named or known)
    except RuntimeError:
        raise ConfigurationError(f"--device: found {named!r}, expected cpu, cuda or cuda:1") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigurationError(f"--device: found {named!r}, expected cpu, cuda or cuda:1")
    if device.type == "cuda" and (known == "cpu" or (device.index or 0) >= torch.cuda.device_count()):
        raise ConfigurationError(
            f"--device {named}: found no such GPU that torch can use, expected one; look at nvidia-smi"
        )
    return device


def _loaded(loader: Any, choice: ModelChoice, **more: Any) -> Any:
    """``from_pretrained``, without code of the repository; every failure in one line."""
    part = loader.__name__.removeprefix("Auto").removesuffix("ForCausalLM").lower()
    try:
        return loader.from_pretrained(choice.name, trust_remote_code=False, **more)
    except ImportError as error:
        raise ConfigurationError(f"MODEL: found {choice.name}, whose {part} needs a library ({said(error)})") from error
    except Exception as error:  # of the libraries below, each of its own class, another in every version
        reason = "it has code of its own, which is never run" if "custom code" in str(error) else said(error)
        raise ConfigurationError(
            f"MODEL: found no {part} that can be loaded from {choice.name} ({reason}), expected a folder that "
            "save_pretrained wrote, or an id of the hub of a model that transformers has the code of"
        ) from error


def _loaded_model(choice: ModelChoice, device: torch.device) -> Any:
    dtype = choice.dtype if choice.dtype == "auto" else getattr(torch, choice.dtype)
    more: dict[str, Any] = {"dtype": dtype, "output_loading_info": True}
    if choice.quantization != "none":
        more.update(quantization_config=_quantization(choice, device), device_map={"": str(device)})
    model, info = _loaded(AutoModelForCausalLM, choice, **more)
    missing = [*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])]
    if missing:
        raise ConfigurationError(
            f"MODEL: found {len(missing)} weights missing in {choice.name} ({missing[0]} …), expected all of a causal "
            "model: those would be random"
        )
    return model


def _quantization(choice: ModelChoice, device: torch.device) -> BitsAndBytesConfig:
    saved = getattr(_loaded(AutoConfig, choice), "quantization_config", None)
    if saved is not None:
        raise ConfigurationError(
            f"--quantization: found {choice.quantization} for weights that were saved quantized, expected none"
        )
    if choice.quantization == "8-bit":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    # NF4 with its constants quantized once more, as in QLoRA (https://arxiv.org/abs/2305.14314).
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=kind
    )


def _adapted(model: Any, adapter: str) -> Any:
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            return PeftModel.from_pretrained(model, adapter, is_trainable=False)
    except Exception as error:  # of PEFT, torch and safetensors, each of its own class
        raise ConfigurationError(
            f"--adapter: found nothing in {adapter} that fits the model ({said(error)}), expected the adapter that was "
            "trained on it"
        ) from error


def _check_vocabulary(model: Any, tokenizer: Any) -> None:
    embedding = model.get_input_embeddings()
    rows = getattr(getattr(embedding, "weight", None), "shape", (None,))[0]
    largest = max(tokenizer.get_vocab().values(), default=0)
    if isinstance(rows, int) and largest >= rows:
        raise ConfigurationError(
            f"MODEL: found a tokenizer of {largest + 1:,} tokens and a model of {rows:,} rows, expected as many rows; "
            "the tokenizer is another model's"
        )


def _check_causal(model: Any, device: torch.device) -> None:
    """Refuse a model that does not read from left to right: shown by its logits, not taken from its name."""
    kind = alignment_of(model)
    base = getattr(model, "get_base_model", lambda: model)()
    if kind not in ("causal", None):
        raise ConfigurationError(f"MODEL: found a {kind} model ({type(base).__name__}), expected a causal one")
    name, later = type(base).__name__, None
    try:
        with torch.no_grad():
            later = sees_later(lambda ids: _logits(model, ids.to(device)), base)
    except NoLogitsError:
        raise ConfigurationError(f"MODEL: found no logits of every token from {name}, expected them") from None
    except Exception as error:  # of kernels, each of its own class
        raise ConfigurationError(
            f"MODEL: found {name} that fails on a few tokens ({said(error)}), expected logits; try --quantization "
            "none, or another --device or --dtype"
        ) from error
    if later is not False:
        raise ConfigurationError(
            f"MODEL: found losses that depend on later tokens ({name}: an encoder?), expected a causal model"
        )


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor | None:
    mask: Mapping[str, Any] = {"attention_mask": torch.ones_like(ids)}
    logits = ForwardOutput.of(model(input_ids=ids, **mask, use_cache=False)).logits
    return None if logits is None or logits.dim() != 3 else logits[:, -ids.shape[1] :]
