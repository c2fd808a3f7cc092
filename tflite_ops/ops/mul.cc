// MUL as XNNPACK computes it: y = clamp(rne(float((a - zero_a) * (b - zero_b)) * (s_a * s_b / s_y)) + zero_y); on Arm
// the product is exact and ties go up (isa/kernel.h).
#include "ops/elementwise.h"
#include "ops/op.h"

namespace dbq {
namespace {

float Scale(const Graph& graph, const Node& node) {
  const float product = graph.values[node.inputs[0]].scale * graph.values[node.inputs[1]].scale;
  return product / graph.values[node.output].scale;
}

Status CheckMul(const Graph& graph, const Node& node) {
  if (node.inputs[0] == node.inputs[1]) return Status::Error("runtimes differ in how they round squares");
  const float scale = Scale(graph, node);
  if (scale >= 0x1.0p-16f && scale < 0x1.0p+8f) return Status::Ok();
  return Status::Error("input * input / output scale must be in 2^-16 .. 2^8, got %g", double{scale});
}

Status LowerMul(const Lowering& lowering, Node* node) {
  Image a = lowering.image(node->inputs[0]), b = lowering.image(node->inputs[1]);
  const Value& output = lowering.value(node->output);
  MulParams params{lowering.value(node->inputs[0]).StoredZeroPoint(), lowering.value(node->inputs[1]).StoredZeroPoint(),
                   Scale(*lowering.graph, *node),
                   MakeOutputStage(node->options.activation, output.scale, output.zero_point)};
  params.stage.zero_point += 128;
  if (FirstIsRepeated(*lowering.graph, *node)) {
    std::swap(a, b);
    std::swap(params.zero_a, params.zero_b);
  }
  const auto mul = lowering.codes->mul;
  lowering.Add(*node, std::make_unique<BroadcastStep>(a, b, lowering.image(node->output),
                                                      [=](const uint8_t* x, const uint8_t* z, uint8_t* y,
                                                          int64_t count) { mul(params, x, z, y, count); }));
  return Status::Ok();
}

}  // namespace

const Operator kMul = {"mul", CheckMul, InferBroadcast, nullptr, LowerMul};

}  // namespace dbq
