"""Quantizers: the variables of one quantized tensor, and how they act on it in training and afterwards.

Each is a tfmot `Quantizer`: `build` creates variables on the wrapper, `__call__` quantizes. Values come later, from
the float weights or from calibration pictures (`keras_dbq.initialize`), because `build` sees only a shape.
"""

from keras_dbq.quantizers.activation import ActivationQuantizer
from keras_dbq.quantizers.base import IntegerWeights, IntervalConstraint, Variables, WeightQuantizer
from keras_dbq.quantizers.linear import LinearWeightQuantizer
from keras_dbq.quantizers.ternary import (
    AscendingConstraint,
    BranchScaleConstraint,
    TernaryBranchQuantizer,
    TernaryWeights,
)

__all__ = [
    "ActivationQuantizer",
    "AscendingConstraint",
    "BranchScaleConstraint",
    "IntegerWeights",
    "IntervalConstraint",
    "LinearWeightQuantizer",
    "TernaryBranchQuantizer",
    "TernaryWeights",
    "Variables",
    "WeightQuantizer",
]
