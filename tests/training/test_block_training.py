"""One block: less error on pictures held back, never more, and the best of all epochs."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras, tf
from keras_dbq.training import annealing, block_training
from keras_dbq.training.stored import Stored
from keras_dbq.wrapping import wrappers
from tests import nets

L = keras.layers
X = np.random.default_rng(0).normal(size=(80, 8, 8, 3)).astype(np.float32)


def problem(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = L.ReLU(name="relu")(L.Conv2D(6, 3, name="conv")(inputs))
    model = nets.randomize(keras.Model(inputs, L.Conv2D(4, 3, name="last")(x)))
    scheme = keras_dbq.DBQScheme(1, ternary_first=True, ternary_last=True)
    q_model = keras_dbq.quantize_model(model, scheme, calibration_data=X)
    given = Stored(tmp_path / "x.npy", iter([X]), len(X))
    wanted = given.through(lambda x: model(x, training=False), tmp_path / "y.npy")
    return q_model, block_training.Data(given, given, wanted, np.arange(60), np.arange(60, 80), 80)


def error(q_model, data):
    y, wanted = q_model(data.given[data.held_back], training=False), data.wanted[data.held_back]
    return float(np.square(y - wanted).mean() / np.square(wanted).mean())


def settings(**changed):
    return block_training.Settings(
        **{**dict(epochs=8, learning_rate=0.02, batch_size=16, float_inputs=0.0, codes="latent", seed=0), **changed}
    )


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"float_inputs": 0.5},
        {"codes": "rounding", "epochs": 60},
        {"codes": "annealed", "learning_rate": None, "epochs": 30},
    ],
    ids=["latent", "mixed", "rounding", "annealed"],
)
def test_training_lowers_the_error_that_it_says(tmp_path, changed):
    q_model, data = problem(tmp_path)
    start = error(q_model, data)
    before, after = block_training.train(q_model, q_model, data, settings(**changed), 0)
    assert before == pytest.approx(start, rel=1e-3) and after == pytest.approx(error(q_model, data), rel=1e-3)
    assert after < 0.95 * before


@pytest.mark.parametrize("codes", ["latent", "rounding", "annealed"])
def test_a_rate_that_is_far_too_high_leaves_the_start(tmp_path, codes):
    q_model, data = problem(tmp_path)
    weights = q_model.get_weights()
    changed = {"learning_rate": 1e6, "epochs": 2, "codes": codes}
    before, after = block_training.train(q_model, q_model, data, settings(**changed), 0)
    assert before == after
    assert all(np.array_equal(a, b) for a, b in zip(weights, q_model.get_weights(), strict=True))


def test_rounding_that_gains_nothing_is_followed_by_latent_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(block_training.LearntRounding, "soften", lambda self: self.weight.variable.assign(self._low))
    q_model, data = problem(tmp_path)
    before, after = block_training.train(q_model, q_model, data, settings(codes="rounding", epochs=32), 0)
    assert after < before


def test_annealed_codes_train_on_a_curve_that_grows_sharp_and_end_on_levels(tmp_path, monkeypatch):
    seen = []
    soft = keras_dbq.quantizers.TernaryBranchQuantizer.soft

    def watched(self, columns, variables, sharpness):
        tf.py_function(lambda value: seen.append(float(value)), [sharpness], [])
        return soft(self, columns, variables, sharpness)

    monkeypatch.setattr(keras_dbq.quantizers.TernaryBranchQuantizer, "soft", watched)
    q_model, data = problem(tmp_path)
    block_training.train(q_model, q_model, data, settings(codes="annealed", epochs=4), 0)
    assert seen == sorted(seen) and seen[0] == pytest.approx(8) and 500 < seen[-1] < 1000
    assert all(w.quantizer.sharpness is None for layer in q_model.layers for w in wrappers.quantized_weights(layer))
    for layer in q_model.layers:
        for weight in wrappers.quantized_weights(layer):
            assert all(len(np.unique(np.abs(column))) <= 2 for column in weight.quantized_columns().T)


def test_what_suits_the_codes(tmp_path):
    q_model, _ = problem(tmp_path)
    one = annealing.few_levels(q_model.layers, q_model.trainable_variables)
    two = [weight._replace(quantizer=keras_dbq.quantizers.TernaryBranchQuantizer(2)) for weight in one]
    free = settings(codes=None, learning_rate=None, float_inputs=None, epochs=10)
    kernels = one, two, [*one, *two], []
    assert [free.way(few, 16 * 49, 0.2) for few in kernels] == ["annealed", *["latent"] * 3]
    assert [free.way(few, 16 * 50, 0.2) for few in kernels] == ["annealed", *["rounding"] * 3]
    assert [free.way(few, 16 * 50, 0.1) for few in kernels] == ["rounding"] * 4
    assert all(settings(codes=codes).way(one, 16 * 50, 0.2) == codes for codes in block_training.CODES)
    assert (free.rate("annealed"), free.mixed("annealed")) == (0.04, 0.0)
    assert (free.rate("latent"), free.mixed("latent")) == (0.02, 0.5)
    assert (settings().rate("annealed"), settings().mixed("latent")) == (0.02, 0.0)


def test_answers_come_nearer(tmp_path):
    q_model, data = problem(tmp_path)
    arguments = q_model, q_model, data, settings(learning_rate=0.1), 0, "softmax"
    before, after = block_training.train_answers(*arguments)
    assert after < 0.95 * before
    p, q = (tf.nn.softmax(y).numpy() for y in (data.wanted[data.held_back], q_model(data.given[data.held_back])))
    assert after == pytest.approx((p * np.log(p / q)).sum(-1).reshape(20, -1).sum(-1).mean(), rel=1e-3)


def test_answers_that_come_no_nearer_leave_the_start(tmp_path):
    q_model, data = problem(tmp_path)
    weights = q_model.get_weights()
    before, after = block_training.train_answers(q_model, q_model, data, settings(learning_rate=1e7), 0, "softmax")
    assert before == after
    assert all(np.array_equal(a, b) for a, b in zip(weights, q_model.get_weights(), strict=True))


def test_frozen_weights_are_not_rounded(tmp_path):
    q_model, data = problem(tmp_path)
    keras_dbq.freeze(q_model, weights=True)
    kernels = [v.numpy() for v in q_model.weights if v.name.endswith("kernel:0")]
    block_training.train(q_model, q_model, data, settings(codes="rounding"), 0)
    assert len(kernels) == 2
    after = [v.numpy() for v in q_model.weights if v.name.endswith("kernel:0")]
    assert all(np.array_equal(a, b) for a, b in zip(kernels, after, strict=True))


def test_nothing_to_train(tmp_path):
    q_model, data = problem(tmp_path)
    q_model.trainable = False
    before, after = block_training.train(q_model, q_model, data, settings(), 0)
    assert before == after


def test_the_same_seed_gives_the_same_weights(tmp_path):
    results = []
    for seed in (0, 0, 1):
        q_model, data = problem(tmp_path)
        block_training.train(q_model, q_model, data, settings(seed=seed, epochs=1, float_inputs=0.5), 0)
        results.append(np.concatenate([w.ravel() for w in q_model.get_weights()]))
    assert np.array_equal(results[0], results[1]) and not np.array_equal(results[0], results[2])


def test_a_step_takes_fewer_pictures_of_large_maps(tmp_path):
    def of(*shape):
        stored = Stored(tmp_path / "x.npy", iter([np.zeros((40, *shape), np.float32)]), 40)
        return block_training.Data(stored, stored, stored, np.arange(36), np.arange(36, 40), 40)

    assert [of(side, side, 1).step_pictures(32) for side in (1, 32, 64, 256)] == [32, 32, 8, 4]
    assert of(3).step_pictures(32) == 32 and of(256, 256, 1).step_pictures(2) == 2
    steps = block_training._order(of(128, 128, 1), settings(batch_size=12), np.random.default_rng(0))
    assert [len(step) for step in steps] == [4, 4, 4] and len(set(np.concatenate(steps))) == 12
