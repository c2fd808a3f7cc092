"""Rewrites an int8 `.tflite`: layers of one or two ternary branches become Dbq custom operators (docs/packing.md).

The rewrite works on any int8 file, whoever wrote it: what a layer becomes depends on its integers alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_dbq.export.integerize import UNCLAMPED
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.levels import Branches, encode_trits, find_branches
from keras_dbq.tflite.report import CUSTOM_OPS, ExportReport, LayerRow, account_bytes, has_weights, warn_sparse
from keras_dbq.tflite.slim import SLIM_STEPS, slim

FORMAT_VERSION = 1
PACKING = "base3"
ROUNDING = "xnnpack"
CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
PARAMS_COUNT = 16
_ACCUMULATOR_LIMIT = 2**31 - 1
_ACTIVATIONS = {"NONE", "RELU", "RELU_N1_TO_1", "RELU6"}


@dataclass(frozen=True)
class PackedLayer:
    """What one builtin operator becomes."""

    index: int  # of the operator
    branches: Branches
    codes: np.ndarray  # uint8 [B * ceil(W / 5)]
    scales: np.ndarray  # float32 [2 + M]
    bias: np.ndarray  # int32 [M]
    params: np.ndarray  # int32 [16]


class NotTernary(Exception):
    """Why a layer stays as it is; never leaves this package."""


def pack_tflite(
    source: bytes | str | os.PathLike,
    path: str | os.PathLike | None = None,
    *,
    strict: bool = False,
    ternary_layers: Collection[str] | None = None,
    slim_steps: Collection[str] = SLIM_STEPS,
) -> ExportReport:
    """Packs the ternary layers of an int8 `.tflite`.

    Args:
      source: the file's bytes or its path.
      path: where to write the packed file (written under a temporary name, then renamed); None writes nothing.
      strict: fail when a layer of `ternary_layers` stays int8.
      ternary_layers: names of the layers that have to be packed; None means every convolution and dense layer.
      slim_steps: which bytes to drop that no interpreter reads; all by default, see `keras_dbq.export.slim`.

    Returns:
      ExportReport: one row a layer; `report.data` holds the packed file.

    Raises:
      ValueError: not a TFLite file; strict, and a layer that was to be ternary is not (it names the layers and why);
        ternary_layers with a name that no layer of the file has.
    """
    report = pack_bytes(fb.read_bytes(source), strict, ternary_layers, slim_steps)
    if path is not None:
        fb.write_file(path, report.data)
    warn_sparse(report)
    return report


def pack_bytes(
    before: bytes,
    strict: bool = False,
    ternary_layers: Collection[str] | None = None,
    slim_steps: Collection[str] = SLIM_STEPS,
) -> ExportReport:
    """`pack_tflite` without writing and without warnings."""
    model = fb.load_model(before)
    names = layer_names(model)
    check_layer_names(ternary_layers, names)
    layers, reasons = find_layers(model)
    wanted = set(names.values()) if ternary_layers is None else set(ternary_layers)
    if strict:
        _check_strict({name: reasons[index] for index, name in names.items() if name in wanted and index in reasons})
    bytes_before = account_bytes(before)
    for layer in layers:
        rewrite(model, layer)
    set_format_metadata(model)
    slim(model, slim_steps)
    after = fb.save_model(model, share="vectors" in slim_steps)
    noted = {index: reason for index, reason in reasons.items() if names[index] in wanted}
    return _report(after, len(before), bytes_before, layers, names, noted)


def layer_names(model: Any) -> dict[int, str]:
    """Operator index -> name of its output tensor, for every operator with weights; repeated names get a suffix."""
    graph, names = model.subgraphs[0], {}
    taken: set[str] = set()
    for index, operator in enumerate(graph.operators):
        if not has_weights(fb.op_name(model, operator)):
            continue
        output = fb.text(graph.tensors[operator.outputs[0]].name).removesuffix(UNCLAMPED)
        name = base = output or f"op{index}"
        suffix = 1
        while name in taken:
            suffix += 1
            name = f"{base}#{suffix}"
        taken.add(name)
        names[index] = name
    return names


def check_layer_names(wanted: Collection[str] | None, names: dict[int, str]) -> None:
    """Raises ValueError when a wanted layer is not in the file."""
    unknown = sorted(set(wanted or ()) - set(names.values()))
    if unknown:
        raise ValueError(f"ternary_layers: expected names of layers in the file, got {', '.join(unknown)}; "
                         f"the file has {', '.join(names.values())}")  # fmt: skip


def find_layers(model: Any) -> tuple[list[PackedLayer], dict[int, str]]:
    """The layers that can be packed, and for the others the reason: (layers, {operator index: reason})."""
    layers, reasons = [], {}
    for index, operator in enumerate(model.subgraphs[0].operators):
        if fb.op_name(model, operator) in CUSTOM_OPS:
            try:
                layers.append(_packed_layer(model, index))
            except NotTernary as reason:
                reasons[index] = str(reason)
    return layers, reasons


def _packed_layer(model: Any, index: int) -> PackedLayer:
    graph = model.subgraphs[0]
    operator = graph.operators[index]
    name = fb.op_name(model, operator)
    weights, bias = _integers(model, operator, name)
    channels = weights.shape[CHANNEL_AXIS[name]]
    columns = weights.reshape(-1, channels) if name == "DEPTHWISE_CONV_2D" else weights.reshape(channels, -1).T
    branches = find_branches(columns)
    if branches is None:
        raise NotTernary(f"{_levels(columns)} levels in a channel, two branches hold 9")
    _check_accumulator(columns, bias)
    # The codes follow the memory order of the weights: channel last (depthwise) or channel first.
    memory = branches.codes if name == "DEPTHWISE_CONV_2D" else branches.codes.transpose(0, 2, 1)
    scales = _scales(graph, operator, channels)
    params = _params(graph, operator, name, len(branches.codes))
    return PackedLayer(index, branches, encode_trits(memory.reshape(len(memory), -1)), scales, bias, params)


def _integers(model: Any, operator: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(int8 weights in the file's layout, int32 bias [M]); NotTernary where the layer is no plain int8 layer."""
    tensors = model.subgraphs[0].tensors
    source, kernel = tensors[operator.inputs[0]], tensors[operator.inputs[1]]
    output = tensors[operator.outputs[0]]
    int8 = fb.schema.TensorType.INT8
    if any(tensor.type != int8 for tensor in (source, kernel, output)):
        types = [fb.TENSOR_TYPE_NAMES[tensor.type] for tensor in (source, kernel, output)]
        raise NotTernary(f"input, weights, output are {', '.join(types)}, not INT8")
    if not fb.is_constant(model, operator.inputs[1]):
        raise NotTernary("weights are computed by the graph")
    if np.any(fb.zero_points_of(kernel)):
        raise NotTernary("weights have a zero point")
    weights = fb.constant(model, operator.inputs[1])
    channels = weights.shape[CHANNEL_AXIS[name]]
    _check_geometry(operator, name, fb.shape_of(source), weights.shape)
    if len(operator.inputs) < 3 or operator.inputs[2] < 0:
        return weights, np.zeros(channels, np.int32)
    if tensors[operator.inputs[2]].type != fb.schema.TensorType.INT32 or not fb.is_constant(model, operator.inputs[2]):
        raise NotTernary("bias is not a constant int32 vector")
    return weights, fb.constant(model, operator.inputs[2]).reshape(-1)


def _check_geometry(operator: Any, name: str, source: tuple[int, ...], kernel: tuple[int, ...]) -> None:
    options = operator.builtinOptions
    activation = _activation_name(options)
    if activation not in _ACTIVATIONS:
        raise NotTernary(f"fused activation {activation}")
    if name == "CONV_2D" and source[-1] != kernel[3]:
        raise NotTernary(f"grouped convolution ({source[-1] // kernel[3]} groups)")
    if name == "DEPTHWISE_CONV_2D" and kernel[0] != 1:
        raise NotTernary(f"depthwise kernel of shape {kernel}")
    if name == "FULLY_CONNECTED" and options.weightsFormat != 0:
        raise NotTernary("shuffled weights")


def _check_accumulator(columns: np.ndarray, bias: np.ndarray) -> None:
    """The bound of docs/packing.md: K * 127 * 255 + |bias| has to fit int32."""
    bound = len(columns) * 127 * 255 + int(np.abs(bias.astype(np.int64)).max(initial=0))
    if bound > _ACCUMULATOR_LIMIT:
        raise NotTernary(f"accumulator bound {bound} is over {_ACCUMULATOR_LIMIT}")


def _levels(columns: np.ndarray) -> int:
    return max(len(np.unique(column)) for column in columns.T)


def _activation_name(options: Any) -> str:
    number = options.fusedActivationFunction
    return {v: k for k, v in vars(fb.schema.ActivationFunctionType).items() if isinstance(v, int)}.get(
        number, str(number)
    )


def _scales(graph: Any, operator: Any, channels: int) -> np.ndarray:
    """float32 [2 + M]: input, output, weights of each channel."""
    source, kernel = (fb.scales_of(graph.tensors[operator.inputs[i]]) for i in (0, 1))
    output = fb.scales_of(graph.tensors[operator.outputs[0]])
    if len(source) != 1 or len(output) != 1 or len(kernel) not in (1, channels):
        raise NotTernary(f"scales of input, weights, output: {len(source)}, {len(kernel)}, {len(output)} values")
    scales = np.concatenate([source, output, np.broadcast_to(kernel, channels)]).astype(np.float32)
    if not np.all(np.isfinite(scales) & (scales > 0)):
        raise NotTernary("a scale is not finite and positive")
    return scales


def _params(graph: Any, operator: Any, name: str, branches: int) -> np.ndarray:
    """int32 [16], in the order of docs/packing.md."""
    source, kernel = (graph.tensors[operator.inputs[i]] for i in (0, 1))
    shape, options = fb.shape_of(kernel), operator.builtinOptions
    zero_points = [int(fb.zero_points_of(t)[0]) for t in (source, graph.tensors[operator.outputs[0]])]
    if name == "FULLY_CONNECTED":
        geometry = [1, 1, shape[1], shape[0], 1, 1, 1, 1, 1]
        multiplier, keep = 0, int(options.keepNumDims)
    else:
        inputs = shape[3] if name == "CONV_2D" else fb.shape_of(source)[-1]
        outputs = shape[CHANNEL_AXIS[name]]
        stride, dilation = (options.strideH, options.strideW), (options.dilationHFactor, options.dilationWFactor)
        geometry = [shape[1], shape[2], inputs, outputs, *stride, *dilation, options.padding]
        multiplier, keep = (0 if name == "CONV_2D" else outputs // inputs), 0
    return np.array(
        [FORMAT_VERSION, branches, *geometry, options.fusedActivationFunction, multiplier, *zero_points, keep], np.int32
    )


def rewrite(model: Any, layer: PackedLayer) -> None:
    """Replaces one builtin operator by its custom operator; the old constants are left for `slim` to drop."""
    operator = model.subgraphs[0].operators[layer.index]
    operator.opcodeIndex = fb.operator_code(model, CUSTOM_OPS[fb.op_name(model, operator)])
    constants = (layer.codes, layer.branches.scales, layer.scales, layer.bias, layer.params)
    operator.inputs = np.array([operator.inputs[0], *(fb.add_tensor(model, values) for values in constants)], np.int32)
    operator.builtinOptionsType, operator.builtinOptions = 0, None


def set_format_metadata(model: Any) -> None:
    """Writes the entry "keras_dbq"; other keys that an earlier writer put there stay."""
    stored = fb.get_metadata(model, fb.METADATA_NAME)
    entry = json.loads(stored) if stored else {}
    entry.update(format_version=FORMAT_VERSION, packing=PACKING, rounding=ROUNDING)
    fb.set_metadata(model, fb.METADATA_NAME, json.dumps(entry, separators=(",", ":"), sort_keys=True).encode())


def _check_strict(failed: dict[str, str]) -> None:
    if failed:
        listed = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise ValueError(f"strict: expected every ternary layer packed, {len(failed)} are not ({listed}); give their "
                         "names another precision in the scheme, or export with strict=False")  # fmt: skip


def _report(
    after: bytes,
    file_bytes_before: int,
    bytes_before: tuple[dict[int, int], dict[str, int]],
    layers: list[PackedLayer],
    names: dict[int, str],
    notes: dict[int, str],
) -> ExportReport:
    """The rewrite keeps the operators and their order, so an operator's index names it in both files."""
    model, packed = fb.load_model(after), {layer.index: layer.branches for layer in layers}
    layers_after, other_after = account_bytes(after)
    rows = []
    for index, name in names.items():
        operator, branches = model.subgraphs[0].operators[index], packed.get(index)
        rows.append(
            LayerRow(
                name=name,
                op=fb.op_name(model, operator),
                encoding=_encoding(model, operator),
                branches=len(branches.codes) if branches else 0,
                bytes_before=bytes_before[0][index],
                bytes_after=layers_after[index],
                sparsity=branches.sparsity if branches else [],
                note=notes.get(index, ""),
            )
        )
    return ExportReport("packed", rows, bytes_before[1], other_after, file_bytes_before, len(after), data=after)


def _encoding(model: Any, operator: Any) -> str:
    """ "packed-1", "packed-2", or the type of the stored weights ("int8", "float32", ...)."""
    if fb.op_name(model, operator) in CUSTOM_OPS.values():
        return f"packed-{fb.constant(model, operator.inputs[5])[1]}"
    return fb.TENSOR_TYPE_NAMES[model.subgraphs[0].tensors[operator.inputs[1]].type].lower()
