"""`half-precision-modules`: weights are trained in fp16, in which small updates vanish and large ones overflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import SetupObservation
from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import SetupRule, count_of, names_of, text_of

__all__ = ["HalfPrecisionModules"]


@dataclass(frozen=True, slots=True)
class HalfPrecisionModules(SetupRule):
    """Reads the set-up row of this code's name, written when training begins.

    Typical is an 8-bit model whose other weights were loaded in fp16: PEFT keeps its LoRA in fp32, but copies
    ``modules_to_save`` as they are. The loss then goes to 0 or NaN after a few steps (PEFT issues 334 and 389).
    """

    info: ClassVar = RuleInfo("half-precision-modules", (Severity.WARNING,), (SetupObservation,), may_stop=True)

    def judge(self, seen: SetupObservation) -> Finding | None:
        """A warning; the sentence differs where the model is quantised."""
        if seen.kind != self.code:
            return None
        tensors, modules, fix = count_of(seen, "tensors"), names_of(seen, "modules"), text_of(seen, "fix")
        quantization = text_of(seen, "quantization") or "none"
        if not tensors or not modules or fix is None:
            return None
        values = {"tensors": tensors, "modules": modules, "quantization": quantization, "fix": fix}
        return self._found(seen, Severity.WARNING, values, "plain" if quantization == "none" else "quantized")
