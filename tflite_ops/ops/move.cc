// Operators that only move codes: PAD, RESHAPE, CONCATENATION of the last axis.
#include <algorithm>
#include <cstring>

#include "ops/elementwise.h"
#include "ops/op.h"

namespace dbq {
namespace {

constexpr size_t kRank = 4;

// ---- Pad: numbers are before and after of every axis of an image

Status CheckPad(const Graph& graph, const Node& node) {
  const std::vector<int32_t>& n = node.options.numbers;
  if (n.size() != 2 * kRank || n[0] + n[1] + n[6] + n[7] != 0) {
    return Status::Error("only the height and width of an image can be padded");
  }
  if (*std::min_element(n.begin(), n.end()) < 0) return Status::Error("padding must not be negative");
  return CheckSameScales(graph, node);
}

Status InferPad(const Graph& graph, const Node& node, std::vector<int>* shape) {
  const std::vector<int>& x = graph.values[node.inputs[0]].shape;
  if (x.size() != kRank) return Status::Error("input must have rank 4 (NHWC), got rank %zu", x.size());
  *shape = x;
  for (size_t axis = 0; axis < kRank; ++axis) {
    const int64_t size = int64_t{x[axis]} + node.options.numbers[2 * axis] + node.options.numbers[2 * axis + 1];
    if (size > INT64_C(2147483647)) return Status::Error("padding makes an axis longer than 2^31 - 1");
    (*shape)[axis] = static_cast<int>(size);
  }
  return Status::Ok();
}

struct Pad {
  Image x, y;
  int64_t top, left;
  uint8_t zero_point;
};

void RunPad(const Pad& p, int64_t row) {
  uint8_t* y = p.y.Row(row);
  std::memset(y, p.zero_point, p.y.UsedRowBytes());
  const int64_t from = row % p.y.height - p.top;
  if (from < 0 || from >= p.x.height) return;
  std::memcpy(y + p.left * p.y.channels, p.x.Row(row / p.y.height * p.x.height + from), p.x.UsedRowBytes());
}

Status LowerPad(const Lowering& lowering, Node* node) {
  const Pad pad{lowering.image(node->inputs[0]), lowering.image(node->output), node->options.numbers[2],
                node->options.numbers[4], lowering.value(node->output).StoredZeroPoint()};
  lowering.Add(*node, MakeRowStep(pad.y.Rows(), static_cast<double>(pad.y.Bytes()) / 16,
                                  [pad](int64_t row) { RunPad(pad, row); }));
  return Status::Ok();
}

// ---- Reshape: numbers are the new shape, -1 once for what is left; none keep the shape

Status InferReshape(const Graph& graph, const Node& node, std::vector<int>* shape) {
  const Value& x = graph.values[node.inputs[0]];
  if (node.options.numbers.empty()) {
    *shape = x.shape;
    return Status::Ok();
  }
  int64_t known = 1, open = 0;
  for (int32_t size : node.options.numbers) {
    if (size < -1) return Status::Error("a new shape must hold sizes or -1, got %d", size);
    if (known > INT64_C(2147483647)) return Status::Error("a new shape has more than 2^31 - 1 elements");
    size == -1 ? ++open : known *= size;
  }
  const int64_t elements = x.Elements();
  if (open > 1 || known < 1 || elements % known != 0 || (open == 0 && elements != known)) {
    return Status::Error("%lld elements do not fill the new shape", static_cast<long long>(elements));
  }
  *shape = node.options.numbers;
  std::replace(shape->begin(), shape->end(), -1, static_cast<int>(elements / known));
  return Status::Ok();
}

// Row by row of either image, whichever ends first.
void CopyInOrder(const Image& x, const Image& y) {
  const int64_t x_bytes = x.UsedRowBytes(), y_bytes = y.UsedRowBytes(), total = x.Rows() * x_bytes;
  for (int64_t at = 0; at < total;) {
    const int64_t x_at = at % x_bytes, y_at = at % y_bytes;
    const int64_t count = std::min(x_bytes - x_at, y_bytes - y_at);
    std::memcpy(y.Row(at / y_bytes) + y_at, x.Row(at / x_bytes) + x_at, count);
    at += count;
  }
}

Status LowerReshape(const Lowering& lowering, Node* node) {
  const Image x = lowering.image(node->inputs[0]), y = lowering.image(node->output);
  lowering.Add(*node, MakeRowStep(1, static_cast<double>(y.Bytes()) / 16, [=](int64_t) { CopyInOrder(x, y); }));
  return Status::Ok();
}

// ---- Concatenation of channels

Status InferConcatenation(const Graph& graph, const Node& node, std::vector<int>* shape) {
  *shape = graph.values[node.inputs[0]].shape;
  int64_t channels = 0;
  for (int input : node.inputs) {
    std::vector<int> other = graph.values[input].shape;
    if (other.empty() || other.size() != shape->size()) return Status::Error("inputs must have one rank");
    channels += other.back();
    other.back() = shape->back();
    if (other != *shape) return Status::Error("inputs must have one shape but for the last axis");
  }
  if (channels > INT64_C(2147483647)) return Status::Error("the last axis is longer than 2^31 - 1");
  shape->back() = static_cast<int>(channels);
  return Status::Ok();
}

void CopyChannels(const Image& x, const Image& y, int64_t first, int64_t row) {
  const uint8_t* from = x.Row(row);
  uint8_t* to = y.Row(row) + first;
  for (int64_t i = 0; i < x.width; ++i) std::memcpy(to + i * y.channels, from + i * x.channels, x.channels);
}

Status LowerConcatenation(const Lowering& lowering, Node* node) {
  const Image y = lowering.image(node->output);
  std::vector<Image> parts;
  for (int input : node->inputs) parts.push_back(lowering.image(input));
  lowering.Add(*node, MakeRowStep(y.Rows(), static_cast<double>(y.Bytes()) / 8, [parts, y](int64_t row) {
    int64_t first = 0;
    for (const Image& x : parts) CopyChannels(x, y, first, row), first += x.channels;
  }));
  return Status::Ok();
}

}  // namespace

const Operator kPad = {"pad", CheckPad, InferPad, nullptr, LowerPad};
const Operator kReshape = {"reshape", CheckSameScales, InferReshape, nullptr, LowerReshape};
const Operator kConcatenation = {"concatenation", CheckSameScales, InferConcatenation, nullptr, LowerConcatenation};

}  // namespace dbq
