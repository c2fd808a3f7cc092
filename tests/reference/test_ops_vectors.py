"""L2_NORMALIZATION and BATCH_MATMUL: exactly what the stock interpreter gives, with XNNPACK and without."""

import numpy as np
import pytest

from keras_dbq.reference import Engine
from keras_dbq.reference.ops_vectors import inverse_root
from tests.reference.test_ops import BOTH, SEEDS, codes, compare, log_uniform
from tests.reference.tflite_builder import Builder, options


def normalization(shape, zero_point, scale=1 / 128):
    b = Builder()
    x, y = b.tensor(shape, np.int8, 0.05, zero_point), b.tensor(shape, np.int8, scale, 0)
    b.op("L2_NORMALIZATION", [x], [y], options("L2NormOptions"), version=2)
    return b.finish([x], [y])


def product(a, b, scales, zero_points, **fields):
    """Shapes of the matrices; scales and zero points of both and of the output."""
    builder = Builder()
    left, right = (builder.tensor(s, np.int8, scales[i], zero_points[i]) for i, s in enumerate((a, b)))
    rows, columns = a[-1 if fields.get("adjX") else -2], b[-2 if fields.get("adjY") else -1]
    lead = np.broadcast_shapes(a[:-2], b[:-2])
    y = builder.tensor((*lead, rows, columns), np.int8, scales[2], zero_points[2])
    builder.op("BATCH_MATMUL", [left, right], [y], options("BatchMatMulOptions", **fields), version=2)
    return builder.finish([left, right], [y])


@BOTH
@SEEDS
@pytest.mark.parametrize("depth", [1, 2, 7, 64, 513])
def test_l2_normalization(depth, seed, rounding):
    rng = np.random.default_rng(seed)
    shape, zero_point = ((1, depth), (1, 5, depth), (1, 3, 4, depth), (1, 1, depth))[seed], int(rng.integers(-128, 128))
    near = np.clip(zero_point + rng.integers(-3, 4, (40, *shape[1:])), -128, 127).astype(np.int8)
    near[0] = zero_point  # a zero vector
    compare(normalization(shape, zero_point), np.concatenate([near, codes(rng, near.shape)]), rounding)


@BOTH
@pytest.mark.parametrize("depth", [8256, 8257, 33025])
def test_l2_normalization_of_the_largest_sums(depth, rounding):
    compare(normalization((1, depth), -128), np.full((1, depth), 127, np.int8), rounding)


@BOTH
@SEEDS
@pytest.mark.parametrize("adj_x", [False, True])
@pytest.mark.parametrize("adj_y", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 130, 1), (5, 33, 17), (40, 300, 31)])
def test_batch_matmul(sizes, adj_y, adj_x, seed, rounding):
    rng = np.random.default_rng(sum(sizes) + seed)
    n, k, m = sizes
    first, second = log_uniform(rng, 0.01, 0.1, 2)
    # A power of two as the whole multiplier makes exact ties.
    out = first * second * (2.0**9 if seed == 3 else 73 * 73 * np.sqrt(k) / 45)
    a, b = [(1,), (1, 3), (1, 3), (1, 2, 2)][seed], [(1,), (1, 3), (1, 1), (1, 1, 2)][seed]
    a, b = (*a, *((k, n) if adj_x else (n, k))), (*b, *((m, k) if adj_y else (k, m)))
    model = product(a, b, (first, second, np.float32(out)), rng.integers(-128, 128, 3), adjX=adj_x, adjY=adj_y)
    compare(model, [codes(rng, (4, *a[1:])), codes(rng, (4, *b[1:]))], rounding)


def test_inverse_root():
    """Within 2^-19 of one over the root, over the whole range of int32."""
    n = np.unique(np.concatenate([np.arange(2000), np.geomspace(1, 2**31 - 1, 3000).astype(np.int64)]))
    m, exponent = inverse_root(n)
    np.testing.assert_allclose(m * 2.0 ** (exponent - 31), 1 / np.sqrt(np.maximum(n, 1)), rtol=2.0**-19)


def test_refusals():
    with pytest.raises(ValueError, match="expected scale 1/128, zero point 0 and no activation, got 0.0099"):
        Engine(normalization((1, 4), 0, 0.01)).run(np.zeros((1, 4), np.int8))
    with pytest.raises(ValueError, match="33026 products of codes overflows int32; expected at most 33025"):
        Engine(normalization((1, 33026), 0)).run(np.zeros((1, 33026), np.int8))
    deep = product((1, 1, 33026), (1, 33026, 1), (0.1, 0.1, 1.0), (0, 0, 0))
    with pytest.raises(ValueError, match="33026 products of codes overflows int32"):
        Engine(deep).run([np.zeros((1, 1, 33026), np.int8), np.zeros((1, 33026, 1), np.int8)])
