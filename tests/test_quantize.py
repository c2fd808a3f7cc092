"""quantize_model on every kind of network: one fake-quant per tensor, choices per layer, tfmot's own way, errors."""

import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

import keras_dbq
from keras_dbq import quantizers
from keras_dbq.compat import QuantizeWrapperV2, keras, tf, tfmot
from keras_dbq.network import graph
from keras_dbq.wrapping import quantize_configs, wrappers
from tests import nets

L = keras.layers
REPOSITORY = str(Path(__file__).resolve().parent.parent)


def quantize(model, data=None, **options):
    data = nets.pictures() if data is None else data
    return keras_dbq.quantize_model(model, keras_dbq.DBQScheme(**options), calibration_data=data)


def inference_function(q_model):
    """The inference function with its variables as constants; `.graph`, `.outputs`."""
    spec = [tf.TensorSpec((1, *t.shape[1:]), t.dtype) for t in q_model.inputs]
    concrete = tf.function(lambda *x: q_model(x if len(x) > 1 else x[0], training=False)).get_concrete_function(*spec)
    return convert_variables_to_constants_v2(concrete)


_TRANSPARENT = {
    "Identity",
    "StridedSlice",
    "Reshape",
    "MaxPool",
    "Transpose",
    "Split",
    "Pad",
    "PadV2",
    "Squeeze",
    "ExpandDims",
    "SpaceToBatchND",
    "BatchToSpaceND",
}
_FUSED = {"FusedBatchNormV3", "Relu", "Relu6", "BiasAdd"}
_COMPUTES = {
    "Conv2D",
    "DepthwiseConv2dNative",
    "MatMul",
    "AddV2",
    "Mul",
    "ConcatV2",
    "Mean",
    "AvgPool",
    "Softmax",
    "Sigmoid",
    "LeakyRelu",
    "Placeholder",
}


def count_fake_quants(function):
    """For every computing operator: the numbers of fake-quants between its result and its readers, over all paths."""
    readers = {}
    for op in function.graph.get_operations():
        for index, tensor in enumerate(op.inputs):
            readers.setdefault(tensor.name, []).append((op, index))
    results = {tensor.name for tensor in function.outputs}
    depends = {}

    def is_bias(op):
        return op.type in ("AddV2", "BiasAdd") and any(t.op.type == "MatMul" for t in op.inputs)

    def paths(tensor, crossed):
        found = {crossed} if tensor.name in results else set()
        for op, index in readers.get(tensor.name, []):
            if op.type.startswith("FakeQuant"):
                found |= paths(op.outputs[0], crossed + 1)
            elif op.type == "Shape":
                continue  # the batch size, for a reshape
            elif op.type == "IdentityN":  # the outputs and inputs of a custom gradient
                found |= paths(op.outputs[index], crossed)
            elif op.type == "Split":
                found |= set().union(*(paths(t, crossed) for t in op.outputs))
            elif op.type in _TRANSPARENT or (crossed == 0 and (op.type in _FUSED or is_bias(op))):
                found |= paths(op.outputs[0], crossed)
            elif op.type == "ConcatV2" and crossed == 0:
                found |= paths(op.outputs[0], crossed)  # an input that takes the concatenation's range
            else:
                found.add(crossed)
        return found

    def from_input(op):
        if op.name not in depends:
            depends[op.name] = False
            depends[op.name] = op.type == "Placeholder" or any(from_input(t.op) for t in op.inputs)
        return depends[op.name]

    def computes(op):
        if not op.outputs or op.outputs[0].dtype != tf.float32 or is_bias(op) or not from_input(op):
            return False
        return op.type in _COMPUTES or (op.type in _FUSED and op.inputs[0].op.type.startswith("FakeQuant"))

    return {op.name: paths(op.outputs[0], 0) for op in function.graph.get_operations() if computes(op)}


@pytest.mark.parametrize("make", nets.ALL, ids=lambda f: f.__name__)
def test_exactly_one_fake_quant_per_tensor(make):
    q_model = quantize(make())
    counts = count_fake_quants(inference_function(q_model))
    assert len(counts) > 3
    wrong = {name: found for name, found in counts.items() if found != {1}}
    assert not wrong


@pytest.mark.parametrize("make", nets.ALL, ids=lambda f: f.__name__)
def test_float_function_is_kept_by_the_rewrites(make):
    model, x = make(), nets.pictures(8, seed=3)
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(), nets.pictures(8), recalibrate_batch_norm=False)
    before = [w.copy() for w in model.get_weights()]
    with wrappers.quantizer_flags(q_model, weights_bypass=True, activations_bypass=True):
        got = q_model(x, training=False).numpy()
    want = model(x, training=False).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", nets.ALL, ids=lambda f: f.__name__)
def test_trains_and_stays_near_float(make):
    model = make()
    q_model = quantize(model)
    outputs = q_model.output_shape[-1]
    q_model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    labels = np.random.default_rng(1).integers(0, outputs, 64)
    history = q_model.fit(nets.pictures(), labels, batch_size=32, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_default_choice_of_layers():
    q_model = quantize(nets.mobilenet_v1())
    kinds = {
        wrappers.inner(layer).name: type(w.quantizer).__name__
        for layer in q_model.layers
        for w in wrappers.quantized_weights(layer)
    }
    linear, ternary = "LinearWeightQuantizer", "TernaryBranchQuantizer"
    assert kinds == {"stem": linear, "dw0": linear, "pw0": ternary, "dw1": linear, "pw1": ternary, "head": linear}


def test_overrides_by_name_pattern_and_type():
    overrides = {
        L.Conv2D: {"branches": 1},
        "a?": {"branches": 1, "thresholds": "trained"},
        "a1": {"branches": 2},
        "b1": {"skip": True},
        "head": {"branches": 2},
    }
    q_model = quantize(nets.resnet(), overrides=overrides)
    found = {
        wrappers.inner(layer).name: (getattr(w.quantizer, "branches", 0), getattr(w.quantizer, "bits", 0))
        for layer in q_model.layers
        for w in wrappers.quantized_weights(layer)
    }
    # a name wins over a pattern, a pattern over a type; "branches" of the type still says what a0 is
    assert found == {"stem": (1, 0), "a0": (1, 0), "b0": (1, 0), "a1": (2, 0), "head": (2, 0)}
    notes = dict(zip(*[keras_dbq.explain(q_model, None).column(c) for c in ("layer", "note")], strict=True))
    assert "skipped by choice" in notes["b1"]


@pytest.mark.parametrize(
    "option, value",
    [
        ("branches", 1),
        ("forward", "smooth"),
        ("forward", "straight_through"),
        ("thresholds", "midpoint"),
        ("per_channel", False),
        ("temperature", 30.0),
        ("weight_bits", 4),
        ("ternary_first", True),
        ("ternary_last", True),
        ("ternary_depthwise", True),
        ("ema_decay", 0.5),
        ("activation_ranges", "trained"),
        ("symmetric", True),
        ("weight_threshold", "trained"),
        ("train_pre_scale", True),
        ("train_post_scale", True),
        ("overrides", {"pw0": {"branches": 1}}),
    ],
)
def test_every_option_changes_training(option, value):
    """One epoch with and without the option: the learnt weights or the outputs differ."""
    base, other = _default_training(), _train(**{option: value})
    assert _arrays_differ(base, other)


def test_training_repeats():
    """Else the test above would prove nothing."""
    assert not _arrays_differ(_default_training(), _train())


def _train(**options):
    keras.utils.set_random_seed(0)
    q_model = quantize(nets.mobilenet_v1(), **options)
    # Tracing a graph would take most of the time.
    q_model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", run_eagerly=True)
    q_model.fit(nets.pictures(), np.arange(64) % 4, batch_size=32, epochs=1, shuffle=False, verbose=0)
    return [q_model.predict(nets.pictures(16, seed=9), verbose=0), *q_model.get_weights()]


@functools.cache
def _default_training():
    return _train()


def _arrays_differ(a, b):
    return len(a) != len(b) or not all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_calibration_data_in_every_form():
    model, x = nets.resnet(), nets.pictures(100)
    forms = {
        "array": x,
        "dataset": tf.data.Dataset.from_tensor_slices(x).batch(50),
        "labelled": tf.data.Dataset.from_tensor_slices((x, np.zeros(100))).batch(50),
        "generator": (x[i : i + 50] for i in (0, 50)),
        "pictures": list(x),
    }
    weights = {name: quantize(model, data).get_weights() for name, data in forms.items()}
    for name, values in weights.items():
        for a, b in zip(values, weights["array"], strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.mark.parametrize(
    "data, error, message",
    [
        (np.zeros((0, *nets.SHAPE)), ValueError, "expected at least one batch of pictures"),
        (np.full((4, *nets.SHAPE), np.nan), ValueError, "NaN or infinity"),
        (np.zeros((4, 8, 8, 3)), ValueError, r"expected batches of shape \[N"),
        (np.zeros((4, 8)), ValueError, "expected an array of shape"),
        ("pictures.npz", TypeError, "expected an array, a tf.data.Dataset or an iterable"),
        (3, TypeError, "expected an array, a tf.data.Dataset or an iterable"),
        ([np.zeros((0, *nets.SHAPE))], ValueError, "empty batch"),
    ],
)
def test_bad_calibration_data(data, error, message):
    with pytest.raises(error, match=message):
        quantize(nets.sequential(), data)


def test_no_calibration_data_warns():
    with pytest.warns(UserWarning, match="no calibration data"):
        keras_dbq.quantize_model(nets.sequential(), keras_dbq.DBQScheme())


def test_ranges_are_the_extremes_of_the_data():
    x = nets.pictures(20)
    model = nets.resnet()
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(ternary_first=False), x, recalibrate_batch_norm=False)
    first = next(wrappers.quantized_output(layer) for layer in q_model.layers if wrappers.quantized_output(layer))
    assert first.variables["low"].numpy() == x.min() and first.variables["high"].numpy() == x.max()
    inner = keras.Model(model.input, model.get_layer("stem_relu").output)(x).numpy()
    tensor = wrappers.quantized_output(q_model.get_layer("quant_stem_relu"))
    assert tensor.variables["low"].numpy() == 0
    np.testing.assert_allclose(tensor.variables["high"].numpy(), inner.max(), rtol=1e-5)


def test_ema_moves_ranges_in_training_only():
    q_model = quantize(nets.resnet(), ema_decay=0.5)
    tensor = wrappers.quantized_output(q_model.get_layer("quant_stem_relu"))
    high = tensor.variables["high"].numpy()
    q_model(nets.pictures() * 3, training=False)
    assert tensor.variables["high"].numpy() == high
    q_model(nets.pictures() * 3, training=True)
    assert tensor.variables["high"].numpy() != high


def test_recalibrated_batch_norm_normalises():
    model, x = nets.resnet(), nets.pictures(100)
    q_model = quantize(model, x)
    norm = q_model.get_layer("a0_bn")
    node = next(node for node in graph.nodes(q_model) if node.layer is norm)
    before = keras.Model(q_model.input, node.keras_inputs[0])
    with wrappers.quantizer_flags(q_model, activations_bypass=True):
        z = before(x, training=False).numpy()
    np.testing.assert_allclose(z.mean((0, 1, 2)), norm.moving_mean.numpy(), atol=0.02)
    np.testing.assert_allclose(z.var((0, 1, 2)), norm.moving_variance.numpy(), rtol=0.05)


def test_layers_without_batch_norm_get_the_float_outputs_moments():
    """One branch, so that the difference without the correction is large."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(nets.SHAPE)
    x = L.Conv2D(8, 3, activation="relu", name="a")(inputs)
    x = L.Conv2D(8, 3, activation="relu", name="b")(x)
    model = keras.Model(inputs, L.Dense(3)(L.Flatten()(L.Conv2D(8, 3, name="c")(x))))
    data = nets.pictures(50)
    linear = keras.Model(inputs, model.get_layer("c").output)

    def difference(q_model):
        node = next(node for node in graph.nodes(q_model) if node.layer.name == "quant_c")
        with wrappers.quantizer_flags(q_model, activations_bypass=True):
            got = keras.Model(q_model.input, node.outputs)(data, training=False).numpy()
        want = linear(data).numpy()
        return np.abs(got.mean((0, 1, 2)) - want.mean((0, 1, 2))).max(), np.abs(
            got.std((0, 1, 2)) / want.std((0, 1, 2)) - 1
        ).max()

    scheme = keras_dbq.DBQScheme(1)
    matched = keras_dbq.quantize_model(model, scheme, data, recalibrate_batch_norm=True)
    plain = keras_dbq.quantize_model(model, scheme, data, recalibrate_batch_norm=False)
    assert max(difference(matched)) < 1e-3 < min(difference(plain))
    before = matched.get_weights()
    keras_dbq.initialize(matched, data, recalibrate_batch_norm=True)
    for a, b in zip(before, matched.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_nested_model_is_flattened_and_keeps_names():
    q_model = quantize(nets.nested())
    names = {wrappers.inner(layer).name for layer in q_model.layers}
    assert {"conv", "conv_b", "hidden", "logits"} <= names
    assert not any(isinstance(layer, keras.Model) for layer in q_model.layers)


def test_names_that_collide_in_nested_models():
    def tower(name):
        i = keras.Input((8, 8, 4))
        return keras.Model(i, L.Conv2D(4, 1, name="conv")(i), name=name)

    inputs = keras.Input((8, 8, 4))
    shared = tower("one")
    model = keras.Model(inputs, [L.Flatten()(tower("two")(shared(shared(inputs))))])
    flat = graph.flat_copy(model)
    assert sorted(layer.name for layer in flat.layers if "conv" in layer.name) == ["conv", "two_conv"]
    x = nets.pictures(2, shape=(8, 8, 4))
    np.testing.assert_allclose(flat(x).numpy(), model(x).numpy(), rtol=1e-6)


class Doubler(L.Layer):
    """A layer without an integer form."""

    def call(self, inputs):
        return tf.math.cumsum(inputs, axis=1)


def _with_unknown_layer():
    inputs = keras.Input(nets.SHAPE)
    x = Doubler(name="doubler")(L.Conv2D(4, 3, name="a")(inputs))
    return keras.Model(inputs, L.Flatten()(L.Conv2D(4, 3, name="b")(L.Conv2D(4, 3, name="m")(x))))


def test_unsupported_layer_is_an_error_or_a_skip():
    with pytest.raises(ValueError, match="layer 'doubler' of type Doubler has no integer form"):
        quantize(_with_unknown_layer())
    q_model = quantize(_with_unknown_layer(), on_unsupported="skip")
    table = keras_dbq.explain(q_model, None)
    notes = dict(zip(table.column("layer"), table.column("note"), strict=True))
    assert "stays float" in notes["doubler"]


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"branches": 4}, ValueError, "branches: expected an integer from 1 to 3, got 4"),
        ({"forward": "soft"}, ValueError, "forward: expected one of"),
        ({"thresholds": "free"}, ValueError, "thresholds: expected one of"),
        ({"per_channel": 1}, TypeError, "per_channel: expected True or False"),
        ({"temperature": 0}, ValueError, "temperature: expected a number"),
        ({"activation_bits": 3}, ValueError, "activation bits: expected an integer from 4 to 8, got 3"),
        ({"weight_bits": 1}, ValueError, "weight_bits: expected an integer from 2 to 8"),
        ({"ema_decay": 1.5}, ValueError, "ema_decay: expected a number"),
        ({"on_unsupported": "ignore"}, ValueError, "on_unsupported: expected one of"),
        ({"overrides": {"pw0": {"branch": 1}}}, ValueError, "expected options among"),
        ({"overrides": {3: {}}}, TypeError, "expected a layer name, glob pattern or Keras layer type"),
        ({"overrides": {"pw0": 3}}, TypeError, "expected a dict of options"),
        ({"overrides": {"pw9": {"skip": True}}}, ValueError, "'pw9' matches no layer of model 'v1'"),
    ],
)
def test_bad_scheme(arguments, error, message):
    with pytest.raises(error, match=message):
        quantize(nets.mobilenet_v1(), **arguments)


def test_bad_models():
    scheme = keras_dbq.DBQScheme()
    with pytest.raises(TypeError, match="expected a tf_keras model, got int"):
        keras_dbq.quantize_model(3, scheme)
    with pytest.raises(TypeError, match="expected a QuantizeScheme"):
        keras_dbq.quantize_model(nets.sequential(), "dbq")
    with pytest.raises(ValueError, match="has not been built"):
        keras_dbq.quantize_model(keras.Sequential([L.Dense(3)]), scheme)
    with pytest.raises(ValueError, match="is already quantized"):
        keras_dbq.quantize_model(quantize(nets.sequential()), scheme)

    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match="subclassed model Subclassed"):
        keras_dbq.quantize_model(Subclassed(), scheme)
    with pytest.raises(ValueError, match="has no quantized layer"):
        keras_dbq.initialize(nets.sequential())


def test_keras_3_model_gets_one_line_that_says_what_to_do():
    program = (
        "import keras_dbq, keras\n"
        "m = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])\n"
        "try:\n  keras_dbq.quantize_model(m, keras_dbq.DBQScheme())\n"
        "except TypeError as e:\n  print(e)\n"
    )
    text = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert text.count("\n") == 1
    assert "got a Keras 3." in text and "TF_USE_LEGACY_KERAS=1" in text


def test_tfmot_quantize_apply_gives_the_same_model():
    model, x = nets.mobilenet_v1(), nets.pictures()
    scheme = keras_dbq.DBQScheme(branches=1)
    annotated = tfmot.quantization.keras.quantize_annotate_model(model)
    with keras_dbq.quantize_scope():
        applied = tfmot.quantization.keras.quantize_apply(annotated, scheme)
    errors = keras_dbq.initialize(applied, x)
    assert set(errors) == {"stem", "dw0", "pw0", "dw1", "pw1", "head"}
    direct = quantize(model, branches=1)
    np.testing.assert_allclose(applied.predict(x, verbose=0), direct.predict(x, verbose=0), atol=1e-6)
    assert all(found == {1} for found in count_fake_quants(inference_function(applied)).values())


def test_tfmot_annotated_layers_only():
    def annotate(layer):
        if layer.name == "a0":
            config = quantize_configs.Conv2DQuantizeConfig(quantizers.TernaryBranchQuantizer(branches=1))
            return tfmot.quantization.keras.quantize_annotate_layer(layer, config)
        return layer

    annotated = keras.models.clone_model(nets.resnet(), clone_function=annotate)
    with keras_dbq.quantize_scope():
        q_model = tfmot.quantization.keras.quantize_apply(annotated, keras_dbq.DBQScheme(branches=2))
    keras_dbq.initialize(q_model, nets.pictures())
    quantized = [w.quantizer.branches for layer in q_model.layers for w in wrappers.quantized_weights(layer)]
    assert quantized == [1]
    outputs = [
        wrappers.quantized_output(layer).layer_name for layer in q_model.layers if wrappers.quantized_output(layer)
    ]
    assert outputs == ["stem_relu", "a0_relu"]  # what it reads and what it writes


def test_config_that_does_not_fit_its_layer():
    def annotate(layer):
        config = quantize_configs.DenseQuantizeConfig() if layer.name == "a0" else None
        return tfmot.quantization.keras.quantize_annotate_layer(layer, config) if config else layer

    annotated = keras.models.clone_model(nets.resnet(), clone_function=annotate)
    with keras_dbq.quantize_scope(), pytest.raises(ValueError, match="DenseQuantizeConfig: expected a layer of type"):
        tfmot.quantization.keras.quantize_apply(annotated, keras_dbq.DBQScheme())


def test_initialize_is_repeatable_and_reports_errors(capsys):
    model = nets.resnet()
    q_model = quantize(model)
    weights = q_model.get_weights()
    errors = keras_dbq.initialize(q_model, nets.pictures(), verbose=True)
    assert "a0" in capsys.readouterr().out
    for a, b in zip(weights, q_model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    kernel = model.get_layer("a0").get_weights()[0]
    ternary = keras_dbq.get_ternary_weights(q_model.get_layer("quant_a0"))
    rebuilt = (ternary.codes * ternary.scales[:, None, None, None, :]).sum(0)
    assert errors["a0"] == pytest.approx(((kernel - rebuilt) ** 2).sum() / (kernel**2).sum(), rel=1e-4)
    assert 0 < errors["a0"] < 0.05
    one = keras_dbq.initialize(quantize(model, branches=1), nets.pictures())
    assert one["a0"] > 3 * errors["a0"]


def test_two_device_mirrored_strategy():
    program = (
        "import sys, numpy as np, keras_dbq\n"
        "from keras_dbq.compat import tf, keras\n"
        "sys.path.append(sys.argv[1])\n"
        "tf.config.set_logical_device_configuration(tf.config.list_physical_devices('CPU')[0],"
        " [tf.config.LogicalDeviceConfiguration()] * 2)\n"
        "from tests import nets\n"
        "with tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1']).scope():\n"
        "  q = keras_dbq.quantize_model(nets.resnet(), keras_dbq.DBQScheme(), nets.pictures())\n"
        "  q.compile('sgd', keras.losses.SparseCategoricalCrossentropy(from_logits=True))\n"
        "h = q.fit(nets.pictures(), np.arange(64) % 5, batch_size=32, epochs=1, verbose=0)\n"
        "print('loss', h.history['loss'][0])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, REPOSITORY], capture_output=True, text=True)
    assert "loss" in done.stdout, done.stderr[-2000:]
    assert np.isfinite(float(done.stdout.split()[-1]))


def test_wrappers_are_tfmots():
    q_model = quantize(nets.resnet())
    assert isinstance(q_model.get_layer("quant_a0"), QuantizeWrapperV2)
