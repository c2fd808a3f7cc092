"""The staircase: values against brute force, gradients against closed form and finite differences."""

import itertools

import numpy as np
import pytest

from keras_dbq.compat import tf
from keras_dbq.ops import branches as branch_ops

BRANCHES = (1, 2, 3)


def _parameters(branches: int, seed: int = 0, k: int = 40, m: int = 5, dtype=np.float32):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(k, m)).astype(dtype)
    alpha = (rng.uniform(0.8, 1.4, (branches, m)) / 2.6 ** np.arange(branches)[:, None]).astype(np.float32)
    thresholds = branch_ops.midpoint_thresholds(tf.constant(alpha)).numpy().astype(dtype)
    gamma1 = rng.uniform(0.7, 1.5, m).astype(dtype)
    gamma2 = rng.uniform(0.5, 1.5, m).astype(dtype)
    return w, alpha.astype(dtype), thresholds, gamma1, gamma2


def _closed_form(w, alpha, thresholds, gamma1, gamma2, temperature):
    """The design's equations in float64: levels in order, their steps and the smooth curve, written as loops."""
    branches, channels = alpha.shape
    p = branch_ops.integer_branch_scales(tf.constant(alpha, tf.float32)).numpy().astype(np.float64)
    y, slope = np.zeros(w.shape), np.zeros(w.shape)
    sigma = np.zeros((3**branches - 1, *w.shape))
    steps = np.zeros((3**branches - 1, channels))
    for m in range(channels):
        unit = gamma2[m] * alpha[:, m].sum() / 127
        combos = sorted(
            sum(d * s for d, s in zip(c, p[:, m], strict=True)) for c in itertools.product((-1, 0, 1), repeat=branches)
        )
        for i in range(len(combos) - 1):
            steps[i, m] = (combos[i + 1] - combos[i]) * unit
            s = 1 / (1 + np.exp(-temperature * (gamma1[m] * w[:, m] - thresholds[i, m])))
            sigma[i, :, m] = s
            y[:, m] += steps[i, m] * s
            slope[:, m] += steps[i, m] * temperature * s * (1 - s)
        y[:, m] += combos[0] * unit
    return y, slope, sigma, steps


@pytest.mark.parametrize("branches", BRANCHES)
def test_integer_scales_sum_to_127_and_descend(branches):
    alpha = np.abs(np.random.default_rng(1).normal(size=(branches, 200))) + 1e-3
    alpha = -np.sort(-alpha, 0).astype(np.float32)
    p = branch_ops.integer_branch_scales(tf.constant(alpha)).numpy()
    assert np.all(p == np.round(p))
    assert np.all(p.sum(0) == 127)
    assert np.all(p >= 0)
    if branches == 2:
        assert np.all(p[0] > p[1])
        np.testing.assert_allclose(p[1], np.minimum(127 * alpha[1] / alpha.sum(0), 63), atol=0.5 + 1e-3)


@pytest.mark.parametrize("ratio", [2.0, 2.6, 3.0, 1.2, 1.9])
def test_levels_ascend_and_digits_make_them(ratio):
    alpha = tf.constant([[1.0], [1.0 / ratio]])
    p = branch_ops.integer_branch_scales(alpha)
    levels, digits = branch_ops.staircase(p)
    assert np.all(np.diff(levels.numpy()[:, 0]) > 0)
    np.testing.assert_array_equal((digits.numpy() * p.numpy()[None]).sum(1), levels.numpy())
    assert len({tuple(d) for d in digits.numpy()[:, :, 0]}) == 9


def test_two_branch_step_heights_of_the_design():
    """s = D^T alpha with D1 = [0,0,1,0,0,1,0,0], D2 = [1,1,-2,1,1,-2,1,1] (design note, a1 >= 2 * a2)."""
    digits = branch_ops.staircase(tf.constant([[95.0], [32.0]])).digits.numpy()[:, :, 0]
    np.testing.assert_array_equal(np.diff(digits, axis=0).T, [[0, 0, 1, 0, 0, 1, 0, 0], [1, 1, -2, 1, 1, -2, 1, 1]])


@pytest.mark.parametrize("branches", BRANCHES)
def test_hard_value_is_the_nearest_level(branches):
    w, alpha, thresholds, gamma1, gamma2 = _parameters(branches)
    y = branch_ops.ternary_branch(w, alpha, thresholds, gamma1, gamma2, forward="hard").numpy()
    p = branch_ops.integer_branch_scales(tf.constant(alpha)).numpy()
    for m in range(w.shape[1]):
        levels = np.array([np.dot(c, p[:, m]) for c in itertools.product((-1, 0, 1), repeat=branches)])
        unit = np.float32(gamma2[m]) * np.float32(alpha[:, m].sum(dtype=np.float32)) / np.float32(127)
        target = gamma1[m] * w[:, m] / (alpha[:, m].sum() / 127)
        nearest = levels[np.abs(levels[None] - target[:, None]).argmin(1)]
        np.testing.assert_allclose(y[:, m], nearest * unit, rtol=3e-7)
        np.testing.assert_array_equal(np.round(y[:, m] / unit), nearest)


@pytest.mark.parametrize("branches", BRANCHES)
def test_codes_agree_with_hard_value(branches):
    w, alpha, thresholds, gamma1, gamma2 = map(tf.constant, _parameters(branches, seed=3))
    codes = branch_ops.ternary_codes(w, alpha, thresholds, gamma1).numpy()
    assert codes.dtype == np.int8 and set(np.unique(codes)) <= {-1, 0, 1}
    p = branch_ops.integer_branch_scales(alpha).numpy()
    unit = (gamma2 * tf.reduce_sum(alpha, 0) / 127).numpy()
    y = branch_ops.ternary_branch(w, alpha, thresholds, gamma1, gamma2, forward="hard").numpy()
    np.testing.assert_array_equal((codes * p[:, None, :]).sum(0) * unit, y)


@pytest.mark.parametrize("branches", BRANCHES)
@pytest.mark.parametrize("temperature", [2.0, 8.0, 50.0])
def test_smooth_value_and_gradients_match_closed_form(branches, temperature):
    parameters = _parameters(branches, seed=5)
    dy = np.random.default_rng(6).normal(size=parameters[0].shape)
    tensors = [tf.constant(p, tf.float32) for p in parameters]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        y = branch_ops.ternary_branch(*tensors, temperature, forward="smooth")
        loss = tf.reduce_sum(y * dy.astype(np.float32))
    got = [g.numpy() for g in tape.gradient(loss, tensors)]
    w, alpha, thresholds, gamma1, gamma2 = [np.asarray(p, np.float64) for p in parameters]
    value, slope, sigma, steps = _closed_form(w, alpha, thresholds, gamma1, gamma2, temperature)
    np.testing.assert_allclose(y.numpy(), value, atol=2e-5)
    g = temperature * sigma * (1 - sigma)
    digits = branch_ops.staircase(branch_ops.integer_branch_scales(tensors[1])).digits.numpy().astype(np.float64)
    soft_codes = digits[0][:, None, :] + np.einsum("rbm,rkm->bkm", np.diff(digits, axis=0), sigma)
    want = [
        dy * gamma1 * slope,
        (dy * soft_codes).sum(1) * gamma2,
        -(dy * steps[:, None, :] * g).sum(1),
        (dy * slope * w).sum(0),
        (dy * value / gamma2).sum(0),
    ]
    for name, a, b in zip(("w", "alpha", "thresholds", "gamma1", "gamma2"), got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("branches", (1, 2))
@pytest.mark.parametrize("index, name", [(0, "w"), (2, "thresholds"), (3, "gamma1"), (4, "gamma2")])
def test_smooth_gradient_matches_finite_differences(branches, index, name):
    """Central differences of the numpy curve (float64); alpha is snapped to integers, so see the next test for it."""
    parameters = [np.asarray(p, np.float64) for p in _parameters(branches, seed=7, k=4, m=2)]
    temperature, h = 4.0, 1e-5
    tensors = [tf.constant(p, tf.float32) for p in parameters]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        loss = tf.reduce_sum(branch_ops.ternary_branch(*tensors, temperature, forward="smooth"))
    got = tape.gradient(loss, tensors[index]).numpy()
    want = np.zeros(parameters[index].shape)
    for place in np.ndindex(want.shape):
        values = []
        for sign in (1, -1):
            moved = [p.copy() for p in parameters]
            moved[index][place] += sign * h
            values.append(_closed_form(*moved, temperature)[0].sum())
        want[place] = (values[0] - values[1]) / (2 * h)
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3, err_msg=name)


def test_alpha_gradient_matches_finite_differences_without_the_snap():
    """On ratios that stay on one integer grid point alpha only scales the levels: d/ds Q(s * alpha) = Q / s."""
    w, alpha, thresholds, gamma1, gamma2 = [tf.constant(p) for p in _parameters(2, seed=8)]
    with tf.GradientTape() as tape:
        tape.watch(alpha)
        loss = tf.reduce_sum(branch_ops.ternary_branch(w, alpha, thresholds, gamma1, gamma2, 4.0, forward="smooth"))
    along = tf.reduce_sum(tape.gradient(loss, alpha) * alpha).numpy()
    h = 1e-2
    up, down = (
        tf.reduce_sum(
            branch_ops.ternary_branch(w, alpha * s, thresholds, gamma1, gamma2, 4.0, forward="smooth")
        ).numpy()
        for s in (1 + h, 1 - h)
    )
    # the snap moves each level by at most half an integer step of 127
    assert abs(along - (up - down) / (2 * h)) < 0.01 * np.abs(w.numpy()).sum()


@pytest.mark.parametrize("branches", BRANCHES)
def test_hard_mode_has_the_smooth_gradient_for_w(branches):
    tensors = [tf.constant(p) for p in _parameters(branches, seed=9)]
    gradients = {}
    for mode in ("smooth", "hard"):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            loss = tf.reduce_sum(branch_ops.ternary_branch(*tensors, 8.0, forward=mode))
        gradients[mode] = tape.gradient(loss, [tensors[0], tensors[2], tensors[3]])
    for a, b in zip(gradients["hard"], gradients["smooth"], strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("branches", BRANCHES)
def test_hard_alpha_gradient_is_the_code(branches):
    w, alpha, thresholds, gamma1, gamma2 = [tf.constant(p) for p in _parameters(branches, seed=10)]
    dy = np.random.default_rng(11).normal(size=w.shape).astype(np.float32)
    codes = branch_ops.ternary_codes(w, alpha, thresholds, gamma1).numpy()
    for mode in ("hard", "straight_through"):
        with tf.GradientTape() as tape:
            tape.watch(alpha)
            loss = tf.reduce_sum(branch_ops.ternary_branch(w, alpha, thresholds, gamma1, gamma2, 8.0, mode) * dy)
        want = (codes * dy).sum(1) * gamma2.numpy()
        np.testing.assert_allclose(tape.gradient(loss, alpha).numpy(), want, rtol=1e-4, atol=1e-5)


def test_straight_through_passes_the_gradient_unchanged():
    tensors = [tf.constant(p) for p in _parameters(2, seed=12)]
    dy = np.random.default_rng(13).normal(size=tensors[0].shape).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        loss = tf.reduce_sum(branch_ops.ternary_branch(*tensors, 8.0, "straight_through") * dy)
    d_w, _, d_t, d_g1, _ = tape.gradient(loss, tensors)
    np.testing.assert_array_equal(d_w.numpy(), dy)
    assert not d_t.numpy().any() and not d_g1.numpy().any()


def test_smooth_tends_to_hard():
    tensors = [tf.constant(p) for p in _parameters(2, seed=14)]
    hard = branch_ops.ternary_branch(*tensors, 8.0, "hard").numpy()
    errors = [
        np.abs(branch_ops.ternary_branch(*tensors, t, "smooth").numpy() - hard).mean() for t in (4, 20, 100, 5000)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3


def test_midpoint_gradient_reaches_alpha():
    alpha = tf.constant([[1.0, 1.2], [0.3, 0.5]])
    with tf.GradientTape() as tape:
        tape.watch(alpha)
        thresholds = branch_ops.midpoint_thresholds(alpha)
        top = tf.reduce_sum(thresholds[-1])  # between a1 and a1 + a2: a1 + a2 / 2
    np.testing.assert_allclose(tape.gradient(top, alpha).numpy(), [[1, 1], [0.5, 0.5]])


def test_threshold_tie_takes_the_lower_level():
    y = branch_ops.ternary_branch(
        tf.constant([[0.5], [0.5000001]]), tf.constant([[1.0]]), tf.constant([[-0.5], [0.5]]), tf.ones(1), tf.ones(1)
    )
    np.testing.assert_array_equal(y.numpy() > 0.5, [[False], [True]])


def test_unknown_forward_mode():
    tensors = [tf.constant(p) for p in _parameters(1)]
    with pytest.raises(ValueError, match="forward: expected one of smooth, hard, straight_through, got 'soft'"):
        branch_ops.ternary_branch(*tensors, forward="soft")
