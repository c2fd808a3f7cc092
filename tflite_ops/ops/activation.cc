// Functions of one code, each as the runtime computes it; where XNNPACK has the operator, as XNNPACK does.
//   LOGISTIC, TANH          rne(f(s_x (x - z_x)) / s_y) + z_y in float
//   QUANTIZE, LEAKY_RELU    ((x - z_x) m + 128) >> 8, m = rne(256 ratio), below zero with the slope's ratio
//   RELU, RELU6             the builtin kernel: a multiplier of 31 bits, rounded in two steps
//   HARD_SWISH              the builtin kernel: fixed point of 16 bits; on Arm it rounds by an element's place in
//   memory a table                 CAST, CAST, GATHER, as keras_dbq.export writes it, or several operators
//   (graph/fold.cc)
#include <algorithm>
#include <cmath>

#include "ops/elementwise.h"
#include "ops/look_up.h"
#include "ops/op.h"

namespace dbq {
namespace {

const Value& Input(const Graph& graph, const Node& node) { return graph.values[node.inputs[0]]; }
const Value& Output(const Graph& graph, const Node& node) { return graph.values[node.output]; }

// ---- in float

double Logistic(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double Tanh(double x) { return std::tanh(x); }

// Next to a tie the last bits of a runtime's own exponential decide: float32's in TensorFlow, float64's in LiteRT.
bool IsNextToTie(const Value& x, const Value& y, double (*function)(double)) {
  constexpr double kNear = 0x1.0p-15;
  for (int code = -128; code < 128; ++code) {
    const double value = function(double{x.scale} * (code - x.zero_point)) / double{y.scale};
    if (std::fabs(value - std::floor(value) - 0.5) < kNear) return true;
  }
  return false;
}

// The grids are the only ones that XNNPACK and the builtin kernels write.
Status CheckFunction(const Graph& graph, const Node& node, const Value& grid, double (*function)(double)) {
  const Value &x = Input(graph, node), &y = Output(graph, node);
  if (y.scale != grid.scale || y.zero_point != grid.zero_point) {
    return Status::Error("the output must have scale %g and zero point %d", double{grid.scale}, grid.zero_point);
  }
  if (!IsNextToTie(x, y, function)) return Status::Ok();
  return Status::Error("a result lies next to a tie, which runtimes round differently");
}

Value Grid(float scale, int zero_point) {
  Value grid;
  grid.scale = scale, grid.zero_point = zero_point;
  return grid;
}

Status CheckLogistic(const Graph& graph, const Node& node) {
  return CheckFunction(graph, node, Grid(1.0f / 256.0f, -128), Logistic);
}

Status CheckTanh(const Graph& graph, const Node& node) {
  return CheckFunction(graph, node, Grid(1.0f / 128.0f, 0), Tanh);
}

template <typename Function>
void AddFunction(const Lowering& lowering, const Node& node, Function function) {
  const Value &x = Input(*lowering.graph, node), &y = Output(*lowering.graph, node);
  AddLookUp(lowering, node, [&](int code) {
    const float value = function(x.scale * static_cast<float>(code - x.zero_point));
    return double{std::nearbyint(value / y.scale)} + y.zero_point;
  });
}

Status LowerLogistic(const Lowering& lowering, Node* node) {
  AddFunction(lowering, *node, [](float x) { return 1.0f / (1.0f + std::exp(-x)); });
  return Status::Ok();
}

Status LowerTanh(const Lowering& lowering, Node* node) {
  AddFunction(lowering, *node, [](float x) { return std::tanh(x); });
  return Status::Ok();
}

// ---- with XNNPACK's multipliers of 8 fractional bits

constexpr float kLeastRatio = 0x1.0p-8f, kMostRatio = 0x1.0p+7f;

float Ratio(const Graph& graph, const Node& node) { return Input(graph, node).scale / Output(graph, node).scale; }

Status CheckRatio(float ratio) {
  if (ratio >= kLeastRatio && ratio <= kMostRatio) return Status::Ok();
  return Status::Error("input / output scale must be in 2^-8 .. 2^7, got %g", double{ratio});
}

Status CheckQuantize(const Graph& graph, const Node& node) { return CheckRatio(Ratio(graph, node)); }

Status CheckLeakyRelu(const Graph& graph, const Node& node) {
  const float ratio = Ratio(graph, node), below = ratio * node.options.slope;
  DBQ_RETURN_IF_ERROR(CheckRatio(ratio));
  constexpr float kMostNegative = -0x1.FFp+6f;  // -127.5; XNNPACK's own limit lies lower
  if (below >= kMostNegative && below <= kMostRatio && std::fabs(below) >= kLeastRatio) return Status::Ok();
  return Status::Error("slope * input / output scale must be in 2^-8 .. 2^7 in size, got %g", double{below});
}

void AddRescaled(const Lowering& lowering, const Node& node, float ratio, float ratio_below) {
  const int above = static_cast<int>(std::lrint(256.0f * ratio));
  const int below = static_cast<int>(std::lrint(256.0f * ratio_below));
  const int zero_x = Input(*lowering.graph, node).zero_point, zero_y = Output(*lowering.graph, node).zero_point;
  AddLookUp(lowering, node, [=](int code) {
    const int centred = code - zero_x;
    return static_cast<double>(((centred * (centred > 0 ? above : below) + 128) >> 8) + zero_y);
  });
}

Status LowerQuantize(const Lowering& lowering, Node* node) {
  const float ratio = Ratio(*lowering.graph, *node);
  AddRescaled(lowering, *node, ratio, ratio);
  return Status::Ok();
}

Status LowerLeakyRelu(const Lowering& lowering, Node* node) {
  const float ratio = Ratio(*lowering.graph, *node);
  AddRescaled(lowering, *node, ratio, ratio * node->options.slope);
  return Status::Ok();
}

// ---- with the builtin kernels' multipliers of 31 bits

// real ~ mantissa * 2^(exponent - 31), mantissa in 2^30 .. 2^31 - 1.
struct FixedPoint {
  int64_t mantissa;
  int exponent;

  explicit FixedPoint(double real) {
    mantissa = std::llround(std::ldexp(std::frexp(real, &exponent), 31));
    if (mantissa == INT64_C(1) << 31) mantissa /= 2, ++exponent;
    if (exponent < -31) mantissa = 0, exponent = 0;
  }
};

// x / 2^shift to nearest, ties away from zero.
int64_t ShiftAway(int64_t x, int shift) {
  const int64_t half = (INT64_C(1) << shift) >> 1;
  return (x + half - (x < 0 && half > 0)) >> shift;
}

int64_t Multiply(int64_t x, const FixedPoint& m) {
  const int64_t high = ((x << std::max(m.exponent, 0)) * m.mantissa + (INT64_C(1) << 30)) >> 31;
  return ShiftAway(high, std::max(-m.exponent, 0));
}

// So that the shifted codes fit.
Status CheckFixedPoint(const Graph& graph, const Node& node) {
  const float ratio = Ratio(graph, node);
  if (ratio >= 0x1.0p-16f && ratio < 0x1.0p+16f) return Status::Ok();
  return Status::Error("input / output scale must be in 2^-16 .. 2^16, got %g", double{ratio});
}

Status LowerRelu(const Lowering& lowering, Node* node) {
  const Value &x = Input(*lowering.graph, *node), &y = Output(*lowering.graph, *node);
  const FixedPoint multiplier(static_cast<double>(x.scale / y.scale));
  const StoredBounds bounds = MakeStoredBounds(*node, y);
  AddLookUp(lowering, *node, [&](int code) {
    const int64_t scaled = Multiply(code - x.zero_point, multiplier) + y.zero_point;
    return static_cast<double>(std::min<int64_t>(std::max<int64_t>(scaled, bounds.low - 128), bounds.high - 128));
  });
  return Status::Ok();
}

int64_t Saturate16(int64_t x) { return std::min<int64_t>(std::max<int64_t>(x, -32768), 32767); }

// real ~ mantissa * 2^(exponent - 15).
FixedPoint Short(float real) {
  FixedPoint m(static_cast<double>(real));
  m.mantissa = std::min<int64_t>((m.mantissa + (1 << 15)) >> 16, 32767);
  return m;
}

int64_t High16(int64_t a, int64_t b) { return (a * b + (1 << 14)) >> 15; }

// x * relu6(x + 3) / 6.
struct HardSwish {
  int zero_x, zero_y;
  FixedPoint output, gate;

  HardSwish(const Value& x, const Value& y)
      : zero_x(x.zero_point),
        zero_y(y.zero_point),
        output(Short(Fine(x) / y.scale)),
        gate(Short(Fine(x) / (3.0f / 32768.0f))) {}
  static float Fine(const Value& x) { return (1.0f / 128.0f) * x.scale; }

  int64_t Gate(int64_t fine) const {
    int64_t g = High16(Saturate16(fine << std::max(gate.exponent - 1, 0)), gate.mantissa);
    g = Saturate16(gate.exponent > 0 ? g << 1 : g);
    return (ShiftAway(g, std::max(-gate.exponent, 0)) + (1 << 15)) >> 1;
  }

  // The product is cut, not rounded: rounding would move the mean.
  double operator()(int code) const {
    const int64_t fine = (code - zero_x) * 128;
    const int64_t product = Gate(fine) * High16(fine, output.mantissa) / 32768;
    return static_cast<double>(ShiftAway(product, -output.exponent) + zero_y);
  }
};

// Codes have to fit 16 bits, with the gate's shift. On Arm the builtin kernel's vectors round otherwise than the
// elements behind the last vector: no table can say that.
Status CheckHardSwish(const Graph& graph, const Node& node) {
#if defined(__aarch64__)
  if (!node.inputs.empty()) return Status::Error("the runtime's kernel for Arm rounds by an element's place");
#endif
  const HardSwish swish(Input(graph, node), Output(graph, node));
  const int gate = swish.gate.exponent, output = swish.output.exponent;
  if (gate > -16 && gate < 16 && output <= 0 && output > -16) return Status::Ok();
  return Status::Error("the scales of input and output are too far from each other");
}

Status LowerHardSwish(const Lowering& lowering, Node* node) {
  AddLookUp(lowering, *node, HardSwish(Input(*lowering.graph, *node), Output(*lowering.graph, *node)));
  return Status::Ok();
}

// ---- tables of the file: numbers are the codes, by the code modulo 256

Status CheckTable(const Graph&, const Node& node) {
  return node.options.numbers.size() == 256 ? Status::Ok() : Status::Error("a table must have 256 codes");
}

Status LowerTable(const Lowering& lowering, Node* node) {
  const std::vector<int32_t>& numbers = node->options.numbers;
  AddLookUp(lowering, *node, [&](int code) { return static_cast<double>(numbers[code & 255]); });
  return Status::Ok();
}

}  // namespace

const Operator kLogistic = {"logistic", CheckLogistic, InferSameShape, nullptr, LowerLogistic};
const Operator kTanh = {"tanh", CheckTanh, InferSameShape, nullptr, LowerTanh};
const Operator kQuantize = {"quantize", CheckQuantize, InferSameShape, nullptr, LowerQuantize};
const Operator kLeakyRelu = {"leaky relu", CheckLeakyRelu, InferSameShape, nullptr, LowerLeakyRelu};
const Operator kRelu = {"relu", CheckFixedPoint, InferSameShape, nullptr, LowerRelu};
const Operator kHardSwish = {"hard swish", CheckHardSwish, InferSameShape, nullptr, LowerHardSwish};
const Operator kTable = {"table", CheckTable, InferSameShape, nullptr, LowerTable};

}  // namespace dbq
