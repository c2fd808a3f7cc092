"""`distill`: what trains and what stays, seeds, cycles, and the way back from a loss that is no number."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras, tf
from keras_dbq.training import distillation
from keras_dbq.training.annealing import few_levels
from keras_dbq.wrapping import wrappers
from tests import nets
from tests.training import small


def pair(make=nets.mobilenet_v1, scheme=None):
    """Biases are not corrected, so that training has something to gain."""
    keras.utils.set_random_seed(0)
    model = make()
    scheme = scheme or keras_dbq.FATScheme(bits=4)
    return keras_dbq.quantize_model(model, scheme, nets.pictures(), recalibrate_batch_norm=False), model


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


@pytest.mark.slow
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
        history = keras_dbq.distill(
            q_model, model, x, epochs=3, batch_size=16, keep_best=False, callbacks=[Break()], verbose=0
        )
    assert len(history["loss"]) == 2
    for a, b in zip(good["weights"], q_model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.isfinite(q_model.predict(x, verbose=0)).all()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_whatever_ran_before():
    x = small.data()[0]

    def weights(seed, world):
        q_model, model = small.pair()
        keras.utils.set_random_seed(world)
        np.random.random(world)
        tf.random.normal([world])
        keras_dbq.distill(q_model, model, x, epochs=2, batch_size=16, learning_rate=0.01, seed=seed, verbose=0)
        return q_model.get_weights()

    first, second, other = weights(3, 1), weights(3, 2), weights(4, 1)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_every_epoch_has_an_order_of_its_own_and_a_resumed_one_too():
    x, done = np.arange(10.0, dtype=np.float32), tf.Variable(0, dtype=tf.int64)
    batches = distillation._shuffled(x, 4, 0, done)

    def epoch(steps):
        done.assign(steps)
        return [list(batch) for batch in batches.as_numpy_iterator()]

    first, second = epoch(0), epoch(3)
    assert [len(batch) for batch in first] == [4, 4, 2] and sorted(sum(first, [])) == sorted(sum(second, [])) == list(x)
    assert first != second and first == epoch(0) and second == epoch(3)


def test_what_is_held_back_is_drawn_by_the_seed():
    x = np.arange(200, dtype=np.float32)
    first, again, other = (distillation._divided(x, None, True, seed) for seed in (0, 0, -1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1]) and len(first[1]) == 20
    assert sorted(np.concatenate(first)) == list(x) and not np.array_equal(first[1], x[-20:])


@pytest.mark.parametrize("data", ["array", "labelled data set"])
def test_pictures_change_anew_in_every_epoch_and_a_resumed_one_too(data):
    done = tf.Variable(0, dtype=tf.int64)
    x = np.random.default_rng(0).random((10, 16, 16, 3)).astype(np.float32)
    plain = tf.data.Dataset.from_tensor_slices(x if data == "array" else (x, np.zeros(10))).batch(4)
    changed = distillation._changed(plain, ("shift",), 0, done)
    assert int(changed.cardinality()) == 3

    def epoch(steps):
        done.assign(steps)
        return np.concatenate(list(changed.as_numpy_iterator()))

    first, second = epoch(0), epoch(3)
    assert first.shape == second.shape == x.shape and not np.array_equal(first, second)
    assert np.array_equal(first, epoch(0)) and np.array_equal(second, epoch(3))


def test_pictures_change_where_that_is_asked_for_or_usual(monkeypatch):
    model, x = small.network(), small.data(64)[0]
    plain, seen = distillation._changed, []

    def changed(data, ways, *rest):
        seen.append(ways)
        return plain(data, ways, *rest)

    monkeypatch.setattr(distillation, "_changed", changed)

    def ways(data, **options):
        seen.clear()
        q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(branches=1), calibration_data=x)
        keras_dbq.distill(q_model, model, data, epochs=1, verbose=0, **options)
        return seen

    batches = tf.data.Dataset.from_tensor_slices(x).batch(16)
    assert ways(x) == [("shift", "mirror", "mix")] and ways(x, augment=()) == []
    assert ways(batches) == [] and ways(batches, augment=["mix"]) == [("mix",)]


def test_goes_on_after_a_kill_with_the_same_weights(tmp_path):
    keras.utils.set_random_seed(0)
    model, x = small.network(), small.data(128)[0]

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def run(workdir, callbacks=(), **options):
        q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(branches=1), calibration_data=x)
        options = {"epochs": 3, "learning_rate": 1e-3, "batch_size": 16, "verbose": 0, **options}
        history = keras_dbq.distill(q_model, model, x, workdir=workdir, callbacks=callbacks, **options)
        return q_model.get_weights(), history

    start = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(branches=1), calibration_data=x).get_weights()

    def moved(weights):
        return np.concatenate([np.ravel(w - s) for w, s in zip(weights, start, strict=True)])

    def away(weights):
        """From the straight run, in units of the way that it went."""
        return np.linalg.norm(moved(weights) - moved(straight)) / np.linalg.norm(moved(straight))

    straight, _ = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [Kill()])
    resumed, history = run(tmp_path)
    assert len(history["loss"]) == 1
    # Not 0: under load TensorFlow's threads add up in another order, and Adam makes a whole step of a gradient near 0.
    assert 2 * away(resumed) < away(run(None, seed=1)[0])
    finished, history = run(tmp_path)
    assert history["loss"] == [] and np.array_equal(moved(resumed), moved(finished))
    with pytest.raises(ValueError, match="distill: workdir .* got one with another learning_rate"):
        run(tmp_path, learning_rate=2e-3)


def test_annealed_codes_are_hard_where_they_are_measured_and_at_the_end():
    keras.utils.set_random_seed(0)
    model, x = small.network(), small.data(64)[0]
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(branches=1), calibration_data=x)
    kernels = [w.variable for w in few_levels(q_model.layers, q_model.trainable_variables)]
    start, seen = [kernel.numpy() for kernel in kernels], []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append(float(wrappers.quantized_weights(q_model.get_layer("quant_pointwise"))[0].quantizer.sharpness))

    options = {"codes": "annealed", "epochs": 4, "batch_size": 16, "callbacks": [Watch()], "verbose": 0}
    history = keras_dbq.distill(q_model, model, x, **options, keep_best=False, validation_data=None)
    assert seen == sorted(seen) and seen[0] == pytest.approx(8) and 500 < seen[-1] < 1000
    assert history["loss"][-1] < history["loss"][0]
    assert all(not np.array_equal(a, b.numpy()) for a, b in zip(start, kernels, strict=True))
    for weight in few_levels(q_model.layers, q_model.trainable_variables):
        assert weight.quantizer.sharpness is None
        assert all(len(np.unique(np.abs(column))) <= 2 for column in weight.quantized_columns().T)
    history = keras_dbq.distill(q_model, model, x, **options)
    after = float(distillation.Distiller(q_model, model, "all", "kl", 1.0).distance(x))  # so few choose themselves
    assert after == pytest.approx(min(history["val_loss"]), rel=0.02)  # a mean over batches


def test_settled_codes_begin_in_the_middle_and_other_kernels_stay():
    keras.utils.set_random_seed(0)
    model, x = small.network(), small.data(64)[0]

    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            for weight in few_levels(q_model.layers, q_model.trainable_variables):
                np.testing.assert_array_equal(
                    weight.quantized_columns(), weight.quantizer.columns(weight.variable.numpy())
                )

    for codes in ("settled", "latent"):
        scheme = keras_dbq.DBQScheme(branches=1, forward="straight_through", thresholds="midpoint")
        q_model = keras_dbq.quantize_model(model, scheme, calibration_data=x)
        few = [w.variable.ref() for w in few_levels(q_model.layers, q_model.trainable_variables)]
        other = [w.variable for layer in q_model.layers for w in wrappers.quantized_weights(layer)]
        other = [kernel for kernel in other if kernel.ref() not in few]
        before, outputs = [kernel.numpy() for kernel in other], q_model.predict(x, verbose=0)
        callbacks = [Watch()] if codes == "settled" else []
        options = {"train": "all", "codes": codes, "epochs": 2, "verbose": 0, "keep_best": False}
        keras_dbq.distill(q_model, model, x, **options, callbacks=callbacks)
        stayed = all(np.array_equal(a, b.numpy()) for a, b in zip(before, other, strict=True))
        assert other and stayed == (codes == "settled")
        assert not np.array_equal(outputs, q_model.predict(x, verbose=0))


def test_errors():
    q_model, model = pair()
    x = nets.pictures(8)
    ternary, _ = pair(scheme=keras_dbq.DBQScheme())
    endless = tf.data.Dataset.from_tensor_slices(x).batch(4).repeat()
    for given, data, options, message in (
        (ternary, x, {"train": "thresholds"}, "expected trained thresholds in the model, got none"),
        (q_model, x, {"train": "biases"}, "train: expected one of 'thresholds', 'pointwise', 'all'"),
        (q_model, x, {"loss": "l2"}, "loss: expected one of"),
        (q_model, x, {"epochs": 0}, "epochs: expected an integer from 1"),
        (q_model, x, {"epochs": 2, "cycle_epochs": 3}, "cycle_epochs: expected an integer from 1 to 2"),
        (q_model, x[:0], {}, "data: expected at least one batch of pictures"),
        (q_model, endless, {}, "data: expected at least one batch of pictures"),
        (q_model, x, {"augment": ["turn"]}, "augment: expected one of 'shift', 'crop', 'mirror', 'colour'"),
        (q_model, x, {"codes": "soft"}, "codes: expected one of 'latent', 'settled', 'annealed'"),
        (q_model, x, {"codes": "annealed"}, "codes: expected 'latent' with train='thresholds'"),
        (
            q_model,
            x,
            {"codes": "settled"},
            "codes: expected 'latent' with train='thresholds' and this model, got 'settled'",
        ),
        (q_model, x, {"augment": "mix"}, "augment: expected a list of names, got 'mix'"),
    ):
        with pytest.raises(ValueError, match=message):
            keras_dbq.distill(given, model, data, **options)
    with pytest.raises(ValueError, match="has no quantized layer"):
        keras_dbq.distill(model, model, x)


def test_what_is_trained_where_nothing_is_said():
    fat, dbq = pair()[0], pair(nets.resnet, keras_dbq.DBQScheme(branches=1))[0]
    assert distillation.default_part(fat) == "thresholds" and distillation.default_part(dbq) == "all"
    for part, settings in distillation.DEFAULTS.items():
        assert distillation._settings(part, None, None, None, None) == settings
        given = distillation._settings(part, "smooth_l1", 3.0, 0.5, ["mix"])
        assert given == ("smooth_l1", 3.0, 0.5, ("mix",))


def test_networks_without_a_hidden_activation_in_common_learn_the_answers_alone():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(3, name="only")(inputs))
    x = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
    scheme = keras_dbq.DBQScheme(branches=1, ternary_first=True, ternary_last=True)
    q_model = keras_dbq.quantize_model(model, scheme, calibration_data=x)
    assert len(keras_dbq.distill(q_model, model, x, epochs=1, verbose=0)["loss"]) == 1
    with pytest.raises(ValueError, match="hidden_models: expected layers matching"):
        keras_dbq.distill(q_model, model, x, epochs=1, hidden_weight=1.0, verbose=0)
    with pytest.raises(ValueError, match=r"augment: expected pictures \[N, H, W, C\], got TensorSpec"):
        keras_dbq.distill(q_model, model, x, epochs=1, augment=["mix"], verbose=0)


@pytest.mark.parametrize("rate", [1e-4, 10.0])
def test_never_worse_on_pictures_that_are_not_trained_on(rate):
    model, scheme = small.network(), keras_dbq.DBQScheme(branches=1)
    x = small.data(96)[0]
    q_model = keras_dbq.quantize_model(model, scheme, calibration_data=x)
    held_back = distillation._divided(x, None, True, 0)[1]
    assert len(held_back) == 9
    before = float(distillation.Distiller(q_model, model, "all", "kl", 1.0).distance(held_back))
    history = keras_dbq.distill(q_model, model, x, epochs=3, learning_rate=rate, verbose=0)
    after = float(distillation.Distiller(q_model, model, "all", "kl", 1.0).distance(held_back))
    assert len(history["val_loss"]) == 3 and after <= before
    assert after == pytest.approx(min(before, *history["val_loss"]), rel=1e-5)


def test_the_last_epoch_where_that_is_asked_for():
    model, x = small.network(), small.data(96)[0]
    last = {}
    for keep_best in (True, False):
        q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(branches=1), calibration_data=x)
        start = [w.copy() for w in q_model.get_weights()]
        history = keras_dbq.distill(q_model, model, x, epochs=1, learning_rate=10.0, keep_best=keep_best, verbose=0)
        last[keep_best] = [np.array_equal(a, b) for a, b in zip(start, q_model.get_weights(), strict=True)]
        assert ("val_loss" in history) == keep_best
    assert all(last[True]) and not all(last[False])


def test_pictures_that_choose_the_epoch_are_given():
    model, x = small.network(), small.data(64)[0]
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(branches=1), calibration_data=x)
    data = tf.data.Dataset.from_tensor_slices(x).batch(16)
    assert "val_loss" not in keras_dbq.distill(q_model, model, data, epochs=1, verbose=0)
    for given in (x[:8], data.take(1)):
        assert "val_loss" in keras_dbq.distill(q_model, model, data, epochs=1, validation_data=given, verbose=0)
