"""Parts that the examples share: options, augmentation, report, checkpoints, distillation."""

import numpy as np
import pytest

import keras_dbq
from examples.common import options, report, training
from examples.common.augmentation import augmented_batches, crop_and_flip
from keras_dbq.compat import keras, tf
from keras_dbq.training import distillation


def test_options():
    assert options.parse("a=1, b=hard,c=1e-3,d=None,e=True") == {"a": 1, "b": "hard", "c": 1e-3, "d": None, "e": True}
    assert options.parse("a=2", {"a": 1, "b": 3}) == {"a": 2, "b": 3}
    nested = options.parse("a={'x': {'bits': 8}, 'y*': {'branches': 1}},b=(1, 2)")
    assert nested == {"a": {"x": {"bits": 8}, "y*": {"branches": 1}}, "b": (1, 2)}
    with pytest.raises(ValueError, match="--hparams: expected name=value, got 'a'"):
        options.parse("a", flag="hparams")
    with pytest.raises(ValueError, match="--hparams: expected one of a, b, got 'c'"):
        options.parse("c=1", {"a": 1, "b": 2}, "hparams")


def test_crops_are_windows_of_the_padded_picture_and_some_are_mirrored():
    picture = np.arange(1, 13, dtype=np.uint8).reshape(1, 3, 4, 1)
    padded = np.pad(picture[0], ((2, 2), (2, 2), (0, 0)))
    windows = {padded[i : i + 3, j : j + 4].tobytes() for i in range(5) for j in range(5)}
    mirrored = {padded[i : i + 3, j : j + 4][:, ::-1].tobytes() for i in range(5) for j in range(5)}
    batch = crop_and_flip(np.repeat(picture, 300, 0), np.random.default_rng(0), 2, flip=True)
    seen = {crop.tobytes() for crop in batch}
    assert seen <= windows | mirrored and seen & windows and seen & mirrored
    unmirrored = {
        crop.tobytes() for crop in crop_and_flip(np.repeat(picture, 300, 0), np.random.default_rng(0), 2, False)
    }
    assert unmirrored == windows


def test_batches_follow_from_seed_and_epoch():
    x = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), np.uint8)
    y = np.arange(10)
    batches = augmented_batches(lambda pictures: pictures, pad=1)
    first = list(batches(x, y, 4, seed=0, epoch=1))
    again = list(batches(x, y, 4, seed=0, epoch=1))
    assert len(first) == 2
    for (a, b), (c, d) in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)
    for other in ({"seed": 1, "epoch": 1}, {"seed": 0, "epoch": 2}):
        assert any(not np.array_equal(a, c) for (a, _), (c, _) in zip(first, batches(x, y, 4, **other), strict=True))


def test_accuracies():
    outputs, labels = np.eye(2)[[0, 0, 0, 1]], np.array([0, 0, 0, 0])
    assert report.accuracy(outputs, labels) == 0.75
    labels = np.array([0, 0, 1, 1])
    assert report.balanced_accuracy(outputs, labels) == 0.75
    assert report.balanced_accuracy(outputs[:3], labels[:3]) == 0.5
    assert report.agreement(outputs, np.eye(2)[[0, 0, 1, 1]]) == 0.75


def test_distillation_loss_equals_its_formula():
    rng = np.random.default_rng(0)
    teacher_logits, logits, labels = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), np.array([0, 1, 2, 1, 0])

    def log_softmax(z):
        return z - np.log(np.exp(z).sum(-1, keepdims=True))

    soft = -(np.exp(log_softmax(teacher_logits / 3)) * log_softmax(logits / 3)).sum(-1).mean()
    hard = -log_softmax(logits)[np.arange(5), labels].mean()

    def teacher(x, training):
        return tf.constant(teacher_logits)

    mixed = training.distillation(teacher, 0.25, 3.0)(None, labels, tf.constant(logits))
    assert float(mixed) == pytest.approx(0.75 * hard + 0.25 * 9 * soft, rel=1e-12)
    alone = training.distillation(teacher, 1.0, 3.0)(None, np.full(5, -1), tf.constant(logits))
    assert float(alone) == pytest.approx(9 * soft, rel=1e-12)


def test_hidden_activations_join_the_loss():
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="first")(inputs)
    x = keras.layers.Conv2D(5, 3, activation="relu", name="second")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(keras.layers.Flatten(name="flat")(x)))
    pictures = np.random.default_rng(0).normal(size=(8, 6, 6, 3)).astype(np.float32)
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(branches=1), calibration_data=pictures)
    student, teacher, names = distillation.hidden_models(q_model, model)
    assert names == ["first", "second"]
    assert distillation.hidden_models(q_model, model, "sec*").names == ["second"]
    (logits, hidden), (_, wanted_hidden) = student(pictures), teacher(pictures)
    np.testing.assert_array_equal(logits, q_model(pictures))
    expected = np.mean([np.sum((s - t) ** 2) / np.sum(t**2) for s, t in zip(hidden, wanted_hidden, strict=True)])
    assert expected > 1e-3
    assert float(distillation.hidden_loss(hidden, wanted_hidden)) == pytest.approx(expected, rel=1e-4)
    labels = np.zeros(8, np.int64)
    alone = training.distillation(model, 1.0, 2.0)(pictures, labels, logits)
    both = training.distillation(teacher, 1.0, 2.0, hidden_weight=0.5)(pictures, labels, [logits, hidden])
    assert float(both - alone) == pytest.approx(0.5 * expected, rel=1e-3)
    with pytest.raises(ValueError, match="expected layers matching 'nothing' in both models, got none"):
        distillation.hidden_models(q_model, model, "nothing")


def test_bfloat16_is_for_the_steps_inside_only():
    def on():
        return tf.config.optimizer.get_experimental_options().get("auto_mixed_precision_onednn_bfloat16", False)

    with training.bfloat16_steps(True):
        assert on()
        with training.bfloat16_steps(False):
            assert not on()
        assert on()
    assert not on()


def test_fixed_statistics_train_with_the_training_forward_and_leave_statistics(tmp_path):
    x = np.random.default_rng(1).integers(0, 256, (32, 4, 4, 3), np.uint8)
    prepare = lambda pictures: pictures / np.float32(255)  # noqa: E731
    ends = {}
    for forward in ("hard", "straight_through"):
        scheme = keras_dbq.DBQScheme(branches=1, forward=forward, ternary_first=True, ternary_last=True)
        model = keras_dbq.quantize_model(small_model(), scheme, calibration_data=prepare(x))
        kept = [v.numpy() for v in model.non_trainable_variables if "moving" in v.name or "_low" in v.name]
        settings = training.Settings(epochs=1, steps_per_epoch=4, fixed_statistics=True)
        batches = augmented_batches(prepare, pad=1)
        training.train(model, lambda e, b=batches: b(x, np.arange(32) % 3, 8, 0, e), settings, tmp_path / forward)
        now = [v.numpy() for v in model.non_trainable_variables if "moving" in v.name or "_low" in v.name]
        assert kept
        for a, b in zip(kept, now, strict=True):
            np.testing.assert_array_equal(a, b)
        ends[forward] = model.trainable_variables[0].numpy()
    assert np.abs(ends["hard"] - ends["straight_through"]).max() > 0


def small_model(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, use_bias=False)(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))


def train_small(model, checkpoint, epochs_until_stop=None, **changes):
    """Trains on random pictures for 3 epochs; stops by an exception before the given epoch."""
    x = np.random.default_rng(0).integers(0, 256, (32, 4, 4, 3), np.uint8)
    batches = augmented_batches(lambda pictures: pictures / np.float32(255), pad=1)

    def epoch_batches(epoch):
        if epoch == epochs_until_stop:
            raise KeyboardInterrupt
        return batches(x, np.arange(32) % 3, 8, 0, epoch)

    settings = training.Settings(**{"epochs": 3, "steps_per_epoch": 4, "weight_decay": 1e-3, **changes})
    return training.train(model, epoch_batches, settings, checkpoint, key={"branches": 0})


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_interrupted_training_resumes_to_the_same_weights(tmp_path, optimizer):
    whole = small_model()
    history = train_small(whole, tmp_path / "whole.npz", optimizer=optimizer)
    with pytest.raises(KeyboardInterrupt):
        train_small(small_model(), tmp_path / "parts.npz", epochs_until_stop=2, optimizer=optimizer)
    resumed = small_model(seed=7)
    resumed_history = train_small(resumed, tmp_path / "parts.npz", optimizer=optimizer)
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [epoch["loss"] for epoch in history] == [epoch["loss"] for epoch in resumed_history]


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    train_small(small_model(), tmp_path / "c.npz")
    with pytest.raises(ValueError, match="got one with other learning_rate; repeat its settings"):
        train_small(small_model(), tmp_path / "c.npz", learning_rate=0.5)


def test_weight_decay_acts_on_kernels_only(tmp_path):
    model = small_model()
    before = model.get_weights()
    step = training.make_step(
        model, training.make_optimizer(model, training.Settings(1, 1, 0.1)), lambda x, y, z: 0.0 * tf.reduce_sum(z), 0.5
    )
    step(np.zeros((2, 4, 4, 3), np.float32), np.zeros(2, np.int64))
    for variable, old in zip(model.weights, before, strict=True):
        expected = old * (1 - 0.05) if "kernel" in variable.name else old
        if variable.trainable:
            np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6)


def test_other_errors_of_training(tmp_path):
    with pytest.raises(ValueError, match="optimizer: expected 'sgd' or 'adam', got 'lamb'"):
        train_small(small_model(), tmp_path / "c.npz", optimizer="lamb")
    with pytest.raises(RuntimeError, match="lower the learning rate"):
        train_small(small_model(), tmp_path / "c.npz", learning_rate=1e30)


def test_a_file_is_written_completely_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    report.write_results(path, {"a": 1})

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write_results(path, {"a": 2})
    assert path.read_text() == '{\n  "a": 1\n}\n'
