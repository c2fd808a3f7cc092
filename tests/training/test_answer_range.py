"""The range of the outputs that changes the answers least."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras, tf
from keras_dbq.training import answer_range, losses, outputs
from keras_dbq.wrapping import naming, wrappers

L = keras.layers
X = np.random.default_rng(0).normal(size=(200, 6, 6, 3)).astype(np.float32)

Y = np.random.default_rng(1).normal(size=(40, 5)).astype(np.float32)


def network(end=None, classes=50):
    """Classes of which most are out of the question: their scores reach far below those of the others."""
    rng, inputs = np.random.default_rng(1), keras.Input(X.shape[1:])
    x = L.GlobalAveragePooling2D()(L.Conv2D(8, 3, activation="relu", name="conv")(inputs))
    x = L.Dense(classes, name="scores")(x)
    if end == "softmax":
        x = L.Softmax()(x)
    elif end is not None:
        x = L.Activation(end)(x)
    model = keras.Model(inputs, x)
    kernel = rng.normal(size=(8, classes)) * 4
    model.get_layer("conv").set_weights([rng.normal(size=(3, 3, 3, 8)) / 3, np.zeros(8)])
    model.get_layer("scores").set_weights([kernel, np.where(np.arange(classes) < 10, 4.0, -30.0)])
    return model


def quantized(end=None, scheme=None, **options):
    scheme = keras_dbq.FATScheme() if scheme is None else scheme
    return keras_dbq.quantize_model(network(end, **options), scheme, X[:100])


def scores(q_model):
    logits = outputs.logits_model(q_model)
    (layer,) = [o.node.layer for o in naming.quantized_outputs(q_model) if o.tensor is logits.outputs[0]]
    tensor = wrappers.quantized_output(layer)
    with wrappers.bypassed([tensor.quantizer]):
        exact = logits(X, training=False)
    return tensor, logits(X, training=False), exact


@pytest.mark.parametrize("end", [None, "softmax", "sigmoid"])
@pytest.mark.parametrize("scheme", [keras_dbq.FATScheme(), keras_dbq.FATScheme(symmetric=True), keras_dbq.DBQScheme(2)])
def test_answers_get_nearer(end, scheme):
    q_model = quantized(end, scheme)
    meant = "softmax" if end is None else end
    _, rounded, exact = scores(q_model)
    before, after = keras_dbq.calibrate_answers(q_model, X, meant)
    assert before == pytest.approx(float(losses.logits_loss("kl", rounded, exact, answer=meant)), rel=1e-3)
    _, rounded, same = scores(q_model)
    np.testing.assert_array_equal(exact, same)
    assert after == pytest.approx(float(losses.logits_loss("kl", rounded, exact, answer=meant)), rel=1e-3)
    # A symmetric grid wastes nothing below 0 that it could give up.
    assert after < (0.6 * before if meant == "softmax" and not scheme.get_config().get("symmetric") else before)


def test_only_what_is_out_of_the_question_is_clipped():
    q_model = quantized()
    tensor, *_ = scores(q_model)
    wide = tensor.quantizer.grid(tensor.variables)[0]
    keras_dbq.calibrate_answers(q_model, X, "softmax")
    tensor, rounded, exact = scores(q_model)
    scale = tensor.quantizer.grid(tensor.variables)[0]
    assert scale < 0.7 * wide
    best, at = exact.numpy().max(1), exact.numpy().argmax(1)
    assert (np.abs(rounded.numpy()[np.arange(len(X)), at] - best) <= 0.51 * scale).mean() > 0.95
    assert (rounded.numpy() - exact.numpy()).max() > 5  # scores far below come up to the end of the range


def test_where_nothing_is_better_the_range_stays():
    """One score has the same softmax whatever it is."""
    q_model = quantized(classes=1)
    tensor, *_ = scores(q_model)
    old = {name: variable.numpy() for name, variable in tensor.variables.items()}
    before, after = keras_dbq.calibrate_answers(q_model, X, "softmax")
    assert before == after == 0
    assert all(variable.numpy() == old[name] for name, variable in tensor.variables.items())


def test_maps_of_scores():
    """One answer for each place; few of the places are looked at where there are many."""
    inputs = keras.Input(X.shape[1:])
    model = keras.Model(inputs, L.Conv2D(30, 1, name="scores")(inputs))
    model.layers[-1].set_weights([np.random.default_rng(0).normal(size=(1, 1, 3, 30)) * 8, np.zeros(30)])
    q_model = keras_dbq.quantize_model(model, keras_dbq.FATScheme(), X[:100])
    before, after = keras_dbq.calibrate_answers(q_model, tf.data.Dataset.from_tensor_slices(X).batch(50), "softmax")
    assert 0 < after < before


def test_scores_that_are_moved_before_the_softmax():
    """As in MobileNet of keras.applications: a 1x1 convolution, a reshape, a softmax."""
    inputs = keras.Input(X.shape[1:])
    x = L.Conv2D(50, 1, name="scores")(L.GlobalAveragePooling2D(keepdims=True)(L.Conv2D(8, 3, name="conv")(inputs)))
    model = keras.Model(inputs, L.Softmax()(L.Reshape((50,))(x)))
    model.get_layer("scores").set_weights([np.random.default_rng(0).normal(size=(1, 1, 8, 50)) * 40, np.zeros(50)])
    q_model = keras_dbq.quantize_model(model, keras_dbq.FATScheme(), X[:100])
    before, after = keras_dbq.calibrate_answers(q_model, X)
    assert 0 < after < before


def test_a_layer_that_is_called_twice_keeps_its_range():
    inputs, head = keras.Input((5,)), L.Dense(5, name="scores")
    q_model = keras_dbq.quantize_model(keras.Model(inputs, L.Softmax()(head(head(inputs)))), keras_dbq.FATScheme(), Y)
    assert not answer_range.are_rounded(q_model)
    with pytest.raises(ValueError, match="outputs that are rounded to a range, got those of"):
        keras_dbq.calibrate_answers(q_model, Y)


def test_the_file_has_the_range(tmp_path):
    q_model = quantized()
    keras_dbq.calibrate_answers(q_model, X, "softmax")
    keras_dbq.export_tflite(q_model, str(tmp_path / "m.tflite"), encoding="int8")
    assert keras_dbq.verify(q_model, str(tmp_path / "m.tflite"), X[:20]).passed


def test_what_it_refuses():
    with pytest.raises(ValueError, match="calibrate_answers: expected outputs that are class scores"):
        keras_dbq.calibrate_answers(quantized(), X)
    with pytest.raises(ValueError, match="answers='sigmoid': expected a model that ends in sigmoid or in logits"):
        keras_dbq.calibrate_answers(quantized("softmax"), X, "sigmoid")
    with pytest.raises(ValueError, match="calibrate_answers: model .* has no quantized layer"):
        keras_dbq.calibrate_answers(network(), X, "softmax")
    fixed = quantized("tanh")
    assert not answer_range.are_rounded(fixed) and answer_range.are_rounded(quantized("softmax"))
    with pytest.raises(ValueError, match="outputs that are rounded to a range, got those of"):
        keras_dbq.calibrate_answers(fixed, X, "softmax")
    broken = quantized()
    bias = wrappers.bias(broken.layers[-1])
    bias.assign(np.full(bias.shape, np.nan, np.float32))
    with pytest.raises(ValueError, match="calibrate_answers: expected finite outputs"):
        keras_dbq.calibrate_answers(broken, X, "softmax")
