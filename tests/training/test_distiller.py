"""Distiller: its loss, what moves, and that it is a Keras model like any other to `fit`, callbacks and backups."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras, tf
from keras_dbq.training import losses, outputs
from tests import nets
from tests.training import small


def distiller(train="all", scheme=None, end="logits", compiled=None, optimizer=None, **options):
    result = keras_dbq.Distiller(*small.pair(scheme, end), train, **options)
    optimizer = optimizer or keras.optimizers.Adam(0.01, jit_compile=False)
    result.compile(optimizer, **(compiled or {"metrics": ["accuracy"]}))
    return result


def fitted(result, epochs=2, callbacks=(), **options):
    x, y = small.data()
    return result.fit(x, y, batch_size=12, epochs=epochs, shuffle=False, verbose=0, callbacks=[*callbacks], **options)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_loss_is_the_sum_of_its_parts():
    q_model, model = small.pair()
    x, y = small.data()
    mixed = keras_dbq.Distiller(q_model, model, "all", "kl", 0.5, label_weight=0.25, temperature=3.0)
    (student, student_hidden), (teacher, teacher_hidden) = (m(x) for m in outputs.hidden_models(q_model, model)[:2])
    expected = (
        0.75 * losses.logits_loss("kl", student, teacher, 3.0)
        + 0.5 * losses.hidden_loss(student_hidden, teacher_hidden)
        + 0.25 * keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, student)
    )
    value, logits = mixed.loss_and_logits(x, y)
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_array_equal(logits, student)
    labels_alone = keras_dbq.Distiller(q_model, model, "all", label_weight=1.0).loss_and_logits(x, y)[0]
    assert float(labels_alone) == pytest.approx(float(losses.label_loss(y, student)), rel=1e-6)


@pytest.mark.parametrize("end", ["softmax", "sigmoid"])
def test_it_learns_logits_of_networks_that_end_in_an_activation(end):
    result = distiller(end=end, loss="kl", label_weight=0.5)
    x, y = small.data()
    y = y % 2 if end == "sigmoid" else y
    kernel = result.q_model.get_layer("quant_stem").get_weights()[0]
    history = result.fit(x, y, batch_size=12, epochs=6, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert not np.array_equal(kernel, result.q_model.get_layer("quant_stem").get_weights()[0])
    logits = result.student(x).numpy()
    right = (logits[:, 0] > 0) == y if end == "sigmoid" else logits.argmax(-1) == y
    assert result.evaluate(x, y, verbose=0)[1] == pytest.approx(right.mean())


def test_metrics_are_there_where_labels_are():
    result = distiller("thresholds")
    x, y = small.data()
    history = result.fit(x, batch_size=12, epochs=2, verbose=0, validation_data=(x, y)).history
    assert set(history) == {"loss", "val_loss", "val_accuracy"}
    assert history["val_accuracy"][-1] == pytest.approx((result.student(x).numpy().argmax(-1) == y).mean())
    assert history["val_loss"][-1] == pytest.approx(float(result.distance(x)), rel=1e-2)  # a mean over batches of roots
    assert set(fitted(result, 1).history) == {"loss", "accuracy"}


@pytest.mark.slow
def test_labels_are_ignored_where_they_weigh_nothing():
    x, y = small.data()
    weights = []
    for labels in (y, 3 - y, None):
        result = distiller()
        result.fit(x, labels, batch_size=12, shuffle=False, verbose=0)
        weights.append(result.q_model.get_weights())
    assert same(weights[0], weights[1]) and same(weights[0], weights[2])


@pytest.mark.parametrize("fixed", [True, False])
def test_statistics_stay_or_follow(fixed):
    keras.utils.set_random_seed(0)
    model = nets.resnet()
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(), calibration_data=nets.pictures())
    result = keras_dbq.Distiller(q_model, model, "all", fixed_statistics=fixed)
    result.compile(keras.optimizers.SGD(1e-3))
    names = ("moving_mean:0", "moving_variance:0", "output_high:0")
    before = {v.name: v.numpy() for v in q_model.weights if v.name.endswith(names)}
    result.fit(nets.pictures(8, seed=3), verbose=0)
    moved = [not np.array_equal(v.numpy(), before[v.name]) for v in q_model.weights if v.name in before]
    assert len(moved) > 8 and not any(moved) if fixed else all(moved)


def test_the_teacher_is_nobodys_weight():
    result = distiller("pointwise")
    teacher = {id(v) for v in result.teacher.variables}
    assert not teacher & {id(v) for v in (*result.weights, *result.trainable_variables, *result.variables)}
    assert {id(v) for v in result.trainable_variables} == {id(f) for f in result.pointwise.factors}
    assert len(result.weights) == len(result.trainable_weights) + len(result.non_trainable_weights)


@pytest.mark.parametrize(
    "train, scheme", [("all", "DBQScheme"), pytest.param("pointwise", "FATScheme", marks=pytest.mark.slow)]
)
def test_an_interrupted_training_ends_as_one_that_was_not(tmp_path, train, scheme):
    """Bit for bit, the optimizer's memory, the factors and what the callbacks set included."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def run(*more):
        result = distiller(train, getattr(keras_dbq, scheme)())
        keep = keras.callbacks.BackupAndRestore(str(tmp_path), delete_checkpoint=False)
        driving = [keras_dbq.callbacks.CosineAnnealing(0.01, 8)]
        if train == "all":
            driving.append(keras_dbq.callbacks.TemperatureSchedule(start=4, end=40))
        return result, lambda: fitted(result, 4, [*([keep] if more else []), *driving, *more[1:]])

    whole, fit = run()
    whole_history = fit().history
    broken, fit = run("backup", Stop())
    with pytest.raises(KeyboardInterrupt):
        fit()
    names = [name for name, _ in tf.train.list_variables(str(tmp_path / "chief"))]
    assert not any("teacher" in name for name in names) and any("_variables" in name for name in names)
    resumed, fit = run("backup")
    history = fit().history
    assert history["loss"] == whole_history["loss"][2:]
    assert same(whole.get_weights(), resumed.get_weights())
    assert same([v.numpy() for v in whole.optimizer.variables], [v.numpy() for v in resumed.optimizer.variables])


def test_what_is_saved_is_the_quantized_model(tmp_path):
    result = distiller()
    whole, weights = str(tmp_path / "model.keras"), str(tmp_path / "weights.h5")
    checkpoint = keras.callbacks.ModelCheckpoint
    fitted(result, 1, [checkpoint(whole), checkpoint(weights, save_weights_only=True)])
    x = small.data()[0]
    np.testing.assert_array_equal(keras.models.load_model(whole).predict(x, verbose=0), result.predict(x, verbose=0))
    fresh = distiller()
    fresh.load_weights(weights)
    assert same(fresh.q_model.get_weights(), result.q_model.get_weights())
    with pytest.raises(ValueError, match="Distiller.load_weights: expected train='thresholds' or 'all', got 'pointw"):
        distiller("pointwise").load_weights(weights)


def test_early_stopping_puts_the_best_weights_and_factors_back():
    result = distiller("pointwise")
    kept = {}

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["falling"] = -epoch  # epoch 0 is the best
            kept[epoch] = self.model.get_weights()

    stop = keras.callbacks.EarlyStopping("falling", mode="max", patience=1, restore_best_weights=True)
    history = fitted(result, 4, [Keep(), stop]).history
    assert len(history["loss"]) == 2 and not same(kept[0], kept[1]) and same(kept[0], result.get_weights())


def test_loggers_get_what_our_callbacks_add(tmp_path):
    pytest.importorskip("tensorboard")
    result = distiller(scheme=keras_dbq.DBQScheme())
    mine = [keras_dbq.callbacks.TemperatureSchedule(start=4, end=40), keras_dbq.callbacks.SparsityLogger()]
    table = tmp_path / "log.csv"
    fitted(result, 2, [*mine, keras.callbacks.CSVLogger(str(table)), keras.callbacks.TensorBoard(str(tmp_path))])
    header, _, second = (line.split(",") for line in table.read_text().splitlines())
    # Behind them Keras keeps a column for validation each.
    assert header[:6] == ["epoch", "accuracy", "loss", "sparsity_branch_1", "sparsity_branch_2", "temperature"]
    assert float(second[5]) == pytest.approx(4 * 10 ** (7 / 8))
    assert list(tmp_path.glob("train/events*"))


@pytest.mark.slow
def test_steps_per_execution_changes_nothing():
    one, three = (distiller(compiled={"steps_per_execution": steps}) for steps in (1, 2))
    assert fitted(one).history["loss"] == pytest.approx(fitted(three).history["loss"], rel=1e-6)
    assert same(one.get_weights(), three.get_weights())


def moved_by(policy, train, jit=False):
    """What four epochs add to the trained variables, one vector; gradients of labels, which rounding hardly changes."""
    scheme = keras_dbq.DBQScheme(forward="smooth") if train == "all" else keras_dbq.FATScheme()
    optimizer = keras.optimizers.SGD(0.05 if train == "all" else 0.5, 0.9, jit_compile=False)
    keras.mixed_precision.set_global_policy(policy)
    try:
        result = distiller(train, scheme, compiled={"jit_compile": jit}, optimizer=optimizer, label_weight=0.9)
        start = np.concatenate([v.numpy().ravel() for v in result.trained])
        fitted(result, 4)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert all(v.dtype == tf.float32 for v in result.trainable_variables)
    return np.concatenate([v.numpy().ravel() for v in result.trained]) - start


@pytest.mark.slow
@pytest.mark.parametrize("train", ["all", "pointwise"])
def test_jit_compile_and_mixed_precision_train_alike(train):
    """Up to the rounding of half precision (8 or 11 bits), and numbers on the border of two codes, which may take the
    other one where XLA adds up in another order; a step not taken would be a difference of 1, a wrong one of 2."""
    expected = moved_by("float32", train)
    assert np.abs(expected).max() > 0.02
    for policy, jit in (("float32", True), ("mixed_bfloat16", False), ("mixed_float16", False)):
        difference = moved_by(policy, train, jit) - expected
        assert np.linalg.norm(difference) < 0.2 * np.linalg.norm(expected), (policy, jit)


def test_errors():
    q_model, model = small.pair()
    x, y = small.data()
    result = distiller(label_weight=0.5)
    alone = tf.data.Dataset.from_tensor_slices(x).batch(8)
    message = r"expected batches \(x, labels\) with label_weight=0.5, got pictures alone"
    for wrong in (x, alone):
        with pytest.raises(ValueError, match=f"^fit: {message}"):
            result.fit(wrong)
        with pytest.raises(ValueError, match=f"^fit's validation_data: {message}"):
            result.fit(x, y, validation_data=wrong)
        with pytest.raises(ValueError, match=f"^evaluate: {message}"):
            result.evaluate(wrong)
    with pytest.raises(ValueError, match=message):  # a generator: known when its first batch is there
        result.fit((x[:8] for _ in range(2)), verbose=0)
    with pytest.raises(ValueError, match=r"expected batches x or \(x, labels\), got sample weights too; leave them"):
        result.fit(x, y, sample_weight=np.ones(len(x)), verbose=0)
    with pytest.raises(ValueError, match="Distiller.compile: expected no loss, got 'mse'; the loss is chosen with"):
        result.compile("sgd", loss="mse")
    for options, message in (
        ({"train": "biases"}, "train: expected one of 'thresholds', 'pointwise', 'all'"),
        ({"loss": "l2"}, "loss: expected one of"),
        ({"hidden_weight": -1.0}, "hidden_weight: expected a number from 0"),
        ({"label_weight": 1.5}, "label_weight: expected a number from 0.0 to 1.0"),
        ({"temperature": 2.0}, "temperature: expected 1 with loss 'rmse', got 2.0"),
    ):
        with pytest.raises(ValueError, match=message):
            keras_dbq.Distiller(q_model, model, **options)
    with pytest.raises(TypeError, match="fixed_statistics: expected True or False"):
        keras_dbq.Distiller(q_model, model, fixed_statistics=1)
    with pytest.raises(ValueError, match="expected two models of the same output shape, got .*4.* and .*1"):
        keras_dbq.Distiller(q_model, small.network("sigmoid"))
