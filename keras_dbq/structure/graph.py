"""A subgraph of a file: indices, the order of its operators, the shapes that follow, the memory that it needs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from keras_dbq.structure import rules_elementwise, rules_moving, rules_window  # noqa: F401 (register their rules)
from keras_dbq.structure.node import ANY, OPEN, RULES, Node, Shape
from keras_dbq.structure.schema import CUSTOM, OPERATORS, OPTIONS, OPTIONS_OF
from keras_dbq.structure.tensors import check_tensor, damaged, tensor_bytes

# choice: what activations that live at one time may take, docs/packing.md.
_LEAST_ROOM = 1 << 30
_ROOM_PER_BYTE = 16
# The same of one tensor whose shape follows from nothing that the file holds.
_LEAST_ROOM_UNKNOWN = 1 << 20
_ROOM_PER_BYTE_UNKNOWN = 1 << 10
# Builtin operators without a rule here that have a form for codes of 8 bits, or hand tensors on.
_TAKES_CODES = frozenset(
    "IF WHILE CALL CALL_ONCE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE LSTM UNIDIRECTIONAL_SEQUENCE_LSTM SVDF GATHER_ND "
    "SCATTER_ND ONE_HOT TOPK_V2 DYNAMIC_UPDATE_SLICE REVERSE_SEQUENCE FILL EMBEDDING_LOOKUP".split()
)


def operator_names(codes: list[Any]) -> list[str]:
    """What each operator code stands for: the schema's name, or the custom code."""
    names = []
    for index, code in enumerate(codes):
        number = max(code.code, code.deprecated_code)  # old files fill the first, codes over 127 stand in the second
        if number not in OPERATORS or code.version < 1:
            raise damaged(f"operator code {index}", "a known operator of version 1 or later", (number, code.version))
        if number == CUSTOM and not code.custom_code:
            raise damaged(f"operator code {index}", "a custom operator's name", "none")
        names.append(code.custom_code if number == CUSTOM else OPERATORS[number])
    return names


class Graph:
    """One subgraph under check."""

    def __init__(self, graph: Any, model: Any, names: list[str], data: bytes):
        self.model, self.names, self.data = model, names, data
        self.tensors = [SimpleNamespace(**vars(tensor)) for tensor in graph.tensors or []]  # tables can be shared
        self.inputs, self.outputs = graph.inputs or (), graph.outputs or ()
        self.operators = graph.operators or []

    def check(self) -> None:
        """Raises a one-line ValueError for the first thing that is wrong."""
        for index, tensor in enumerate(self.tensors):
            check_tensor(tensor, index, self.model.buffers)
            check_blocks(tensor, len(self.tensors))
        self.indices("inputs of the graph", self.inputs)
        self.indices("outputs of the graph", self.outputs)
        for index, operator in enumerate(self.operators):
            self.check_operator(index, operator)
        self.check_order()
        self.check_shapes()
        self.check_memory()

    def indices(self, what: str, indices: Any, lowest: int = 0) -> None:
        for index in indices or ():
            if not lowest <= index < len(self.tensors):
                raise damaged(what, f"tensor indices below {len(self.tensors)}", index)

    def check_operator(self, index: int, operator: Any) -> None:
        """Its code, tensors and options; gives it `name`."""
        if operator.code_index >= len(self.names):
            raise damaged(f"operator {index}", f"an operator code below {len(self.names)}", operator.code_index)
        operator.name = self.names[operator.code_index]
        what = operator.label = f"operator {index} ({operator.name})"
        operator.inputs, operator.outputs = operator.inputs or (), operator.outputs or ()
        self.indices(what, operator.inputs, -1)
        self.indices(what, operator.intermediates, -1)
        self.indices(what, operator.outputs)
        if operator.mutating and len(operator.mutating) > len(operator.inputs):
            raise damaged(what, f"at most {len(operator.inputs)} marks of inputs", len(operator.mutating))
        if operator.large_offset > 1 and operator.large_offset + operator.large_size > len(self.data):
            raise damaged(what, f"options inside of the {len(self.data)} bytes", operator.large_offset)
        self.check_options(operator, what)
        rule = RULES.get(operator.name)
        if rule is None:
            self.check_types(operator, what)
        else:
            for kind, (low, high) in (("inputs", rule.inputs), ("outputs", rule.outputs)):
                indices = getattr(operator, kind)
                if not low <= len(indices) <= high:
                    raise damaged(what, f"{low} to {high} {kind}", len(indices))
            if -1 in operator.inputs[: rule.inputs[0]]:
                raise damaged(what, f"{rule.inputs[0]} inputs that are there", operator.inputs)

    def check_types(self, operator: Any, what: str) -> None:
        """No codes of 8 bits for a builtin operator without a rule, unless it is known to look at their type.

        source: TFLite's FAKE_QUANT takes any tensor for float32, and writes four times the bytes of an int8 one.
        """
        if operator.name not in OPERATORS.values() or operator.name in _TAKES_CODES:
            return  # a custom operator's own library looks at its tensors
        for index in (*operator.inputs, *operator.outputs):
            if index >= 0 and self.tensors[index].type_name in ("INT8", "UINT8"):
                raise damaged(what, "tensors of float or of whole numbers", self.tensors[index].type_name)

    def check_options(self, operator: Any, what: str) -> None:
        """Options of the operator's own kind, or none; subgraphs that exist."""
        kind = OPTIONS.get(operator.options_type)
        if kind not in ("NONE", OPTIONS_OF.get(operator.name)):
            raise damaged(what, f"options {OPTIONS_OF.get(operator.name, 'NONE')}", kind or operator.options_type)
        if kind == "NONE":
            operator.options = None
        if operator.options_2_type and not operator.name.startswith(("STABLEHLO", "DILATE", "REDUCE_WINDOW")):
            raise damaged(what, "options of one kind", f"a second, {operator.options_2_type}")
        if kind in ("IfOptions", "WhileOptions", "CallOptions", "CallOnceOptions") and operator.options is not None:
            for index in vars(operator.options).values():
                if not 0 <= index < len(self.model.subgraphs):
                    raise damaged(what, f"a subgraph below {len(self.model.subgraphs)}", index)

    def check_order(self) -> None:
        """A tensor is written once, before it is read; constants and the graph's inputs are not written."""
        known = {t.index for t in self.tensors if t.constant or t.is_variable} | {-1, *self.inputs}
        for operator in self.operators:
            missing = set(operator.inputs) - known
            if missing:
                raise damaged(operator.label, "inputs that were computed before", f"tensor {min(missing)}")
            for index in operator.outputs:
                if index in known:
                    raise damaged(operator.label, "outputs that nothing else writes", self.tensors[index].label)
                known.add(index)
        missing = set(self.outputs) - known
        if missing:
            raise damaged("outputs of the graph", "tensors that an operator computes", f"tensor {min(missing)}")

    def check_shapes(self) -> None:
        """Every shape in the file is the one that follows from the inputs; gives every tensor `known`."""
        self.open_shapes()
        for index, operator in enumerate(self.operators):
            inputs = [None if i < 0 else self.tensors[i] for i in operator.inputs]
            outputs = [self.tensors[i] for i in operator.outputs]
            found: list[Shape | None] = [None] * len(outputs)
            if operator.name in RULES:
                node = Node(index, operator.name, inputs, outputs, operator.options, self.data)
                found = RULES[operator.name].shapes(node)
            for tensor, shape in zip(outputs, found, strict=True):
                tensor.known = agreed(operator, tensor, shape, inputs, len(self.data))

    def open_shapes(self) -> None:
        """`known` as signatures say it. A file with other numbers than 1 where its inputs are open is taken by them."""
        ends = [self.tensors[i] for i in self.inputs]
        taken = any(
            s == OPEN and n != 1 for t in ends if t.signature for s, n in zip(t.signature, t.shape, strict=True)
        )
        for tensor in self.tensors:
            signature = None if taken or tensor.constant else tensor.signature
            tensor.known = tuple(signature) if signature else tensor.shape
            if any(s == OPEN and n != 1 for s, n in zip(tensor.known, tensor.shape, strict=True)):
                raise damaged(tensor.label, f"1 where the shape signature {tensor.known} is open", tensor.shape)

    def check_memory(self) -> None:
        """Activations that live at one time fit into the room that a file of this size may take."""
        room = max(_LEAST_ROOM, _ROOM_PER_BYTE * len(self.data))
        last = {i: n for n, operator in enumerate(self.operators) for i in operator.inputs}
        sizes = {t.index: 0 if t.constant else tensor_bytes(t.type_name, t.shape) for t in self.tensors}
        live = sum(sizes[i] for i in set(self.inputs))
        most = live + sum(sizes[t.index] for t in self.tensors if t.is_variable)
        for n, operator in enumerate(self.operators):
            live += sum(sizes[i] for i in operator.outputs)
            most = max(most, live)
            live -= sum(sizes[i] for i in {*operator.inputs} - {-1, *self.outputs} if last[i] == n)
        if most > room:
            raise damaged("tensors", f"at most {room} bytes at one time in a file of {len(self.data)}", most)


def check_blocks(tensor: Any, tensors: int) -> None:
    """Scales of blocks stand in tensors of their own."""
    q = tensor.quantization
    if q is not None and q.details_type == 2 and q.details is not None:
        if not (0 <= q.details.scales < tensors and -1 <= q.details.zero_points < tensors and q.details.block_size > 0):
            raise damaged(tensor.label, f"scales of blocks in tensors below {tensors}", vars(q.details))


def agreed(operator: Any, tensor: Any, found: Shape | None, inputs: list[Any], file_bytes: int) -> Shape:
    """The shape that is known of an output: what follows from the inputs, where the file says the same."""
    found = (ANY,) * len(tensor.shape) if found is None else found
    if len(found) != len(tensor.shape) or not all(map(_fits, found, tensor.known, tensor.shape)):
        raise damaged(f"{operator.label}, {tensor.label}", f"the shape {found}", tensor.shape)
    if ANY not in found:
        return found
    room = _LEAST_ROOM_UNKNOWN + _ROOM_PER_BYTE_UNKNOWN * file_bytes
    if tensor_bytes(tensor.type_name, tensor.shape) > room:
        raise damaged(f"{operator.label}, {tensor.label}", f"at most {room} bytes", tensor.shape)
    # A slimmed file has no signatures inside: any 1 may be an open size.
    is_open = not tensor.signature and any(t is not None and t.known and min(t.known) < 0 for t in inputs)
    said = tuple(ANY if size == 1 and is_open else size for size in tensor.known)
    return tuple(own if size == ANY else size for size, own in zip(found, said, strict=True))


def _fits(found: int, said: int, size: int) -> bool:
    """Whether one size of the file is what follows from the inputs."""
    if found >= 0:
        return said in (found, OPEN)
    return found == ANY or size == 1
