"""Int8 files of one operator, and readers of what packing makes of them."""

import numpy as np

from keras_dbq.tflite import flatbuffer as fb
from tests.tflite_ops import packed_models
from tests.tflite_ops.packed_models import Case

CASES = {
    "conv": Case("conv2d", (1, 7, 6, 5), 9, branches=2),
    "conv one branch": Case("conv2d", (1, 7, 6, 5), 9, stride=(2, 1), padding="valid", activation="relu"),
    "conv dilated": Case("conv2d", (1, 9, 9, 4), 6, dilation=(2, 3), activation="relu6"),
    "depthwise": Case("depthwise_conv2d", (1, 7, 6, 5), 5, multiplier=1, branches=2, activation="relu6"),
    "depthwise multiplier": Case("depthwise_conv2d", (1, 7, 6, 5), 10, multiplier=2, stride=(2, 2)),
    "dense": Case("fully_connected", (3, 40), 7, branches=2, activation="relu_n1_to_1"),
    "dense rank 4": Case("fully_connected", (2, 3, 3, 10), 7, keep_num_dims=True),
}


def operators(data):
    model = fb.load_model(data)
    return [fb.op_name(model, operator) for operator in model.subgraphs[0].operators]


def packed_constants(data):
    model = fb.load_model(data)
    return [fb.constant(model, int(i)) for i in model.subgraphs[0].operators[0].inputs[1:]]


def edited(case, edit):
    """The int8 file of a case after edit(model, operator, tensors)."""
    model = fb.load_model(packed_models.int8_model(case))
    operator = model.subgraphs[0].operators[0]
    edit(model, operator, model.subgraphs[0].tensors)
    return fb.save_model(model)


def set_weights(values):
    def edit(model, operator, tensors):
        tensors[operator.inputs[1]].buffer = fb.add_buffer(model, values.astype(np.int8))

    return edit
