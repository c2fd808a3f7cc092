"""What calibration measures: ranges, batch norm again, outputs of layers without batch norm."""

import numpy as np

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.network import graph
from keras_dbq.wrapping import wrappers
from tests import nets

L = keras.layers


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


def test_without_the_float_network_batch_norm_gets_the_statistics_of_the_data():
    model, x = nets.resnet(), nets.pictures(100)
    q_model = nets.quantize(model, x)
    keras_dbq.initialize(q_model, x)
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


def test_a_batch_norm_keeps_the_moments_of_its_output_whatever_its_statistics_are():
    model, x = nets.resnet(), nets.pictures(100)
    for layer in model.layers:  # statistics that are not the data's
        if isinstance(layer, L.BatchNormalization):
            rng = np.random.default_rng(0)
            layer.moving_mean.assign(rng.normal(size=layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.2, 4, layer.moving_variance.shape))
    q_model = nets.quantize(model, x)
    with wrappers.quantizer_flags(q_model, activations_bypass=True):
        for name in ("a0_bn", "b0_bn"):
            wanted = keras.Model(model.input, model.get_layer(name).output)(x).numpy()
            node = next(node for node in graph.nodes(q_model) if graph.inner(node.layer).name == name)
            got = keras.Model(q_model.input, node.outputs)(x, training=False).numpy()
            np.testing.assert_allclose(got.mean((0, 1, 2)), wanted.mean((0, 1, 2)), atol=0.05 * wanted.std())
            np.testing.assert_allclose(got.std((0, 1, 2)), wanted.std((0, 1, 2)), rtol=0.1)
