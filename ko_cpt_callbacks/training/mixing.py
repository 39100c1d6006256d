"""Several streams as one, in proportion and always in the same order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from ko_cpt_callbacks.errors import ConfigurationError

T = TypeVar("T")


def mix_streams(
    streams: Mapping[str, Iterator[T]], shares: Mapping[str, float] | None, size: Callable[[T], int]
) -> Iterator[tuple[str, T]]:
    """Items of several streams, each with its stream's name.

    The next item is taken from the stream that is furthest behind its share, so that at any moment no stream is
    further off than one item. Nothing is drawn by lot. It ends where the stream whose turn it is has no more: that
    one was taken whole, the others as far as fits.

    Args:
        streams: By name.
        shares: Of the sum of sizes, in proportion to each other (Thunder: English 54, Korean 48, in tokens); None to
            take all streams whole, one after the other.
        size: Of an item, in what the shares are of.

    Raises:
        ConfigurationError: If the shares are not those of the streams, or not above 0.
    """
    if shares is None:
        for name, stream in streams.items():
            for item in stream:
                yield name, item
        return
    if shares.keys() != streams.keys() or not all(share > 0 for share in shares.values()):
        raise ConfigurationError(
            f"shares: found {dict(shares)}, expected a number above 0 for each of {', '.join(streams)}"
        )
    taken = dict.fromkeys(streams, 0)
    while True:
        name = min(streams, key=lambda name: taken[name] / shares[name])
        try:
            item = next(streams[name])
        except StopIteration:
            return
        taken[name] += size(item)
        yield name, item
