"""Loaders: published float weights into the networks of this package.

Nothing is downloaded; every loader takes the path of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os import PathLike
from typing import Any

import numpy as np

from keras_dbq.models.mobilenet import mobilenet_v1, mobilenet_v2
from keras_dbq.models.resnet import resnet_cifar
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.operators import KERNELS

# ResNet-20 sees (x / 255 - mean) / std, the ImageNet statistics per RGB channel.
RESNET20_MEAN = (0.485, 0.456, 0.406)
RESNET20_STD = (0.229, 0.224, 0.225)


def _stored(arrays: Any, path: Any, key: str) -> np.ndarray:
    if key not in arrays:
        raise ValueError(f"{path}: expected an array named {key!r}, got none; is this the file of another network?")
    return arrays[key]


def _assign(layer: Any, weights: list[np.ndarray], path: Any) -> None:
    """`layer.set_weights` with a one-line error that names the file."""
    expected, got = [tuple(w.shape) for w in layer.weights], [w.shape for w in weights]
    if expected != got:
        raise ValueError(f"{path}: layer {layer.name}: expected weights of shapes {expected}, got {got}; wrong file?")
    layer.set_weights(weights)


def _filled(
    model: Any, path: str | PathLike[str], weights_of: Callable[[str, Callable[[str], np.ndarray]], list[np.ndarray]]
) -> Any:
    """The model with the weights of an .npz; `weights_of` takes a layer's name and a function from key to array."""
    with np.load(path) as arrays:
        for layer in model.layers:
            if layer.weights:
                _assign(layer, weights_of(layer.name, lambda key: _stored(arrays, path, key)), path)
    return model


def resnet20_from_npz(path: str | PathLike[str]) -> Any:
    """ResNet-20 for CIFAR-10 with the weights of akamaster/pytorch_resnet_cifar10 stored as an .npz (kernels OIHW).

    The network takes (x / 255 - RESNET20_MEAN) / RESNET20_STD.
    Raises ValueError where an array is missing or has another shape.
    """
    return _filled(resnet_cifar(20), path, _resnet_weights)


def _resnet_weights(name: str, stored: Callable[[str], np.ndarray]) -> list[np.ndarray]:
    if name == "linear":
        return [stored("linear.weight").T, stored("linear.bias")]
    if name.rpartition(".")[2].startswith("bn"):
        return [stored(f"{name}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
    return [stored(f"{name}.weight").transpose(2, 3, 1, 0)]


def _slim_name(name: str) -> str:
    """The TF-slim scope of one of `mobilenet_v1`'s layers: `block3_pointwise` -> `Conv2d_3_pointwise`."""
    return "Conv2d_0" if name.startswith("conv") else f"Conv2d_{name.removeprefix('block').removesuffix('_bn')}"


def mobilenet_v1_from_npz(path: str | PathLike[str], alpha: float = 0.25, size: int = 224) -> Any:
    """MobileNetV1 for ImageNet with TF-slim's weights stored as an .npz; 1001 classes, class 0 is background.

    The network takes x / 127.5 - 1. Raises ValueError where an array is missing or has another shape.
    """
    return _filled(mobilenet_v1((size, size, 3), classes=1001, alpha=alpha), path, _slim_weights)


def _slim_weights(name: str, stored: Callable[[str], np.ndarray]) -> list[np.ndarray]:
    if name == "logits":
        scope = "Logits/Conv2d_1c_1x1"
        return [stored(f"{scope}/weights")[0, 0], stored(f"{scope}/biases")]
    if name.endswith("_bn"):
        parts = ("gamma", "beta", "moving_mean", "moving_variance")
        return [stored(f"{_slim_name(name)}/BatchNorm/{part}") for part in parts]
    kind = "depthwise_weights" if name.endswith("_depthwise") else "weights"
    return [stored(f"{_slim_name(name)}/{kind}")]


def _real(model: Any, index: int) -> np.ndarray:
    """Weights of a .tflite file as float32."""
    tensor = model.subgraphs[0].tensors[index]
    if tensor.type not in (fb.schema.TensorType.FLOAT32, fb.schema.TensorType.INT8):
        kind = fb.TENSOR_TYPE_NAMES[tensor.type]
        raise ValueError(f"tensor {fb.text(tensor.name)!r}: expected float32 or int8 weights, got {kind}; wrong file?")
    return fb.dequantized(model, index)


def _weighted_operators(path: str | PathLike[str]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(operator's name, weight, bias) of every convolution and dense layer of a .tflite file, in execution order."""
    model = fb.load_model(fb.read_bytes(path))
    for operator in model.subgraphs[0].operators:
        name = fb.op_name(model, operator)
        if name in KERNELS:
            weight, bias = (_real(model, int(index)) for index in operator.inputs[1:3])
            yield name, weight, bias


def mobilenet_v2_from_tflite(path: str | PathLike[str]) -> Any:
    """MobileNetV2 1.0 (224 x 224, 1000 classes) with the dequantized weights of a .tflite file; float, no batch norm.

    The file's weights may be float32 or int8 (per tensor or per channel), its batch norms folded. The network takes
    x / 127.5 - 1 and gives logits. Raises ValueError where the file's layers are not MobileNetV2's.
    """
    model = mobilenet_v2()
    layers = [layer for layer in model.layers if layer.weights]
    operators = list(_weighted_operators(path))
    if len(layers) != len(operators):
        raise ValueError(f"{path}: expected {len(layers)} layers with weights, got {len(operators)}; wrong network?")
    axes = {"CONV_2D": (1, 2, 3, 0), "DEPTHWISE_CONV_2D": (1, 2, 3, 0), "FULLY_CONNECTED": (1, 0)}
    for layer, (name, weight, bias) in zip(layers, operators, strict=True):
        _assign(layer, [weight.transpose(axes[name]), bias], path)
    return model
