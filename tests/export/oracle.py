"""What a file should hold, computed with numpy from the Keras models, and readers of what it holds.

Which batch norm folds into which layer is read from the float model's graph here, not asked from the package.
"""

import itertools

import numpy as np

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.wrapping import wrappers
from tests import nets

L = keras.layers


def quantized(build, **options):
    keras.utils.set_random_seed(0)
    model = build if isinstance(build, keras.Model) else build()
    return keras_dbq.quantize_model(model, keras_dbq.DBQScheme(**options), calibration_data=nets.pictures())


def operators(data):
    model = fb.load_model(data)
    return [fb.op_name(model, operator) for operator in model.subgraphs[0].operators]


def kernels(data):
    """{layer name: (int8 weights [K, M], float32 scales [M], int32 bias [M], input scale)} of an int8 file."""
    model, found = fb.load_model(data), {}
    tensors = model.subgraphs[0].tensors
    for operator in model.subgraphs[0].operators:
        axis = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}.get(fb.op_name(model, operator))
        if axis is not None:
            kernel = tensors[operator.inputs[1]]
            weights = np.moveaxis(fb.constant(model, int(operator.inputs[1])), axis, -1)
            weights = weights.reshape(-1, weights.shape[-1])
            scale = np.broadcast_to(fb.scales_of(kernel), weights.shape[1])
            bias = fb.constant(model, int(operator.inputs[2]))
            name = fb.text(tensors[operator.outputs[0]].name)
            found[name] = (weights, scale, bias, fb.scales_of(tensors[operator.inputs[0]])[0])
    return found


def flat_layers(model):
    """Layers of a float model, those of nested models in place of them."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from flat_layers(layer)
        else:
            yield layer


def _columns(kernel, depthwise):
    kernel = np.asarray(kernel, np.float64)
    return kernel.reshape(-1, kernel.shape[2] * kernel.shape[3] if depthwise else kernel.shape[-1])


def float_kernels(model):
    """{layer name: float kernel [K, M]} of a float model; a separable layer has two."""
    found = {}
    for layer in flat_layers(model):
        if isinstance(layer, L.SeparableConv2D):
            found[f"{layer.name}_depthwise"] = _columns(layer.depthwise_kernel, True)
            found[layer.name] = _columns(layer.pointwise_kernel, False)
        elif isinstance(layer, L.DepthwiseConv2D):
            found[layer.name] = _columns(layer.depthwise_kernel, True)
        elif hasattr(layer, "kernel"):
            found[layer.name] = _columns(layer.kernel, False)
    return found


def batch_norms(model, q_model):
    """{name of a kernel layer of the float model: the quantized model's batch norm behind it}.

    A batch norm folds into the kernel layer whose output it alone reads; that is read from the float model's graph. Its
    statistics are the quantized model's, because `quantize_model` measures them again.
    """
    plain, kernel_names, found = inner_layers(q_model), float_kernels(model), {}
    for layer in flat_layers(model):
        following = [n.layer for n in layer._outbound_nodes if not isinstance(n.layer, keras.Model)]
        if layer.name in kernel_names and len(following) == 1 and isinstance(following[0], L.BatchNormalization):
            found[layer.name] = plain[following[0].name]
    return found


def inner_layers(q_model):
    """{name: plain layer} of a quantized model."""
    return {wrappers.inner(layer).name: wrappers.inner(layer) for layer in q_model.layers}


def factor(norm):
    """gamma / sqrt(variance + epsilon), float64 [M]."""
    return np.float64(norm.gamma) / np.sqrt(np.float64(norm.moving_variance) + norm.epsilon)


def folded_kernels(model, q_model):
    """{layer name: w * gamma / sqrt(variance + epsilon), float64 [K, M]}, w from the float model."""
    norms = batch_norms(model, q_model)
    return {
        name: kernel * factor(norms[name]) if name in norms else kernel for name, kernel in float_kernels(model).items()
    }


def expected(model, q_model):
    """{layer name: (signed integers [K, M], scales [M], real bias [M])} of the file, the integers the quantizers'."""
    norms, plain, result = batch_norms(model, q_model), inner_layers(q_model), {}
    wrapped = {wrappers.inner(layer).name: layer for layer in q_model.layers}
    for name in float_kernels(model):
        integers, inner = keras_dbq.integer_weights(wrapped[name]), plain[name]
        channels = len(integers.scale)
        bias = inner.bias.numpy().astype(float) if inner.use_bias else np.zeros(channels)
        factors = np.ones(channels)
        if name in norms:
            factors = factor(norms[name])
            bias = np.float64(norms[name].beta) + factors * (bias - np.float64(norms[name].moving_mean))
        values = integers.values.reshape(-1, channels) * np.sign(factors).astype(np.int8)
        result[name] = (values, (integers.scale * np.abs(factors)).astype(np.float32), bias)
    return result


def levels(q_model, name):
    """Integers that a weight of each channel can take: int [M, levels]."""
    layer = next(layer for layer in q_model.layers if wrappers.inner(layer).name == name)
    integers = keras_dbq.integer_weights(layer)
    channels = len(integers.scale)
    if not integers.branches:
        top = 2 ** (integers.bits - 1) - 1
        return np.broadcast_to(np.arange(-top, top + 1), (channels, 2 * top + 1))
    scales = keras_dbq.get_ternary_weights(layer).integer_scales  # [B, M]
    codes = np.array(list(itertools.product((-1, 0, 1), repeat=len(scales))))
    return np.broadcast_to(codes @ scales, (len(codes), channels)).T
