"""What comes from the Hugging Face hub: rows of a data set as a stream, models and tokenizers; code never does.

A request that fails is repeated by ``huggingface_hub``, five times within half a minute; where a connection breaks or
the hub asks to wait, ``datasets`` has that done up to twenty times (measured with versions 2.4 and 5.2: up to half an
hour). What goes wrong for good is reported in one line here: the libraries raise errors of many classes, other ones in
every version, and none says which part of a recipe it is.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datasets import (  # type: ignore[import-untyped]
    get_dataset_config_names,
    get_dataset_split_names,
    load_dataset_builder,
)
from datasets.exceptions import DatasetNotFoundError  # type: ignore[import-untyped]
from safetensors import SafetensorError

from ko_cpt_callbacks.errors import ConfigurationError, near_miss

if TYPE_CHECKING:
    from ko_cpt_callbacks.training.data.sources import Source

_LOG_IN: Final = "where it is private or gated, ask for access on its page, then: hf auth login"
_AGAIN: Final = "where the network or the hub was at fault, go on later with --resume"
_SHOWN: Final = 240  # characters of what a library says


def hub_rows(source: Source) -> Iterator[dict[str, Any]]:
    """Rows of a source's data set, in its order; a file is asked for when the one before has been read.

    Raises:
        ConfigurationError: If there is no such data set, commit, configuration or split, or reading stops.
    """
    try:
        # The address and not the id: a folder of this name is something else.
        place = f"hf://datasets/{source.hub}"
        builder = load_dataset_builder(place, source.config, revision=source.revision)
        if builder.hash != source.revision:
            # Where the hub does not answer, `datasets` takes what it once kept, of whatever commit.
            raise source.error(
                f"data set {source.hub} kept on this machine at {builder.hash}, and no answer of the hub",
                f"the commit {source.revision}; {_AGAIN}",
            )
        yield from builder.as_streaming_dataset(split=source.split)
    except ConfigurationError:
        raise
    except Exception as error:
        raise _unreadable(source, error) from error


def load_pretrained(loader: Any, path: str | Path, wanted_by: str, **more: Any) -> Any:
    """``from_pretrained``, without running code of the repository and without asking whether to.

    Args:
        loader: ``AutoModelForCausalLM`` or ``AutoTokenizer``.
        path: A folder, or an id of the hub.
        wanted_by: The recipe's key, for the error.
        more: Further arguments, such as ``revision``.

    Raises:
        ConfigurationError: If it cannot be loaded.
    """
    try:
        return loader.from_pretrained(str(path), trust_remote_code=False, **more)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        at = f" at {more['revision']}" if "revision" in more else ""
        # transformers advises to trust the code.
        reason = "it has code of its own, which is never run" if "custom code" in str(error) else said(error)
        if Path(path).is_dir():
            part = loader.__name__.removeprefix("Auto")
            raise ConfigurationError(
                f"{wanted_by}: found no {part} that can be loaded in the folder {path} ({reason}), expected the files "
                "that save_pretrained writes of model and tokenizer; put them there"
            ) from error
        raise ConfigurationError(
            f"{wanted_by}: found nothing that can be loaded from {path}{at} ({reason}), expected a folder, or an id "
            f"and a revision of the hub, of a model that transformers has the code of; {_LOG_IN}; {_AGAIN}"
        ) from error


def _unreadable(source: Source, error: Exception) -> ConfigurationError:
    name = f"data set {source.hub}"
    if isinstance(error, DatasetNotFoundError):
        found = f"no {name} at {source.revision} that can be read ({said(error)})"
        return source.error(found, f"an id and one of its commits; {_LOG_IN}")
    wrong = _wrong_part(source) if isinstance(error, ValueError) else None
    if wrong is not None:
        return wrong
    found = f"{name} that cannot be read ({type(error).__name__}: {said(error)})"
    return source.error(found, f"files of text, JSON or Parquet that the hub gives; {_AGAIN}")


def _wrong_part(source: Source) -> ConfigurationError | None:
    """Whether it is the configuration or the split that is not there; asked of the hub."""
    place = f"hf://datasets/{source.hub}"
    try:
        configs = get_dataset_config_names(place, revision=source.revision)
        if (source.config is None and len(configs) > 1) or source.config not in (None, *configs):
            return _unknown(source, "configuration", source.config, configs)
        splits = get_dataset_split_names(place, source.config, revision=source.revision)
    except Exception:
        return None  # then it is something else, and the first error says it
    return None if source.split in splits else _unknown(source, "split", source.split, splits)


def _unknown(source: Source, part: str, given: str | None, known: list[str]) -> ConfigurationError:
    near = None if given is None else near_miss(given, known)
    hint = "" if near is None else f". Did you mean {near}?"
    found = f"no {part} {'given' if given is None else repr(given)} for data set {source.hub}"
    return source.error(found, f"one of {', '.join(known)}{hint}")


def said(error: Exception) -> str:
    """What a library says of an error, in one line, not too long."""
    return textwrap.shorten(str(error), _SHOWN, placeholder=" …")
