"""What a Trainer trains, read from class names or from a log's keys, and which rules apply to it.

Perplexity, floors, "learned by heart" and an exact loss belong to language-model losses: the mean cross-entropy of
tokens. A loss over pairs, scores or sampled text is none, whatever its number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from typing import Final

__all__ = ["TrainerKind", "applies", "kind_of_keys", "kind_of_model", "kind_of_trainer"]


class TrainerKind(StrEnum):
    """What is trained on."""

    CAUSAL = "causal"
    """Each token from those before it: pretraining, supervised fine-tuning."""
    SEQ2SEQ = "seq2seq"
    """The tokens of an answer from an encoded text."""
    MASKED = "masked"
    """Hidden tokens from those around them."""
    PREFERENCE = "preference"
    """Pairs, or single answers with a verdict: DPO, KTO, ORPO, CPO."""
    REWARD = "reward"
    """A score of an answer, from pairs or steps."""
    RL = "rl"
    """Answers that the model wrote itself, by a reward: GRPO, RLOO, PPO."""
    OTHER = "other"
    """Anything else: classes, regression, another model's distribution."""

    @property
    def language(self) -> bool:
        """Whether its loss is the cross-entropy of tokens, so that a perplexity means something.

        >>> TrainerKind.CAUSAL.language, TrainerKind.PREFERENCE.language
        (True, False)
        """
        return self in (TrainerKind.CAUSAL, TrainerKind.SEQ2SEQ, TrainerKind.MASKED)


# Class names as TRL, Axolotl (AxolotlDPOTrainer), LLaMA-Factory (CustomKTOTrainer, PairwiseTrainer), Unsloth
# (UnslothGRPOTrainer) and OpenRLHF's users write them, and the arguments' (DPOConfig). Order counts: OnlineDPO samples.
# PRO (preference ranking) stands alone: LlamaPROTrainer is continued pretraining (LLaMA Pro).
_TRAINERS: Final = (
    (TrainerKind.RL, r"OnlineDPO|GRPO|RLOO|PPO|NashMD|XPO|A2PO|GMPO|GSPO|DAPO|SDPO|Reinforce|Remax"),
    (TrainerKind.PREFERENCE, r"DPO|KTO|ORPO|CPO|SimPO|BCO|TPO|IPO|\bPRO|RRHF|Preference"),
    (TrainerKind.REWARD, r"Reward|PRM|Pairwise|RewardModel"),
    (TrainerKind.OTHER, r"GKD|GOLD|MiniLLM|SDFT|OPD|IWOPD|Distillation|Distill"),
)
_TRAINER_NAMES: Final = tuple(
    (kind, re.compile(rf"(?:^|[a-z0-9_])(?:{names})(?:v\d)?(?:Trainer|Config|Arguments|TrainingArguments)$"))
    for kind, names in _TRAINERS
)

_ENCODER_DECODER: Final = re.compile(r"For(?:Conditional|Question)?Generation$|Seq2SeqLM$|Seq2Seq")
_MASKED: Final = re.compile(r"ForMaskedLM$")
_CAUSAL: Final = re.compile(r"ForCausalLM$|LMHeadModel$|CausalLM|ForConditionalGeneration$|ForImageTextToText")
_OTHER_HEAD: Final = re.compile(
    r"For(?!CausalLM|MaskedLM)\w*(?:Classification|Answering|Choice|Prediction|PreTraining)|CTC$"
)


def kind_of_trainer(names: Iterable[str]) -> TrainerKind | None:
    """The kind that a Trainer's classes say, nearest first, then those of its arguments.

    ``None`` for a Trainer whose model decides what it trains: ``Trainer``, ``SFTTrainer``.

    >>> kind_of_trainer(["MyTrainer", "DPOTrainer", "Trainer"])
    <TrainerKind.PREFERENCE: 'preference'>
    """
    for name in names:
        for kind, pattern in _TRAINER_NAMES:
            if pattern.search(name):
                return kind
    return None


def kind_of_model(names: Iterable[str], *, encoder_decoder: bool = False, has_head: bool = False) -> TrainerKind:
    """The kind that a model's classes say.

    Args:
        names: Names of its class and of those it derives from, nearest first.
        encoder_decoder: Whether its configuration says that it encodes one text and writes another.
        has_head: Whether it has a layer that scores its vocabulary.

    >>> kind_of_model(["BertForSequenceClassification"])
    <TrainerKind.OTHER: 'other'>
    """
    for name in names:
        if _OTHER_HEAD.search(name):
            return TrainerKind.OTHER
        if _MASKED.search(name):
            return TrainerKind.MASKED
        if encoder_decoder and _ENCODER_DECODER.search(name):
            return TrainerKind.SEQ2SEQ
        if _CAUSAL.search(name):
            return TrainerKind.CAUSAL
    if not has_head:
        return TrainerKind.OTHER
    return TrainerKind.SEQ2SEQ if encoder_decoder else TrainerKind.CAUSAL


# Keys of log rows, without the prefix of an evaluation. What ends in _reward comes first: eval_mean_reward could be the
# reward of a set called mean.
_KIND_KEYS: Final = tuple((kind, re.compile(pattern)) for kind, pattern in (
    (TrainerKind.REWARD, r"(?:min|mean|max)_reward"),
    (
        TrainerKind.RL,
        r"reward|reward_std|frac_reward_zero_std|completion_length|completions/.+|objective/.+|clip_ratio(?:/.+)?|"
        r"rewards/[^/]+/(?:mean|std)|policy/.+|policy_loss|loss/policy_avg|loss/value_avg|ppo/.+|env/reward.*|"
        r"importance_sampling_ratio|sampling/.+",
    ),
    (
        TrainerKind.PREFERENCE,
        r"rewards/(?:chosen|rejected|margins|accuracies)(?:_sum)?|log(?:ps|its)/(?:chosen|rejected)(?:_sum)?|"
        r"log_odds_(?:chosen|ratio)|rewards_(?:chosen|rejected)",
    ),
    (TrainerKind.OTHER, r"distillation_loss|.+/distillation_loss|jsd|teacher_entropy"),
    (TrainerKind.SEQ2SEQ, r"rouge(?:1|2|L|Lsum)|sacrebleu|bleu|chrf|gen_len"),
    (TrainerKind.OTHER, r"f1|precision|recall|matthews_correlation|mse|rmse|mae|r2|pearsonr?|auc|map"),
))  # fmt: skip


@lru_cache(maxsize=256)
def kind_of_keys(names: tuple[str, ...]) -> TrainerKind | None:
    """The kind that the keys of a log row say, which are the same in most rows; ``None`` where they say nothing.

    >>> kind_of_keys(("eval_loss", "eval_rewards/margins", "step"))
    <TrainerKind.PREFERENCE: 'preference'>
    """
    ranks = [rank for name in names if (rank := _rank(name)) is not None]
    return _KIND_KEYS[min(ranks)][0] if ranks else None


def _rank(name: str) -> int | None:
    """Where in `_KIND_KEYS` a key stands."""
    forms = _bare(name)
    return next((i for i, (_, pattern) in enumerate(_KIND_KEYS) if any(map(pattern.fullmatch, forms))), None)


def _bare(name: str) -> tuple[str, ...]:
    """A key without an evaluation's prefix: ``eval_ko_f1`` may be ``f1`` of the set ``ko``, or ``ko_f1`` of all."""
    if not name.startswith(("eval_", "test_")):
        return (name,)
    rest = name.partition("_")[2]
    return rest, *(rest[i + 1 :] for i, letter in enumerate(rest) if letter == "_")


# Which rules speak of which kinds. A rule that is in neither set asks what every training has: finite numbers, levels,
# seams, arguments, parameters.
_OF_LANGUAGE: Final = frozenset(
    {
        "below-floor", "memorizing", "forgetting", "loss-scaled", "padding-in-loss", "prompt-in-loss",
        "baseline-ahead", "baseline-behind", "not-comparable", "stage-regression", "eval-too-small",
        "embeddings-frozen", "embeddings-untied", "eos-not-trained", "target-likely", "target-unreachable",
    }
)  # fmt: skip
# A loss of reinforcement learning is an advantage times a ratio: it starts at 0 and its level says nothing, so neither
# a rise nor a standstill of it is a fault.
_NOT_OF_RL: Final = frozenset(
    {
        "loss-spike", "diverged", "level-shift", "plateau", "no-learning", "overfitting", "gap-widening",
        "run-seam", "no-first-evaluation", "eval-steps-ignored",
    }
)  # fmt: skip


def applies(code: str, kind: TrainerKind | None) -> bool:
    """Whether a finding says something about a run of this kind: the one place where that is decided.

    Args:
        code: The finding's code; of a `note` its reason.
        kind: What the run trains; ``None`` where nothing says it, which is taken for a language model.

    >>> applies("below-floor", TrainerKind.PREFERENCE), applies("non-finite", TrainerKind.PREFERENCE)
    (False, True)
    """
    if kind is None:
        return True
    if code in _OF_LANGUAGE:
        return kind.language
    return not (kind is TrainerKind.RL and code in _NOT_OF_RL)
