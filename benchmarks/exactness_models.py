"""Models of the exactness table's kinds (``exactness_kind.py``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F


def llama(**config: Any) -> Any:
    """Wide weights, as in the plain table."""
    import tiny

    return tiny.llama(len(tiny.byte_level_tokenizer()), **{"initializer_range": 0.4, **config})


def save(folder: Path) -> None:
    """What some kinds load: before there is a process group, in which only the first rank saves a model."""
    llama().save_pretrained(folder / "plain")
    llama(hidden=64).save_pretrained(folder / "wide")


def mixtral(kind: type[Any] | None = None) -> Any:
    """A small mixture of experts whose loss holds the router's."""
    import tiny
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=len(tiny.byte_level_tokenizer()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
        max_position_embeddings=512,
        initializer_range=0.4,
        output_router_logits=True,
        router_aux_loss_coef=0.5,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    return (MixtralForCausalLM if kind is None else kind)(config)


def without_logits(base: type[Any], change: Callable[[Any, Any], Any]) -> type[Any]:
    """A class whose output holds the loss alone, where labels are given.

    Args:
        base: A causal model's class.
        change: Loss from output and labels.
    """

    class Quiet(base):  # type: ignore[misc]
        def forward(self, input_ids: Any = None, labels: Any = None, **kwargs: Any) -> Any:
            output = super().forward(input_ids=input_ids, labels=labels, **kwargs)
            if labels is None:
                return output
            return type(output)(loss=change(output, labels))

    Quiet.__name__ = base.__name__
    return Quiet


def own_mean(output: Any, labels: Any) -> Any:
    """The batch's mean, whatever count the Trainer gives."""
    return F.cross_entropy(output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def own_loss(output: Any, _labels: Any) -> Any:
    """The loss as it is."""
    return output.loss


def quiet_llama(change: Callable[[Any, Any], Any]) -> Any:
    """A Llama whose output holds a loss alone."""
    from transformers import LlamaForCausalLM

    source = llama()
    model = without_logits(LlamaForCausalLM, change)(source.config)
    model.load_state_dict(source.state_dict())
    return model


def quiet_mixtral() -> Any:
    """A mixture of experts whose output holds a loss alone, the router's in it."""
    from transformers import MixtralForCausalLM

    return mixtral(without_logits(MixtralForCausalLM, own_loss))


def adapter(**settings: Any) -> Callable[[Path], Any]:
    """A Llama with LoRA, moved off its starting point."""

    def make(_folder: Path) -> Any:
        import tiny

        return moved(tiny.lora(llama(), modules_to_save=None, **settings))

    return make


def prompt(name: str) -> Callable[[Path], Any]:
    """A Llama with four virtual tokens, by the class of their configuration in PEFT."""

    def make(_folder: Path) -> Any:
        import peft

        config = getattr(peft, name)(task_type="CAUSAL_LM", num_virtual_tokens=4)
        return moved(peft.get_peft_model(llama(use_cache=True), config))

    return make


def four_bit(folder: Path) -> Any:
    """LoRA on a body in 4 bits (NF4)."""
    import tiny
    from transformers import BitsAndBytesConfig, LlamaForCausalLM

    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    model = LlamaForCausalLM.from_pretrained(folder / "wide", quantization_config=config, device_map="cpu")
    return moved(tiny.lora(model, modules_to_save=None))


def saved(folder: Path) -> Any:
    """A Llama from a folder: Trainers with a reference model load it a second time."""
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder / "plain")


def moved(model: Any) -> Any:
    """Trainable numbers moved at random, alike on every rank."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def sharded(folder: Path) -> Any:
    """A Llama cut over the ranks by FSDP2, by hand."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from transformers import TrainingArguments

    arguments = TrainingArguments(output_dir=str(folder / "none"), use_cpu=True, ddp_backend="gloo")
    mesh = init_device_mesh("cpu", (arguments.world_size,))
    model = llama()
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def reward_model(_folder: Path) -> Any:
    """A Llama with a score in place of a vocabulary."""
    from transformers import LlamaForSequenceClassification

    config = llama().config
    config.num_labels = 1
    torch.manual_seed(0)
    return LlamaForSequenceClassification(config)
