"""Operators that move values: each passes where it fits, and names what is outside."""

import numpy as np
import pytest

from keras_dbq.structure import check_file
from tests.structure.files import ints, one_op, options, refused

X = (1, 4, 6, 8)


def op(name, inputs, outputs, chosen=None, **fields):
    return one_op(name, inputs, outputs, None if chosen is None else options(chosen, **fields))


def strided(begin=(0, 1), end=(1, 4), steps=(1, 2), y=(1, 2, 6, 8), **masks):
    return op("STRIDED_SLICE", [X, ints(*begin), ints(*end), ints(*steps)], [y], "StridedSliceOptions", **masks)


def pad(pairs=((0, 0), (1, 2), (0, 0), (0, 0)), y=(1, 7, 6, 8), name="PAD", **fields):
    return op(name, [X, ints(*pairs)], [y], "PadOptions" if name == "PAD" else "MirrorPadOptions", **fields)


def gather(indices=(0, 7, 3), y=(1, 4, 6, 3), axis=3, **fields):
    return op("GATHER", [X, ints(*indices)], [y], "GatherOptions", axis=axis, **fields)


def blocks(block=(2, 3), pairs=((0, 0), (0, 0)), y=(6, 2, 2, 8), x=X, name="SPACE_TO_BATCH_ND"):
    return op(name, [x, ints(*block), ints(*pairs)], [y])


@pytest.mark.parametrize(
    "data",
    [
        op("RESHAPE", [X, ints(1, -1)], [(1, 192)]),
        op("RESHAPE", [X], [(2, 96)], "ReshapeOptions", newShape=[2, 96]),
        op("SQUEEZE", [X], [X[1:]], "SqueezeOptions", squeezeDims=[0]),
        op("SQUEEZE", [X], [X[1:]]),
        op("EXPAND_DIMS", [X, ints(-1)], [(*X, 1)]),
        op("CONCATENATION", [X, (1, 4, 6, 3)], [(1, 4, 6, 11)], "ConcatenationOptions", axis=-1),
        op("TRANSPOSE", [X, ints(0, 3, 1, 2)], [(1, 8, 4, 6)]),
        op("REVERSE_V2", [X, ints(1)], [X]),
        op("SPLIT", [ints(3), X], [(1, 4, 6, 4)] * 2, "SplitOptions", numSplits=2),
        op("SPLIT_V", [X, ints(3, -1), ints(3)], [(1, 4, 6, 3), (1, 4, 6, 5)], "SplitVOptions", numSplits=2),
        op("SLICE", [X, ints(0, 1, 0, 0), ints(1, 2, -1, 8)], [(1, 2, 6, 8)]),
        strided(),
        strided(shrinkAxisMask=1, y=(2, 6, 8)),
        strided(beginMask=2, y=(1, 2, 6, 8)),
        strided(steps=(1, -1), begin=(0, 3), end=(1, 0), y=(1, 3, 6, 8)),
        pad(),
        pad(name="MIRROR_PAD", mode=0),
        op("RESIZE_NEAREST_NEIGHBOR", [X, ints(8, 3)], [(1, 8, 3, 8)], "ResizeNearestNeighborOptions"),
        blocks(),
        blocks(x=(6, 2, 2, 8), y=(1, 4, 5, 8), pairs=((0, 0), (1, 0)), name="BATCH_TO_SPACE_ND"),
        op("SPACE_TO_DEPTH", [X], [(1, 2, 3, 32)], "SpaceToDepthOptions", blockSize=2),
        op("DEPTH_TO_SPACE", [X], [(1, 8, 12, 2)], "DepthToSpaceOptions", blockSize=2),
        gather(),
        op("PACK", [(1, 4), (1, 4)], [(1, 2, 4)], "PackOptions", axis=1, valuesCount=2),
        op("UNPACK", [(1, 2, 4)], [(1, 4)] * 2, "UnpackOptions", axis=1, num=2),
        op("TILE", [X, ints(1, 2, 1, 1)], [(1, 8, 6, 8)]),
        op("BROADCAST_TO", [(1, 1, 8), ints(2, 3, 8)], [(2, 3, 8)]),
    ],
)
def test_what_fits_passes(data):
    check_file(data)


@pytest.mark.parametrize(
    "data, message",
    [
        (op("RESHAPE", [X, ints(1, 191)], [(1, 191)]), "expected a shape of 192 values"),
        (op("RESHAPE", [X, ints(-1, 7)], [(1, 7)]), "expected a shape of 192 values"),
        (op("RESHAPE", [X, ints(-1, -1)], [(1, 192)]), "expected sizes of at least 0, and at most one -1"),
        (op("RESHAPE", [X, ints(1, 192)], [(2, 96)]), r"expected the shape \(1, 192\), got \(2, 96\)"),
        (op("RESHAPE", [X, np.ones(2, np.float32)], [(1, 192)]), "expected integers in input 1, got FLOAT32"),
        (op("SQUEEZE", [X], [X[1:]], "SqueezeOptions", squeezeDims=[1]), "expected axes of size 1 in"),
        (op("SQUEEZE", [X], [X[1:]], "SqueezeOptions", squeezeDims=[4]), "expected an axis of 4, got 4"),
        (op("EXPAND_DIMS", [X, ints(5)], [(*X, 1)]), "expected an axis of 5, got 5"),
        (op("CONCATENATION", [X, (1, 4, 5, 3)], [X], "ConcatenationOptions", axis=3), "that differ in axis 3 only"),
        (op("CONCATENATION", [X, (1, 4, 6)], [X], "ConcatenationOptions", axis=3), "expected inputs of one rank"),
        (op("CONCATENATION", [X, X], [X], "ConcatenationOptions", axis=4), "expected an axis of 4, got 4"),
        (op("TRANSPOSE", [X, ints(0, 3, 1, 1)], [X]), "expected a permutation of 4 axes"),
        (op("SPLIT", [ints(3), X], [X] * 3, "SplitOptions", numSplits=3), "expected a size that 3 parts divide"),
        (op("SPLIT", [ints(3), X], [X] * 2, "SplitOptions", numSplits=4), "expected 2 parts, one for each output"),
        (op("SPLIT_V", [X, ints(9, -1), ints(3)], [X] * 2, "SplitVOptions", numSplits=2), "sizes that add to 8"),
        (op("SLICE", [X, ints(0, 3, 0, 0), ints(1, 2, 1, 1)], [X]), "expected a slice inside of"),
        (op("SLICE", [X, ints(-1, 0, 0, 0), ints(1, 2, 1, 1)], [X]), "expected a slice inside of"),
        (strided(steps=(1, 0)), "expected steps other than 0"),
        (strided(begin=(0,)), "expected begin, end and steps of one length"),
        (strided(shrinkAxisMask=2, begin=(0, 9)), "expected an index inside of axis 1"),
        (strided(y=(1, 3, 6, 8)), r"expected the shape \(1, 2, 6, 8\), got \(1, 3, 6, 8\)"),
        (pad(pairs=((0, 0), (-1, 2), (0, 0), (0, 0))), "expected 4 pairs from 0 to 1048576 in input 1"),
        (pad(pairs=((0, 0), (2**30, 2), (0, 0), (0, 0))), "expected 4 pairs from 0 to 1048576 in input 1"),
        (pad(pairs=((0, 0), (1, 2))), "expected 4 pairs from"),
        (pad(pairs=((0, 0), (4, 0), (0, 0), (0, 0)), name="MIRROR_PAD", mode=0), "expected paddings that the input"),
        (pad(name="MIRROR_PAD", mode=2), "expected mode from 0 to 1, got 2"),
        (op("RESIZE_BILINEAR", [X, ints(0, 3)], [X], "ResizeBilinearOptions"), "expected two sizes over 0"),
        (blocks(block=(3, 3)), "expected sizes that the blocks .* divide"),
        (blocks(block=(0, 3)), "expected 2 block sizes from 1"),
        (blocks(x=(5, 2, 2, 8), name="BATCH_TO_SPACE_ND"), "expected a batch that the blocks"),
        (blocks(x=(6, 2, 2, 8), pairs=((9, 0), (0, 0)), name="BATCH_TO_SPACE_ND"), "expected crops inside of"),
        (op("SPACE_TO_DEPTH", [X], [X], "SpaceToDepthOptions", blockSize=4), "height and width that 4 divides"),
        (op("DEPTH_TO_SPACE", [X], [X], "DepthToSpaceOptions", blockSize=0), "expected block from 1"),
        (op("DEPTH_TO_SPACE", [X], [X], "DepthToSpaceOptions", blockSize=3), "expected channels that 9 divides"),
        (gather(indices=(0, 8, 3)), "expected indices inside of axis 3 of .*, got 8"),
        (gather(indices=(0, -1, 3)), "expected indices inside of axis 3 of .*, got -1"),
        (gather(axis=4), "expected an axis of 4, got 4"),
        (gather(batchDims=2), "expected batch axes before axis 3, got 2"),
        (op("PACK", [(1, 4), (1, 5)], [(1, 2, 4)], "PackOptions", axis=1, valuesCount=2), "inputs of one shape"),
        (op("PACK", [(1, 4), (1, 4)], [(1, 2, 4)], "PackOptions", axis=1, valuesCount=3), "expected 2 parts"),
        (op("UNPACK", [(1, 3, 4)], [(1, 4)] * 2, "UnpackOptions", axis=1, num=2), "expected 2 parts along axis 1"),
        (op("TILE", [X, ints(1, -2, 1, 1)], [X]), "expected 4 factors from 0"),
        (op("BROADCAST_TO", [(1, 2, 8), ints(2, 3, 8)], [(2, 3, 8)]), "expected a shape that .* broadcasts to"),
    ],
)
def test_what_does_not_fit_is_refused(data, message):
    refused(data, message)
