"""Quantizers: the variables of one quantized tensor, and how they act on it in training and afterwards.

Each is a tfmot `Quantizer`: `build` creates variables on the wrapper, `__call__` quantizes. Values come later, from
the float weights or from calibration pictures (`keras_dbq.initialize`), because `build` sees only a shape.

A new quantizer is a file here whose class has the decorator `announce`, and nothing else.
"""

import importlib
import pkgutil

from keras_dbq.quantizers.activation import ActivationQuantizer
from keras_dbq.quantizers.base import (
    ConfiguredQuantizer,
    IntegerWeights,
    IntervalConstraint,
    Variables,
    WeightQuantizer,
    add_variable,
)
from keras_dbq.quantizers.codes import CodeQuantizer
from keras_dbq.quantizers.linear import LinearWeightQuantizer
from keras_dbq.quantizers.registry import announce, announced, deserialize, serialize
from keras_dbq.quantizers.ternary import (
    AscendingConstraint,
    BranchScaleConstraint,
    TernaryBranchQuantizer,
    TernaryWeights,
)

# Files that nothing above names announce themselves, too, and are found under the name of their class.
for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
globals().update(announced())

__all__ = [
    "ActivationQuantizer",
    "AscendingConstraint",
    "BranchScaleConstraint",
    "CodeQuantizer",
    "ConfiguredQuantizer",
    "IntegerWeights",
    "IntervalConstraint",
    "LinearWeightQuantizer",
    "TernaryBranchQuantizer",
    "TernaryWeights",
    "Variables",
    "WeightQuantizer",
    "add_variable",
    "announce",
    "announced",
    "deserialize",
    "serialize",
]
