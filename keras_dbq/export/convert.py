"""Keras -> int8 `.tflite`: the stock converter on a plain graph, then our integers (see `integerize`)."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.export import arguments, shapes
from keras_dbq.export.grids import Plan, decide
from keras_dbq.export.inference import InferenceGraph, build
from keras_dbq.export.integerize import integerize
from keras_dbq.export.kernels import Kernel
from keras_dbq.export.matching import GridFinder, KernelFinder
from keras_dbq.export.renaming import rename
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite import signature
from keras_dbq.tflite.operators import KERNELS
from keras_dbq.tflite.slim import drop_metadata, drop_unused, share_buffers


@dataclass(frozen=True)
class Conversion:
    """An int8 file and what was found on the way."""

    data: bytes
    kernels: dict[str, Kernel] = field(default_factory=dict)  # layer name -> what it should hold
    floating: list[str] = field(default_factory=list)  # operators that stayed float, and why
    requantized: list[str] = field(default_factory=list)  # tensors that needed an int8 -> int8 QUANTIZE
    # Layer name -> what the int32 bias of each of its operators (calls) stands for.
    biases: dict[str, list[np.ndarray]] = field(default_factory=dict)

    @property
    def ternary_layers(self) -> list[str]:
        """Names of the layers whose weights are ternary branches, and whose operator is an int8 one."""
        return [name for name, kernel in self.kernels.items() if kernel.branches and name in self.biases]


def convert(q_model: keras.Model) -> Conversion:
    """Converts a quantized model to a full-integer `.tflite`.

    Returns:
      Conversion: int8 input and output; tensors carry the names of the Keras layers that compute them.

    Raises:
      ValueError: a layer's weights are not found in the converted file (something was folded into them).
    """
    inference, model, find_kernel, plan = _planned(q_model)
    find_kernel.check_all_found()
    for step in plan.steps:
        if step.why_float and step.name in KERNELS and int(step.operator.inputs[1]) in find_kernel.attached:
            arguments.write_float(model, step.operator, find_kernel.attached[int(step.operator.inputs[1])])
    biases = integerize(model, plan, inference.tables)
    rename(model, inference, find_kernel.placed)
    signature.write(model, inference.ends)
    floating, requantized = _findings(model, plan)
    drop_metadata(model)
    drop_unused(model)
    share_buffers(model)
    kernels = {kernel.name: kernel for kernel in inference.kernels.values()}
    return Conversion(fb.save_model(model), kernels, floating, requantized, biases)


def _planned(q_model: keras.Model) -> tuple[InferenceGraph, Any, KernelFinder, Plan]:
    """The converter's graph and the plan for it. What is in float after all is no table, so that its own operators
    stand there.
    """
    without_table: frozenset[int] = frozenset()
    while True:
        inference = build(q_model, without_table)
        data = _run_converter(inference)
        model = fb.load_model(data)
        shapes.settle(model, data)
        find_kernel = KernelFinder(inference, arguments.attach(model, inference.arguments))
        plan = decide(model, find_kernel, GridFinder(inference))
        floating = {step.table for step in plan.steps if step.why_float and step.table is not None}
        if not floating:
            return inference, model, find_kernel, plan
        without_table |= floating


def _findings(model: Any, plan: Plan) -> tuple[list[str], list[str]]:
    """(operators that stayed float, and why; tensors that were requantized), with the file's names."""
    names = [fb.text(tensor.name) for tensor in model.subgraphs[0].tensors]
    floating = [
        f"{step.name} {names[step.operator.outputs[0]]!r}: {step.why_float}" for step in plan.steps if step.why_float
    ]
    return floating, [names[index] for index in plan.requantized]


def _run_converter(inference: InferenceGraph) -> bytes:
    """The stock converter without its quantizer; its chatter is kept from the terminal.

    choice: straight from the function, without the SavedModel that the converter would write and load twice (half of
    its time). This way keeps the order of inputs and outputs, too; its file has no signature, `signature.write` makes
    it.
    """
    holder = tf.Module()
    holder.function = inference.function
    converter = tf.lite.TFLiteConverter.from_concrete_functions([inference.function], holder)
    converter.experimental_lower_to_saved_model = False
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            return converter.convert()
        except Exception as error:  # the converter's own class is no part of its interface
            raise ValueError(
                f"export_tflite: the converter cannot write this network ({_first_error(error)}); replace the layers "
                "that keras_dbq.check names"
            ) from error


def _first_error(error: Exception) -> str:
    """What the converter says in many lines, in a phrase."""
    found = re.search(r"error: (.+)", str(error))
    return (found.group(1) if found else str(error).strip().splitlines()[0])[:160]
