"""Limits of the integer format, each in one place (`reference/` has its own, as an independent witness)."""

# The largest int8 weight; the branch scales of a channel sum to it.
TOP_LEVEL = 127
# Codes of a ternary branch in one byte of the packed file.
TRITS_PER_BYTE = 5
# The largest magnitude of an int32 bias.
BIAS_LIMIT = 2**31 - 1
# A multiplier that takes every sum but 0 past the end of int8, whatever the zero point.
SATURATING = 255
# A dot product whose bias has less room than this is not exported: biases would be rounded too coarsely.
LEAST_ROOM = 2**24


def bias_room(length: int) -> int:
    """The largest magnitude of a bias beside a dot product of `length` int8 weights and int8 activations.

    derived: |sum| <= length * 127 * 255 (an activation code less its zero point has at most 255), and the sum with its
    bias has to fit int32.
    """
    return BIAS_LIMIT - length * TOP_LEVEL * 255
