"""From integers to branches and back: canonical choice, base-3 codes, limits."""

import numpy as np
import pytest

from keras_dbq.tflite.levels import decode_trits, encode_trits, find_branches

PAIRS = [(p, q) for p in range(1, 128) for q in range(0, min(p - 1, 127 - p) + 1)]


def columns(*channels):
    """Channels of unlike length, filled up with zeros -> int8 [K, M]."""
    out = np.zeros((max(map(len, channels)), len(channels)), np.int8)
    for m, channel in enumerate(channels):
        out[: len(channel), m] = channel
    return out


def rebuilt(branches):
    return (branches.codes.astype(int) * branches.scales.astype(int)[:, None, :]).sum(0)


def test_every_pair_is_found_and_rebuilds_the_integers():
    channels = [[p + q, -(p + q), p - q, q - p, p, -p, q, -q, 0] for p, q in PAIRS]
    weights = np.array(channels, np.int8).T
    found = find_branches(weights)
    assert len(found.codes) == 2
    np.testing.assert_array_equal(rebuilt(found), weights)
    p, q = found.scales.astype(int)
    assert np.all((p > q) & (q >= 0) & (p + q <= 127) & (p >= 1))
    # All nine levels in use determine the pair, but where q = 0 or levels coincide (p = 2q, or a larger spelling).
    distinct = np.array([len({abs(v) for v in channel}) == 5 for channel in channels])
    np.testing.assert_array_equal(np.stack([p, q], 1)[distinct], np.array(PAIRS)[distinct])


@pytest.mark.parametrize(
    "channel, scales",
    [
        ([127, -127, 0], [127]),
        ([5, -5], [5]),  # any magnitude makes one branch
        ([0, 0], [127]),  # an all-zero channel
    ],
)
def test_one_branch(channel, scales):
    found = find_branches(columns(channel))
    assert found.scales.tolist() == [[s] for s in scales]
    np.testing.assert_array_equal(rebuilt(found)[:, 0], channel)


@pytest.mark.parametrize(
    "channel, pair",
    [
        ([127, 100], (100, 27)),  # p + q = 127 first
        ([127], (127, 0)),  # then the fewest non-zero codes: one, not two
        ([100], (100, 27)),  # p + q = 127 comes before p = 100, q = 0
        ([80, 47], (80, 47)),
        ([50, 20], (50, 20)),  # no pair with p + q = 127: fewest codes; (35, 15) would need two for each
        ([6, 6, 3], (6, 3)),  # (9, 3) holds both as well, but 6 = p - q needs two
        ([9, 6, 3], (9, 3)),  # as many codes as (6, 3): the largest p
    ],
)
def test_preference(channel, pair):
    # A second channel with two magnitudes makes the layer a two-branch one.
    found = find_branches(columns(channel, [127, 0, 64, 63, 1]))
    assert tuple(found.scales[:, 0]) == pair
    np.testing.assert_array_equal(rebuilt(found)[: len(channel), 0], channel)


def test_coinciding_levels_take_the_spelling_with_fewer_codes():
    found = find_branches(columns([6, 6, 3, -3, 9, 0], [127, 64, 63, 1]))  # 3 = q and 3 = p - q
    assert tuple(found.scales[:, 0]) == (6, 3)
    np.testing.assert_array_equal(found.codes[:, :6, 0], [[1, 1, 0, 0, 1, 0], [0, 0, 1, -1, 1, 0]])


def test_sign_flips_both_branches():
    found = find_branches(columns([127, 73, 100, 27]))
    flipped = find_branches(columns([-127, -73, -100, -27]))
    np.testing.assert_array_equal(found.codes, -flipped.codes)
    np.testing.assert_array_equal(found.scales, flipped.scales)


@pytest.mark.parametrize(
    "channel",
    [
        [1, 2, 3, 4, 5],  # five magnitudes
        [1, 10, 100],  # three that no pair holds
        [-128, 0],  # not a level
        [],
    ],
)
def test_more_than_two_branches(channel):
    assert find_branches(columns(channel, channel)) is None


def test_order_of_weights_and_channels_does_not_matter():
    rng = np.random.default_rng(0)
    trits = rng.integers(-1, 2, (2, 50, 8))
    weights = (trits[0] * 90 + trits[1] * 37).astype(np.int8)
    rows, channels = rng.permutation(50), rng.permutation(8)
    found, shuffled = find_branches(weights), find_branches(weights[rows][:, channels])
    np.testing.assert_array_equal(found.codes[:, rows][:, :, channels], shuffled.codes)


@pytest.mark.parametrize("count", [1, 4, 5, 6, 243])
@pytest.mark.parametrize("branches", [1, 2])
def test_codes_round_trip(count, branches):
    trits = np.random.default_rng(count).integers(-1, 2, (branches, count)).astype(np.int8)
    codes = encode_trits(trits)
    assert codes.dtype == np.uint8 and codes.size == branches * -(-count // 5) and codes.max() <= 242
    np.testing.assert_array_equal(decode_trits(codes, branches, count), trits)


def test_codes_byte_for_byte():
    # docs/packing.md: d0 + 3 d1 + 9 d2 + 27 d3 + 81 d4 with d = trit + 1; the rest of the last byte is trit 0.
    assert encode_trits(np.array([[1, 0, -1, 1, 0, -1]], np.int8)).tolist() == [
        2 + 3 + 0 + 54 + 81,
        0 + 3 + 9 + 27 + 81,
    ]


def test_sparsity_is_the_share_of_zero_codes():
    found = find_branches(columns([127, 0, 0, 0], [127, -127, 0, 0]))
    assert found.sparsity == [5 / 8]


@pytest.mark.parametrize(
    "codes, message",
    [([0, 0], "expected 1 bytes for 1 branches of 5 weights, got 2"), ([243], "expected bytes up to 242, got 243")],
)
def test_damaged_codes(codes, message):
    with pytest.raises(ValueError, match=message):
        decode_trits(np.array(codes, np.uint8), 1, 5)
