"""Loaders: published float weights into the networks of this package.

Nothing is downloaded; every loader takes the path of a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import Any

import numpy as np

from keras_dbq.models.mobilenet import mobilenet_v1, mobilenet_v2
from keras_dbq.models.resnet import resnet_cifar

# ResNet-20 sees (x / 255 - mean) / std, the ImageNet statistics per RGB channel.
RESNET20_MEAN = (0.485, 0.456, 0.406)
RESNET20_STD = (0.229, 0.224, 0.225)
# source: the TFLite schema's BuiltinOperator.
_CONV_2D, _DEPTHWISE_CONV_2D, _FULLY_CONNECTED = 3, 4, 9


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


def resnet20_from_npz(path: str | PathLike[str]) -> Any:
    """ResNet-20 for CIFAR-10 with the weights of akamaster/pytorch_resnet_cifar10 stored as an .npz (kernels OIHW).

    The network takes (x / 255 - RESNET20_MEAN) / RESNET20_STD.
    Raises ValueError where an array is missing or has another shape.
    """
    model = resnet_cifar(20)
    with np.load(path) as arrays:
        for layer in model.layers:
            name = layer.name
            if not layer.weights:
                continue
            if name == "linear":
                weights = [_stored(arrays, path, "linear.weight").T, _stored(arrays, path, "linear.bias")]
            elif name.rpartition(".")[2].startswith("bn"):
                parts = ("weight", "bias", "running_mean", "running_var")
                weights = [_stored(arrays, path, f"{name}.{part}") for part in parts]
            else:
                weights = [_stored(arrays, path, f"{name}.weight").transpose(2, 3, 1, 0)]
            _assign(layer, weights, path)
    return model


def _slim_name(name: str) -> str:
    """The TF-slim scope of one of `mobilenet_v1`'s layers: `block3_pointwise` -> `Conv2d_3_pointwise`."""
    return "Conv2d_0" if name.startswith("conv") else f"Conv2d_{name.removeprefix('block').removesuffix('_bn')}"


def mobilenet_v1_from_npz(path: str | PathLike[str], alpha: float = 0.25, size: int = 224) -> Any:
    """MobileNetV1 for ImageNet with TF-slim's weights stored as an .npz; 1001 classes, class 0 is background.

    The network takes x / 127.5 - 1. Raises ValueError where an array is missing or has another shape.
    """
    model = mobilenet_v1((size, size, 3), classes=1001, alpha=alpha)
    with np.load(path) as arrays:
        for layer in model.layers:
            name = layer.name
            if not layer.weights:
                continue
            if name == "logits":
                kernel = _stored(arrays, path, "Logits/Conv2d_1c_1x1/weights")
                weights = [kernel[0, 0], _stored(arrays, path, "Logits/Conv2d_1c_1x1/biases")]
            elif name.endswith("_bn"):
                parts = ("gamma", "beta", "moving_mean", "moving_variance")
                weights = [_stored(arrays, path, f"{_slim_name(name)}/BatchNorm/{part}") for part in parts]
            else:
                kind = "depthwise_weights" if name.endswith("_depthwise") else "weights"
                weights = [_stored(arrays, path, f"{_slim_name(name)}/{kind}")]
            _assign(layer, weights, path)
    return model


def _dequantized(model: Any, tensor: Any) -> np.ndarray:
    """A constant tensor of a TFLite file (schema object API) as float32."""
    types = {0: np.float32, 9: np.int8}
    if tensor.type not in types:
        raise ValueError(f"tensor {tensor.name!r}: expected float32 or int8 weights, got schema type {tensor.type}")
    values = np.frombuffer(np.asarray(model.buffers[tensor.buffer].data, np.uint8).tobytes(), types[tensor.type])
    values = values.reshape(tensor.shape).astype(np.float32)
    if tensor.type == 0:
        return values
    quantization = tensor.quantization
    scale = np.asarray(quantization.scale, np.float32)
    if scale.size > 1:
        shape = [1] * values.ndim
        shape[quantization.quantizedDimension] = -1
        scale = scale.reshape(shape)
    return values * scale  # weights are symmetric: their zero point is 0


def _weighted_operators(path: str | PathLike[str]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(builtin code, weight, bias) of every convolution and dense layer of a .tflite file, in execution order."""
    from ai_edge_litert import schema_py_generated as schema

    with open(path, "rb") as file:
        data = file.read()
    if data[4:8] != b"TFL3":
        raise ValueError(f"{path}: expected a .tflite file (identifier TFL3), got {data[4:8]!r}; check the path")
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        code = max(code.builtinCode, code.deprecatedBuiltinCode)
        if code in (_CONV_2D, _DEPTHWISE_CONV_2D, _FULLY_CONNECTED):
            weight, bias = (_dequantized(model, graph.tensors[i]) for i in operator.inputs[1:3])
            yield code, weight, bias


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
    axes = {_CONV_2D: (1, 2, 3, 0), _DEPTHWISE_CONV_2D: (1, 2, 3, 0), _FULLY_CONNECTED: (1, 0)}
    for layer, (code, weight, bias) in zip(layers, operators, strict=True):
        _assign(layer, [weight.transpose(axes[code]), bias], path)
    return model
