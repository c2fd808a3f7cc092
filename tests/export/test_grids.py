"""decide: which tensor gets which grid, on graphs written by hand."""

import numpy as np
import pytest

from keras_dbq.export.grids import Codes, decide
from keras_dbq.export.kernels import Kernel
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.operators import FIXED, Grid
from tests.reference.tflite_builder import Builder

A, B, LOW = Grid(0.5, 3), Grid(0.25, 3), Grid(0.5, 112, bottom=96)
KERNEL = Kernel("layer", np.ones((4, 4), np.int8), np.ones(4, np.float32), np.zeros(4))


class Graph:
    """A float graph; `pair` puts QUANTIZE and DEQUANTIZE behind a tensor, whose grid is in the QUANTIZE's name."""

    def __init__(self):
        self.builder, self.grids = Builder(), {}
        self.x = self.float()

    def float(self):
        return self.builder.tensor((1, 4), np.float32)

    def op(self, name, *inputs, outputs=1):
        results = [self.float() for _ in range(outputs)]
        self.builder.op(name, list(inputs), results)
        return results[0] if outputs == 1 else results

    def pair(self, source, grid):
        codes = self.builder.tensor((1, 4), np.int8, grid.scale, grid.zero_point, name=f"codes{len(self.grids)}")
        self.grids[f"codes{len(self.grids)}"] = grid
        result = self.float()
        self.builder.op("QUANTIZE", [source], [codes])
        self.builder.op("DEQUANTIZE", [codes], [result])
        return result

    def decide(self, *outputs, kernel=KERNEL):
        data = self.builder.finish([self.x], list(outputs))
        model = fb.load_model(data)
        plan = decide(model, lambda *_: kernel, lambda name, written: self.grids[name])
        assert fb.save_model(model) == fb.save_model(fb.load_model(data))  # it only looks
        return plan


def why(plan):
    return {step.name: step.why_float for step in plan.steps}


def test_pairs_give_grids_to_what_computes_their_tensor():
    graph = Graph()
    x = graph.pair(graph.x, A)
    y = graph.op("ADD", x, x)
    z = graph.pair(y, B)
    plan = graph.decide(z)
    assert plan.grids == {graph.x: A, y: B} and plan.copies.get(y, []) == []
    # What is read behind the pair, and the codes inside of it.
    assert plan.reads == {x: Codes(graph.x, A), x - 1: Codes(graph.x, A), z: Codes(y, B), z - 1: Codes(y, B)}
    (step,) = plan.steps
    assert (step.name, step.grid, step.why_float, step.requantize, step.clamps) == ("ADD", B, "", (), False)


def test_a_grid_asked_behind_an_operator_that_selects_reaches_its_input():
    graph = Graph()
    y = graph.op("ADD", graph.pair(graph.x, A), graph.pair(graph.x, A))
    pooled = graph.op("MAX_POOL_2D", y)
    plan = graph.decide(graph.pair(graph.op("RESHAPE", pooled), B))
    assert plan.grids[y] == plan.grids[pooled] == B and plan.requantized == []


def test_an_average_keeps_its_inputs_grid_and_is_requantized_behind():
    graph = Graph()
    pooled = graph.op("AVERAGE_POOL_2D", graph.pair(graph.x, A))
    plan = graph.decide(graph.pair(pooled, B))
    assert plan.grids[pooled] == A and plan.copies[pooled] == [B] and plan.requantized == [pooled]


def test_two_pairs_on_one_tensor_make_one_copy_a_grid():
    graph = Graph()
    first, second, third = (graph.pair(graph.x, grid) for grid in (A, B, B))
    plan = graph.decide(graph.op("ADD", first, second), graph.op("ADD", second, third))
    assert plan.grids[graph.x] == A and plan.copies[graph.x] == [B] and plan.requantized == [graph.x]
    assert plan.reads[second] == plan.reads[third] == Codes(graph.x, B)


def test_inputs_of_a_concatenation_are_brought_to_its_grid():
    graph = Graph()
    x, y = graph.pair(graph.x, A), graph.pair(graph.x, B)
    plan = graph.decide(graph.pair(graph.op("CONCATENATION", x, y, x), A))
    assert plan.steps[0].requantize == (1,)
    assert plan.requantized == [graph.x, graph.x]  # once to make y, once more to join


def test_some_operators_write_a_grid_of_their_own():
    graph = Graph()
    y = graph.op("SOFTMAX", graph.pair(graph.x, A))
    plan = graph.decide(graph.pair(y, B))
    assert plan.grids[y] == FIXED["SOFTMAX"] and plan.copies[y] == [B]


def test_codes_under_eight_bits_are_clipped_where_they_are_computed():
    graph = Graph()
    y = graph.op("ADD", graph.pair(graph.x, LOW), graph.pair(graph.x, LOW))
    pooled = graph.op("MAX_POOL_2D", y)
    plan = graph.decide(graph.pair(pooled, LOW))
    assert {step.name: step.clamps for step in plan.steps} == {"ADD": True, "MAX_POOL_2D": False}


@pytest.mark.parametrize(
    "name, kernel, reason",
    [
        ("EXP", KERNEL, "no int8 form here"),
        ("FULLY_CONNECTED", None, "its weights are not quantized"),
    ],
)
def test_why_an_operator_stays_float(name, kernel, reason):
    graph = Graph()
    y = graph.op(name, graph.pair(graph.x, A))
    plan = graph.decide(graph.pair(y, B), kernel=kernel)
    assert why(plan) == {name: reason}
    # The numbers become codes behind it; that is no requantization.
    assert y not in plan.grids and plan.copies[y] == [B] and plan.requantized == []


def test_operators_between_floats_stay_float():
    graph = Graph()
    y = graph.op("ADD", graph.x, graph.x)
    plan = graph.decide(graph.pair(y, B), graph.op("MUL", graph.pair(y, B), y))
    assert why(plan) == {"ADD": "an input is not quantized", "MUL": "an input is not quantized"}
    graph = Graph()
    assert why(graph.decide(graph.op("ADD", graph.pair(graph.x, A)))) == {"ADD": "its output is not quantized"}


def test_readers_that_disagree_ask_for_nothing():
    graph = Graph()
    y = graph.op("ADD", graph.pair(graph.x, A), graph.pair(graph.x, A))
    ends = [graph.pair(graph.op("RESHAPE", y), grid) for grid in (A, B)]
    assert why(graph.decide(*ends))["ADD"] == "its output is not quantized"


def test_operators_on_shapes_stay():
    graph = Graph()
    x = graph.pair(graph.x, A)
    shape = graph.builder.tensor((2,), np.int32)
    graph.builder.op("SHAPE", [x], [shape])
    plan = graph.decide(shape)
    assert [(step.name, step.grid, step.why_float) for step in plan.steps] == [("SHAPE", None, "")]
