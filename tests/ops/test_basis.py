"""The basis of a linear space: its cost is what the layers around it lose, and it falls."""

import numpy as np
import pytest

from keras_dbq.ops import basis
from keras_dbq.ops.basis import Maker, Reader, find
from keras_dbq.ops.weight_levels import LinearLevels, TernaryLevels

LEVELS = TernaryLevels(1)


def moments(rng, size, samples=200):
    x = rng.normal(size=(samples, size)) @ rng.normal(size=(size, size))
    return x.T @ x / samples


def layers(seed=0, width=6, exact=(False, False)):
    """Two makers and two readers; the second maker is heard by the second reader alone."""
    rng = np.random.default_rng(seed)
    grams = [moments(rng, size) for size in (9, 7, width, width)]
    makers = [
        Maker(grams[0], rng.normal(size=(9, width)), exact[0], [0, 1]),
        Maker(grams[1], rng.normal(size=(7, width)), exact[0], [1]),
    ]
    readers = [Reader(gram, rng.normal(size=(width, 20)), exact[1]) for gram in grams[2:]]
    return makers, readers


def test_the_cost_is_the_relative_error_at_the_readers():
    makers, readers = layers()
    matrix = np.random.default_rng(1).normal(size=(6, 6)) + 3 * np.eye(6)
    codes = basis._Problem(makers, readers, LEVELS).codes(matrix)
    inverse, total = np.linalg.inv(matrix), 0.0
    power = [np.trace(r.weights.T @ r.gram @ r.weights) for r in readers]
    for reader, q, t in zip(readers, codes.read, power, strict=True):
        error = matrix.T @ q - reader.weights  # of weights that read the old channels
        total += np.trace(error.T @ reader.gram @ error) / t
    for maker, q in zip(makers, codes.made, strict=True):
        error = q @ inverse.T - maker.weights
        heard = error.T @ maker.gram @ error
        total += sum(np.trace(readers[i].weights.T @ heard @ readers[i].weights) / power[i] for i in maker.readers)
    assert codes.cost(matrix) == pytest.approx(total)
    for q, layer in zip([*codes.read, *codes.made], [*readers, *makers], strict=True):
        assert q.shape == layer.weights.shape and all(len(np.unique(np.round(np.abs(c), 9))) <= 2 for c in q.T)


def test_a_step_goes_down_the_slope():
    """Along each entry of X the cost of (1 + X) A changes as the equations say: by -2 g at X = 0."""
    makers, readers = layers(2)
    codes = basis._Problem(makers, readers, LEVELS).codes(np.eye(6))
    matrix = np.eye(6) + 0.1 * np.random.default_rng(3).normal(size=(6, 6))
    caught = []

    def solve(apply, wanted):
        caught.extend((apply, wanted))
        return wanted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(basis, "_conjugate_gradients", solve)
        codes._step(matrix)
    apply, wanted = caught
    unit, h = np.eye(36).reshape(36, 6, 6), 1e-5
    slope = [(codes.cost(matrix + h * u @ matrix) - codes.cost(matrix - h * u @ matrix)) / (2 * h) for u in unit]
    np.testing.assert_allclose(slope, -2 * wanted.ravel(), rtol=1e-5, atol=1e-6 * np.abs(slope).max())
    square = np.array([apply(u).ravel() for u in unit])
    np.testing.assert_allclose(square, square.T, atol=1e-9 * np.abs(square).max())
    assert np.linalg.eigvalsh(square).min() > 0


def test_conjugate_gradients_solve():
    rng = np.random.default_rng(0)
    square = moments(rng, 9)
    wanted = rng.normal(size=(3, 3))
    x = basis._conjugate_gradients(lambda x: (square @ x.ravel()).reshape(3, 3), wanted)
    np.testing.assert_allclose(square @ x.ravel(), wanted.ravel(), atol=1e-3)
    assert not basis._conjugate_gradients(lambda x: x, np.zeros((3, 3))).any()


@pytest.mark.parametrize("levels", [TernaryLevels(1), TernaryLevels(2), LinearLevels(7)], ids=str)
@pytest.mark.parametrize("exact", [(False, False), (True, False), (False, True)], ids=str)
def test_more_rounds_never_cost_more_and_some_gain(levels, exact):
    makers, readers = layers(4, exact=exact)
    costs = [find(makers, readers, levels, rounds).after for rounds in (0, 2, 8)]
    assert costs[0] >= costs[1] >= costs[2]
    result = find(makers, readers, levels, 8)
    assert result.before == costs[0] and result.after < 0.97 * result.before
    assert np.linalg.cond(result.matrix) <= basis._CONDITION
    problem = basis._Problem(makers, readers, levels)
    assert problem.codes(result.matrix).cost(result.matrix) == pytest.approx(result.after)


def test_nothing_to_gain_leaves_the_basis():
    makers, readers = layers(5, exact=(True, True))
    result = find(makers, readers, LEVELS, 3)
    assert (result.matrix == np.eye(6)).all() and result.before == result.after == 0


def test_readers_that_never_change_do_not_count():
    makers, readers = layers(6)
    silent = [*readers, readers[0]._replace(gram=np.zeros((6, 6)))]
    heard = [maker._replace(readers=[*maker.readers, 2]) for maker in makers]
    assert find(heard, silent, LEVELS, 2).after == find(makers, readers, LEVELS, 2).after


def test_readers_of_white_inputs_gain_by_a_turn():
    """Codes in a turned basis: without a turn no ternary weights are near them."""
    rng = np.random.default_rng(7)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    codes = rng.integers(-1, 2, (5, 200)) * rng.uniform(0.5, 2, 200)
    result = find([], [Reader(np.eye(5), turn.T @ codes, False)], LEVELS, 20)
    assert result.after < 0.8 * result.before
