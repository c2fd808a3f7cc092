"""What a layer costs: operations, full adders, bits, bytes in the file; formulas of counts alone.

source: Sakr, Kim, Shanbhag, "Analytical Guarantees on Numerical Precision of Deep Neural Networks", ICML 2017 (full
adders of a dot product, representational cost). derived: the same for ternary branches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from keras_dbq.limits import TRITS_PER_BYTE

SCALE_BITS = 8  # of a branch scale
# Bytes of a layer's constants in the file (docs/packing.md), beside its codes.
_PARAMS = 4 * 16
_LINEAR_BYTES_PER_CHANNEL = 4 + 4 + 4 + 8  # bias, weight scale, bias scale, zero points (one vector for both)


@dataclass(frozen=True)
class Kernel:
    """Counts of one kernel layer.

    length: weights of one dot product (K).  channels: output channels (M).
    dot_products: per picture, over all calls.
    branches: ternary branches; 0: linear weights.  weight_bits: of linear weights.
    input_bits: of the activations that it reads.
    nonzero: non-zero codes of each branch, all channels together; of linear weights one number.
    """

    length: int
    channels: int
    dot_products: int
    branches: int
    weight_bits: int
    input_bits: int
    nonzero: tuple[int, ...]

    @property
    def weights(self) -> int:
        """Weights of the layer."""
        return self.length * self.channels

    @property
    def density(self) -> list[float]:
        """Share of non-zero codes, branch by branch."""
        return [count / self.weights for count in self.nonzero]


@dataclass(frozen=True)
class Cost:
    """Of one kernel layer, per picture.

    additions, multiplications: of the dot products: linear weights take one of each per weight; a ternary branch takes
      an addition per non-zero code, and per output one multiplication with its scale (and an addition to the branch
      before).
    full_adders, full_adders_sparse: with every code, and with the non-zero ones alone.
    representation_bits: bits of weights and of the activations that are read.
    memory_bits: weights at 2 bits a code, with scales.
    disk_bits: weights at log2(3) bits a code, the least that codes without a pattern need, with scales.
    file_bytes: constants in the packed file: codes, scales, bias, parameters; a vector that several layers share is
      counted for each.
    """

    additions: int
    multiplications: int
    full_adders: int
    full_adders_sparse: int
    representation_bits: int
    memory_bits: int
    disk_bits: float
    file_bytes: int


def cost(kernel: Kernel, inputs: int) -> Cost:
    """Cost of a kernel layer that reads `inputs` numbers per picture."""
    bits, scales = _code_bits(kernel), SCALE_BITS * kernel.branches * kernel.channels
    codes = kernel.branches * kernel.weights
    additions, multiplications = _operations(kernel)
    return Cost(
        additions,
        multiplications,
        full_adders(kernel, sparse=False),
        full_adders(kernel, sparse=True),
        bits * kernel.weights + kernel.input_bits * inputs,
        bits * kernel.weights + scales,
        math.log2(3) * codes + scales if kernel.branches else float(bits * kernel.weights),
        file_bytes(kernel),
    )


def _code_bits(kernel: Kernel) -> int:
    return 2 * kernel.branches if kernel.branches else kernel.weight_bits


def _operations(kernel: Kernel) -> tuple[int, int]:
    """(additions, multiplications) per picture."""
    per_channel = kernel.dot_products // kernel.channels  # each weight is used once in each
    if not kernel.branches:
        return per_channel * kernel.weights, per_channel * kernel.weights
    joined = kernel.dot_products * (kernel.branches - 1)
    return per_channel * sum(kernel.nonzero) + joined, kernel.dot_products * kernel.branches


def full_adders(kernel: Kernel, sparse: bool) -> int:
    """One-bit full adders of all dot products of a picture.

    source, linear weights, D terms of B_A and B_W bits: D B_A B_W + (D - 1) (B_A + B_W + ceil(log2 D) - 1).
    derived, a ternary branch: (D - 1) (B_A + 1 + ceil(log2 D)); its sum of B_A + 1 + ceil(log2 D) bits takes 8 times as
    many for the multiplication with its scale, and a branch after the first one more row for the addition.

    Args:
      sparse: D counts the non-zero codes of the mean channel (rounded up) in place of all.
    """
    adders = 0
    for branch, nonzero in enumerate(kernel.nonzero):
        terms = -(-nonzero // kernel.channels) if sparse else kernel.length
        if not terms:
            continue
        growth = math.ceil(math.log2(terms))
        if not kernel.branches:
            product = kernel.input_bits * kernel.weight_bits
            adders += terms * product + (terms - 1) * (kernel.input_bits + kernel.weight_bits + growth - 1)
            continue
        width = kernel.input_bits + 1 + growth
        adders += (terms - 1) * width + SCALE_BITS * width + (width + SCALE_BITS if branch else 0)
    return kernel.dot_products * adders


def file_bytes(kernel: Kernel) -> int:
    """Constants of the layer in the packed file (docs/packing.md); linear weights are int8 there, whatever their bits.

    Three branches do not pack and are int8 as well.
    """
    if not 1 <= kernel.branches <= 2:
        return kernel.weights + _LINEAR_BYTES_PER_CHANNEL * kernel.channels
    codes = kernel.branches * -(-kernel.weights // TRITS_PER_BYTE)
    scales = kernel.branches * kernel.channels + 4 * (2 + kernel.channels)
    return codes + scales + 4 * kernel.channels + _PARAMS
