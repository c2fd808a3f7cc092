"""Looking into quantized models, never changing them: weights, a profile as data, and the tables drawn from it."""

from keras_dbq.inspection.profile import LayerProfile, profile
from keras_dbq.inspection.tables import explain, summary
from keras_dbq.inspection.weights import forward_modes, get_ternary_weights, integer_weights, sparsity

# Names of 0.1: these change a model or make another, and have moved.
from keras_dbq.wrapping.freezing import freeze
from keras_dbq.wrapping.strip import quantized_values, strip
from keras_dbq.wrapping.temperature import set_temperature

__all__ = [
    "LayerProfile",
    "explain",
    "forward_modes",
    "freeze",
    "get_ternary_weights",
    "integer_weights",
    "profile",
    "quantized_values",
    "set_temperature",
    "sparsity",
    "strip",
    "summary",
]
