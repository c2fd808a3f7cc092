"""Names of a file's tensors: after the Keras layers, each once."""

import numpy as np

from keras_dbq.export.inference import InferenceGraph
from keras_dbq.export.renaming import rename
from keras_dbq.tflite import flatbuffer as fb
from tests.reference.tflite_builder import Builder

# Tokens of a convolution, its batch norm, a pooling behind it, and the quantizer of the input.
NAMES = {"n0000": "quantize_image", "n0001": "conv", "n0002": "conv_bn", "n0003": "pool"}


def test_every_tensor_has_a_short_name_of_its_own():
    builder = Builder()
    old = {
        "input": "serving_default_input1:0",
        "second": "serving_default_input0:0",
        "conv": "n0002/Relu;n0001/Conv2D",  # fused: called after the layer whose weights its operator has
        "raw": "n0002/Relu;n0001/Conv2D/unclamped",
        "copy": "n0002/Relu;n0001/Conv2D",
        "pool": "n0003/MaxPool",
        "output": "n0000/grid",  # of a quantizer: the tensor's name in the file
    }
    index = {key: builder.tensor((1, 4), np.int8, name=name) for key, name in old.items()}
    weights = builder.constant(np.zeros(4, np.int8))
    shape = builder.constant(np.zeros(2, np.int32))
    builder.graph.tensors[weights].name, builder.graph.tensors[shape].name = "conv/weights", "some/shape;other"
    chain = ["input", "raw", "conv", "copy", "pool", "output"]
    for source, target in zip(chain, chain[1:], strict=False):
        builder.op("ADD", [index[source], weights if source == "input" else shape], [index[target]])
    model = fb.load_model(builder.finish([index["input"], index["second"]], [index["output"]]))
    inference = InferenceGraph(None, names=NAMES, tensor_names={"n0000": "image"}, input_layers=["right", "left"])
    rename(model, inference, {old["conv"]: "conv"})
    names = [fb.text(tensor.name) for tensor in model.subgraphs[0].tensors]
    assert names == [
        "right", "left", "conv", "conv/unclamped", "conv#2", "pool", "image", "conv/weights", "shape",
    ]  # fmt: skip
