"""What the examples give to fit: optimizer, metric, callbacks, bfloat16."""

import math

import numpy as np
import pytest

import keras_dbq
from examples.common import training
from keras_dbq.compat import keras, tf
from tests.examples.test_resume import load_worker, same_weights

worker = load_worker()


@pytest.mark.parametrize(("optimizer", "decay"), [("sgd", 0.01 / (1 - 0.9)), ("adam", 0.01)])
def test_weight_decay_acts_on_kernels_only(optimizer, decay):
    model = worker.model()
    before = {v.name: v.numpy() for v in model.trainable_variables}
    settings = training.Settings(1, 10, learning_rate=0.1, weight_decay=0.01, optimizer=optimizer)
    made = training.make_optimizer(model.trainable_variables, settings)
    made.apply_gradients([(tf.zeros_like(v), v) for v in model.trainable_variables])
    for variable in model.trainable_variables:
        share = 1 - 0.1 * decay if "kernel" in variable.name else 1.0
        np.testing.assert_allclose(variable.numpy(), before[variable.name] * share, rtol=1e-6)


def test_sgd_decay_is_what_the_same_decay_in_the_gradient_adds_up_to():
    """A weight without other gradients, at a constant rate: w <- w - rate * m, m <- 0.9 m + decay * w."""
    rate, decay, weight, momentum = 1e-4, 0.1, 1.0, 0.0
    for _ in range(3000):
        momentum = training.MOMENTUM * momentum + decay * weight
        weight -= rate * momentum
    assert weight == pytest.approx((1 - rate * decay / (1 - training.MOMENTUM)) ** 3000, rel=5e-3)


def test_an_unknown_optimizer():
    with pytest.raises(ValueError, match="optimizer: expected one of sgd, adam, got 'lamb'"):
        training.make_optimizer([], training.Settings(1, 1, optimizer="lamb"))


def test_the_learning_rate_falls_along_half_a_cosine():
    model = worker.model()
    optimizer = training.make_optimizer(model.trainable_variables, training.Settings(3, 4, 0.5))
    for step in range(13):
        optimizer.apply_gradients([(tf.zeros_like(v), v) for v in model.trainable_variables])
        expected = 0.5 * (1 + math.cos(math.pi * step / 12)) / 2
        assert float(optimizer.learning_rate) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(("balanced", "expected"), [(False, 3 / 5), (True, (2 / 4 + 1) / 2)])
def test_accuracy_counts_labelled_pictures_only(balanced, expected):
    metric = training.LabelledAccuracy(3, balanced)
    logits = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2, 0]]
    metric.update_state(np.array([0, 0, 0]), logits[:3])
    metric.update_state(np.array([0, 2, -1]), logits[3:])
    assert float(metric.result()) == pytest.approx(expected)
    metric.reset_state()
    metric.update_state(np.array([-1, -1, -1]), logits[:3])
    assert math.isnan(float(metric.result()))


def bfloat16() -> bool:
    return tf.config.optimizer.get_experimental_options().get("auto_mixed_precision_onednn_bfloat16", False)


def test_bfloat16_is_for_training_steps_only(tmp_path):
    seen = {}

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen["training"] = bfloat16()

        def on_test_batch_end(self, batch, logs=None):
            seen["evaluation"] = bfloat16()

    worker.train(worker.model(), tmp_path, callbacks=[Look()], bfloat16=True, epochs=2)
    assert seen == {"training": True, "evaluation": False}
    assert not bfloat16()
    with pytest.raises(RuntimeError), training.bfloat16_steps(True):
        raise RuntimeError
    assert not bfloat16()


def test_a_loss_that_is_not_finite_ends_the_program(tmp_path):
    with pytest.raises(RuntimeError, match="epoch 1, step [1-4]: the loss is .*; lower the learning rate"):
        worker.train(worker.model(), tmp_path, learning_rate=1e30)
    assert not list(tmp_path.glob("small_backup/*/*.index"))


class Figures(keras.callbacks.Callback):
    """Puts given figures in place of the measured ones."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        logs["val_accuracy"] = self.values[epoch]


FIGURES = [0.1, 0.5, 0.3, 0.4, 0.9]


def test_patience_ends_training_and_gives_the_best_weights(tmp_path):
    (tmp_path / "two").mkdir()
    model, two = worker.model(), worker.model()
    history = worker.train(model, tmp_path, callbacks=[Figures(FIGURES)], epochs=5, patience=2)
    assert [row["val_accuracy"] for row in history] == FIGURES[:4]
    kept = {}

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kept[epoch] = self.model.get_weights()

    worker.train(two, tmp_path / "two", callbacks=[Keep()], epochs=5)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), kept[1], strict=True))
    again = worker.model(seed=4)  # started once more it does not go on
    assert worker.train(again, tmp_path, epochs=5, patience=2) == history and same_weights(again, model)


def test_patience_counts_on_after_a_resume(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                raise KeyboardInterrupt

    for more in ([Stop()], []):
        model = worker.model()
        try:
            history = worker.train(model, tmp_path, callbacks=[Figures(FIGURES), *more], epochs=5, patience=2)
        except KeyboardInterrupt:
            assert more
    assert [row["val_accuracy"] for row in history] == FIGURES[:4]


def test_tensorboard_logs(tmp_path):
    worker.train(worker.model(), tmp_path, epochs=1, tensorboard=True)
    assert list(tmp_path.glob("small_tensorboard/train/events*"))
    assert not list(tmp_path.glob("small_tensorboard/quantization/events*"))  # a float model has nothing to write there


@pytest.mark.filterwarnings("ignore:keras_dbq. no calibration data")
def test_tensorboard_logs_of_a_quantized_model(tmp_path):
    q_model = keras_dbq.quantize_model(worker.model(), keras_dbq.DBQScheme(ternary_first=True))
    worker.train(q_model, tmp_path, epochs=1, tensorboard=True)
    assert list(tmp_path.glob("small_tensorboard/quantization/events*"))
