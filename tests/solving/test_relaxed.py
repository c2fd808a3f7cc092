"""Behind a ReLU: which outputs it clips, the error of what is left, and the option of `solve_ternary`."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.network.graph import Graph
from keras_dbq.network.moments import Moments
from keras_dbq.ops import coordinate_descent
from keras_dbq.ops.weight_levels import TernaryLevels
from keras_dbq.solving import relaxed
from keras_dbq.wrapping import naming, wrappers
from tests import nets

L = keras.layers
X = np.random.default_rng(0).normal(size=(48, 8, 8, 3)).astype(np.float32)


def network(kind):
    """A ternary layer "middle" with something behind it, between two others."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(8, 3, activation="relu", name="first")(inputs)
    fused = {"activation": "relu"} if kind == "fused" else {}
    x = L.Conv2D(10, 3, use_bias=kind != "norm", name="middle", **fused)(x)
    x = L.BatchNormalization(name="norm")(x) if kind == "norm" else x
    x = {"linear": lambda y: y, "fused": lambda y: y}.get(kind, L.ReLU(name="relu"))(x)
    return nets.randomize(keras.Model(inputs, L.Conv2D(2, 1, name="last")(x)))


def middle(q_model):
    graph = Graph(q_model)
    node = next(node for node in graph.nodes if naming.plain_name(node.layer) == "middle")
    return graph, node, naming.folds(q_model).get(id(node.layer))


@pytest.mark.parametrize("kind", ["norm", "bias", "fused"])
def test_clipping_the_layers_output_is_clipping_behind_the_relu(kind):
    q_model = keras_dbq.quantize_model(network(kind), keras_dbq.DBQScheme(1), calibration_data=X)
    graph, node, norm = middle(q_model)
    limits = relaxed.bounds(graph, node, norm, 10)
    own = np.random.default_rng(1).normal(0, 30, (500, 10))
    if norm is None:
        gain, shift = 1.0, wrappers.bias(node.layer).numpy()
        name = "middle" if kind == "fused" else "relu"
    else:
        n, name = wrappers.inner(norm), "relu"
        gain = n.gamma.numpy() / np.sqrt(n.moving_variance.numpy() + n.epsilon)
        shift = n.beta.numpy() - gain * n.moving_mean.numpy()
    layer = next(layer for layer in q_model.layers if naming.plain_name(layer) == name)
    top = float(wrappers.quantized_output(layer).variables["high"].numpy())
    expected = np.clip(gain * own + shift, 0, top)
    got = gain * np.clip(own, limits.low, limits.high) + shift
    np.testing.assert_allclose(got, expected, atol=1e-3)
    assert (expected == 0).any() and (expected == top).any()


def test_no_bounds_without_a_relu():
    q_model = keras_dbq.quantize_model(network("linear"), keras_dbq.DBQScheme(1), calibration_data=X)
    graph, node, norm = middle(q_model)
    assert relaxed.bounds(graph, node, norm, 10) is None


def test_codes_behind_a_relu_clip_first():
    model = network("norm")
    scheme = keras_dbq.TSQScheme(2, 0.75, codes="data", init="least_error")
    q_model = keras_dbq.quantize_model(model, scheme, calibration_data=X)
    graph, node, _ = middle(q_model)
    codes = next(layer for layer in q_model.layers if layer.name.endswith("relu_codes"))
    assert relaxed._top(graph, node) == float(wrappers.quantized_output(codes).variables["high"].numpy())


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_the_clipped_error_never_rises(groups, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(groups, 600, 12)) @ rng.normal(size=(12, 12))
    columns = rng.normal(size=(12, 4 * groups))
    parts = np.split(columns, groups, 1)
    wanted = np.concatenate([a @ w for a, w in zip(x, parts, strict=True)], 1)
    limits = relaxed.Bounds(np.quantile(wanted, 0.55, 0), np.quantile(wanted, 0.95, 0))
    moments = []
    for a, w in zip(x, parts, strict=True):
        moments.append(Moments.zeros(*w.shape))
        moments[-1].add(a, a @ w)

    def solve_for(moments):
        levels = TernaryLevels(1)
        solved = [
            coordinate_descent.solve(*m.centred(True)[:2], w, levels) for m, w in zip(moments, parts, strict=True)
        ]
        return coordinate_descent.Solution(*(np.concatenate(part, -1) for part in zip(*solved, strict=True)))

    start = solve_for(moments)
    looks = []

    def seen():
        looks.append(1)
        for half in (slice(0, 300), slice(300, 600)):
            yield x[:, half], x[:, half]

    def error(solution):
        """With the best offset for what is clipped, by search."""
        found = []
        y = np.clip(wanted, limits.low, limits.high)
        for g, w in enumerate(np.split(solution.weights, groups, 1)):
            found.append(x[g] @ w)
        v = np.concatenate(found, 1)
        tried = [np.square(np.clip(v + o, limits.low, limits.high) - y).sum(0) for o in np.linspace(-15, 15, 301)]
        return np.min(tried, 0)

    again = relaxed.solve(solve_for, start, moments, columns, limits, seen, 3)
    assert len(looks) == 4
    assert (error(again) < 1.001 * error(start)).all() and error(again).sum() < error(start).sum()


def solved_columns(kind, branches, passes):
    model, scheme = network(kind), keras_dbq.DBQScheme(branches, init="least_error")
    q_model = keras_dbq.quantize_model(model, scheme, calibration_data=X)
    result = keras_dbq.solve_ternary(q_model, model, X, relu_passes=passes)
    assert list(result.errors) == ["middle"]
    return wrappers.quantized_weights(middle(q_model)[1].layer)[0].quantized_columns()


@pytest.mark.parametrize("kind, changes", [("norm", True), ("linear", False)])
def test_the_option_changes_layers_with_a_relu_alone(kind, changes):
    without, twice = (solved_columns(kind, 1, passes) for passes in (0, 2))
    assert np.array_equal(without, twice) != changes


@pytest.mark.parametrize("branches, passes", [(1, 2), (2, 0)])
def test_layers_of_one_branch_get_two_passes_where_nothing_is_said(branches, passes):
    default, asked, other = (solved_columns("norm", branches, n) for n in (None, passes, 2 - passes))
    assert np.array_equal(default, asked) and not np.array_equal(default, other)


def test_bad_numbers_and_other_runs(tmp_path):
    model = network("norm")
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(1), calibration_data=X)
    with pytest.raises(ValueError, match="relu_passes: expected an integer from 0 to 100, got -1"):
        keras_dbq.solve_ternary(q_model, model, X, relu_passes=-1)
    keras_dbq.solve_ternary(q_model, model, X, relu_passes=1, workdir=tmp_path / "work")
    with pytest.raises(ValueError, match="expected a run with the same settings"):
        keras_dbq.solve_ternary(q_model, model, X, workdir=tmp_path / "work")
