"""Counts the fake-quants that every tensor of a quantized model passes."""

from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from keras_dbq.compat import tf


def inference_function(q_model):
    """The inference function with its variables as constants; `.graph`, `.outputs`."""
    spec = [tf.TensorSpec((1, *t.shape[1:]), t.dtype) for t in q_model.inputs]
    concrete = tf.function(lambda *x: q_model(x if len(x) > 1 else x[0], training=False)).get_concrete_function(*spec)
    return convert_variables_to_constants_v2(concrete)


_TRANSPARENT = {
    "Identity",
    "StridedSlice",
    "Reshape",
    "MaxPool",
    "Transpose",
    "Split",
    "Pad",
    "PadV2",
    "Squeeze",
    "ExpandDims",
    "SpaceToBatchND",
    "BatchToSpaceND",
}


_FUSED = {"FusedBatchNormV3", "Relu", "Relu6", "BiasAdd"}


_COMPUTES = {
    "Conv2D",
    "DepthwiseConv2dNative",
    "MatMul",
    "AddV2",
    "Mul",
    "ConcatV2",
    "Mean",
    "AvgPool",
    "Softmax",
    "Sigmoid",
    "LeakyRelu",
    "Placeholder",
}


def count(function):
    """For every computing operator: the numbers of fake-quants between its result and its readers, over all paths."""
    readers = {}
    for op in function.graph.get_operations():
        for index, tensor in enumerate(op.inputs):
            readers.setdefault(tensor.name, []).append((op, index))
    results = {tensor.name for tensor in function.outputs}
    depends = {}

    def is_bias(op):
        return op.type in ("AddV2", "BiasAdd") and any(t.op.type == "MatMul" for t in op.inputs)

    def paths(tensor, crossed):
        found = {crossed} if tensor.name in results else set()
        for op, index in readers.get(tensor.name, []):
            if op.type.startswith("FakeQuant"):
                found |= paths(op.outputs[0], crossed + 1)
            elif op.type == "Shape":
                continue  # the batch size, for a reshape
            elif op.type == "IdentityN":  # the outputs and inputs of a custom gradient
                found |= paths(op.outputs[index], crossed)
            elif op.type == "Split":
                found |= set().union(*(paths(t, crossed) for t in op.outputs))
            elif op.type in _TRANSPARENT or (crossed == 0 and (op.type in _FUSED or is_bias(op))):
                found |= paths(op.outputs[0], crossed)
            elif op.type == "ConcatV2" and crossed == 0:
                found |= paths(op.outputs[0], crossed)  # an input that takes the concatenation's range
            else:
                found.add(crossed)
        return found

    def from_input(op):
        if op.name not in depends:
            depends[op.name] = False
            depends[op.name] = op.type == "Placeholder" or any(from_input(t.op) for t in op.inputs)
        return depends[op.name]

    def computes(op):
        if not op.outputs or op.outputs[0].dtype != tf.float32 or is_bias(op) or not from_input(op):
            return False
        return op.type in _COMPUTES or (op.type in _FUSED and op.inputs[0].op.type.startswith("FakeQuant"))

    return {op.name: paths(op.outputs[0], 0) for op in function.graph.get_operations() if computes(op)}
