"""What stands for what: Keras 3's layers, options, activations and where they lie in tf_keras.

Most layers have the same name, options and weights in both. The tables below hold the differences; whatever is in
neither is refused, because an option that is not known may change what the layer computes.
"""

from typing import Any


def _with_ranks(*names: str) -> tuple[str, ...]:
    """`Conv{}D` -> Conv1D, Conv2D, Conv3D."""
    return tuple(name.format(rank) for name in names for rank in (1, 2, 3))


# Layers of keras.layers with a layer of the same name and meaning in tf_keras.
LAYERS = frozenset(
    (
        *_with_ranks("Conv{}D", "Conv{}DTranspose", "ConvLSTM{}D", "Cropping{}D", "ZeroPadding{}D", "UpSampling{}D"),
        *_with_ranks("AveragePooling{}D", "MaxPooling{}D", "GlobalAveragePooling{}D", "GlobalMaxPooling{}D"),
        *_with_ranks("SpatialDropout{}D"),
        *"DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D Dense EinsumDense Embedding".split(),
        *"Add Average Concatenate Dot Maximum Minimum Multiply Subtract".split(),
        *"Activation ELU LeakyReLU PReLU ReLU Softmax Flatten Permute RepeatVector Reshape Identity Masking".split(),
        *"BatchNormalization GroupNormalization LayerNormalization SpectralNormalization UnitNormalization".split(),
        *"ActivityRegularization AlphaDropout Dropout GaussianDropout GaussianNoise".split(),
        *"AdditiveAttention Attention MultiHeadAttention".split(),
        *"Bidirectional GRU GRUCell LSTM LSTMCell RNN SimpleRNN SimpleRNNCell StackedRNNCells TimeDistributed".split(),
        *"CategoryEncoding CenterCrop Discretization Normalization Rescaling Resizing".split(),
        *"RandomBrightness RandomContrast RandomFlip RandomRotation RandomTranslation RandomZoom".split(),
    )
)

# Why some layers of keras.layers have no counterpart, where there is more to say than that tf_keras lacks them.
_LOOKUP = "a table of words; look words up in the data pipeline and give the model numbers"
WHY_NOT = {
    **dict.fromkeys(("HashedCrossing", "Hashing", "IntegerLookup", "StringLookup", "TextVectorization"), _LOOKUP),
    "RandomCrop": "tf_keras crops otherwise at inference; crop in the data pipeline, or use CenterCrop or Resizing",
}

# {option of Keras 3: the values at which it changes nothing}; tf_keras' layer of that name does not know the option.
INERT: dict[str, tuple[Any, ...]] = {
    "antialias": (False,),
    "autocast": (True,),
    "bounding_box_format": (None,),
    "data_format": (None, "channels_last"),
    "dilation_rate": (1, (1,), (1, 1), (1, 1, 1)),
    "factor": (None,),
    "fill_mode": ("constant",),
    "fill_value": (0, None),
    "flash_attention": (None, False),
    "lora_alpha": (None,),
    "lora_rank": (None,),
    "pad_to_aspect_ratio": (False,),
    "quantization_config": (None,),
    "quantization_mode": (None,),
    "rms_scaling": (False,),
    "sliding_window": (None,),
    "synchronized": (False,),
    "use_cudnn": ("auto", None, True, False),  # which code computes, not what
    "use_gate": (False,),
    "value_range": ((0, 255), (0.0, 255.0)),
    "zero_output_for_mask": (False,),
}
# Options whose value does not matter for what a trained network answers.
IGNORED = frozenset(("seed", "name", "dtype"))

# {(layer, option of Keras 3): option of tf_keras}
RENAMED = {("LeakyReLU", "negative_slope"): "alpha"}

# {layer: {option that holds a layer (or several): attribute of the Keras 3 layer where it lies}}
INSIDE = {
    "Bidirectional": {"layer": "forward_layer", "backward_layer": "backward_layer"},
    "RNN": {"cell": "cell"},
    "SpectralNormalization": {"layer": "layer"},
    "StackedRNNCells": {"cells": "cells"},
    "TimeDistributed": {"layer": "layer"},
}

# Functions of keras.activations that have the same name and values in tf_keras. hard_sigmoid has the name alone:
# relu6(x + 3) / 6 in Keras 3, clip(0.2 x + 0.5, 0, 1) in tf_keras.
ACTIVATIONS = frozenset(
    "elu exponential gelu leaky_relu linear log_softmax mish relu relu6 selu sigmoid silu softmax softplus softsign "
    "tanh".split()
)
