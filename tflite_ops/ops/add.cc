// ADD as XNNPACK computes it, in fixed point:
//   y = clamp(((a * m_a + b * m_b + round - m_a * zero_a - m_b * zero_b) >> shift) + zero_y)
//   shift = 20 - exponent(max(ratio_a, ratio_b)), m = lrint(ratio * 2^shift), round = 2^(shift - 1)
#include <algorithm>
#include <cmath>

#include "ops/elementwise.h"
#include "ops/op.h"

namespace dbq {
namespace {

constexpr float kSmallestRatio = 0x1.0p-10f, kLargestRatio = 0x1.0p+8f;

bool InRange(float ratio) { return ratio >= kSmallestRatio && ratio < kLargestRatio; }

float Ratio(const Graph& graph, const Node& node, int input) {
  return graph.values[node.inputs[input]].scale / graph.values[node.output].scale;
}

Status CheckAdd(const Graph& graph, const Node& node) {
  for (int i : {0, 1}) {
    const float ratio = Ratio(graph, node, i);
    if (!InRange(ratio)) return Status::Error("input / output scale must be in 2^-10 .. 2^8, got %g", double{ratio});
  }
  return Status::Ok();
}

AddParams MakeParams(const Graph& graph, const Node& node) {
  const Value &a = graph.values[node.inputs[0]], &b = graph.values[node.inputs[1]], &y = graph.values[node.output];
  const float ratio_a = Ratio(graph, node, 0), ratio_b = Ratio(graph, node, 1);
  AddParams p;
  p.shift = static_cast<uint32_t>(20 - std::ilogb(std::max(ratio_a, ratio_b)));
  p.multiplier_a = static_cast<int32_t>(std::lrint(std::ldexp(double{ratio_a}, static_cast<int>(p.shift))));
  p.multiplier_b = static_cast<int32_t>(std::lrint(std::ldexp(double{ratio_b}, static_cast<int>(p.shift))));
  p.bias = (1 << (p.shift - 1)) - p.multiplier_a * a.StoredZeroPoint() - p.multiplier_b * b.StoredZeroPoint();
  const StoredBounds bounds = MakeStoredBounds(node, y);
  p.zero_point = y.StoredZeroPoint(), p.low = bounds.low, p.high = bounds.high;
  return p;
}

Status LowerAdd(const Lowering& lowering, Node* node) {
  Image a = lowering.image(node->inputs[0]), b = lowering.image(node->inputs[1]);
  AddParams params = MakeParams(*lowering.graph, *node);
  if (FirstIsRepeated(*lowering.graph, *node)) {
    std::swap(a, b);
    std::swap(params.multiplier_a, params.multiplier_b);
  }
  const auto add = lowering.codes->add;
  lowering.Add(*node, std::make_unique<BroadcastStep>(a, b, lowering.image(node->output),
                                                      [=](const uint8_t* x, const uint8_t* z, uint8_t* y,
                                                          int64_t count) { add(params, x, z, y, count); }));
  return Status::Ok();
}

}  // namespace

const Operator kAdd = {"add", CheckAdd, InferBroadcast, nullptr, LowerAdd};

}  // namespace dbq
