"""Label-free training: losses, what trains and what stays, cycles, and the way back from a loss that is no number."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras, tf
from keras_dbq.training import callbacks, distillation
from keras_dbq.wrapping import wrappers
from tests import nets


def pair(make=nets.mobilenet_v1, scheme=None):
    keras.utils.set_random_seed(0)
    model = make()
    scheme = scheme or keras_dbq.FATScheme(bits=4)
    return keras_dbq.quantize_model(model, scheme, calibration_data=nets.pictures()), model


def test_losses_equal_their_formulas():
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(6, 4)), rng.normal(size=(6, 4))

    def log_softmax(z):
        return z - np.log(np.exp(z).sum(-1, keepdims=True))

    expected = {
        "rmse": np.sqrt(np.mean((s - t) ** 2)),
        "smooth_l1": np.sqrt((s - t) ** 2 + 1e-5).sum(-1).mean(),
        "kl": (np.exp(log_softmax(t)) * (log_softmax(t) - log_softmax(s))).sum(-1).mean(),
    }
    for kind, value in expected.items():
        assert float(distillation.logits_loss(kind, tf.constant(s), tf.constant(t))) == pytest.approx(value, rel=1e-6)
    with pytest.raises(ValueError, match="loss: expected one of 'rmse', 'smooth_l1', 'kl'"):
        distillation.logits_loss("l2", tf.constant(s), tf.constant(t))


@pytest.mark.parametrize("kind", ["dense", "softmax layer", "activation layer", "none"])
def test_logits_stand_before_the_softmax(kind):
    inputs = keras.Input((5,))
    last = keras.layers.Dense(3, activation="softmax" if kind == "dense" else None, name="last")
    x = last(inputs)
    if kind == "softmax layer":
        x = keras.layers.Softmax()(x)
    if kind == "activation layer":
        x = keras.layers.Activation("softmax")(x)
    model = keras.Model(inputs, x)
    data = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    kernel, bias = last.get_weights()
    np.testing.assert_allclose(distillation.logits_model(model)(data), data @ kernel + bias, rtol=1e-5, atol=1e-6)
    assert last.activation is (keras.activations.softmax if kind == "dense" else keras.activations.linear)


@pytest.mark.parametrize("loss", ["rmse", "kl"])
def test_thresholds_train_and_weights_stay(loss):
    q_model, model = pair()
    kernels = [w.variable.numpy() for la in wrappers.all_layers(q_model) for w in wrappers.quantized_weights(la)]
    names = {v.name.rpartition("/")[2] for v in distillation.trained_variables(q_model, "thresholds")}
    assert names >= {"kernel_threshold_factor:0", "depthwise_kernel_threshold_factor:0", "output_width:0"}
    x = nets.pictures(64, seed=3)
    before = float(distillation.Distiller(q_model, model, loss=loss).distance(x))
    history = keras_dbq.distill(q_model, model, x, loss=loss, epochs=3, learning_rate=0.01, batch_size=16, verbose=0)
    assert len(history["loss"]) == 3
    assert float(distillation.Distiller(q_model, model, loss=loss).distance(x)) < before
    after = [w.variable.numpy() for la in wrappers.all_layers(q_model) for w in wrappers.quantized_weights(la)]
    for a, b in zip(kernels, after, strict=True):
        np.testing.assert_array_equal(a, b)
    report = keras_dbq.export_tflite(q_model, None, "int8")
    assert keras_dbq.verify(q_model, report.data, x[:16]).passed


def test_all_trains_weights_too_and_hidden_layers_join_the_loss():
    q_model, model = pair(nets.resnet, keras_dbq.DBQScheme(branches=1))
    kernel = wrappers.quantized_weights(q_model.get_layer("quant_a0"))[0].variable
    kept = kernel.numpy()
    x = nets.pictures(32, seed=3)
    plain = float(distillation.Distiller(q_model, model, "all").distance(x))
    with_hidden = float(distillation.Distiller(q_model, model, "all", hidden_weight=2.0).distance(x))
    student, teacher, names = distillation.hidden_models(q_model, model)
    assert names
    hidden = float(distillation.hidden_loss(student(x)[1], teacher(x)[1]))
    assert with_hidden == pytest.approx(plain + 2 * hidden, rel=1e-4)
    data = tf.data.Dataset.from_tensor_slices((x, np.zeros(32))).batch(8)  # labels are not looked at
    keras_dbq.distill(q_model, model, data, train="all", hidden_weight=2.0, epochs=3, verbose=0)
    assert (kernel.numpy() != kept).any()
    assert float(distillation.Distiller(q_model, model, "all", hidden_weight=2.0).distance(x)) < with_hidden


def variables(q_model):
    """Kernels and biases of the quantized layers."""
    return distillation.trained_variables(q_model, "pointwise")


def test_pointwise_factors_stay_in_their_interval_and_everything_else_stays():
    q_model, model = pair()
    x = nets.pictures(32, seed=3)
    before, mine = q_model.get_weights(), [v.numpy() for v in variables(q_model)]
    assert {v.name.rpartition("/")[2] for v in variables(q_model)} == {"kernel:0", "depthwise_kernel:0", "bias:0"}
    distance = float(distillation.Distiller(q_model, model).distance(x))
    keras_dbq.distill(q_model, model, x, train="pointwise", epochs=4, batch_size=8, learning_rate=0.1, verbose=0)
    ratios = np.concatenate([(v.numpy() / w)[w != 0] for v, w in zip(variables(q_model), mine, strict=True)])
    assert ratios.min() == pytest.approx(0.75) and ratios.max() == pytest.approx(1.25) and len(np.unique(ratios)) > 100
    changed = [not np.array_equal(a, b) for a, b in zip(before, q_model.get_weights(), strict=True)]
    assert sum(changed) == len(mine)
    keras_dbq.distill(q_model, model, x, train="pointwise", epochs=6, batch_size=8, learning_rate=3e-3, verbose=0)
    assert float(distillation.Distiller(q_model, model).distance(x)) < distance
    report = keras_dbq.export_tflite(q_model, None, "int8")
    assert keras_dbq.verify(q_model, report.data, x[:16]).passed


def test_a_pointwise_step_is_adams_step_on_the_factors():
    """derived: dL/df = w0 * dL/dw; Adam's first step is the learning rate times the sign of the gradient."""
    q_model, model = pair()
    x = tf.constant(nets.pictures(8, seed=3))
    distiller = distillation.Distiller(q_model, model, "pointwise")
    distiller.compile(keras.optimizers.Adam(0.01, epsilon=1e-12, jit_compile=False))
    start = [v.numpy() for v in distiller.trained]
    with wrappers.quantizer_flags(q_model, weights_training=True), tf.GradientTape() as tape:
        value = distiller.distance(x)
    gradients = tape.gradient(value, distiller.trained)
    distiller.train_step(x)
    for w, g, v in zip(start, gradients, distiller.trained, strict=True):
        clear = np.abs(g * w) > 1e-6
        np.testing.assert_allclose(v.numpy()[clear], (w * (1 - 0.01 * np.sign(g * w)))[clear], rtol=1e-4)


def test_pointwise_leaves_frozen_weights_alone():
    q_model, model = pair()
    keras_dbq.freeze(q_model, weights=True, layers=["stem"])
    names = {v.name for v in variables(q_model)}
    assert names and not any("stem" in name for name in names)
    keras_dbq.freeze(q_model, weights=True)
    with pytest.raises(ValueError, match="expected quantized weights that are not frozen in the model, got none"):
        keras_dbq.distill(q_model, model, nets.pictures(8), train="pointwise")


@pytest.mark.parametrize("train", ["thresholds", pytest.param("pointwise", marks=pytest.mark.slow)])
def test_under_a_distribution_strategy(train):
    x = nets.pictures(16, seed=3)
    alone, model = pair()
    keras_dbq.distill(alone, model, x, train=train, epochs=1, batch_size=16, verbose=0)
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        mirrored, model = pair()
        keras_dbq.distill(mirrored, model, x, train=train, epochs=1, batch_size=16, verbose=0)
    for a, b in zip(alone.get_weights(), mirrored.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        q_model, model = pair()
        losses = keras_dbq.distill(q_model, model, nets.pictures(16), train="all", epochs=2, verbose=0)["loss"]
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert np.isfinite(losses).all() and all(v.dtype == tf.float32 for v in q_model.trainable_variables)


def test_hidden_layers_of_a_network_that_ends_in_softmax():
    q_model, model = pair(nets.sequential)
    x = nets.pictures(8)
    for _ in range(2):  # each makes models over the same layers
        distiller = distillation.Distiller(q_model, model, hidden_weight=1.0)
        plain = distillation.Distiller(q_model, model)
        assert float(distiller.distance(x)) > float(plain.distance(x)) > 0


def test_each_cycle_anneals_and_starts_with_an_empty_memory():
    q_model, model = pair()
    rates, memories = [], []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))
            slots = [v for v in self.model.optimizer.variables if "/m/" in v.name or "_m" in v.name.lower()]
            memories.append(sum(float(tf.reduce_sum(tf.abs(v))) for v in slots))

    x = nets.pictures(32)
    keras_dbq.distill(
        q_model, model, x, epochs=4, cycle_epochs=2, batch_size=16, learning_rate=0.01, callbacks=[Watch()], verbose=0
    )
    half = [0.01 * 0.5 * (1 + np.cos(np.pi * i / 4)) for i in range(4)]
    np.testing.assert_allclose(rates, half * 2, rtol=1e-5)
    assert memories[0] == memories[4] == 0 and memories[3] > 0 and memories[5] > 0


def test_annealing_goes_on_at_a_later_step_and_refuses_bad_arguments():
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
    model.compile(keras.optimizers.Adam(1.0, jit_compile=False), "mse")
    data = np.zeros((4, 2), np.float32), np.zeros((4, 1), np.float32)
    model.fit(*data, batch_size=4, verbose=0, callbacks=[callbacks.CosineAnnealing(0.1, steps=4, first_step=5)])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.05 * (1 + np.cos(np.pi / 4)))
    with pytest.raises(ValueError, match="rate: expected a number from 0"):
        callbacks.CosineAnnealing(-1.0, 3)
    with pytest.raises(ValueError, match="steps: expected an integer from 1"):
        callbacks.CosineAnnealing(1.0, 0)


def test_a_loss_that_is_no_number_puts_the_last_good_state_back():
    q_model, model = pair()
    x = nets.pictures(32)
    good = {}

    class Break(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                good["weights"] = q_model.get_weights()
                head = self.model.teacher.layers[-1]
                head.set_weights([w * np.nan for w in head.get_weights()])

    with pytest.warns(UserWarning, match="epoch 2: the loss is not finite; the weights of the last good epoch"):
        history = keras_dbq.distill(q_model, model, x, epochs=3, batch_size=16, callbacks=[Break()], verbose=0)
    assert len(history["loss"]) == 2
    for a, b in zip(good["weights"], q_model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.isfinite(q_model.predict(x, verbose=0)).all()


def test_errors():
    q_model, model = pair()
    x = nets.pictures(8)
    ternary, _ = pair(scheme=keras_dbq.DBQScheme())
    endless = tf.data.Dataset.from_tensor_slices(x).batch(4).repeat()
    for given, data, options, message in (
        (ternary, x, {}, "expected trained thresholds in the model, got none"),
        (q_model, x, {"train": "biases"}, "train: expected one of 'thresholds', 'pointwise', 'all'"),
        (q_model, x, {"loss": "l2"}, "loss: expected one of"),
        (q_model, x, {"epochs": 0}, "epochs: expected an integer from 1"),
        (q_model, x, {"epochs": 2, "cycle_epochs": 3}, "cycle_epochs: expected an integer from 1 to 2"),
        (q_model, x[:0], {}, "data: expected at least one batch of pictures"),
        (q_model, endless, {}, "data: expected at least one batch of pictures"),
    ):
        with pytest.raises(ValueError, match=message):
            keras_dbq.distill(given, model, data, **options)
    with pytest.raises(ValueError, match="has no quantized layer"):
        keras_dbq.distill(model, model, x)
