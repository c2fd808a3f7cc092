"""Rewrites an int8 `.tflite`: layers of one or two ternary branches become Dbq custom operators (docs/packing.md).

The rewrite works on any int8 file, whoever wrote it: what a layer becomes depends on its integers alone.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Collection
from typing import Any

import numpy as np

from keras_dbq._files import check_path, write_file
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite import metadata
from keras_dbq.tflite.names import UNCLAMPED, UniqueNames
from keras_dbq.tflite.operators import BUILTIN_OPS, CUSTOM_OPS, has_weights
from keras_dbq.tflite.packed_layer import NotTernary, PackedLayer, packed_layer, with_thresholds
from keras_dbq.tflite.params import Params
from keras_dbq.tflite.report import ExportReport, LayerRow, account_bytes, warn_sparse
from keras_dbq.tflite.slim import SLIM_STEPS, slim
from keras_dbq.tflite.thresholds import Table, tables_behind


def pack_tflite(
    source: bytes | str | os.PathLike,
    path: str | os.PathLike | None = None,
    *,
    strict: bool = False,
    ternary_layers: Collection[str] | None = None,
    slim_steps: Collection[str] = SLIM_STEPS,
    count_thresholds: bool = True,
) -> ExportReport:
    """Packs the ternary layers of an int8 `.tflite`.

    A layer and the table of few codes behind it (CAST, CAST, GATHER) become one operator that counts thresholds, format
    version 2; every other packed layer has version 1.

    Args:
      source: the file's bytes or its path.
      path: where to write the packed file (written under a temporary name, then renamed); None writes nothing.
      strict: fail when a layer of `ternary_layers` stays int8.
      ternary_layers: names of the layers that have to be packed; None means every convolution and dense layer. Further
        layers whose integers are ternary are packed, too, but for those of one weight a channel, which gain nothing.
      count_thresholds: a layer and its table become one operator; False leaves the table, in a smaller file of format
        version 1 that computes the same codes.
      slim_steps: which bytes to drop that no interpreter reads; all by default, see `keras_dbq.tflite.slim`.

    Returns:
      ExportReport: one row a layer; `report.data` holds the packed file.

    Raises:
      ValueError: not a TFLite file; strict, and a layer that was to be ternary is not (it names the layers and why);
        ternary_layers with a name that no layer of the file has; a path in no folder (before anything is packed).
    """
    if path is not None:
        check_path(path)
    report = pack_bytes(fb.read_bytes(source), strict, ternary_layers, slim_steps, thresholds=count_thresholds)
    if path is not None:
        write_file(path, report.data)
    warn_sparse(report)
    return report


def pack_bytes(
    before: bytes,
    strict: bool = False,
    ternary_layers: Collection[str] | None = None,
    slim_steps: Collection[str] = SLIM_STEPS,
    *,
    only: bool = False,
    thresholds: bool = True,
) -> ExportReport:
    """`pack_tflite` without writing and without warnings.

    only: no layer beside `ternary_layers` is packed.  thresholds: as `count_thresholds`.
    """
    model = fb.load_model(before)
    names = layer_names(model)
    check_layer_names(ternary_layers, names)
    layers, reasons = find_layers(model, tables_behind(model) if thresholds else {})
    chosen = set(ternary_layers or ())
    layers = [layer for layer in layers if names[layer.index] in chosen or not (only or _has_little_to_gain(layer))]
    wanted = set(names.values()) if ternary_layers is None else set(ternary_layers)
    if strict:
        _check_strict({name: reasons[index] for index, name in names.items() if name in wanted and index in reasons})
    for layer in layers:
        rewrite(model, layer)
    removed = sorted(index for layer in layers if layer.table for index in layer.table.operators)
    operators = model.subgraphs[0].operators
    model.subgraphs[0].operators = [operator for index, operator in enumerate(operators) if index not in removed]
    if layers:
        metadata.describe_packed(model, max(layer.params.format_version for layer in layers))
    slim(model, slim_steps)
    after = fb.save_model(model, share="vectors" in slim_steps)
    noted = {index: reason for index, reason in reasons.items() if names[index] in wanted}
    return _report(before, after, layers, removed, names, noted)


def _has_little_to_gain(layer: PackedLayer) -> bool:
    """choice: a layer of one weight a channel (a Rescaling, a batch norm on its own) stays as it is.

    Its integers are always ternary, packing would save four of five bytes of a few, and the file would need our
    operators for it, which are slower than XNNPACK's there.
    """
    return layer.branches.codes.shape[1] == 1


def layer_names(model: Any) -> dict[int, str]:
    """Operator index -> name of its output tensor, for every operator with weights; repeated names get a suffix."""
    tensors, unique = model.subgraphs[0].tensors, UniqueNames()
    names = {}
    for index, operator in enumerate(model.subgraphs[0].operators):
        if has_weights(fb.op_name(model, operator)):
            output = fb.text(tensors[operator.outputs[0]].name).removesuffix(UNCLAMPED)
            names[index] = unique.give(output or f"op{index}")
    return names


def check_layer_names(wanted: Collection[str] | None, names: dict[int, str]) -> None:
    """Raises ValueError when a wanted layer is not in the file."""
    unknown = sorted(set(wanted or ()) - set(names.values()))
    if unknown:
        raise ValueError(f"ternary_layers: expected names of layers in the file, got {', '.join(unknown)}; "
                         f"the file has {', '.join(names.values())}")  # fmt: skip


def find_layers(model: Any, tables: dict[int, Table]) -> tuple[list[PackedLayer], dict[int, str]]:
    """The layers that can be packed, and for the others the reason: (layers, {operator index: reason}).

    tables: those that layers may take in, by the tensor that they read.
    """
    layers, reasons = [], {}
    for index, operator in enumerate(model.subgraphs[0].operators):
        name = fb.op_name(model, operator)
        if name in CUSTOM_OPS:
            try:
                layer = packed_layer(model, index)
            except NotTernary as reason:
                reasons[index] = str(reason)
                continue
            table = tables.get(int(operator.outputs[0]))
            layers.append(layer if table is None else with_thresholds(layer, table, name))
    return layers, reasons


def rewrite(model: Any, layer: PackedLayer) -> None:
    """Replaces one builtin operator by its custom operator; the old constants are left for `slim` to drop.

    Where it has taken the place of a table, too, it writes the table's tensor; the table's operators stay.
    """
    operator = model.subgraphs[0].operators[layer.index]
    operator.opcodeIndex = fb.operator_code(model, CUSTOM_OPS[fb.op_name(model, operator)])
    constants = [layer.codes, layer.branches.scales, layer.scales, layer.bias, layer.params.to_array()]
    if layer.table is not None and layer.thresholds is not None:
        constants.append(layer.thresholds)
        operator.outputs = np.array([layer.table.output], np.int32)
    operator.inputs = np.array([operator.inputs[0], *(fb.add_tensor(model, values) for values in constants)], np.int32)
    operator.builtinOptionsType, operator.builtinOptions = 0, None


def _check_strict(failed: dict[str, str]) -> None:
    if failed:
        listed = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise ValueError(f"strict: expected every ternary layer packed, {len(failed)} are not ({listed}); give their "
                         "names another precision in the scheme, or export with strict=False")  # fmt: skip


def _report(
    before: bytes,
    after: bytes,
    layers: list[PackedLayer],
    removed: list[int],
    names: dict[int, str],
    notes: dict[int, str],
) -> ExportReport:
    """The rewrite keeps the order of the operators, and all but those of tables (`removed`)."""
    model, packed = fb.load_model(after), {layer.index: layer.branches for layer in layers}
    (layers_before, other_before), (layers_after, other_after) = account_bytes(before), account_bytes(after)

    def row(index: int, name: str) -> LayerRow:
        now = index - bisect.bisect(removed, index)
        operator, branches = model.subgraphs[0].operators[now], packed.get(index)
        return LayerRow(
            name=name,
            op=fb.op_name(model, operator),
            encoding=_encoding(model, operator),
            branches=len(branches.codes) if branches else 0,
            bytes_before=layers_before[index],
            bytes_after=layers_after[now],
            sparsity=branches.sparsity if branches else [],
            note=notes.get(index, ""),
        )

    rows = [row(index, name) for index, name in names.items()]
    return ExportReport(
        "packed" if packed else "int8", rows, other_before, other_after, len(before), len(after), data=after
    )


def _encoding(model: Any, operator: Any) -> str:
    """ "packed-1", "packed-2", or the type of the stored weights ("int8", "float32", ...)."""
    if fb.op_name(model, operator) in BUILTIN_OPS:
        return f"packed-{Params.from_array(fb.constant(model, int(operator.inputs[5]))).branches}"
    return fb.TENSOR_TYPE_NAMES[model.subgraphs[0].tensors[operator.inputs[1]].type].lower()
