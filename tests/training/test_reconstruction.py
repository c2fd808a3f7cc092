"""`reconstruct`: every block and the network nearer to the float one, resumes, exact file, bad input in one line."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq import models
from keras_dbq.compat import keras
from keras_dbq.training import block_training
from tests import nets

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 16, 16, 3)).astype(np.float32)
OTHERS = RNG.normal(size=(40, 16, 16, 3)).astype(np.float32)
BLOCKS = ["relu1", "layer1.0.relu2", "layer2.0.relu2", "layer3.0.relu2", "linear"]


def pair(scheme=None):
    keras.utils.set_random_seed(0)
    model = nets.randomize(models.resnet_cifar(8, (16, 16, 3), 5))
    scheme = scheme or keras_dbq.DBQScheme(1, forward="straight_through", thresholds="midpoint")
    # Uncorrected, so that training has something to gain.
    return model, keras_dbq.quantize_model(model, scheme, calibration_data=X, recalibrate_batch_norm=False)


def distance(model, q_model, x):
    wanted = model.predict(x, verbose=0)
    return float(np.square(q_model.predict(x, verbose=0) - wanted).mean() / np.square(wanted - wanted.mean(0)).mean())


@pytest.mark.parametrize(
    "options",
    [{"codes": "latent", "epochs": 4, "learning_rate": 0.03}, {"codes": "rounding", "epochs": 80}, {"epochs": 12}],
    ids=["latent", "rounding", "usual"],
)
def test_nearer_block_by_block_and_on_other_pictures(options):
    model, q_model = pair()
    before = distance(model, q_model, OTHERS)
    result = keras_dbq.reconstruct(q_model, model, X, **options, answers="softmax")
    assert list(result.errors) == BLOCKS
    assert all(after <= start for start, after in result.errors.values())
    assert sum(after < 0.9 * start for start, after in result.errors.values()) >= 3
    assert result.divergence[1] <= result.divergence[0]
    assert distance(model, q_model, OTHERS) < before
    assert "layer2.0.relu2" in str(result) and "error after" in str(result) and "divergence" in str(result)
    report = keras_dbq.export_tflite(q_model, None, strict=True)
    assert keras_dbq.verify(q_model, report.data, OTHERS[:20], top1_threshold=0).passed


def test_options_reach_the_training_of_a_block(monkeypatch):
    seen = []

    def trained(block, whole, data, settings, number):
        seen.append((settings.codes, settings.learning_rate, settings.float_inputs, settings.epochs))
        return 0.0, 0.0

    monkeypatch.setattr(block_training, "train", trained)
    model, q_model = pair()
    for options in ({}, {"codes": "annealed", "learning_rate": 0.5, "float_inputs": 0, "epochs": 3}):
        result = keras_dbq.reconstruct(q_model, model, X, blocks=["relu1"], copies=0, **options)
        assert result.divergence is None  # layers with weights behind the last named block
    assert seen == [(None, None, None, 24), ("annealed", 0.5, 0.0, 3)]


def ending(build, shape=(16, 16, 3)):
    """A network of three blocks, whose end `build` makes."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input(shape)
    x = L.ReLU()(L.Conv2D(8, 3, strides=2)(inputs))
    x = L.ReLU()(L.Conv2D(8, 3)(x))
    model = nets.randomize(keras.Model(inputs, build(x)))
    scheme = keras_dbq.DBQScheme(1, ternary_last=True)
    return model, keras_dbq.quantize_model(model, scheme, calibration_data=X)


@pytest.mark.parametrize(
    ("build", "answers", "trained"),
    [
        (lambda x: L.Dense(5, activation="softmax")(L.GlobalAveragePooling2D()(x)), None, True),
        (lambda x: L.Dense(5, activation="softmax")(L.Flatten()(x)), "numbers", False),
        (lambda x: L.Dense(1, activation="sigmoid")(L.Flatten()(x)), None, True),
        (lambda x: L.Softmax()(L.GlobalAveragePooling2D()(L.Conv2D(5, 1, activation="relu")(x))), None, True),
        (lambda x: L.Dense(5)(L.Flatten()(x)), None, False),  # it may be a regression
        (lambda x: L.Dense(5)(L.Flatten()(x)), "softmax", True),
        (lambda x: L.Conv2D(3, 1)(x), "softmax", True),  # of every place, as in segmentation
        (lambda x: [L.Dense(5)(L.Flatten()(x)), L.Dense(2)(L.GlobalAveragePooling2D()(x))], None, False),
    ],
    ids=["softmax", "unwanted", "sigmoid", "pooled", "linear", "logits", "places", "two outputs"],
)
def test_answers_of_networks_that_end_otherwise(build, answers, trained):
    model, q_model = ending(build)
    options = {"epochs": 3, "copies": 0, "learning_rate": 0.05, "answers": answers}
    result = keras_dbq.reconstruct(q_model, model, X[:40], **options)
    assert (result.divergence is not None) == trained
    if trained:
        assert result.divergence[1] <= result.divergence[0]


def test_a_killed_run_goes_on_after_the_last_finished_block(tmp_path, monkeypatch):
    train, done = block_training.train, []

    def killed(*arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(arguments[-1])
        return train(*arguments)

    options = {"epochs": 1, "copies": 1, "answers": "softmax"}
    model, whole = pair()
    wanted = keras_dbq.reconstruct(whole, model, X, **options)
    _, parts = pair()
    monkeypatch.setattr(block_training, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        keras_dbq.reconstruct(parts, model, X, **options, workdir=tmp_path / "work")
    monkeypatch.setattr(block_training, "train", lambda *a: done.append(a[-1]) or train(*a))
    _, again = pair()
    assert keras_dbq.reconstruct(again, model, X, **options, workdir=tmp_path / "work").errors == wanted.errors
    assert done == [0, 1, 2, 3, 4]
    assert (tmp_path / "work/part_0005.npz").is_file()  # the answers
    assert all(np.array_equal(a, b) for a, b in zip(whole.get_weights(), again.get_weights(), strict=True))
    with pytest.raises(ValueError, match="got one with another epochs"):
        keras_dbq.reconstruct(pair()[1], model, X, **{**options, "epochs": 2}, workdir=tmp_path / "work")


@pytest.mark.parametrize("scheme", [keras_dbq.FATScheme(bits=4), keras_dbq.DBQScheme(2)])
def test_named_blocks_and_other_schemes(scheme):
    """What lies behind the last named block stays."""
    model, q_model = pair(scheme)
    kernels = {v.name: v.numpy() for v in q_model.weights if "kernel" in v.name}
    result = keras_dbq.reconstruct(q_model, model, X, blocks=["layer1.0.relu2"], epochs=2, learning_rate=0.005)
    assert list(result.errors) == ["layer1.0.relu2"]
    moved = {
        v.name.split("/")[0] for v in q_model.weights if v.name in kernels and (v.numpy() != kernels[v.name]).any()
    }
    assert moved and not any("layer2" in name or "layer3" in name for name in moved)


def test_bad_input():
    model, q_model = pair()
    with pytest.raises(ValueError, match="reconstruct: model .* has no quantized layer"):
        keras_dbq.reconstruct(model, model, X)
    with pytest.raises(ValueError, match="expected pictures to train on and to hold back, got 4, of which"):
        keras_dbq.reconstruct(q_model, model, X[:4])
    with pytest.raises(ValueError, match="blocks: expected layers among .*, got nothing"):
        keras_dbq.reconstruct(q_model, model, X, blocks=["nothing"])
    with pytest.raises(ValueError, match="float_inputs: expected a number from 0.0 to 1.0, got 2"):
        keras_dbq.reconstruct(q_model, model, X, float_inputs=2)
    with pytest.raises(ValueError, match="codes: expected one of .*, got 'both'"):
        keras_dbq.reconstruct(q_model, model, X, codes="both")
    with pytest.raises(ValueError, match="answers: expected one of 'softmax', 'sigmoid', 'numbers', got 'classes'"):
        keras_dbq.reconstruct(q_model, model, X, answers="classes")
    with pytest.raises(TypeError, match="mirror: expected True or False"):
        keras_dbq.reconstruct(q_model, model, X, mirror=1)
    a, b = keras.Input((4, 4, 3)), keras.Input((4, 4, 3))
    two = nets.randomize(keras.Model([a, b], L.Conv2D(2, 1)(L.Add()([a, b]))))
    data = [np.zeros((8, 4, 4, 3), np.float32)] * 2
    with pytest.raises(ValueError, match="expected a model of one input, got 2"):
        keras_dbq.reconstruct(keras_dbq.quantize_model(two, keras_dbq.DBQScheme(), calibration_data=data), two, data)
    model, q_model = ending(lambda x: L.Dense(5, activation="softmax")(L.Flatten()(x)))
    with pytest.raises(
        ValueError, match="answers='sigmoid': expected a model that ends in sigmoid or in logits, got soft"
    ):
        keras_dbq.reconstruct(q_model, model, X, answers="sigmoid")
