#include "ops/elementwise.h"

namespace dbq {

StoredBounds MakeStoredBounds(const Node& node, const Value& output) {
  const OutputStage stage = MakeOutputStage(node.options.activation, output.scale, output.zero_point);
  const int zero_point = output.StoredZeroPoint();
  return {static_cast<uint8_t>(static_cast<int>(stage.low) + zero_point),
          static_cast<uint8_t>(static_cast<int>(stage.high) + zero_point)};
}

Status InferSameShape(const Graph& graph, const Node& node, std::vector<int>* shape) {
  *shape = graph.values[node.inputs[0]].shape;
  for (int input : node.inputs) {
    if (graph.values[input].shape != *shape) return Status::Error("inputs must have the same shape");
  }
  return Status::Ok();
}

Status CheckSameScales(const Graph& graph, const Node& node) {
  const Value& y = graph.values[node.output];
  for (int input : node.inputs) {
    const Value& x = graph.values[input];
    if (x.scale == y.scale && x.zero_point == y.zero_point) continue;
    return Status::Error("input and output must have one scale and zero point");
  }
  return Status::Ok();
}

}  // namespace dbq
