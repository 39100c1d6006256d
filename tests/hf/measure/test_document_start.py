"""Documents of packed lines: found however a collator tells them, rows of their own, measured like the model does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DataCollatorForLanguageModeling

from ko_cpt_callbacks import KoCPTCallback
from ko_cpt_callbacks.hf.measure.evidence import LossEvidence
from ko_cpt_callbacks.hf.measure.labels import document_starts, leave_out_starts, token_mask

pytestmark = pytest.mark.both_versions

ROWS = tiny.uneven_rows(7)
# Two lines of three documents each, and a third with one: packed by hand, unequal in length.
LINES = [ROWS[:3], ROWS[3:6], ROWS[6:]]
VOCABULARY = len(tiny.byte_level_tokenizer())
# transformers 4.57 keeps documents apart by their positions only without a cache.
MODEL: dict[str, Any] = {"use_cache": False, "initializer_range": 0.4}


def _line(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """A packed line: documents one behind the other, their positions, numbers and lengths; starts are no targets."""
    ids = [list(row["input_ids"]) for row in documents]
    return {
        "input_ids": [token for row in ids for token in row],
        "labels": [-100 if at == 0 else token for row in ids for at, token in enumerate(row)],
        "position_ids": [at for row in ids for at in range(len(row))],
        "numbers": [number for number, row in enumerate(ids, 1) for _ in row],
    }


def _padded(lines: list[dict[str, Any]]) -> dict[str, Tensor]:
    length = max(len(line["input_ids"]) for line in lines)
    fill = {"input_ids": 2, "labels": -100, "position_ids": 0, "numbers": 0}
    return {
        name: torch.tensor([line[name] + [value] * (length - len(line[name])) for line in lines])
        for name, value in fill.items()
    }


def _square(numbers: Tensor) -> Tensor:
    """Who may see whom: one's own document, up to oneself."""
    same = (numbers[:, :, None] == numbers[:, None, :]) & (numbers != 0)[:, None, :]
    return (same & torch.ones_like(same).tril()).unsqueeze(1)


def _positions(lines: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Axolotl: positions begin again, pads too; no mask."""
    batch = _padded(lines)
    return {name: batch[name] for name in ("input_ids", "labels", "position_ids")}


def _bool_square(lines: list[dict[str, Any]]) -> dict[str, Tensor]:
    """A mask for every pair of tokens."""
    batch = _padded(lines)
    mask = _square(batch["numbers"])
    return {**_positions(lines), "attention_mask": mask}


def _additive_square(lines: list[dict[str, Any]]) -> dict[str, Tensor]:
    """LLaMA-Factory's ``neat_packing`` without flash attention: added to the scores, and no positions."""
    batch = _bool_square(lines)
    added = torch.zeros(batch["attention_mask"].shape)
    added.masked_fill_(~batch["attention_mask"], torch.finfo(added.dtype).min)
    return {**batch, "attention_mask": added}


@pytest.mark.parametrize("collator", [_positions, _bool_square, _additive_square])
def test_documents_of_several_packed_lines_are_rows(collator: Any, tmp_path: Path) -> None:
    """Three lines of 3, 3 and 1 documents in a real evaluation: seven rows, of the text, loss and tokens that the same
    documents have one a row.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, evaluation, settings in (
        ("alone", ROWS, {}),
        ("packed", [_line(documents) for documents in LINES], {"data_collator": collator}),
    ):
        trainer = tiny.trainer(
            tiny.llama(VOCABULARY, **MODEL), tmp_path / name, None, evaluation, callbacks=[KoCPTCallback()], **settings
        )
        trainer.evaluate()
        rows[name] = trainer.state.log_history[-1]
    packed, alone = rows["packed"], rows["alone"]
    assert packed.get("eval_exact_loss_absent") is None
    assert packed["eval_exact_loss"] == pytest.approx(alone["eval_exact_loss"], rel=1e-5)
    assert packed["eval_exact_loss_se"] == pytest.approx(alone["eval_exact_loss_se"], rel=1e-4)
    same = ("eval_rows", "eval_tokens", "eval_fingerprint")
    assert [packed[name] for name in same] == [alone[name] for name in same]
    assert packed["eval_bits_per_byte"] == pytest.approx(alone["eval_bits_per_byte"], rel=1e-5)


LINE = torch.tensor([[5, 6, 7, 8, 9, 2]])
TWO = [True, False, False, True, False]  # a document of three tokens, one of two; then padding


@pytest.mark.parametrize(
    "told",
    [
        {"position_ids": torch.tensor([[0, 1, 2, 0, 1, 0]])},
        {"position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]]), "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0]])},
        {"attention_mask": torch.tensor([[1, 1, 1, 2, 2, 0]])},
        {"seq_idx": torch.tensor([[0, 0, 0, 1, 1, 2]], dtype=torch.int32)},
        {"cu_seq_lens_q": torch.tensor([0, 3, 5], dtype=torch.int32)},
        {"cu_seqlens": torch.tensor([0, 3, 5, 6], dtype=torch.int32)},
        {"attention_mask": _square(torch.tensor([[1, 1, 1, 2, 2, 0]]))},
    ],
)
def test_every_way_to_tell_documents(told: dict[str, Tensor]) -> None:
    """Positions, numbers in the mask, ``seq_idx``, cumulative lengths, a mask of pairs."""
    starts = document_starts({"input_ids": LINE, **told})
    assert starts is not None
    assert starts[0, :5].tolist() == TWO


def test_lengths_run_over_all_lines() -> None:
    """Cumulative lengths of a batch of two lines: every line begins with a document."""
    starts = document_starts({"input_ids": LINE.view(2, 3), "cu_seq_lens_q": torch.tensor([0, 2, 3, 6])})
    assert starts is not None
    assert starts.tolist() == [[True, False, True], [True, False, False]]


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"attention_mask": torch.tensor([[1.0, 1, 1, 1, 1, 0]])},
        {"position_ids": torch.arange(6).expand(3, 1, 6)},  # three axes of positions: images and time
    ],
)
def test_where_nothing_tells_documents(told: dict[str, Tensor]) -> None:
    """Then every line is a row."""
    assert document_starts({"input_ids": LINE, **told}) is None


@pytest.mark.parametrize(
    "told",
    [
        {"attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0]])},
        {"attention_mask": torch.tensor([[1, 1, 0, 1, 1, 1]])},
        {"attention_mask": torch.tensor([[1] * 6]), "position_ids": torch.tensor([[0, 1, 2, 40, 41, 42]])},
        {"position_ids": torch.tensor([[4, 5, 6, 7, 8, 9]])},
        {"attention_mask": torch.ones(6, 6).tril()[None, None].bool()},
    ],
)
def test_one_document_stays_one(told: dict[str, Tensor]) -> None:
    """A hole in the mask, a leap of positions under a mask, a line that begins in a document's middle."""
    starts = document_starts({"input_ids": LINE, **told})
    assert starts is not None
    assert starts.tolist() == [[True, *[False] * 5]]


def test_left_padding_is_no_document() -> None:
    """The pads in front count as documents without tokens; the text begins once."""
    mask = torch.tensor([[0, 0, 1, 1, 1, 1]])
    starts = document_starts(
        {"input_ids": LINE, "attention_mask": mask, "position_ids": torch.tensor([[1, 1, 0, 1, 2, 3]])}
    )
    assert starts is not None
    assert starts[0, 2:].tolist() == [True, False, False, False]


def test_left_padding_does_not_change_the_loss(tmp_path: Path) -> None:
    """A tokenizer that pads on the left: rows in batches have the loss, the tokens and the text of rows one by one."""
    tokenizer = tiny.byte_level_tokenizer()
    tokenizer.padding_side = "left"
    found = []
    for size in (1, 4):
        callback = KoCPTCallback(outputs=[])
        trainer = tiny.trainer(
            tiny.llama(VOCABULARY, **MODEL), tmp_path, evaluation=[{"input_ids": row["input_ids"]} for row in ROWS],
            per_device_eval_batch_size=size, callbacks=[callback], processing_class=tokenizer,
            data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        )  # fmt: skip
        callback.attach(trainer)
        found.append(trainer.evaluate())
    one, four = found
    assert four["eval_exact_loss"] == pytest.approx(one["eval_exact_loss"], rel=1e-6)
    assert (four["eval_tokens"], four["eval_bytes"]) == (one["eval_tokens"], one["eval_bytes"])


def _sees_itself(batch: dict[str, Tensor]) -> Tensor:
    """Text sees text, and a pad itself: no row of the mask is empty."""
    tokens = batch["attention_mask"].bool()
    pairs = (tokens[:, :, None] & tokens[:, None, :]).tril()
    return (pairs | torch.eye(tokens.shape[1], dtype=torch.bool)).unsqueeze(1)


def _sees_pads(batch: dict[str, Tensor]) -> Tensor:
    """Text sees text, and a pad the pads before it."""
    return _square(batch["attention_mask"] + 1)


@pytest.mark.parametrize("pairs", [_sees_itself, _sees_pads])
@pytest.mark.parametrize("table", [True, False])
def test_left_padding_in_a_mask_of_pairs(pairs: Any, table: bool, tmp_path: Path) -> None:
    """Pads that see themselves are no tokens: rows in batches have the loss, tokens and text of rows one by one."""
    tokenizer = tiny.byte_level_tokenizer()
    tokenizer.padding_side = "left"
    lines = DataCollatorForLanguageModeling(tokenizer, mlm=False)

    def collate(rows: list[Any]) -> dict[str, Tensor]:
        batch = dict(lines(rows))
        return {**batch, "attention_mask": pairs(batch)}

    found = []
    for size in (1, 4):
        callback = KoCPTCallback(outputs=[])
        trainer = tiny.trainer(
            tiny.llama(VOCABULARY, **MODEL), tmp_path,
            evaluation=[{"input_ids": row["input_ids"]} for row in ROWS], per_device_eval_batch_size=size,
            callbacks=[callback], data_collator=collate, **({"processing_class": tokenizer} if table else {}),
        )  # fmt: skip
        callback.attach(trainer)
        found.append(trainer.evaluate())
    one, four = found
    assert four["eval_exact_loss"] == pytest.approx(one["eval_exact_loss"], rel=1e-6)
    assert four["eval_rows"] == one["eval_rows"] == len(ROWS)
    assert four["eval_tokens"] == one["eval_tokens"]
    assert trainer.state.log_history[-1]["eval_fingerprint"] is not None


def test_a_mask_of_pairs_says_where_tokens_are() -> None:
    """Who may not see itself is no token; a mask of another shape says nothing."""
    numbers = torch.tensor([[1, 1, 2, 0]])
    ids = LINE[:, :4]
    found = token_mask({"input_ids": ids, "attention_mask": _square(numbers)}, ids.shape)
    assert found is not None
    assert found.tolist() == [[True, True, True, False]]
    assert token_mask({"input_ids": ids, "attention_mask": LINE}, ids.shape) is None


STARTS = torch.tensor([[True, False, False, True, False, False]])
LABELS = torch.tensor([[-100, 6, 7, 8, 9, 10]])
NLL = torch.tensor([[0.0, 1.0, 2.0, 9.0, 3.0, 4.0]])


@pytest.mark.parametrize(
    ("loss", "call", "tokens", "total"),
    [
        (19 / 5, {}, 5, 19.0),
        (19 / 10, {"num_items_in_batch": 10}, 5, 19.0),
        (10 / 4, {}, 4, 10.0),
        (10 / 10, {"num_items_in_batch": 10}, 4, 10.0),
        (7.0, {}, 5, 19.0),
    ],
)
def test_first_tokens_count_as_the_model_counts_them(
    loss: float, call: dict[str, int], tokens: int, total: float
) -> None:
    """Labels score a document's first token: it counts, unless the model's loss is the mean of the others."""
    found = leave_out_starts(LossEvidence("logits", nll=NLL, labels=LABELS), STARTS, torch.tensor(loss), call)
    assert found.nll is not None and found.labels is not None
    assert int((found.labels != -100).sum()) == tokens
    assert float(found.nll.sum()) == total


class _MasksStarts(tiny.LlamaForCausalLM):
    """A model whose loss leaves out the first tokens of documents, although the labels have them."""

    without_logits = False

    def forward(self, input_ids: Any = None, labels: Any = None, position_ids: Any = None, **kwargs: Any) -> Any:
        output = super().forward(input_ids=input_ids, position_ids=position_ids)
        if labels is not None:
            targets = labels.masked_fill(position_ids == 0, -100)[:, 1:].flatten()
            output["loss"] = F.cross_entropy(output["logits"][:, :-1].flatten(0, 1), targets)
        if self.without_logits:
            output["logits"] = None
        return output


def _unmasked(lines: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Positions begin again, and the labels are the ids."""
    batch = _positions(lines)
    batch["labels"] = batch["input_ids"].masked_fill(_padded(lines)["numbers"] == 0, -100)
    return batch


def _evaluate(model: Any, folder: Path) -> dict[str, Any]:
    lines = [_line(documents) for documents in LINES]
    trainer = tiny.trainer(model, folder, None, lines, data_collator=_unmasked, callbacks=[KoCPTCallback()])
    trainer.evaluate()
    row: dict[str, Any] = trainer.state.log_history[-1]
    return row


def _model(kind: type[Any]) -> Any:
    source = tiny.llama(VOCABULARY, **MODEL)
    model = kind(source.config)
    model.load_state_dict(source.state_dict())
    return model


def test_a_model_that_masks_document_starts_is_seen(tmp_path: Path) -> None:
    """Labels score the starts of documents: the ordinary model counts them; one whose loss leaves them out is measured
    without.
    """
    every = _evaluate(_model(tiny.LlamaForCausalLM), tmp_path / "every")
    rest = _evaluate(_model(_MasksStarts), tmp_path / "rest")
    total = sum(len(row["input_ids"]) for row in ROWS)
    assert every["eval_tokens"] == total - len(LINES)
    assert rest["eval_tokens"] == total - len(ROWS)
    wanted = tiny.exact_loss(_model(tiny.LlamaForCausalLM), ROWS)
    assert rest["eval_exact_loss"] == pytest.approx(wanted, rel=1e-5)
    assert every["eval_exact_loss"] != pytest.approx(wanted, rel=1e-3)


def test_the_starts_without_logits_in_the_output(tmp_path: Path) -> None:
    """Logits that were made and not returned: the model's own losses were seen, so it is measured all the same."""
    model = _model(_MasksStarts)
    model.without_logits = True
    row = _evaluate(model, tmp_path)
    assert row["eval_tokens"] == sum(len(item["input_ids"]) for item in ROWS) - len(ROWS)
    wanted = tiny.exact_loss(_model(tiny.LlamaForCausalLM), ROWS)
    assert row["eval_exact_loss"] == pytest.approx(wanted, rel=1e-5)
