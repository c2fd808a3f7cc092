"""Small networks of the kinds that people build, one or a few layers of interest in each; random weights, lively batch
norms. `tools/networks.py` prints what becomes of them, and a slow test holds it.
"""

from collections.abc import Callable
from typing import Any

from keras_dbq.compat import keras, tf
from tests.property import check
from tests.property.networks import enliven

L = keras.layers
Build = Callable[[], Any]
NETWORKS: dict[str, Build] = {}  # name -> () -> model with its weights


def network(name: str, call: Callable[[Any], Any], shape: tuple[int, ...] = (8, 8, 4), head: bool = True) -> None:
    """Adds input, stem, what `call` does, and a head."""

    def build() -> Any:
        inputs = keras.Input(shape, name="image")
        x = inputs if len(shape) != 3 else L.Conv2D(6, 3, padding="same", name="stem")(inputs)
        return keras.Model(inputs, _head(call(x)) if head else call(x))

    add(name, build)


def add(name: str, build: Build) -> None:
    """Adds a network under its name, with random weights."""
    assert name not in NETWORKS, name

    def lively() -> Any:
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        return enliven(build())

    NETWORKS[name] = lively


def _head(x: Any) -> Any:
    if len(x.shape) == 4:
        x = L.GlobalAveragePooling2D(name="mean")(L.Conv2D(5, 1, name="last")(x))
    if len(x.shape) != 2:
        x = L.Flatten(name="flat")(x)
    return L.Dense(3, name="head")(x)


@keras.utils.register_keras_serializable("keras_dbq_tests")
def wave(x: Any) -> Any:
    """A user's own activation; Keras loads a model with a lambda in its place not even in float."""
    return tf.sin(x) + x


def pair(x: Any) -> list[Any]:
    """The tensor and a convolution of it."""
    return [x, L.Conv2D(6, 1, name="side")(x)]


# Activations: as a name, inside of a kernel layer, as a layer, as a function.
for _name in ("gelu", "swish", "hard_sigmoid", "mish", "softplus", "elu", "selu", "softsign", "exponential", "tanh"):
    network(f"activation {_name}", lambda x, n=_name: L.Activation(n)(L.BatchNormalization()(x)))
network("Conv2D gelu, Dense softplus", lambda x: L.Dense(7, activation="softplus")(
    L.Flatten()(L.Conv2D(5, 3, strides=2, activation="gelu")(x))))  # fmt: skip
network("ELU, LeakyReLU", lambda x: L.LeakyReLU(0.1)(L.Conv2D(5, 1)(L.ELU(0.7)(x))))
network("PReLU shared", lambda x: L.PReLU(shared_axes=[1, 2])(L.BatchNormalization()(x)))
network("PReLU everywhere", lambda x: L.PReLU()(x))
network("PReLU of a vector", lambda x: L.PReLU()(L.Dense(9)(L.Flatten()(x))))
network("ReLU(4), ReLU(1)", lambda x: L.ReLU(1.0)(L.Conv2D(5, 1)(L.ReLU(4.0)(x))))
network("ReLU threshold, slope", lambda x: L.ReLU(6.0, negative_slope=0.1)(L.Conv2D(5, 1)(L.ReLU(threshold=0.5)(x))))
network("Softmax inside", lambda x: L.Conv2D(6, 1)(L.Softmax()(x)))
network("Softmax over height", lambda x: L.Softmax(axis=1)(x))
network("hard swish of operators", lambda x: x * tf.nn.relu6(x + 3.0) / 6.0)
network("hard swish in a Lambda", lambda x: L.Lambda(lambda v: v * tf.nn.relu6(v + 3) / 6)(x))
network("tf.nn.silu, tf.nn.gelu", lambda x: tf.nn.gelu(L.Conv2D(5, 1)(tf.nn.silu(x))))
network("abs, square, negative", lambda x: -tf.square(L.Conv2D(5, 1)(tf.abs(x))))
network("function of the user's", lambda x: L.Conv2D(7, 1, activation=wave)(x))
# Several tensors.
network("Average of two", lambda x: L.ReLU()(L.Average()(pair(x))))
network("Average of three", lambda x: L.Average()([*pair(x), L.Conv2D(6, 3, padding="same")(x)]))
network("Maximum of three", lambda x: L.Maximum()([*pair(x), L.Conv2D(6, 3, padding="same")(x)]))
network("Subtract, Multiply, Minimum", lambda x: L.Minimum()([L.Subtract()(pair(x)), L.Multiply()([x, x])]))
network("tf.stack", lambda x: L.Reshape((8, 8, 12))(tf.stack(pair(x), -1)))
network("residual scaled in a Lambda", lambda x: L.ReLU()(L.Lambda(lambda v: v[0] + 0.17 * v[1])(pair(x))))
network("per-channel factor and offset", lambda x: x * [0.5, 1.0, 2.0, 0.1, 0.7, 1.5] + [1.0, 0.0, -1.0, 0.5, 2.0, 0.1])
network("scalar factor and offset", lambda x: 1.0 - x * 0.25)
network("squeeze and excitation", lambda x: x * L.Conv2D(6, 1, activation="hard_sigmoid")(
    L.Conv2D(3, 1, activation="relu")(L.GlobalAveragePooling2D(keepdims=True)(x))))  # fmt: skip
network("L2 normalisation of a map", lambda x: L.Conv2D(5, 1)(L.UnitNormalization()(x)))
network("L2 normalisation of an embedding", lambda x: tf.math.l2_normalize(L.Dense(9)(L.Flatten()(x)), 1), head=False)
network("cosine of two embeddings", lambda x: L.Dot(1, normalize=True)(
    [L.Dense(9)(L.Flatten()(x)), L.Dense(9)(L.GlobalAveragePooling2D()(x))]), head=False)  # fmt: skip
network("Dot of sequences", lambda x: L.Dot((2, 1))([L.Dot(2)([L.Dense(6)(x), x]), L.Dense(5)(x)]), (7, 6))
network("attention of operators", lambda x: tf.matmul(tf.nn.softmax(tf.matmul(L.Dense(6)(x), x, transpose_b=True)), x),
        (7, 6))  # fmt: skip
network("Attention", lambda x: L.Attention()([L.Dense(6)(x), L.Dense(6)(x)]), (7, 6))
# Maps of another size.
network("UpSampling2D nearest", lambda x: L.Conv2D(5, 3)(L.UpSampling2D(2)(x)))
network("UpSampling2D bilinear", lambda x: L.Conv2D(5, 3)(L.UpSampling2D((2, 3), interpolation="bilinear")(x)))
network("Resizing bilinear", lambda x: L.Conv2D(5, 3)(L.Resizing(11, 5)(x)))
network("Resizing nearest", lambda x: L.Resizing(5, 11, interpolation="nearest")(x))
network("depth to space", lambda x: tf.nn.depth_to_space(L.Conv2D(8, 1)(x), 2))
network("space to depth", lambda x: L.Conv2D(5, 1)(tf.nn.space_to_depth(x, 2)))
network("AveragePooling2D same", lambda x: L.AveragePooling2D(3, 1, padding="same")(x))
network("padding, cropping", lambda x: L.Cropping2D(((1, 0), (2, 1)))(L.ZeroPadding2D(2)(L.MaxPooling2D(2)(x))))
network("largest over the map", lambda x: tf.reduce_max(x, [1, 2]))
network("tile, reverse", lambda x: tf.reverse(tf.tile(x, [1, 1, 1, 2]), [1]))
# Convolutions.
network("grouped Conv2D", lambda x: L.ReLU()(L.BatchNormalization()(L.Conv2D(9, 3, groups=3, use_bias=False)(x))))
network("dilated, depthwise, separable", lambda x: L.SeparableConv2D(7, 3, activation="tanh")(L.DepthwiseConv2D(
    3, depth_multiplier=2, padding="same")(L.Conv2D(4, 3, dilation_rate=2, padding="same")(x))))  # fmt: skip
network("shared Conv2D and batch norm", lambda x: _twice(L.Conv2D(6, 3, padding="same"), L.BatchNormalization(), x))
network("Dense on a map", lambda x: L.Dense(5, activation="relu")(x))
network("regularizers", lambda x: L.Conv2D(4, 3, activity_regularizer="l2", activation="relu")(x))
# Transposed convolutions.
_CASES = ((2, 2, "valid"), (3, 2, "same"), (4, 2, "same"), (5, 3, "valid"), (3, 1, "same"), (2, 3, "same"))
for _k, _s, _padding in _CASES:
    network(f"Conv2DTranspose {_k} {_s} {_padding}", lambda x, a=(5, _k, _s, _padding): L.ReLU()(L.BatchNormalization()(
        L.Conv2DTranspose(*a)(x))))  # fmt: skip
network("Conv2DTranspose of a decoder", lambda x: L.Conv2DTranspose(3, (3, 4), (2, 3), "same", activation="tanh")(
    L.Conv2DTranspose(4, 3, 2, "same", output_padding=1, activation="relu")(L.MaxPooling2D(2)(x))))  # fmt: skip
network("Conv2DTranspose dilated, shared", lambda x: _self_added(
    L.Conv2DTranspose(6, 3, padding="same", dilation_rate=2), x))  # fmt: skip
# Sequences.
network("Conv1D, batch norm, pooling", lambda x: L.GlobalAveragePooling1D()(L.ReLU()(L.BatchNormalization()(
    L.Conv1D(6, 3, use_bias=False)(L.MaxPooling1D(2)(L.Conv1D(8, 5, strides=2)(x)))))), (40, 3))  # fmt: skip
network("Conv1D causal, residual", lambda x: L.Add()([L.Conv1D(3, 1)(L.ReLU()(
    L.Conv1D(6, 3, padding="causal", dilation_rate=2)(x))), x]), (16, 3))  # fmt: skip
network("SeparableConv1D, DepthwiseConv1D", lambda x: L.DepthwiseConv1D(3, strides=2, padding="same")(
    L.SeparableConv1D(7, 3, activation="gelu")(x)), (20, 4))  # fmt: skip
network("1D pooling, padding, cropping", lambda x: L.GlobalMaxPooling1D()(L.Concatenate()([
    L.AveragePooling1D(2)(x), L.Cropping1D(1)(L.ZeroPadding1D((2, 0))(L.MaxPooling1D(2)(x)))])), (20, 4))  # fmt: skip
network("UpSampling1D, Conv1DTranspose", lambda x: L.Concatenate(axis=-1)([
    L.Conv1DTranspose(4, 3, strides=2, padding="same")(x), L.UpSampling1D(2)(x)]), (12, 3))  # fmt: skip
network("Dense on a sequence", lambda x: L.Dense(4, activation="gelu")(L.Dense(6)(x)), (7, 5))
network("TimeDistributed convolutions", lambda x: L.TimeDistributed(L.GlobalAveragePooling2D())(L.TimeDistributed(
    L.MaxPooling2D(2))(L.TimeDistributed(L.Conv2D(5, 3, activation="relu"))(x))), (3, 8, 8, 2))  # fmt: skip
network("TimeDistributed network", lambda x: L.Conv1D(4, 2)(L.TimeDistributed(_small())(x)), (4, 8, 8, 2))
network("TimeDistributed Dense", lambda x: L.TimeDistributed(L.Dense(5, activation="relu"))(x), (6, 4))
# Preprocessing.
network("CenterCrop", lambda x: L.CenterCrop(5, 6)(x))
network("Random layers", lambda x: L.RandomContrast(0.2)(L.RandomRotation(0.1)(L.RandomFlip()(x))))
network("noise and dropout", lambda x: L.SpatialDropout2D(0.1)(L.GaussianNoise(0.1)(L.ActivityRegularization(0.1)(x))))
network(
    "Rescaling, Normalization", lambda x: L.Normalization(mean=[0.1] * 6, variance=[2.0] * 6)(L.Rescaling(0.5, 1)(x))
)


def _twice(conv: Any, norm: Any, x: Any) -> Any:
    return L.Add()([norm(conv(x)), norm(conv(L.ReLU()(x)))])


def _self_added(layer: Any, x: Any) -> Any:
    return L.Add()([layer(x), layer(layer(x))])


def _small() -> Any:
    inputs = keras.Input((8, 8, 2))
    x = L.BatchNormalization()(L.Conv2D(6, 3, strides=2, use_bias=False)(inputs))
    return keras.Model(inputs, L.Flatten()(L.ReLU(6.0)(x)))


def _bytes() -> Any:
    inputs = keras.Input((8, 8, 3), dtype="uint8", name="image")
    return keras.Model(inputs, _head(L.Conv2D(6, 3)(L.Rescaling(1 / 127.5, -1)(inputs))))


def _siamese() -> Any:
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    conv, dense = L.Conv2D(6, 3, activation="relu"), L.Dense(5)
    a, b = (dense(L.GlobalAveragePooling2D()(conv(x))) for x in (left, right))
    return keras.Model([left, right], [L.Subtract(name="difference")([a, b]), L.Activation("sigmoid", name="gate")(a)])


def _pyramid() -> Any:
    inputs = keras.Input((16, 16, 3), name="image")
    x = L.Conv2D(6, 3, strides=2, padding="same", activation="swish")(inputs)
    y = L.Conv2D(8, 3, strides=2, padding="same", activation="swish")(x)
    z = L.Concatenate()([x, L.UpSampling2D(2, interpolation="bilinear")(L.Conv2D(6, 1)(y))])
    return keras.Model(inputs, [L.Conv2D(4, 3, padding="same", name="fine")(z), L.Conv2D(4, 1, name="coarse")(y)])


def _vectors() -> Any:
    inputs = keras.Input((12,), name="features")
    x = L.Normalization(mean=[0.5] * 12, variance=[2.0] * 12)(inputs)
    x = L.Dense(8, activation="gelu")(L.BatchNormalization()(L.Dense(16, activation="selu")(x)))
    return keras.Model(inputs, L.Dense(3, activation="softmax")(x))


add("uint8 input", _bytes)
add("two inputs, two outputs", _siamese)
add("pyramid, two outputs", _pyramid)
add("vectors", _vectors)


def examine(model: Any, scheme: Any, path: Any) -> tuple[bytes, bytes]:
    """Everything that has to hold of a network under a scheme; its packed and its int8 file.

    Args:
      path: where the quantized model may be saved.
    """
    q_model = check.quantized(model, scheme)
    assert q_model is not None, "expected a network without obstacles"
    check.float_function_is_kept(model, q_model)
    files = check.exported(q_model)
    check.integers_are_equal(*files)
    check.file_computes_what_keras_does(q_model, files[0])
    check.loads_as_it_was_saved(q_model, files, path)
    return files
