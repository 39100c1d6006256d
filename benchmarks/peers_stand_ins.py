"""Small models and texts, made here, under names of the hub: other projects' tests can then run offline.

The models go to a cache of the hub (``make_cache``), where every library finds them by itself; the data sets come from
a ``load_dataset`` of our own (``install``). What is not made here stays unknown, and a test that needs it fails with
and without our callback.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import tiny
import torch
import transformers

_REVISION = "0" * 40
_SPECIAL = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
_SIZES: Mapping[str, int] = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 2048,
}

# Names that the suites ask for. The class stands in the name.
MODELS = (
    *(
        f"trl-internal-testing/tiny-{name}"
        for name in (
            "Qwen2ForCausalLM-2.5",
            "Qwen3ForCausalLM",
            "Qwen3MoeForCausalLM",
            "LlamaForCausalLM-3",
            "LlamaForCausalLM-3.1",
            "LlamaForCausalLM-3.2",
            "MistralForCausalLM-0.1",
            "MistralForCausalLM-0.2",
            "GPTNeoXForCausalLM",
            "GemmaForCausalLM",
            "Gemma2ForCausalLM",
            "Phi3ForCausalLM",
            "CohereForCausalLM",
            "Cohere2ForCausalLM",
            "Olmo3ForCausalLM",
            "GptOssForCausalLM",
            "Qwen2ForSequenceClassification-2.5",
            "Qwen3ForSequenceClassification",
            "LlamaForSequenceClassification-3.2",
            "Qwen3MoeForSequenceClassification",
        )
    ),
    *(
        f"{owner}/tiny-random-{name}"
        for owner in ("hf-internal-testing", "peft-internal-testing", "trl-internal-testing")
        for name in ("OPTForCausalLM", "LlamaForCausalLM", "GPT2LMHeadModel", "BertModel")
    ),
    "peft-internal-testing/opt-125m",
    "facebook/opt-125m",
    "peft-internal-testing/tiny-random-GPTJForCausalLM",
    "hf-internal-testing/tiny-random-MistralForCausalLM",
    "hf-internal-testing/tiny-random-Gemma3ForCausalLM",
    "hf-internal-testing/tiny-random-gpt2",
    "peft-internal-testing/tiny-dummy-qwen2",
    "gpt2",
)

# Names without a class in them.
_CLASSES: Mapping[str, tuple[str, str]] = {
    "opt-125m": ("OPT", "ForCausalLM"),
    "gpt2": ("GPT2", "LMHeadModel"),
    "dummy-qwen2": ("Qwen2", "ForCausalLM"),
}


def make_cache(home: Path) -> list[str]:
    """Fill ``home`` (``HF_HOME``) with the models; names of those that this version of transformers could not build."""
    missing = []
    for name in MODELS:
        folder = home / "hub" / f"models--{name.replace('/', '--')}"
        target = folder / "snapshots" / _REVISION
        if target.exists():
            continue
        try:
            model, tokenizer = _model(name)
        except Exception as error:  # another library's class: whatever it wants
            missing.append(f"{name}: {type(error).__name__}: {error}")
            continue
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(_REVISION, "utf-8")
    return missing


def _model(name: str) -> tuple[Any, Any]:
    short = name.rpartition("/")[2].removeprefix("tiny-").removeprefix("random-")
    found = re.search(r"(\w+?)(For\w+|LMHeadModel|Model)", short)
    stem, head = _CLASSES[short] if found is None else found.groups()
    tokenizer = _tokenizer()
    config = getattr(transformers, "Gemma3TextConfig" if stem == "Gemma3" else f"{stem}Config")
    sizes = {**_SIZES, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    sizes["eos_token_id"] = tokenizer.eos_token_id
    if "Moe" in stem or "GptOss" in stem:
        sizes |= {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
        sizes |= {"head_dim": 4, "decoder_sparse_step": 2} if stem == "Qwen3Moe" else {"head_dim": 4}
    if stem == "OPT":
        sizes |= {"ffn_dim": 32, "word_embed_proj_dim": 8}
    if stem == "GPTJ":
        sizes["rotary_dim"] = 2
    if "Classification" in head:
        sizes["num_labels"] = 1
    torch.manual_seed(0)
    return getattr(transformers, stem + head)(config(**sizes)), tokenizer


def _tokenizer() -> Any:
    """Byte-level, with the roles of a chat; the template is the one that the installed TRL has."""
    import copy

    import trl

    tokenizer = copy.deepcopy(tiny.byte_level_tokenizer())
    tokenizer.add_special_tokens({**_SPECIAL, "additional_special_tokens": ["<|im_start|>"]})
    template = Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja"
    if not template.exists():
        template = template.with_name("qwen3.jinja")
    tokenizer.chat_template = template.read_text("utf-8")
    tokenizer.model_max_length = 2048
    return tokenizer


def install() -> None:
    """``datasets.load_dataset`` gives made rows for names of the suites' test data, and asks the original for others.

    A request to the hub ends at once: PEFT's tests turn the offline mode off, and would wait for every retry.
    Where there is no GPU, training arguments that do not say so are for the CPU: TRL's ask for bfloat16.
    """
    import datasets

    prepare = transformers.TrainingArguments.__post_init__

    def on_cpu(self: Any) -> None:
        self.use_cpu = self.use_cpu or not torch.cuda.is_available()
        prepare(self)

    transformers.TrainingArguments.__post_init__ = on_cpu

    original = datasets.load_dataset

    def load(path: str, name: str | None = None, *args: Any, split: str | None = None, **kwargs: Any) -> Any:
        parts = _parts(path, name)
        if parts is None:
            return original(path, name, *args, split=split, **kwargs)
        made = {key: datasets.Dataset.from_list(rows) for key, rows in parts.items()}
        if kwargs.get("streaming"):
            whole = datasets.IterableDatasetDict({key: rows.to_iterable_dataset() for key, rows in made.items()})
        else:
            whole = datasets.DatasetDict(made)
        return whole if split is None else whole[split]

    datasets.load_dataset = load
    if hasattr(huggingface_hub, "set_client_factory"):
        huggingface_hub.set_client_factory(_no_client)


def _no_client() -> Any:
    """The hub's HTTP client, which refuses every request."""
    from huggingface_hub.utils import _http

    def refuse(request: Any) -> None:
        raise huggingface_hub.errors.OfflineModeIsEnabled(f"no request here: {request.url}")

    client = _http.default_client_factory()
    client.event_hooks = {"request": [refuse]}
    return client


def _parts(path: str, name: str | None) -> dict[str, list[dict[str, Any]]] | None:
    """Rows by split under a name of the hub, or None where none are made here."""
    if path == "trl-internal-testing/zen" and name is not None:
        return {"train": _rows(name, 0, 17), "test": _rows(name, 17, 2)}
    texts = [text[:90] for text in tiny.english()]
    if path in ("ybelkada/english_quotes_copy", "Abirate/english_quotes"):
        return {"train": [{"quote": text, "author": "no one", "tags": ["made"]} for text in texts]}
    if (path, name) == ("nyu-mll/glue", "sst2"):
        rows = [{"sentence": text, "label": number % 2, "idx": number} for number, text in enumerate(texts)]
        return {"train": rows, "validation": rows}
    return None


def _rows(name: str, first: int, count: int) -> list[dict[str, Any]]:
    """Rows of a format (``standard`` or ``conversational``) and a task, as TRL's documentation describes them."""
    style, _, task = name.partition("_")
    texts = (tiny.english() * 3)[first : first + count]
    return [_row(style == "conversational", task, text[:90], number) for number, text in enumerate(texts)]


def _row(chat: bool, task: str, text: str, number: int) -> dict[str, Any]:
    cut = max(1, text.find(" ", 20))
    start, end, other = text[:cut], text[cut:], text[cut:][::-1]

    def said(role: str, words: str) -> Any:
        return [{"role": role, "content": words}] if chat else words

    prompt, chosen, rejected = said("user", start), said("assistant", end), said("assistant", other)
    if task == "language_modeling":
        return {"messages": prompt + chosen} if chat else {"text": text}
    rows: dict[str, dict[str, Any]] = {
        "prompt_only": {"prompt": prompt},
        "prompt_completion": {"prompt": prompt, "completion": chosen},
        "preference": {"prompt": prompt, "chosen": chosen, "rejected": rejected},
        "implicit_prompt_preference": {"chosen": prompt + chosen, "rejected": prompt + rejected},
        "unpaired_preference": {"prompt": prompt, "completion": chosen, "label": bool(number % 2)},
    }
    return rows[task]


if __name__ == "__main__":
    for line in make_cache(Path(os.environ["HF_HOME"])):
        print(f"not made: {line[:300]}")
