// The ends of a partition: int8 of the runtime as it is, and QUANTIZE and DEQUANTIZE, whose float32 side is a tensor of
// the runtime and nothing in the arena.
//   QUANTIZE      rne(clamp(x * (1 / s))) + z, as XNNPACK: NaN is the largest code
//   DEQUANTIZE    (x - z) * s
#include "ops/ends.h"

#include <algorithm>

#include "ops/elementwise.h"

namespace dbq {
namespace {

// Tensors of more axes are not XNNPACK's, and its arithmetic is what is pinned.
constexpr size_t kMostAxes = 6;

// run(context, first element of the tensor, codes, count) for neighbouring codes.
template <typename RunCodes>
class EndStep : public Step {
 public:
  EndStep(const Image& image, RunCodes run)
      : Step(image.Rows(), static_cast<double>(image.Rows() * image.UsedRowBytes()) / 32), image_(image), run_(run) {}
  void Run(const RunContext& context, int64_t begin, int64_t end) const override {
    const int64_t count = image_.UsedRowBytes();
    if (image_.IsDense()) return run_(context, begin * count, image_.Row(begin), (end - begin) * count);
    for (int64_t row = begin; row < end; ++row) run_(context, row * count, image_.Row(row), count);
  }

 private:
  Image image_;
  RunCodes run_;
};

template <typename RunCodes>
std::unique_ptr<Step> MakeEndStep(const Image& image, RunCodes run) {
  return std::make_unique<EndStep<RunCodes>>(image, run);
}

int IndexOf(const std::vector<int>& values, int value) {
  const auto found = std::find(values.begin(), values.end(), value);
  return found == values.end() ? -1 : static_cast<int>(found - values.begin());
}

Status CheckAxes(const Graph& graph, const Node& node) {
  const size_t axes = graph.values[node.inputs[0]].shape.size();
  return axes >= 1 && axes <= kMostAxes ? Status::Ok()
                                        : Status::Error("expected 1 to %zu axes, got %zu", kMostAxes, axes);
}

// Pinned on x86-64 alone: on Arm the runtime's QUANTIZE gives other codes.
Status CheckQuantize(const Graph& graph, const Node& node) {
#if defined(__aarch64__)
  if (!node.inputs.empty()) return Status::Error("the runtime's kernel for Arm gives other codes");
#endif
  return CheckAxes(graph, node);
}

Status LowerQuantize(const Lowering& lowering, Node* node) {
  const Value& y = lowering.value(node->output);
  const float zero = static_cast<float>(y.zero_point);
  const QuantizeParams params{1.0f / y.scale, {-128.0f - zero, 127.0f - zero, y.StoredZeroPoint()}};
  const int input = IndexOf(lowering.graph->inputs, node->inputs[0]);
  if (input < 0) return Status::Error("the input is no input of the partition");
  lowering.Add(*node, MakeEndStep(lowering.image(node->output), [=, codes = lowering.codes](const RunContext& context,
                                                                                            int64_t first, uint8_t* to,
                                                                                            int64_t count) {
    codes->quantize(params, static_cast<const float*>(context.inputs[input]) + first, to, count);
  }));
  return Status::Ok();
}

Status LowerDequantize(const Lowering& lowering, Node* node) {
  const Value& x = lowering.value(node->inputs[0]);
  const DequantizeParams params{x.scale, x.StoredZeroPoint()};
  const int output = IndexOf(lowering.graph->outputs, node->output);
  if (output < 0) return Status::Ok();  // nobody reads it
  auto step = MakeEndStep(
      lowering.image(node->inputs[0]),
      [=, codes = lowering.codes](const RunContext& context, int64_t first, const uint8_t* from, int64_t count) {
        codes->dequantize(params, from, static_cast<float*>(context.outputs[output]) + first, count);
      });
  step->label = node->label;
  lowering.AddEnd(std::move(step));
  return Status::Ok();
}

}  // namespace

void AddImport(const Lowering& lowering, int value, int input) {
  Node node;
  node.label = "input";
  node.output = value;
  lowering.Add(node,
               MakeEndStep(lowering.image(value), [=, codes = lowering.codes](const RunContext& context, int64_t first,
                                                                              uint8_t* to, int64_t count) {
                 codes->flip(static_cast<const int8_t*>(context.inputs[input]) + first, to, count);
               }));
}

void AddExport(const Lowering& lowering, int value, int output) {
  auto step = MakeEndStep(lowering.image(value), [=, codes = lowering.codes](const RunContext& context, int64_t first,
                                                                             const uint8_t* from, int64_t count) {
    codes->flip(from, static_cast<int8_t*>(context.outputs[output]) + first, count);
  });
  step->label = "output";
  lowering.AddEnd(std::move(step));
}

const Operator kQuantizeFloat = {"quantize", CheckQuantize, InferSameShape, nullptr, LowerQuantize};
const Operator kDequantize = {"dequantize", CheckAxes, InferSameShape, nullptr, LowerDequantize};

}  // namespace dbq
