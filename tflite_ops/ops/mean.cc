// MEAN over height and width as XNNPACK computes it, n pixels: s = (s_x / s_y) * (1 / n),
//   y = clamp(rne(float(sum) * s + (zero_y - float(n * zero_x) * s)))
// where the zero point is added before rounding.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/elementwise.h"
#include "ops/op.h"

namespace dbq {
namespace {

struct MeanParams {
  int64_t pixels;
  float scale, offset;
};

MeanParams MakeParams(const Value& x, const Value& y, int64_t pixels) {
  const float ratio = x.scale / y.scale, part = 1.0f / static_cast<float>(pixels);
  const float scale = ratio * part;
  const float zero = static_cast<float>(pixels * x.zero_point) * scale;
  return {pixels, scale, static_cast<float>(y.zero_point) - zero};
}

uint8_t Finish(const MeanParams& p, int64_t stored_sum) {
  const float product = static_cast<float>(stored_sum - 128 * p.pixels) * p.scale;
  const float code = std::nearbyintf(product + p.offset);
  return static_cast<uint8_t>(static_cast<int>(std::min(std::max(code, -128.0f), 127.0f)) + 128);
}

// An image is a unit; sums are in scratch memory.
class MeanStep : public Step {
 public:
  MeanStep(const Image& x, const Image& y, const MeanParams& params, const CodeKernels& codes)
      : Step(x.batch, static_cast<double>(x.batch * x.height * x.width * x.channels) / 8),
        x_(x),
        y_(y),
        params_(params),
        codes_(codes) {}

  int64_t ScratchBytes() const override { return x_.channels * static_cast<int64_t>(sizeof(int32_t)); }

  void Run(const RunContext& context, int64_t begin, int64_t end) const override {
    int32_t* sums = reinterpret_cast<int32_t*>(context.scratch);
    for (int64_t n = begin; n < end; ++n) {
      std::fill_n(sums, x_.channels, 0);
      // Without a border the rows are one.
      const int64_t rows = x_.IsDense() ? 1 : x_.height, pixels = x_.height * x_.width / rows;
      for (int64_t row = 0; row < rows; ++row) codes_.sum(x_.Row(n * x_.height + row), pixels, sums, x_.channels);
      uint8_t* y = y_.Row(n);  // a row is an image: height is 1
      for (int64_t c = 0; c < x_.channels; ++c) y[c] = Finish(params_, sums[c]);
    }
  }

 private:
  Image x_, y_;
  MeanParams params_;
  const CodeKernels& codes_;
};

// The mantissa, as an odd integer.
int64_t Odd(float scale) {
  int exponent;
  int64_t mantissa = static_cast<int64_t>(std::ldexp(std::frexp(scale, &exponent), 24));
  while (mantissa != 0 && mantissa % 2 == 0) mantissa /= 2;
  return mantissa;
}

// Whether sum * s_x / (s_y * n) can lie between two codes, 2k + 1 halves from zero: then the mantissa of s_x divides
// (2k + 1) n times that of s_y. LiteRT rounds such a mean to even, TensorFlow's runtime away from zero.
bool MayTie(const Value& x, const Value& y) {
  constexpr int64_t kMostHalves = 511;
  const int64_t pixels = x.shape.size() == 4 ? int64_t{x.shape[1]} * x.shape[2] : 1;
  const int64_t mantissa = Odd(x.scale);
  return mantissa / std::gcd(mantissa, Odd(y.scale) * pixels) <= kMostHalves;
}

Status CheckMean(const Graph& graph, const Node& node) {
  std::vector<int32_t> axes = node.options.numbers;
  std::sort(axes.begin(), axes.end());
  if (axes != std::vector<int32_t>{1, 2}) return Status::Error("axes must be 1 and 2");
  if (!MayTie(graph.values[node.inputs[0]], graph.values[node.output])) return Status::Ok();
  return Status::Error("with these scales means lie between two codes, which runtimes round differently");
}

Status InferMean(const Graph& graph, const Node& node, std::vector<int>* shape) {
  const std::vector<int>& x = graph.values[node.inputs[0]].shape;
  // The sum of more pixels would not fit.
  constexpr int64_t kMostPixels = 1 << 22;
  if (x.size() != 4 || int64_t{x[1]} * x[2] > kMostPixels || x[1] < 1 || x[2] < 1) {
    return Status::Error("input must be an image of 1 to %lld pixels", static_cast<long long>(kMostPixels));
  }
  *shape = node.options.keep_dims ? std::vector<int>{x[0], 1, 1, x[3]} : std::vector<int>{x[0], x[3]};
  return Status::Ok();
}

Status LowerMean(const Lowering& lowering, Node* node) {
  const Image x = lowering.image(node->inputs[0]);
  const MeanParams params =
      MakeParams(lowering.value(node->inputs[0]), lowering.value(node->output), x.height * x.width);
  lowering.Add(*node, std::make_unique<MeanStep>(x, lowering.image(node->output), params, *lowering.codes));
  return Status::Ok();
}

}  // namespace

const Operator kMean = {"mean", CheckMean, InferMean, nullptr, LowerMean};

}  // namespace dbq
