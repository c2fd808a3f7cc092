"""TernaryRuleScheme: the ternary weights of others, on the same layers, to compare with."""

from typing import Any

from keras_dbq import _checks
from keras_dbq.quantizers.ternary_rules import METHODS, TernaryRuleQuantizer
from keras_dbq.schemes.dbq import DBQScheme
from keras_dbq.schemes.plan import Step


class TernaryRuleScheme(DBQScheme):
    """Ternary weights by TWN, its optimum, or TTQ, where `DBQScheme` has branches; everything else as there.

    Args:
      method: "twn" (Li et al., arXiv 1605.04711), "optimal_twn" (the least squared error), "ttq" (Zhu et al., ICLR
        2017: two trained scales); see `quantizers.TernaryRuleQuantizer`. A file packs TTQ as two branches.
      per_channel: thresholds and scales per output channel, or per tensor as in the papers.
      activation_bits, activation_ranges, symmetric, weight_bits, weight_threshold: see DBQScheme.
      ternary_first, ternary_last, ternary_depthwise, on_unsupported, ema_decay: see DBQScheme.
      overrides: per-layer choices as in DBQScheme, of the options bits, skip and per_channel.

    Raises:
      ValueError, TypeError: a value outside its range, an unknown option in overrides.
    """

    choices = ("bits", "skip", "per_channel")

    def __init__(
        self,
        method: str = "twn",
        *,
        per_channel: bool = True,
        activation_bits: int = 8,
        activation_ranges: str = "moving_average",
        symmetric: bool = False,
        weight_bits: int = 8,
        weight_threshold: str = "max",
        ternary_first: bool = False,
        ternary_last: bool = False,
        ternary_depthwise: bool = False,
        overrides: dict[str | type, dict[str, Any]] | None = None,
        on_unsupported: str = "error",
        ema_decay: float = 0.99,
    ):
        self.method = _checks.one_of("method", method, METHODS)
        super().__init__(
            TernaryRuleQuantizer(method).branches,
            per_channel=per_channel,
            activation_bits=activation_bits,
            activation_ranges=activation_ranges,
            symmetric=symmetric,
            weight_bits=weight_bits,
            weight_threshold=weight_threshold,
            ternary_first=ternary_first,
            ternary_last=ternary_last,
            ternary_depthwise=ternary_depthwise,
            overrides=overrides,
            on_unsupported=on_unsupported,
            ema_decay=ema_decay,
            init="least_error",
        )

    def weight_quantizer(self, step: Step) -> tuple[Any, str]:
        quantizer, reason = super().weight_quantizer(step)
        if quantizer is None or not quantizer.branches:
            return quantizer, reason
        return TernaryRuleQuantizer(self.method, quantizer.per_channel, quantizer.depthwise), reason

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "method": self.method}
