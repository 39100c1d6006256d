"""Sentences of `stage-regression`, and of what is said about stages elsewhere. See `ko_cpt_callbacks.core.message`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ko_cpt_callbacks.core.explanation import Explanation

__all__ = ["CODES", "DELTA_REASONS", "MATCH_REASONS", "MESSAGES", "READING_NOTES"]

_WORSE: Final = (
    "{split}, step {step:n}: stage {stage} ends {difference:signed} {unit} from where stage {before} ended "
    "({confidence:percent} interval {low:signed} to {high:signed}, "
)
_ACTION: Final = (
    "): worse by more than noise. Go on from the end of {before}, not from here. Look at this stage's learning rate "
    "first (a new stage begins with a new warm-up and optimizer), then at its data."
)

MESSAGES: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("stage-regression", ""): {"en": _WORSE + "the same rows one by one" + _ACTION},
    ("stage-regression", "unpaired"): {"en": _WORSE + "from the two losses' own errors" + _ACTION},
}

CODES: Final[Mapping[str, Mapping[str, Explanation]]] = {
    "stage-regression": {
        "en": Explanation(
            meaning="A stage of a staged training made the model worse on the same held-out text than the stage before "
            "left it. Every later stage starts from there.",
            decided="warning, once for each stage and evaluation set: the last evaluation of the stage and that of the "
            "stage before scored the same text, and the 95 % interval of their difference is above zero, and the "
            "difference is no smaller than 0.008 bits per byte (as ko-cpt compare calls two runs level). Row by row "
            "where both kept their sums per row, else from the two standard errors; in bits per byte where the "
            "tokenizers differ. Another text, or no error bar: not judged. Retention sets never count.",
            action="Go on from the end of the earlier stage. Lower the learning rate of the later one, or leave it "
            "out: a published run's last two stages were worth 0.03 nats each.",
        )
    },
}

DELTA_REASONS: Final[Mapping[str, Mapping[str, str]]] = {
    "not-finite": {"en": "an evaluation was not finite"},
    "other-metric": {"en": "one has an exact loss, the other the Trainer's only"},
    "different-text": {"en": "the two evaluated different text"},
    "other-tokenizer": {"en": "another tokenizer, and no bits per byte"},
    "scored-differently": {"en": "not the same part of the text was scored"},
    "trainer-loss": {"en": "the Trainer's loss, which depends on the batch size"},
    "text-unknown": {"en": "it is not known whether the text is the same"},
    "tokenizer-unknown": {"en": "it is not known whether the tokenizer is the same"},
    "no-error-bar": {"en": "no error bar"},
    "no-rows": {"en": "no sums per row, so the error is that of two unrelated samples"},
    "one-row": {"en": "too few rows to pair"},
    "other-rows": {"en": "the file of sums per row is of another evaluation"},
    "unreadable-rows": {"en": "the file of sums per row cannot be read"},
}
"""Why a stage's difference is no better than it is."""

MATCH_REASONS: Final[Mapping[str, Mapping[str, str]]] = {
    "same": {"en": "trains the same"},
    "as-stated": {"en": "trains the same, as far as its source says"},
    "through-lora": {"en": "trains the same layers, there themselves, here through LoRA"},
    "nothing-trains": {"en": "nothing is trained here"},
    "unknown": {"en": "what is trained here could not be read"},
    "several": {"en": "several of its stages fit"},
    "none": {"en": "none of its stages trains the same"},
}
"""Which stage of a baseline a model's stage stands beside, and why."""

READING_NOTES: Final[Mapping[str, Mapping[str, str]]] = {
    "rows-behind-hook": {"en": "a gradient hook may hold rows of the embeddings back, and which cannot be seen"},
    "rows-not-last": {"en": "chosen rows of the embeddings train, and they are not the last ones"},
    "embedding-not-found": {"en": "the model does not say which module its embeddings or its head are"},
    "blocks-not-found": {"en": "the model has no single list of its layers"},
    "blocks-in-part": {"en": "parts of layers train and other parts of the same layers do not, with no adapter"},
    "adapter-and-weights": {"en": "adapters train and weights of the layers themselves too"},
    "nothing-recognised": {"en": "something trains that is neither embeddings, head, layers nor an adapter"},
}
"""Why what a model trains is unknown."""
