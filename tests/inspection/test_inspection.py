"""Weights and tables of quantized models."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras, tf
from keras_dbq.wrapping import wrappers
from tests import nets

L = keras.layers


def quantize(make=nets.resnet, **options):
    keras.utils.set_random_seed(0)
    return keras_dbq.quantize_model(make(), keras_dbq.DBQScheme(**options), nets.pictures())


def fit(q_model, epochs=1):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Two batches: tracing a graph would take most of the time.
    q_model.compile(keras.optimizers.SGD(0.05), loss, run_eagerly=True)
    labels = np.arange(64) % q_model.output_shape[-1]
    return q_model.fit(nets.pictures(), labels, batch_size=32, epochs=epochs, shuffle=False, verbose=0)


@pytest.mark.parametrize(
    "options", [{"branches": 1}, {"branches": 2}, {"branches": 3}, {"per_channel": False}, {"thresholds": "midpoint"}]
)
def test_ternary_weights_are_what_the_layer_computes_with(options):
    q_model = quantize(**options)
    fit(q_model)
    layer = q_model.get_layer("quant_a0")
    ternary = keras_dbq.get_ternary_weights(layer)
    branches = options.get("branches", 2)
    channels = 1 if options.get("per_channel") is False else 8
    assert ternary.codes.shape == (branches, 3, 3, 8, 8) and ternary.codes.dtype == np.int8
    assert ternary.scales.shape == (branches, channels)
    assert ternary.thresholds.shape == (3**branches - 1, channels)
    np.testing.assert_array_equal(ternary.integer_scales.sum(0), 127)
    weight = wrappers.quantized_weights(layer)[0]
    used = weight.quantizer(weight.variable, False, weight.variables).numpy()
    rebuilt = (ternary.codes * ternary.scales[:, None, None, None, :]).sum(0)
    np.testing.assert_allclose(rebuilt, used, rtol=1e-6, atol=1e-7)
    integers = keras_dbq.integer_weights(layer)
    assert integers.values.dtype == np.int8 and integers.scale.shape == (8,)
    np.testing.assert_array_equal(integers.values.astype(np.float32) * integers.scale, used)
    # thresholds are in units of the kernel: they separate the codes
    kernel = weight.variable.numpy().reshape(-1, 8)
    region = (kernel[None] > ternary.thresholds[:, None]).sum(0)
    level = (ternary.codes.reshape(branches, -1, 8) * ternary.integer_scales[:, None]).sum(0)
    order = np.argsort(region, axis=0)
    assert np.all(np.diff(np.take_along_axis(level, order, 0), axis=0) >= 0)


def test_depthwise_ternary_weights():
    q_model = quantize(nets.mobilenet_v1, ternary_depthwise=True)
    layer = q_model.get_layer("quant_dw0")
    assert keras_dbq.get_ternary_weights(layer).codes.shape == (2, 3, 3, 8, 1)
    assert keras_dbq.integer_weights(layer).scale.shape == (8,)


def test_linear_integer_weights_reach_the_top_level():
    q_model = quantize(weight_bits=4)
    integers = keras_dbq.integer_weights(q_model.get_layer("quant_stem"))
    np.testing.assert_array_equal(np.abs(integers.values).max((0, 1, 2)), 7)
    assert integers.bits == 4 and integers.branches == 0


def test_errors_of_weight_access():
    q_model = quantize()
    with pytest.raises(ValueError, match="layer 'quant_stem' has no ternary weights"):
        keras_dbq.get_ternary_weights(q_model.get_layer("quant_stem"))
    with pytest.raises(ValueError, match="has no quantized weights"):
        keras_dbq.integer_weights(q_model.get_layer("quant_stem_relu"))
    for function in (keras_dbq.summary, keras_dbq.explain, keras_dbq.strip):
        with pytest.raises(ValueError, match="has no quantized layer"):
            function(nets.sequential())
        with pytest.raises(TypeError, match="expected a quantized tf_keras model, got str"):
            function("model")


def test_summary_counts(capsys):
    q_model = quantize()
    table = keras_dbq.summary(q_model)
    text = capsys.readouterr().out
    assert "2 ternary branches" in text and "8 bit" in text
    rows = {row["layer"]: row for row in table}
    assert rows["a0"]["parameters"] == 3 * 3 * 8 * 8
    assert rows["a0"]["MACs"] == rows["a0"]["of them ternary"] == 16 * 16 * 3 * 3 * 8 * 8
    assert rows["a1"]["MACs"] == 8 * 8 * 3 * 3 * 8 * 8
    assert rows["stem"]["of them ternary"] == 0
    assert rows["a0"]["weight bytes"] == 2 * -(-576 // 5)
    codes = keras_dbq.get_ternary_weights(q_model.get_layer("quant_a0")).codes
    assert rows["a0"]["sparsity"] == " ".join(f"{(plane == 0).mean():.2f}" for plane in codes)
    assert table.totals()["MACs"] == sum(table.column("MACs"))


def test_explain_names_every_layer_and_reason(capsys):
    q_model = quantize(overrides={"b1": {"skip": True}})
    table = keras_dbq.explain(q_model)
    assert "fused into" in capsys.readouterr().out
    rows = {row["layer"]: row for row in table}
    assert rows["a0"]["weights"] == "kernel: TernaryBranchQuantizer"
    assert rows["a0"]["output"] == "fused into a0_bn"
    assert rows["stem"]["note"] == "first layer" and rows["head"]["note"] == "last layer"
    assert rows["b1"]["note"].startswith("skipped by choice")
    assert rows["out0"]["output"].startswith("quantized: 8 bit [0, ")
    assert {wrappers.inner(layer).name for layer in q_model.layers} - {"image"} == set(rows)


def test_callbacks_drive_the_temperature_and_log():
    q_model = quantize(forward="smooth")
    q_model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    labels = np.arange(64) % 5
    history = q_model.fit(
        nets.pictures(),
        labels,
        batch_size=16,
        epochs=2,
        verbose=0,
        callbacks=[keras_dbq.callbacks.TemperatureSchedule(start=4, end=64), keras_dbq.callbacks.SparsityLogger()],
    ).history
    assert history["temperature"] == pytest.approx([4 * 16 ** (3 / 8), 4 * 16 ** (7 / 8)])
    weight = wrappers.quantized_weights(q_model.get_layer("quant_a0"))[0]
    assert weight.variables["temperature"].numpy() == pytest.approx(4 * 16 ** (7 / 8))
    assert 0 < history["sparsity_branch_1"][-1] < 1


@pytest.mark.slow
def test_a_schedule_for_straight_through_warns():
    q_model = quantize(forward="straight_through")
    q_model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.warns(UserWarning, match="every ternary layer trains straight-through, which has no temperature"):
        q_model.fit(
            nets.pictures(16),
            np.arange(16) % 5,
            batch_size=16,
            verbose=0,
            callbacks=[keras_dbq.callbacks.TemperatureSchedule(start=4, end=64)],
        )


@pytest.mark.slow
def test_a_loop_of_ones_own_does_the_same_as_the_callback():
    schedule = keras_dbq.schedules.Linear(4, 40, 4)
    labels, x = np.arange(64) % 5, nets.pictures()
    loss_function = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with_fit = quantize(forward="smooth")
    with_fit.compile(keras.optimizers.SGD(0.01), loss_function)
    with_fit.fit(
        x,
        labels,
        batch_size=16,
        epochs=1,
        shuffle=False,
        verbose=0,
        callbacks=[keras_dbq.callbacks.TemperatureSchedule(schedule)],
    )
    loop, optimizer = quantize(forward="smooth"), keras.optimizers.SGD(0.01)
    for step in range(4):
        keras_dbq.set_temperature(loop, schedule(step))
        part = slice(16 * step, 16 * step + 16)
        with tf.GradientTape() as tape:
            loss = loss_function(labels[part], loop(x[part], training=True))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, loop.trainable_variables), loop.trainable_variables, strict=True)
        )
    for a, b in zip(with_fit.get_weights(), loop.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
