// Operators that slide a window or hold a matrix of weights. The twin of keras_dbq/structure/rules_window.py.
#include "structure/node.h"

namespace dbq {
namespace structure {
namespace {

constexpr int64_t kLargestStep = 1 << 20, kLargestPadding = 1 << 10;
constexpr double kLargestMultiplier = 256;
constexpr int kActivations = 5;  // the last of the schema's ActivationFunctionType

bool IsBetween(int64_t value, int64_t low, int64_t high) { return value >= low && value <= high; }

struct Window {
  int64_t kernel, stride, dilation;
};

// How many windows fit along one axis; as open as its size.
bool CountWindows(int64_t size, const Window& w, bool same, int64_t* count) {
  const int64_t reach = (w.kernel - 1) * w.dilation + 1;
  if (reach > kLargestStep || !IsBetween(w.stride, 1, kLargestStep) || !IsBetween(w.dilation, 1, kLargestStep)) {
    return false;
  }
  if (size < 0) {
    *count = size;
  } else if (same) {
    *count = (size + w.stride - 1) / w.stride;
    return reach - size <= kLargestPadding;
  } else {
    *count = (size - reach) / w.stride + 1;
    return size >= reach;
  }
  return true;
}

// Output [N, h, w, channels]. Options start with padding, strides along w and h; `activation` is the slot of that.
bool WindowShape(const Node& node, Window h, Window w, int64_t channels, int activation, Shape* y) {
  const Shape& x = node.KnownShape(0);
  const int padding = node.Option<int8_t>(0, 0);
  w.stride = node.Option<int32_t>(1, 0), h.stride = node.Option<int32_t>(2, 0);
  if (!IsBetween(padding, 0, 1) || !IsBetween(node.Option<int8_t>(activation, 0), 0, kActivations)) return false;
  *y = Shape{4, {x.size[0], 0, 0, channels}};
  return CountWindows(x.size[1], h, padding == 0, &y->size[1]) && CountWindows(x.size[2], w, padding == 0, &y->size[2]);
}

// None of the weights' sizes is 0 or open.
bool IsFilter(const Shape& shape, int rank) { return shape.rank == rank && shape.Smallest() >= 1; }

// Types and scales of weights and bias of an int8 operator.
bool CheckInt8(const Node& node, int axis) {
  const Tensor &x = *node.inputs[0], &w = *node.inputs[1], &y = *node.outputs[0];
  if (w.type != kInt8 && w.type != kInt4 && w.type != kInt2) return false;
  if (node.Has(2) && node.inputs[2]->type != kInt32) return false;
  if (w.scales.count != 1 && (w.scales.count != w.known.size[axis] || w.axis != axis)) return false;
  double x_scale, y_scale;
  float largest = 0;
  if (!node.ReadScale(x, &x_scale) || !node.ReadScale(y, &y_scale)) return false;
  for (int64_t i = 0; i < w.scales.count; ++i) largest = std::max(largest, node.reader->Element<float>(w.scales, i));
  return x_scale * static_cast<double>(largest) / y_scale < kLargestMultiplier;
}

// What is not int8 is left to the runtime.
bool CheckWeights(const Node& node, int axis, bool keeps_type) {
  const Tensor &x = *node.inputs[0], &y = *node.outputs[0];
  if (node.Has(2)) {
    const int64_t bias = node.KnownShape(2).Total();
    if (bias != kAny && bias != node.KnownShape(1).size[axis]) return false;
  }
  if (keeps_type && x.type != y.type) return false;
  return x.type != kInt8 || y.type != kInt8 || CheckInt8(node, axis);
}

bool Conv2D(const Node& node, Shape* y) {
  const Shape &x = node.KnownShape(0), &w = node.KnownShape(1);
  if (x.rank != 4 || !IsFilter(w, 4)) return false;
  const int64_t groups = std::max<int64_t>(x.size[3], 0) / w.size[3];
  if (x.size[3] >= 0 && (groups < 1 || x.size[3] % w.size[3] != 0 || w.size[0] % groups != 0)) return false;
  const Window h{w.size[1], 0, node.Option<int32_t>(5, 1)}, v{w.size[2], 0, node.Option<int32_t>(4, 1)};
  return CheckWeights(node, 0, true) && WindowShape(node, h, v, w.size[0], 3, y);
}

bool DepthwiseConv2D(const Node& node, Shape* y) {
  const Shape &x = node.KnownShape(0), &w = node.KnownShape(1);
  if (x.rank != 4 || !IsFilter(w, 4)) return false;
  const int64_t channels = x.size[3], multiplier = node.Option<int32_t>(3, 0);
  if (w.size[0] != 1 || channels == 0 || (channels > 0 && w.size[3] % channels != 0)) return false;
  if (channels > 0 && multiplier != 0 && multiplier != w.size[3] / channels) return false;
  if (node.inputs.size() == 2) return false;  // the builtin kernel reads the bias unasked
  const Window h{w.size[1], 0, node.Option<int32_t>(6, 1)}, v{w.size[2], 0, node.Option<int32_t>(5, 1)};
  return CheckWeights(node, 3, true) && WindowShape(node, h, v, w.size[3], 4, y);
}

bool Pool(const Node& node, Shape* y) {
  const Shape& x = node.KnownShape(0);
  const Window h{node.Option<int32_t>(4, 0), 0, 1}, w{node.Option<int32_t>(3, 0), 0, 1};
  if (x.rank != 4 || h.kernel < 1 || w.kernel < 1) return false;
  return WindowShape(node, h, w, x.size[3], 5, y);
}

// Rows of `inputs` become rows of `outputs`.
bool DenseShape(const Shape& x, int64_t outputs, int64_t inputs, bool keep, Shape* y) {
  if (keep) {
    *y = x;
    if (x.rank == 0 || (x.size[x.rank - 1] >= 0 && x.size[x.rank - 1] != inputs)) return false;
    y->size[y->rank - 1] = outputs;
    return true;
  }
  const int64_t count = x.Total();
  if (count >= 0 && count % inputs != 0) return false;
  const bool rows = x.rank == 2 && x.size[1] == inputs;
  *y = Shape{2, {count >= 0 ? count / inputs : rows ? x.size[0] : kAny, outputs}};
  return true;
}

bool FullyConnected(const Node& node, Shape* y) {
  const Shape& w = node.KnownShape(1);
  if (!IsFilter(w, 2) || !IsBetween(node.Option<int8_t>(0, 0), 0, kActivations)) return false;
  if (!IsBetween(node.Option<int8_t>(1, 0), 0, 1) || !CheckWeights(node, 0, false)) return false;
  return DenseShape(node.KnownShape(0), w.size[0], w.size[1], node.Option<uint8_t>(2, 0) != 0, y);
}

// ---- our operators: sizes by params (docs/packing.md)

constexpr int kPackedInputs = 6, kMostPackedInputs = 7, kParams = 5, kThresholds = 6;

bool CheckParams(const int64_t* p) {
  if (!IsBetween(p[1], 1, 2)) return false;
  for (int i = 2; i < 10; ++i) {
    if (!IsBetween(p[i], 1, kLargestStep)) return false;
  }
  return IsBetween(p[10], 0, 1) && IsBetween(p[11], 0, 3) && IsBetween(p[15], 0, 1) && IsBetween(p[13], -128, 127) &&
         IsBetween(p[14], -128, 127);
}

// Codes, branch scales, scales and bias are constants of the lengths that params say.
bool CheckLengths(const Node& node, const int64_t* p, bool depthwise) {
  const Shape kernel{4, {p[2], p[3], depthwise ? 1 : p[4], p[5]}};
  if (!kernel.IsModest()) return false;
  const int64_t lengths[] = {p[1] * ((kernel.Total() + 4) / 5), p[1] * p[5], 2 + p[5], p[5]};
  for (size_t i = 0; i < 4; ++i) {
    if (!node.inputs[1 + i]->constant || node.KnownShape(1 + i).Total() != lengths[i]) return false;
  }
  return true;
}

// Of format version 2: one parameter more, and a matrix.
bool CheckThresholds(const Node& node, int64_t channels) {
  if (node.inputs.size() <= kThresholds) return true;
  const Shape& shape = node.KnownShape(kThresholds);
  return node.inputs[kThresholds]->constant && node.inputs[kThresholds]->type == kInt32 && shape.rank == 2 &&
         IsBetween(shape.size[0], 1, 15) && shape.size[1] == channels;
}

bool Packed(const Node& node, bool depthwise, const int64_t** params, Numbers* numbers) {
  const int64_t count = 10 + static_cast<int64_t>(node.inputs.size());
  if (!node.ReadNumbers(kParams, numbers) || numbers->count != count) return false;
  *params = numbers->values;
  return node.inputs[kParams]->type == kInt32 && CheckParams(*params) && CheckLengths(node, *params, depthwise) &&
         CheckThresholds(node, (*params)[5]);
}

bool PackedWindow(const Node& node, bool depthwise, Shape* y) {
  Numbers numbers;
  const int64_t* p;
  const Shape& x = node.KnownShape(0);
  if (!Packed(node, depthwise, &p, &numbers) || x.rank != 4 || (x.size[3] >= 0 && x.size[3] != p[4])) return false;
  *y = Shape{4, {x.size[0], 0, 0, p[5]}};
  return CountWindows(x.size[1], {p[2], p[6], p[8]}, p[10] == 0, &y->size[1]) &&
         CountWindows(x.size[2], {p[3], p[7], p[9]}, p[10] == 0, &y->size[2]);
}

bool PackedConv2D(const Node& node, Shape* y) { return PackedWindow(node, false, y); }
bool PackedDepthwise(const Node& node, Shape* y) { return PackedWindow(node, true, y); }

bool PackedDense(const Node& node, Shape* y) {
  Numbers numbers;
  const int64_t* p;
  return Packed(node, false, &p, &numbers) && DenseShape(node.KnownShape(0), p[5], p[4], p[15] != 0, y);
}

}  // namespace

// source: the numbers of BuiltinOperator and BuiltinOptions of the schema.
const Rule kWindowRules[] = {
    {3, nullptr, 1, "biibii", true, 2, 3, Conv2D},            // CONV_2D
    {4, nullptr, 2, "biiibii", true, 2, 3, DepthwiseConv2D},  // DEPTHWISE_CONV_2D
    {9, nullptr, 8, "bbB", true, 2, 3, FullyConnected},       // FULLY_CONNECTED
    {1, nullptr, 5, "biiiib", true, 1, 1, Pool},              // AVERAGE_POOL_2D
    {17, nullptr, 5, "biiiib", true, 1, 1, Pool},             // MAX_POOL_2D
    {-1, "DbqConv2D", 0, "", false, kPackedInputs, kMostPackedInputs, PackedConv2D},
    {-1, "DbqDepthwiseConv2D", 0, "", false, kPackedInputs, kMostPackedInputs, PackedDepthwise},
    {-1, "DbqFullyConnected", 0, "", false, kPackedInputs, kMostPackedInputs, PackedDense},
    {},
};

}  // namespace structure
}  // namespace dbq
