"""The only file that names tf_keras and tensorflow-model-optimization, and what we use of them.

tfmot 0.8.1 needs Keras 2, which lives in the package tf_keras; tf.keras is Keras 3 unless TF_USE_LEGACY_KERAS=1 was
set before TensorFlow was imported (design note: docs/architecture.md).
"""

import os
import sys
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import tensorflow as tf  # noqa: E402
import tensorflow_model_optimization as tfmot  # noqa: E402
import tf_keras as keras  # noqa: E402
from tensorflow.python.autograph.core import ag_ctx  # noqa: E402
from tensorflow.python.autograph.impl import api as autograph_api  # noqa: E402
from tensorflow_model_optimization.python.core.keras.utils import smart_cond  # noqa: E402
from tensorflow_model_optimization.python.core.quantization.keras.quantize_config import OutputOnlyConfig  # noqa: E402
from tensorflow_model_optimization.python.core.quantization.keras.quantize_layer import QuantizeLayer  # noqa: E402
from tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper import (  # noqa: E402
    QuantizeWrapper,
    QuantizeWrapperV2,
)
from tf_keras.src.applications import convnext  # noqa: E402
from tf_keras.src.layers.core.tf_op_layer import (  # noqa: E402
    ClassMethod,
    InstanceMethod,
    SlicingOpLambda,
    TFOpLambda,
)

QuantizeConfig = tfmot.quantization.keras.QuantizeConfig
Quantizer = tfmot.quantization.keras.quantizers.Quantizer
QuantizeScheme = tfmot.quantization.keras.QuantizeScheme
QuantizeRegistry = tfmot.quantization.keras.QuantizeRegistry
from tensorflow_model_optimization.python.core.quantization.keras.quantize_layout_transform import (  # noqa: E402
    QuantizeLayoutTransform,
)

# Layers that tf_keras defines for its own networks, by name.
APPLICATION_LAYERS = {"LayerScale": convnext.LayerScale, "StochasticDepth": convnext.StochasticDepth}

# Layers that stand for one call of a function; Keras calls each of them once.
FUNCTION_LAYERS = (keras.layers.Lambda, TFOpLambda, SlicingOpLambda, ClassMethod, InstanceMethod)

__all__ = [
    "APPLICATION_LAYERS",
    "FUNCTION_LAYERS",
    "OutputOnlyConfig",
    "QuantizeConfig",
    "QuantizeLayer",
    "QuantizeLayoutTransform",
    "QuantizeRegistry",
    "QuantizeScheme",
    "QuantizeWrapper",
    "QuantizeWrapperV2",
    "Quantizer",
    "SlicingOpLambda",
    "TFOpLambda",
    "check_keras_model",
    "keras",
    "register",
    "registered",
    "smart_cond",
    "tf",
    "tfmot",
    "with_autograph",
]


def with_autograph(function: Any) -> Any:
    """A function that AutoGraph translates (Python `if` on tensors works in it), also where it is switched off."""
    return autograph_api.tf_convert(function, ag_ctx.ControlStatusCtx(status=ag_ctx.Status.ENABLED))


def register(cls: Any) -> Any:
    """Class decorator: saved models name the class "keras_dbq>" and its name, and find it by that."""
    keras.utils.get_custom_objects().pop(f"keras_dbq>{cls.__name__}", None)  # a stand-in (`_stand_ins`)
    return keras.utils.register_keras_serializable(package="keras_dbq")(cls)


def registered() -> dict[str, Any]:
    """{class name: class} of every class that `register` has seen."""
    package = "keras_dbq>"
    objects = keras.utils.get_custom_objects()
    return {name.removeprefix(package): value for name, value in objects.items() if name.startswith(package)}


def check_keras_model(model: Any, function: str) -> None:
    """Raises a one-line error unless `model` is a built tf_keras functional or Sequential model.

    Raises:
      TypeError: not a tf_keras model; a Keras 3 model is named as such, with what to do.
      ValueError: a subclassed model, one that was not built, or one of float64.
    """
    if not isinstance(model, keras.Model):
        keras_3 = sys.modules.get("keras")
        if keras_3 is not None and isinstance(model, getattr(keras_3, "Model", ())):
            raise TypeError(
                f"{function}: expected a tf_keras (Keras 2) model, got a Keras {keras_3.__version__} model; "
                "convert it with keras_dbq.from_keras3(model)"
            )
        raise TypeError(f"{function}: expected a tf_keras model, got {type(model).__name__}")
    if not isinstance(model, keras.Sequential) and not model._is_graph_network:
        raise ValueError(
            f"{function}: expected a functional or Sequential model, got the subclassed model {type(model).__name__}; "
            "rebuild it with tf_keras.Model(inputs, outputs)"
        )
    if (double := next((layer for layer in model.layers if layer.compute_dtype == "float64"), None)) is not None:
        raise ValueError(
            f"{function}: expected layers in float32 (or mixed precision), got float64 in {double.name!r}; build the "
            'model with keras.backend.set_floatx("float32") and copy the weights with set_weights'
        )
    if not model.built or not model.inputs:
        raise ValueError(
            f"{function}: model {model.name!r} has not been built; give its first layer an input_shape or call "
            "model.build(input_shape) before"
        )
