"""What a Trainer trains, from the names of its classes and from the keys of its log."""

import pytest

from ko_cpt_callbacks.rules.registry import ALL_RULES
from ko_cpt_callbacks.run.kind import TrainerKind, applies, kind_of_keys, kind_of_model, kind_of_trainer


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("DPOTrainer", "preference"),
        ("AxolotlDPOTrainer", "preference"),
        ("CustomKTOTrainer", "preference"),
        ("UnslothORPOTrainer", "preference"),
        ("CPOConfig", "preference"),
        ("TPOTrainer", "preference"),
        ("PROTrainer", "preference"),
        ("LlamaPROTrainer", None),
        ("RewardTrainer", "reward"),
        ("AxolotlPRMTrainer", "reward"),
        ("PairwiseTrainer", "reward"),
        ("GRPOTrainer", "rl"),
        ("AsyncGRPOTrainer", "rl"),
        ("RLOOConfig", "rl"),
        ("PPOv2Trainer", "rl"),
        ("OnlineDPOTrainer", "rl"),
        ("GKDTrainer", "other"),
        ("IWOPDTrainer", "other"),
        ("ServerDistillationTrainer", "other"),
        ("SFTTrainer", None),
        ("Seq2SeqTrainer", None),
        ("Trainer", None),
        ("TrainingArguments", None),
        ("AxolotlTrainer", None),
    ],
)
def test_trainer_classes(name: str, kind: str | None) -> None:
    """Trainers that score pairs, answers or samples are known by their names; the others leave it to the model."""
    assert kind_of_trainer([name]) == kind


@pytest.mark.parametrize(
    ("name", "encoder_decoder", "kind"),
    [
        ("LlamaForCausalLM", False, "causal"),
        ("GPT2LMHeadModel", False, "causal"),
        ("Gemma3ForConditionalGeneration", False, "causal"),
        ("T5ForConditionalGeneration", True, "seq2seq"),
        ("BertForMaskedLM", False, "masked"),
        ("BertForSequenceClassification", False, "other"),
        ("LlamaForTokenClassification", False, "other"),
        ("Wav2Vec2ForCTC", False, "other"),
        ("TimeSeriesTransformerForPrediction", True, "other"),
        ("RegressionModel", False, "other"),
    ],
)
def test_model_classes(name: str, encoder_decoder: bool, kind: str) -> None:
    """A model's class says what an ordinary Trainer trains; one without a known name is `other`."""
    assert kind_of_model([name, "Module"], encoder_decoder=encoder_decoder) == kind


def test_unknown_model_with_a_head() -> None:
    """A model of one's own that scores a vocabulary is a language model."""
    assert kind_of_model(["TinyModel"], has_head=True) == TrainerKind.CAUSAL
    assert kind_of_model(["TinyModel"], has_head=True, encoder_decoder=True) == TrainerKind.SEQ2SEQ


def test_a_subclass_and_arguments() -> None:
    """A subclass is known by what it extends, or by its arguments; what trains as its model says is none."""
    assert kind_of_trainer(["Mine", "DPOTrainer", "Trainer", "DPOConfig"]) == TrainerKind.PREFERENCE
    assert kind_of_trainer(["Mine", "Trainer", "KTOConfig", "TrainingArguments"]) == TrainerKind.PREFERENCE
    assert kind_of_trainer(["SFTTrainer", "Trainer", "SFTConfig"]) is None


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["loss", "rewards/chosen", "rewards/margins", "logps/chosen"], "preference"),
        (["eval_loss", "eval_rewards/margins", "eval_logits/rejected"], "preference"),
        (["loss", "kl", "rewards/chosen", "logps/rejected"], "preference"),
        (["loss", "nll_loss", "log_odds_ratio"], "preference"),
        (["loss", "reward", "reward_std", "kl"], "rl"),
        (["loss", "rewards/length/mean", "rewards/length/std"], "rl"),
        (["objective/kl", "objective/rlhf_reward", "eps"], "rl"),
        (["eval_loss", "eval_mean_reward", "eval_accuracy"], "reward"),
        (["eval_loss", "eval_rouge1", "eval_gen_len"], "seq2seq"),
        (["eval_loss", "eval_f1"], "other"),
        (["loss", "grad_norm", "learning_rate", "epoch", "num_tokens", "mean_token_accuracy"], None),
        (["eval_loss", "eval_accuracy", "eval_runtime"], None),
        (["eval_r2_loss", "eval_map_loss"], None),
        (["loss", "kl"], None),
        (["loss", "aux_loss"], None),
    ],
)
def test_log_keys(names: list[str], kind: str | None) -> None:
    """A log's own keys say what was trained where the Trainer logs what only it has; ordinary keys say nothing."""
    assert kind_of_keys(tuple(names)) == kind


def test_language_kinds() -> None:
    """Only a loss that is a cross-entropy of tokens has a perplexity."""
    assert {kind.value for kind in TrainerKind if kind.language} == {"causal", "seq2seq", "masked"}


def test_what_applies() -> None:
    """Words about language-model losses are for those; levels of an RL loss are not judged; finite numbers always."""
    codes = [rule.code for rule in ALL_RULES]
    for kind in (None, TrainerKind.CAUSAL, TrainerKind.SEQ2SEQ, TrainerKind.MASKED):
        assert all(applies(code, kind) for code in codes), kind
    assert not applies("below-floor", TrainerKind.PREFERENCE)
    assert not applies("memorizing", TrainerKind.REWARD)
    assert applies("overfitting", TrainerKind.PREFERENCE)
    assert not applies("overfitting", TrainerKind.RL)
    assert all(applies("non-finite", kind) for kind in TrainerKind)
