// LOGISTIC as XNNPACK computes it: a table of 256 codes, y = clamp(rne(1 / (1 + exp(-x)) / s_y) + zero_y) in float.
#include <algorithm>
#include <cmath>

#include "ops/elementwise.h"
#include "ops/op.h"

namespace dbq {
namespace {

using Table = Buffer<uint8_t>;  // [256] by stored code

Table MakeTable(const Value& x, const Value& y) {
  Table table(256);
  for (int stored = 0; stored < 256; ++stored) {
    const float real = x.scale * static_cast<float>(stored - x.StoredZeroPoint());
    const float sigmoid = 1.0f / (1.0f + std::exp(-real));
    const float code = std::nearbyint(sigmoid / y.scale) + static_cast<float>(y.zero_point);
    table[stored] = static_cast<uint8_t>(std::min(std::max(code, -128.0f), 127.0f) + 128.0f);
  }
  return table;
}

class TableStep : public Step {
 public:
  TableStep(const Image& x, const Image& y, Table table, const CodeKernels& codes)
      : Step(y.Rows(), static_cast<double>(y.Bytes()) / 4), x_(x), y_(y), table_(std::move(table)), codes_(codes) {}
  void Run(const RunContext&, int64_t begin, int64_t end) const override {
    for (int64_t row = begin; row < end; ++row) {
      codes_.look_up(x_.Row(row), table_.data(), y_.Row(row), y_.UsedRowBytes());
    }
  }

 private:
  Image x_, y_;
  Table table_;
  const CodeKernels& codes_;
};

// The only output that XNNPACK and the builtin kernel write.
Status CheckLogistic(const Graph& graph, const Node& node) {
  const Value& y = graph.values[node.output];
  if (y.scale == 1.0f / 256.0f && y.zero_point == -128) return Status::Ok();
  return Status::Error("the output must have scale 1 / 256 and zero point -128");
}

Status LowerLogistic(const Lowering& lowering, Node* node) {
  lowering.Add(*node, std::make_unique<TableStep>(
                          lowering.image(node->inputs[0]), lowering.image(node->output),
                          MakeTable(lowering.value(node->inputs[0]), lowering.value(node->output)), *lowering.codes));
  return Status::Ok();
}

}  // namespace

const Operator kLogistic = {"logistic", CheckLogistic, InferSameShape, nullptr, LowerLogistic};

}  // namespace dbq
