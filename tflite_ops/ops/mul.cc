// MUL as XNNPACK computes it: y = clamp(rne(float((a - zero_a) * (b - zero_b)) * (s_a * s_b / s_y)) + zero_y).
#include "ops/elementwise.h"
#include "ops/op.h"

namespace dbq {
namespace {

float Scale(const Graph& graph, const Node& node) {
  const float product = graph.values[node.inputs[0]].scale * graph.values[node.inputs[1]].scale;
  return product / graph.values[node.output].scale;
}

Status CheckMul(const Graph& graph, const Node& node) {
  const float scale = Scale(graph, node);
  if (scale >= 0x1.0p-16f && scale < 0x1.0p+8f) return Status::Ok();
  return Status::Error("input * input / output scale must be in 2^-16 .. 2^8, got %g", double{scale});
}

Status LowerMul(const Lowering& lowering, Node* node) {
  const Image a = lowering.image(node->inputs[0]), b = lowering.image(node->inputs[1]);
  const Image y = lowering.image(node->output);
  const Value& output = lowering.value(node->output);
  MulParams params{lowering.value(node->inputs[0]).StoredZeroPoint(), lowering.value(node->inputs[1]).StoredZeroPoint(),
                   Scale(*lowering.graph, *node),
                   MakeOutputStage(node->options.activation, output.scale, output.zero_point)};
  params.stage.zero_point += 128;
  const auto mul = lowering.codes->mul;
  lowering.Add(*node, MakeRowStep(y.Rows(), static_cast<double>(y.Bytes()) / 8, [=](int64_t row) {
    mul(params, a.Row(row), b.Row(row), y.Row(row), y.UsedRowBytes());
  }));
  return Status::Ok();
}

}  // namespace

const Operator kMul = {"mul", CheckMul, InferSameShape, nullptr, LowerMul};

}  // namespace dbq
