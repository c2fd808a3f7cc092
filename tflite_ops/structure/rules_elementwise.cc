// Operators that keep or broadcast a shape, and reductions. The twin of keras_dbq/structure/rules_elementwise.py.
#include <cmath>

#include "structure/node.h"

namespace dbq {
namespace structure {
namespace {

// source: TFLite's kernels of quantized ADD and SUB add with 20 bits more.
constexpr double kLargestRatio = 1 << 15, kSmallestRatio = 0x1p-27;

// One scale for each tensor of 8 bits, where the first is.
bool CheckScales(const Node& node) {
  if (!node.inputs[0]->IsCode()) return true;
  double scale;
  for (const Tensor* tensor : node.inputs) {
    if (tensor != nullptr && tensor->IsCode() && !node.ReadScale(*tensor, &scale)) return false;
  }
  return !node.outputs[0]->IsCode() || node.ReadScale(*node.outputs[0], &scale);
}

// Operators whose options have an activation function as their first field.
bool CheckActivation(const Node& node) {
  const int activation = node.Option<int8_t>(0, 0);
  return activation >= 0 && activation <= 5;
}

bool Keep(const Node& node, Shape* y) {
  *y = node.KnownShape(0);
  return true;
}

bool Convert(const Node& node, Shape* y) { return CheckScales(node) && Keep(node, y); }
bool Unary(const Node& node, Shape* y) { return node.KeepsType() && CheckScales(node) && Keep(node, y); }

bool Softmax(const Node& node, Shape* y) {
  const float beta = node.Option<float>(0, 0);
  return beta > 0 && std::isfinite(beta) && node.KnownShape(0).rank > 0 && Unary(node, y);
}

bool Binary(const Node& node, Shape* y) {
  if (!CheckActivation(node) || node.inputs[0]->type != node.inputs[1]->type || !node.KeepsType()) return false;
  return CheckScales(node) && Broadcast(node.KnownShape(0), node.KnownShape(1), y);
}

// The sum's scales leave room for the 20 bits.
bool Sum(const Node& node, Shape* y) {
  if (!Binary(node, y)) return false;
  if (!node.inputs[0]->IsCode()) return true;
  double a, b, output;
  if (!node.ReadScale(*node.inputs[0], &a) || !node.ReadScale(*node.inputs[1], &b)) return false;
  if (!node.ReadScale(*node.outputs[0], &output)) return false;
  const double ratio = 2 * std::max(a, b) / output;
  return ratio > kSmallestRatio && ratio < kLargestRatio;
}

bool Reduce(const Node& node, Shape* y) {
  Numbers axes;
  if (!node.KeepsType() || !node.ReadNumbers(1, &axes)) return false;
  if (!axes.are_constant) return true;
  const Shape& x = node.KnownShape(0);
  bool along[Shape::kMostAxes] = {};
  for (int64_t i = 0; i < axes.count; ++i) {
    int axis;
    if (!FindAxis(axes.values[i], x.rank, &axis)) return false;
    along[axis] = true;
  }
  *y = Shape{};
  const bool keep = node.Option<uint8_t>(0, 0) != 0;
  for (int i = 0; i < x.rank; ++i) {
    if (!along[i] || keep) y->Append(along[i] ? 1 : x.size[i]);
  }
  return CheckScales(node);
}

}  // namespace

// source: the numbers of BuiltinOperator and BuiltinOptions of the schema.
const Rule kElementwiseRules[] = {
    {0, nullptr, 11, "b", true, 2, 2, Sum},        // ADD
    {41, nullptr, 28, "b", true, 2, 2, Sum},       // SUB
    {18, nullptr, 21, "b", true, 2, 2, Binary},    // MUL
    {40, nullptr, 27, "B", true, 2, 2, Reduce},    // MEAN
    {25, nullptr, 9, "f", true, 1, 1, Softmax},    // SOFTMAX
    {98, nullptr, 75, "f", true, 1, 1, Unary},     // LEAKY_RELU
    {14, nullptr, 0, "", false, 1, 1, Unary},      // LOGISTIC
    {19, nullptr, 0, "", false, 1, 1, Unary},      // RELU
    {21, nullptr, 0, "", false, 1, 1, Unary},      // RELU6
    {28, nullptr, 0, "", false, 1, 1, Unary},      // TANH
    {117, nullptr, 91, "", false, 1, 1, Unary},    // HARD_SWISH
    {114, nullptr, 89, "", false, 1, 1, Convert},  // QUANTIZE
    {6, nullptr, 38, "", false, 1, 1, Convert},    // DEQUANTIZE
    {53, nullptr, 37, "", false, 1, 1, Keep},      // CAST
    {},
};

}  // namespace structure
}  // namespace dbq
