"""TSQScheme: activations of 1 to 4 bits behind each ReLU, ternary weights."""

from __future__ import annotations

from typing import Any

from keras_dbq import _checks
from keras_dbq.compat import keras
from keras_dbq.network import roles
from keras_dbq.network.batch_norm import is_batch_norm
from keras_dbq.network.chains import Chains
from keras_dbq.network.graph import Graph
from keras_dbq.network.obstacles import Obstacle
from keras_dbq.quantizers import CodeQuantizer, LinearWeightQuantizer
from keras_dbq.schemes.dbq import DBQScheme
from keras_dbq.schemes.plan import Plan, Step
from keras_dbq.wrapping.layers import CodeTable


class TSQScheme(DBQScheme):
    """Two-step quantization: sparse codes of few bits as activations, ternary weights that are solved for.

    source: Wang et al., CVPR 2018. What a ReLU gives becomes codes (`quantizers.CodeQuantizer`); other tensors, the
    network's input and output among them, have 8 bits, and so have the first and the last layer's weights.

    Step 1 trains the codes with `branches=0`, weights at 8 bits per channel. Step 2 finds the ternary weights, layer by
    layer: `solve_ternary(q_model, step_1, x)` with the trained model of step 1, or from the float network, as
    `quantize_model` with calibration data does. A fine-tuning with `fit` follows.

    codes="gaussian" asks for the paper's form: what a ReLU gets is normalised, so its batch norm has neither scale nor
    shift (`scale=False, center=False`, or both still at their start). Max-pooling stands behind the ReLU: codes are a
    function that never falls, so that gives what the paper's pooling before it does, with one rounding fewer.
    codes="data" fits threshold and step to the calibration data and takes any network.

    Args:
      activation_bits: of the codes, 1 to 4.
      sparsity: wanted share of zeros, 0.5 (HWGQ) to 0.95; None: the threshold is half a step, which is plain rounding.
        So is 62.5 % at 2 bits, but for a hundredth of a step. Other thresholds are exact too: a table (three small
        stock operators) per activation in the int8 file, thresholds on the sums of ternary layers in the packed one.
      branches: ternary branches of the weights, 1 or 2; 0: 8 bits per channel (step 1).
      codes: "gaussian" or "data".
      init: "two_step" or "least_error", see DBQScheme.
      forward, thresholds, ternary_first, ternary_last, ternary_depthwise, overrides, on_unsupported, ema_decay: see
        DBQScheme.

    Raises:
      ValueError, TypeError: a value outside its range, an unknown option in overrides.
    """

    def __init__(
        self,
        activation_bits: int = 2,
        sparsity: float | None = 0.625,
        *,
        branches: int = 1,
        codes: str = "gaussian",
        init: str = "two_step",
        forward: str = "straight_through",
        thresholds: str = "midpoint",
        ternary_first: bool = False,
        ternary_last: bool = False,
        ternary_depthwise: bool = False,
        overrides: dict[str | type, dict[str, Any]] | None = None,
        on_unsupported: str = "error",
        ema_decay: float = 0.99,
    ):
        self.codes = {"bits": activation_bits, "sparsity": sparsity, "fit": _checks.one_of("codes", codes, _CODES)}
        self.coded = CodeQuantizer(**self.codes)  # checks the values once, here
        self.eight_bit_weights = _checks.integer("branches", branches, 0, 3) == 0
        super().__init__(
            branches or 1,
            forward=forward,
            thresholds=thresholds,
            ternary_first=ternary_first,
            ternary_last=ternary_last,
            ternary_depthwise=ternary_depthwise,
            overrides=overrides,
            on_unsupported=on_unsupported,
            ema_decay=ema_decay,
            init="least_error" if self.eight_bit_weights else init,
        )

    def weight_quantizer(self, step: Step) -> tuple[Any, str]:
        quantizer, reason = super().weight_quantizer(step)
        chosen = "branches" in self.choice(step.layer)
        if not self.eight_bit_weights or chosen or not getattr(quantizer, "branches", 0):
            return quantizer, reason
        return LinearWeightQuantizer(bits=8, depthwise=quantizer.depthwise), "step 1"

    def output_quantizer(self, step: Step) -> Any:
        if self._has_codes(step) and self.coded.rounded:
            return CodeQuantizer(**self.codes)
        return super().output_quantizer(step)

    def behind(self, step: Step) -> keras.layers.Layer | None:
        if self._has_codes(step) and not self.coded.rounded:
            return CodeTable(CodeQuantizer(**self.codes), name=f"{step.layer.name}_codes", dtype="float32")
        return None

    def _has_codes(self, step: Step) -> bool:
        return (
            roles.ends_in_relu(step.layer, step.meaning.role)
            and not step.last
            and step.layer.name not in self._eight_bit
        )

    def obstacles(self, model: keras.Model, plan: Plan) -> list[Obstacle]:
        """The ReLUs whose input is not normalised, for codes="gaussian"; where such are skipped, they keep 8 bits."""
        self._eight_bit = set()
        if self.codes["fit"] == "data":
            return []
        chains, found = Chains(Graph(model)), []
        steps = {step.layer.name: step for step in plan.steps}
        for node in chains.graph.nodes:
            if self._has_codes(steps[node.layer.name]):
                why = _why_not_normalised(chains, node)
                if why:
                    advice = "use BatchNormalization(scale=False, center=False), or TSQScheme(codes='data')"
                    found.append(Obstacle(node.layer.name, type(node.layer).__name__, why, advice, False))
        self._eight_bit = {obstacle.layer for obstacle in found}
        return found

    _eight_bit: set[str] = set()

    def get_config(self) -> dict[str, Any]:
        branches = {"branches": 0} if self.eight_bit_weights else {}
        codes = {"activation_bits": self.codes["bits"], "sparsity": self.codes["sparsity"], "codes": self.codes["fit"]}
        return {**super().get_config(), **branches, **codes}


_CODES = ("gaussian", "data")


def _why_not_normalised(chains: Chains, node: Any) -> str:
    """Why what a ReLU reads is no normalised Gaussian; empty where it may be one."""
    before = None if chains.role(node) == roles.WEIGHTS else chains.graph.only_source(node)
    while before is not None and isinstance(before.layer, keras.layers.MaxPooling2D):
        before = chains.graph.only_source(before)
    if before is None or not is_batch_norm(before.layer):
        return "codes of a Gaussian need a batch norm right before the ReLU, and there is none"
    norm = before.layer
    if (norm.scale and (norm.gamma.numpy() != 1).any()) or (norm.center and norm.beta.numpy().any()):
        return f"codes of a Gaussian need a batch norm without scale and shift, and {norm.name!r} has them"
    return ""
