"""From a batch's tensors to the sums of its rows."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from ko_cpt_callbacks.hf.measure.evidence import LossEvidence
from ko_cpt_callbacks.hf.measure.labels import document_starts
from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE
from ko_cpt_callbacks.hf.measure.row_reader import BatchRecord, RowReader
from ko_cpt_callbacks.hf.tokenizer.token_bytes import build_token_bytes
from ko_cpt_callbacks.metrics.row_sums import HASH_WORDS, OPENS, READ, SEVERAL, SPECIAL_SCORED, RowSums

pytestmark = pytest.mark.both_versions

TEXTS = ("모든 사람은", "자유로운 존엄과 권리", "동등하다")


@pytest.fixture(scope="module")
def reader() -> RowReader:
    """For the tiny byte-level tokenizer."""
    return RowReader(build_token_bytes(tiny.byte_level_tokenizer()), rank=3)


def _record(batch: dict[str, Tensor], **changes: Any) -> BatchRecord:
    labels = batch["labels"].clone()
    labels[:, 0] = IGNORE  # a causal model never scores the first
    nll = torch.arange(labels.numel(), dtype=torch.float32).reshape(labels.shape).masked_fill(labels == IGNORE, 0.0)
    settings: dict[str, Any] = {
        "evidence": LossEvidence("logits", nll=nll, labels=labels),
        "input_ids": batch["input_ids"],
        "attention_mask": batch["attention_mask"],
        "starts": None,
        "batch": 7,
    }
    return BatchRecord(**{**settings, **changes})


def _batch(texts: tuple[str, ...] = TEXTS) -> dict[str, Tensor]:
    return tiny.collate(tiny.rows(texts, tiny.byte_level_tokenizer()))


def test_sums_of_rows(reader: RowReader) -> None:
    """Per row: losses of its targets, their number, their UTF-8 bytes; special tokens have none; order and rank."""
    record = _record(_batch())
    found = reader.read(record, None)
    assert record.evidence.nll is not None
    assert found.nll.tolist() == record.evidence.nll.sum(1).tolist()
    lengths = [len(row["input_ids"]) - 1 for row in tiny.rows(TEXTS, tiny.byte_level_tokenizer())]
    assert found.tokens.tolist() == lengths
    assert found.bytes.tolist() == [len(text.encode()) for text in TEXTS]
    assert found.order.tolist() == [[7, 3, 0], [7, 3, 1], [7, 3, 2]]


def test_the_hash_is_of_the_text(reader: RowReader) -> None:
    """Padding, batch and special tokens do not change it; the first token belongs to it; the labels do not."""
    together = reader.read(_record(_batch()), None).hash.tolist()
    alone = [reader.read(_record(_batch((text,))), None).hash[0].tolist() for text in TEXTS]
    assert together == alone
    assert len(set(map(tuple, alone))) == 3
    assert {len(one) for one in alone} == {HASH_WORDS}
    batch = _batch()
    batch["labels"][:, :4] = IGNORE
    assert reader.read(_record(batch), None).hash.tolist() == together
    plain = tiny.byte_level_tokenizer().encode(TEXTS[0], add_special_tokens=False)
    bare = tiny.collate([{"input_ids": plain}])
    assert reader.read(_record(bare), None).hash[0].tolist() == alone[0]


def test_only_scored_bytes_count(reader: RowReader) -> None:
    """Bytes are those of the targets: text whose labels are ignored has none."""
    batch = _batch(TEXTS[:1])
    half = batch["labels"].shape[1] // 2
    batch["labels"][:, half:] = IGNORE
    tokenizer = tiny.byte_level_tokenizer()
    byte_of = tokenizer.convert_ids_to_tokens(batch["input_ids"][0, 1:half].tolist())
    assert reader.read(_record(batch), None).bytes.tolist() == [sum(map(len, byte_of))]


def test_repeated_rows_are_left_out(reader: RowReader) -> None:
    """Of the last distributed batch only the first rows belong to the data set; none, if so told."""
    assert len(reader.read(_record(_batch()), 2)) == 2
    assert len(reader.read(_record(_batch()), 0)) == 0


def test_padding_rows_are_no_rows(reader: RowReader) -> None:
    """A row with neither text nor target is padding; one with text and no target is a row with 0 tokens."""
    batch = _batch()
    batch["labels"][1:] = IGNORE
    batch["attention_mask"][2] = 0
    found = reader.read(_record(batch), None)
    assert found.tokens[1:].tolist() == [0]
    assert len(found) == 2


def test_padding_free_documents(reader: RowReader) -> None:
    """One flat row with restarting positions: one sum per document, its text hashed as if it stood alone."""
    ids = [row["input_ids"] for row in tiny.rows(TEXTS, tiny.byte_level_tokenizer())]
    flat = torch.tensor([[token for row in ids for token in row]])
    positions = torch.tensor([[at for row in ids for at in range(len(row))]])
    starts = document_starts({"input_ids": flat, "position_ids": positions})
    assert starts is not None
    batch = {"input_ids": flat, "labels": flat, "attention_mask": torch.ones_like(flat)}
    found = reader.read(_record(batch, attention_mask=None, starts=starts), None)
    assert found.hash.tolist() == reader.read(_record(_batch()), None).hash.tolist()
    assert int(found.tokens.sum()) == flat.numel() - 1


def test_nothing_before_the_first_restart_is_lost(reader: RowReader) -> None:
    """A flat row that begins inside a document: all its targets are summed."""
    flat = torch.tensor([tiny.byte_level_tokenizer().encode(TEXTS[1])])
    starts = document_starts({"input_ids": flat, "position_ids": torch.arange(4, 4 + flat.shape[1])[None]})
    batch = {"input_ids": flat, "labels": flat, "attention_mask": torch.ones_like(flat)}
    found = reader.read(_record(batch, attention_mask=None, starts=starts), None)
    assert found.tokens.tolist() == [flat.shape[1] - 1]


def test_without_ids_the_labels_are_the_text(reader: RowReader) -> None:
    """``inputs_embeds``: the labels are all there is of the text."""
    batch = _batch(TEXTS[:1])
    found = reader.read(_record(batch, input_ids=None, attention_mask=None), None)
    # The first label is never scored, so <s> is missing: it has no text.
    assert found.hash.tolist() == reader.read(_record(batch), None).hash.tolist()
    assert found.bytes.tolist() == [len(TEXTS[0].encode())]


def test_labels_other_than_the_ids(reader: RowReader) -> None:
    """Labels that are not the ids (pre-shifted, masked): bytes are those of the labels; unknown ids give -1."""
    batch = _batch(TEXTS[:1])
    other = torch.roll(batch["labels"], -1, 1)
    other[:, -1] = IGNORE
    shifted = LossEvidence("logits", nll=torch.zeros(other.shape), labels=other)
    assert reader.read(_record(batch, evidence=shifted), None).bytes.tolist() == [len(TEXTS[0].encode())]
    other[0, 1] = 10_000_000
    assert reader.read(_record(batch, evidence=shifted), None).bytes.tolist() == [-1]


WHOLE = READ | OPENS | SPECIAL_SCORED


def _flags(reader: RowReader, ids: list[int], **changes: Any) -> list[int]:
    """Flags of one row of these token ids."""
    return reader.read(_record(tiny.collate([{"input_ids": ids}]), **changes), None).flags.tolist()


def test_flags_of_whole_documents(reader: RowReader) -> None:
    """BOS, text, EOS: read, begun with a scored token, an end scored, one document; padding changes nothing."""
    assert reader.read(_record(_batch()), None).flags.tolist() == [WHOLE] * 3


def test_flags_without_bos(reader: RowReader) -> None:
    """The first text token is not scored where nothing stands before it, or where its label is ignored."""
    tokenizer = tiny.byte_level_tokenizer()
    text = tokenizer.encode(TEXTS[0], add_special_tokens=False)
    assert _flags(reader, [*text, 1]) == [READ | SPECIAL_SCORED]
    assert _flags(reader, text) == [READ]
    assert _flags(reader, [0, *text]) == [READ | OPENS]
    batch = _batch(TEXTS[:1])
    batch["labels"][:, 1] = IGNORE
    assert reader.read(_record(batch), None).flags.tolist() == [READ | SPECIAL_SCORED]


def test_flags_of_packed_rows(reader: RowReader) -> None:
    """A special token between text tokens: several documents; at the ends of a row it is none."""
    tokenizer = tiny.byte_level_tokenizer()
    first, second = (tokenizer.encode(text, add_special_tokens=False) for text in TEXTS[:2])
    assert _flags(reader, [0, *first, 1, *second]) == [WHOLE | SEVERAL]
    assert _flags(reader, [*first, 1, *second, 1]) == [READ | SEVERAL | SPECIAL_SCORED]
    assert _flags(reader, [0, 0, *first, 1, 1]) == [WHOLE]
    assert _flags(reader, [0, 1]) == [READ | SPECIAL_SCORED]


def test_flags_of_padding_free_documents(reader: RowReader) -> None:
    """Each document of a flat row by itself: one whole document each."""
    ids = [row["input_ids"] for row in tiny.rows(TEXTS, tiny.byte_level_tokenizer())]
    flat = torch.tensor([[token for row in ids for token in row]])
    starts = torch.tensor([[at == 0 for row in ids for at in range(len(row))]])
    batch = {"input_ids": flat, "labels": flat, "attention_mask": torch.ones_like(flat)}
    assert reader.read(_record(batch, attention_mask=None, starts=starts), None).flags.tolist() == [WHOLE] * 3


def test_flags_that_cannot_be_known(reader: RowReader) -> None:
    """Labels alone, labels shifted against the ids, no tokenizer: nobody looked."""
    batch = _batch(TEXTS[:1])
    assert reader.read(_record(batch, input_ids=None, attention_mask=None), None).flags.tolist() == [0]
    shifted = torch.roll(batch["labels"], -1, 1)
    shifted[:, -1] = IGNORE
    evidence = LossEvidence("logits", nll=torch.zeros(shifted.shape), labels=shifted)
    assert reader.read(_record(batch, evidence=evidence), None).flags.tolist() == [0]
    bare = RowReader(None, rank=0)
    assert bare.read(_record(batch), None).flags.tolist() == [0]


def test_without_a_table() -> None:
    """No tokenizer: token ids tell rows apart, and there are no bytes."""
    reader = RowReader(None, rank=0)
    first, second = (reader.read(_record(_batch((text,))), None) for text in TEXTS[:2])
    assert (reader.unit, first.bytes.tolist()) == ("ids", [-1])
    assert first.hash.tolist() != second.hash.tolist()


def test_bfloat16_losses_are_summed_in_float64(reader: RowReader) -> None:
    """Sums do not lose small rows beside large ones."""
    batch = _batch(TEXTS[:1])
    batch["labels"][:, 4:] = IGNORE
    record = _record(batch)
    assert record.evidence.labels is not None
    nll = torch.tensor([[0.0, 1e8, 0.5, 0.25, *[0.0] * (batch["labels"].shape[1] - 4)]], dtype=torch.float32)
    found: RowSums = reader.read(
        _record(batch, evidence=LossEvidence("logits", nll=nll, labels=record.evidence.labels)), None
    )
    assert found.nll.tolist() == [1e8 + 0.75]
