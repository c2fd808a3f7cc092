#include "ops/elementwise.h"

#include <cstring>

namespace dbq {

StoredBounds MakeStoredBounds(const Node& node, const Value& output) {
  const OutputStage stage = MakeOutputStage(node.options.activation, output.scale, output.zero_point);
  const int zero_point = output.StoredZeroPoint();
  return {static_cast<uint8_t>(static_cast<int>(stage.low) + zero_point),
          static_cast<uint8_t>(static_cast<int>(stage.high) + zero_point)};
}

Status InferSameShape(const Graph& graph, const Node& node, std::vector<int>* shape) {
  *shape = graph.values[node.inputs[0]].shape;
  return Status::Ok();
}

namespace {

// One code, or one for every channel of all images or of each.
bool IsRepeatable(const Value& small, const std::vector<int>& shape) {
  if (shape.empty()) return false;
  const int64_t elements = small.Elements();
  if (elements == 1) return true;
  if (small.shape.empty() || small.shape.back() != shape.back()) return false;
  if (elements == shape.back()) return true;
  return shape.size() == 4 && small.shape == std::vector<int>{shape[0], 1, 1, shape[3]};
}

}  // namespace

bool FirstIsRepeated(const Graph& graph, const Node& node) {
  return graph.values[node.inputs[0]].shape != graph.values[node.output].shape;
}

Status InferBroadcast(const Graph& graph, const Node& node, std::vector<int>* shape) {
  const Value &a = graph.values[node.inputs[0]], &b = graph.values[node.inputs[1]];
  if (a.shape == b.shape || IsRepeatable(b, a.shape)) {
    *shape = a.shape;
  } else if (IsRepeatable(a, b.shape)) {
    *shape = b.shape;
  } else {
    return Status::Error("inputs must have one shape, or one of them a code for every channel");
  }
  return Status::Ok();
}

BroadcastStep::BroadcastStep(const Image& a, const Image& b, const Image& y, RunCodes run)
    : Step(y.Rows(), static_cast<double>(y.Bytes()) / 8), a_(a), b_(b), y_(y), run_(std::move(run)) {}

int64_t BroadcastStep::ScratchBytes() const {
  return b_.Rows() * b_.UsedRowBytes() == a_.Rows() * a_.UsedRowBytes() ? 0 : a_.UsedRowBytes();
}

// The codes of the repeated input for one row of an image.
void BroadcastStep::RepeatRow(int64_t image, uint8_t* scratch) const {
  const int64_t bytes = b_.UsedRowBytes(), total = a_.UsedRowBytes();
  const uint8_t* codes = b_.Row(b_.batch == 1 ? 0 : image);
  if (bytes == 1) {
    std::memset(scratch, codes[0], total);
    return;
  }
  for (int64_t i = 0; i < total; i += bytes) std::memcpy(scratch + i, codes, bytes);
}

void BroadcastStep::Run(const RunContext& context, int64_t begin, int64_t end) const {
  const bool same = ScratchBytes() == 0;
  int64_t image = -1;
  for (int64_t row = begin; row < end; ++row) {
    if (!same && row / y_.height != image) RepeatRow(image = row / y_.height, context.scratch);
    run_(a_.Row(row), same ? b_.Row(row) : context.scratch, y_.Row(row), y_.UsedRowBytes());
  }
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
