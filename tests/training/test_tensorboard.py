"""What the callback writes is read back with TensorBoard's own reader, and is what the model has."""

import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

import keras_dbq
from keras_dbq.callbacks import TensorBoardQuantization
from keras_dbq.compat import keras
from keras_dbq.training import tensorboard
from keras_dbq.wrapping import wrappers
from tests.training import small


class Codes(keras.callbacks.Callback):
    """Keeps the codes of ternary `pointwise` and the integers of linear `stem`, at the start and after each epoch."""

    def __init__(self):
        super().__init__()
        self.ternary, self.linear = [], []

    def on_train_begin(self, logs=None):
        self.ternary.append(keras_dbq.get_ternary_weights(self.model.get_layer("quant_pointwise")).codes)
        self.linear.append(keras_dbq.integer_weights(self.model.get_layer("quant_stem")).values)

    def on_epoch_end(self, epoch, logs=None):
        self.on_train_begin()


def trained(folder, epochs=3, scheme=None, **options):
    """(q_model, its codes by epoch, events) of a short training with the callback."""
    q_model, _ = small.pair(scheme or keras_dbq.DBQScheme())
    q_model.compile(keras.optimizers.SGD(0.3), "sparse_categorical_crossentropy")
    codes = Codes()
    q_model.fit(
        *small.data(16), epochs=epochs, verbose=0, callbacks=[codes, TensorBoardQuantization(folder, **options)]
    )
    return q_model, codes, events(folder)


def events(folder):
    found = EventAccumulator(str(folder / tensorboard.RUN), size_guidance={"tensors": 0})
    found.Reload()
    return found


def tags(found):
    return set(found.Tags()["tensors"])


def written(found, tag):
    """{step: value} of a tag."""
    return {event.step: tensor_util.make_ndarray(event.tensor_proto) for event in found.Tensors(tag)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("logs"))


def test_every_quantized_layer_has_its_tags(run):
    _, _, found = run
    ternary = {f"pointwise/{what}" for what in (
        "scale_branch_1", "scale_branch_2", *(f"threshold_{i}" for i in range(1, 9)), "zeros_branch_1",
        "zeros_branch_2", "flips", "flip_ratio", "scales", "thresholds", "staircases",
    )}  # fmt: skip
    linear = {
        f"{layer}/{what}"
        for layer in ("stem", "depthwise", "head")
        for what in ("scale", "threshold", "zeros", "flips", "flip_ratio", "scales")
    }
    weights = {tag for tag in tags(found) if "range" not in tag}
    assert weights == ternary | linear
    outputs = {tag.split("/")[0] for tag in tags(found) if "/range_low" in tag}
    assert outputs == {tag.split("/")[0] for tag in tags(found) if "/range_high" in tag} and "head" in outputs


def test_the_last_values_are_those_of_the_model(run):
    q_model, _, found = run
    weights = keras_dbq.get_ternary_weights(q_model.get_layer("quant_pointwise"))

    def last(what):
        return written(found, f"pointwise/{what}")[2]

    for j in (1, 2):
        assert last(f"scale_branch_{j}") == np.float32(weights.scales[j - 1].mean())
        assert last(f"zeros_branch_{j}") == np.float32(np.mean(weights.codes[j - 1] == 0))
    for i in range(8):
        assert last(f"threshold_{i + 1}") == np.float32(weights.thresholds[i].mean())
    for what, values in (("scales", weights.scales), ("thresholds", weights.thresholds)):
        buckets = last(what)
        assert buckets[:, 2].sum() == values.size
        np.testing.assert_allclose([buckets[0, 0], buckets[-1, 1]], [values.min(), values.max()], rtol=1e-6)


def test_linear_weights_and_ranges_are_those_of_the_model(run):
    q_model, _, found = run
    linear = keras_dbq.integer_weights(q_model.get_layer("quant_stem"))
    assert written(found, "stem/scale")[2] == np.float32(linear.scale.mean())
    np.testing.assert_allclose(written(found, "stem/threshold")[2], 127 * linear.scale.mean(), rtol=1e-6)
    assert written(found, "stem/zeros")[2] == np.float32(np.mean(linear.values == 0))
    output = wrappers.quantized_output(q_model.get_layer("quant_head"))
    low, high = output.quantizer.range(output.variables)
    assert [written(found, f"head/range_{end}")[2] for end in ("low", "high")] == [low, high]
    assert low < 0 < high


def test_flips_are_counted_exactly(run):
    _, codes, found = run
    flips = [int((new != old).any(0).sum()) for old, new in zip(codes.ternary, codes.ternary[1:], strict=False)]
    linear = [int((new != old).sum()) for old, new in zip(codes.linear, codes.linear[1:], strict=False)]
    assert sum(flips) and sum(linear)
    assert written(found, "pointwise/flips") == dict(enumerate(flips))
    assert written(found, "stem/flips") == dict(enumerate(linear))
    shares = written(found, "pointwise/flip_ratio")
    assert shares == {epoch: np.float32(n / codes.ternary[0][0].size) for epoch, n in enumerate(flips)}


def test_flips_are_counted_from_the_weights_that_a_backup_puts_back(tmp_path):
    class Restored(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            kernel = wrappers.quantized_weights(self.model.get_layer("quant_pointwise"))[0].variable
            kernel.assign(-kernel)

    q_model, _ = small.pair(keras_dbq.DBQScheme())
    q_model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    q_model.fit(*small.data(8), verbose=0, callbacks=[TensorBoardQuantization(tmp_path, pictures=False), Restored()])
    assert written(events(tmp_path), "pointwise/flips") == {0: 0}


def test_staircases_are_pictures_that_are_not_empty(run):
    from io import BytesIO

    from PIL import Image

    _, _, found = run
    width, height, *encoded = written(found, "pointwise/staircases")[2]
    picture = np.asarray(Image.open(BytesIO(encoded[0])))
    assert picture.shape[:2] == (int(height), int(width)) and picture.shape[1] > 2 * picture.shape[0]
    halves = np.array_split(picture[..., :3], 2, axis=1)
    assert all(len(np.unique(half.reshape(-1, 3), axis=0)) > 20 for half in halves)  # lines, bars and their edges


def test_flips_of_several_epochs_layers_by_pattern_and_no_pictures(tmp_path):
    _, codes, found = trained(tmp_path, epochs=4, update_freq=2, layers=["point*", "stem"], pictures=False)
    assert {tag.split("/")[0] for tag in tags(found)} == {"pointwise", "stem"}
    assert not any("staircases" in tag for tag in tags(found))
    since = [int((codes.ternary[i] != codes.ternary[i - 2]).any(0).sum()) for i in (2, 4)]
    assert written(found, "pointwise/flips") == {1: since[0], 3: since[1]}


def test_with_a_distiller_and_trained_thresholds(tmp_path):
    q_model, model = small.pair()
    keras_dbq.distill(q_model, model, small.data(24)[0], epochs=1, verbose=0, keep_best=False,
                      callbacks=[TensorBoardQuantization(tmp_path, layers="stem")])  # fmt: skip
    found = events(tmp_path)
    scale = keras_dbq.integer_weights(q_model.get_layer("quant_stem")).scale.mean()
    assert written(found, "stem/scale")[0] == np.float32(scale)
    np.testing.assert_allclose(written(found, "stem/threshold")[0], 7 * scale, rtol=1e-6)  # 4 bits


def test_what_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="update_freq: expected an integer from 1"):
        TensorBoardQuantization(tmp_path, update_freq=0)
    with pytest.raises(TypeError, match="pictures: expected True or False"):
        TensorBoardQuantization(tmp_path, pictures="yes")
    with pytest.raises(TypeError):
        TensorBoardQuantization(3)
    q_model, model = small.pair(keras_dbq.DBQScheme())
    for net, layers, message in (
        (model, None, "TensorBoardQuantization: model 'small' has no quantized layer"),
        (q_model, ["stem", "none*"], "expected names or patterns of quantized layers, got 'none"),
    ):
        net.compile("sgd", "sparse_categorical_crossentropy")
        with pytest.raises(ValueError, match=message):
            net.fit(*small.data(8), verbose=0, callbacks=[TensorBoardQuantization(tmp_path, layers=layers)])
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match="expected the package tensorboard, got none; run: pip install tensorboard"):
        TensorBoardQuantization(tmp_path)
