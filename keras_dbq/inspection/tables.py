"""`summary` and `explain`: what was done to which layer, and why."""

from collections.abc import Callable
from typing import Any

from keras_dbq._table import Table
from keras_dbq.compat import keras
from keras_dbq.inspection.profile import profile, range_text
from keras_dbq.network import roles
from keras_dbq.network.chains import Chains
from keras_dbq.network.graph import Graph
from keras_dbq.wrapping import naming, wrappers


def summary(q_model: keras.Model, print_fn: Callable[[str], Any] | None = print) -> Table:
    """Prints and returns a table with one row per layer; `profile` says what the columns mean.

    Args:
      print_fn: gets the table as text; None prints nothing.

    Raises:
      TypeError, ValueError: not a quantized model.
    """
    wrappers.check_quantized(q_model, "summary")
    table = Table(
        [
            "layer",
            "type",
            "weights",
            "activation",
            "parameters",
            "sparsity",
            "weight bytes",
            "MACs",
            "of them ternary",
            "trains",
        ],
        title=f"{q_model.name}: quantized layers",
        total=["parameters", "weight bytes", "MACs", "of them ternary"],
    )
    for p in profile(q_model):
        shares = " ".join(f"{share:.2f}" for share in p.sparsity) or "-"
        ternary = p.macs if p.ternary else 0
        table.add(
            p.name, p.kind, p.weights, p.activation, p.parameters, shares, p.weight_bytes, p.macs, ternary, p.trains
        )
    if print_fn is not None:
        print_fn(str(table))
    return table


def explain(q_model: keras.Model, print_fn: Callable[[str], Any] | None = print) -> Table:
    """Prints and returns, for every layer, what was inserted and why: no hidden transforms.

    Columns: layer, type, weights (quantizer), output (quantized here, or why not), note (what the layout transform
    did, why a layer has linear weights or was skipped).

    Args:
      print_fn: gets the table as text; None prints nothing.

    Raises:
      TypeError, ValueError: not a quantized model.
    """
    wrappers.check_quantized(q_model, "explain")
    table = Table(["layer", "type", "weights", "output", "note"], title=f"{q_model.name}: what was inserted, and why")
    chains = Chains(Graph(q_model), naming.is_quantized)
    seen: set[int] = set()
    for node in chains.graph.nodes:
        if id(node.layer) in seen:
            continue
        seen.add(id(node.layer))
        config, plain = wrappers.config_of(node.layer), wrappers.inner(node.layer)
        weights = ", ".join(f"{name}: {type(q).__name__}" for name, q in getattr(config, "weights", {}).items())
        note = getattr(config, "note", "") or ""
        table.add(plain.name, type(plain).__name__, weights or "-", _output_reason(node, chains), note)
    if print_fn is not None:
        print_fn(str(table))
    return table


def _output_reason(node: Any, chains: Chains) -> str:
    tensor = wrappers.quantized_output(node.layer)
    if tensor is not None:
        what = "quantized, fixed range" if tensor.quantizer.fixed else "quantized"
        return f"{what}: {range_text(tensor)}"
    if chains.role(node) in (roles.SAME_RANGE, roles.IDENTITY):
        return "keeps its input's range"
    following = chains.next(node)
    if following is not None and _ends_quantized(following, chains):
        return f"fused into {wrappers.inner(following.layer).name}"
    reader = chains.graph.only_reader(node)
    if reader is not None and chains.role(reader) == roles.JOIN and _ends_quantized(reader, chains):
        return f"takes the range of {wrappers.inner(reader.layer).name}"
    return "not quantized"


def _ends_quantized(node: Any, chains: Chains) -> bool:
    """Whether the chain, or the chain of concatenations, that goes through a call ends in a quantizer."""
    if naming.is_quantized(node):
        return True
    following = chains.next(node)
    if following is None:
        reader = chains.graph.only_reader(node)
        following = reader if reader is not None and chains.role(reader) == roles.JOIN else None
    return following is not None and _ends_quantized(following, chains)
