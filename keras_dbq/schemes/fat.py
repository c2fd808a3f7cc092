"""FATScheme: linear weights and activations on trained thresholds."""

from typing import Any

from keras_dbq import _checks
from keras_dbq.network import kernels
from keras_dbq.quantizers import LinearWeightQuantizer
from keras_dbq.schemes.base import INITS, LayerwiseScheme
from keras_dbq.schemes.plan import Step


class FATScheme(LayerwiseScheme):
    """Every kernel and every activation on trained thresholds; batch norm is folded first.

    source: Goncharenko et al., IWANN 2019, arXiv 1812.07872 (`threshold_ops`). Weights are always symmetric, because
    int8 files ask for it (choice); `symmetric` is about activations.

    Args:
      mode: "vector" (a weight threshold per output filter) or "scalar" (one per tensor); activations have one each.
      symmetric: activations with zero point 0 (from 0 on where never negative), or asymmetric with shift and width.
      bits: of the weights, 2 to 8.
      activation_bits: 4 to 8; the model's inputs and outputs keep 8.
      overrides: per-layer choices {name, glob pattern or layer type: {option: value}} as in DBQScheme. Options: bits,
        per_channel, skip (True: the weights stay float).
      on_unsupported: "error" or "skip", for layers that have no integer form.
      init: "least_error" rounds the float weights; "two_step" solves for weights that give the float network's outputs
        on the calibration data, layer by layer (`solve_ternary`). None: "two_step" where `quantize_model` is given at
        least 256 pictures, else "least_error".

    Raises:
      ValueError, TypeError: a value outside its range, an unknown option in overrides.
    """

    choices = ("bits", "per_channel", "skip")

    def __init__(
        self,
        mode: str = "vector",
        symmetric: bool = False,
        bits: int = 8,
        *,
        activation_bits: int = 8,
        overrides: dict[str | type, dict[str, Any]] | None = None,
        on_unsupported: str = "error",
        init: str | None = None,
    ):
        self.mode = _checks.one_of("mode", mode, ("vector", "scalar"))
        self.bits = _checks.integer("bits", bits, 2, 8)
        self.init = init if init is None else _checks.one_of("init", init, INITS)
        activation = {"bits": activation_bits, "ranges": "trained", "symmetric": symmetric}
        super().__init__(activation, overrides, on_unsupported, fold=True)

    def weight_quantizer(self, step: Step) -> tuple[Any, str]:
        options = self.choice(step.layer)
        if options.get("skip"):
            return None, "skipped by choice: weights stay float"
        quantizer = LinearWeightQuantizer(
            bits=options.get("bits", self.bits),
            per_channel=options.get("per_channel", self.mode == "vector"),
            depthwise=kernels.is_depthwise(step.layer),
            threshold="trained",
            round_bias=True,
        )
        return quantizer, step.affine

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mode": self.mode, "bits": self.bits, "init": self.init}
