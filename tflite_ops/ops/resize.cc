// RESIZE_BILINEAR as XNNPACK computes it: weights of 11 bits along each axis, the sum by 2^22 to nearest, ties up.
// RESIZE_NEAREST_NEIGHBOR (the builtin kernel's): codes are moved. Positions are in float32 in both.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/elementwise.h"
#include "ops/op.h"

namespace dbq {
namespace {

constexpr int kImageRank = 4;
constexpr int64_t kMostSize = 1 << 15;  // of an axis; positions stay exact enough to be the runtime's

Status CheckResize(const Graph& graph, const Node& node) {
  const Options& o = node.options;
  if (o.numbers.size() != 2 || o.numbers[0] < 1 || o.numbers[1] < 1 || o.numbers[0] > kMostSize ||
      o.numbers[1] > kMostSize) {
    return Status::Error("the new size must be two numbers in 1 .. %lld", static_cast<long long>(kMostSize));
  }
  if (o.align_corners && o.half_pixel_centers) return Status::Error("corners and centers cannot both be aligned");
  return CheckSameScales(graph, node);
}

Status InferResize(const Graph& graph, const Node& node, std::vector<int>* shape) {
  *shape = graph.values[node.inputs[0]].shape;
  if (shape->size() != kImageRank || (*shape)[1] < 1 || (*shape)[2] < 1) {
    return Status::Error("input must be an image of rank 4 (NHWC)");
  }
  (*shape)[1] = node.options.numbers[0], (*shape)[2] = node.options.numbers[1];
  return Status::Ok();
}

float ScaleOf(int64_t from, int64_t to, bool align_corners) {
  const int64_t less = align_corners && to > 1 ? 1 : 0;
  return static_cast<float>(from - less) / static_cast<float>(to - less);
}

// ---- bilinear

constexpr int kWeightBits = 11;

// Between which rows (columns) every row (column) of the output lies.
struct Between {
  std::vector<int64_t> first, second;
  std::vector<int32_t> weight;  // of the second, of 2^11
};

// `unit`: what a step along the axis counts.
Between MakeBetween(int64_t from, int64_t to, int64_t unit, const Options& options) {
  const float scale = ScaleOf(from, to, options.align_corners);
  const float offset = options.half_pixel_centers ? 0.5f * scale - 0.5f : 0.0f;
  Between all;
  for (int64_t i = 0; i < to; ++i) {
    const float product = static_cast<float>(i) * scale;
    const float position = std::min(std::max(product + offset, 0.0f), static_cast<float>(from - 1));
    const int64_t first = static_cast<int64_t>(position);
    const float fraction = position - static_cast<float>(first);
    all.first.push_back(first * unit);
    all.second.push_back(std::min(first + 1, from - 1) * unit);
    all.weight.push_back(static_cast<int32_t>(std::lrint(fraction * static_cast<float>(1 << kWeightBits))));
  }
  return all;
}

class BilinearStep : public Step {
 public:
  BilinearStep(const Image& x, const Image& y, const Options& options, const CodeKernels& codes)
      : Step(y.Rows(), static_cast<double>(y.Bytes())),
        x_(x),
        y_(y),
        rows_(MakeBetween(x.height, y.height, 1, options)),
        columns_(MakeBetween(x.width, y.width, x.channels, options)),
        codes_(codes) {}

  void Run(const RunContext&, int64_t begin, int64_t end) const override {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t image = row / y_.height * x_.height, i = row % y_.height;
      codes_.blend({x_.Row(image + rows_.first[i]), x_.Row(image + rows_.second[i]), rows_.weight[i], y_.width,
                    y_.channels, columns_.first.data(), columns_.second.data(), columns_.weight.data()},
                   y_.Row(row));
    }
  }

 private:
  Image x_, y_;
  Between rows_, columns_;
  const CodeKernels& codes_;
};

Status LowerBilinear(const Lowering& lowering, Node* node) {
  lowering.Add(*node, std::make_unique<BilinearStep>(lowering.image(node->inputs[0]), lowering.image(node->output),
                                                     node->options, *lowering.codes));
  return Status::Ok();
}

// ---- nearest

std::vector<int64_t> MakeNearest(int64_t from, int64_t to, const Options& options) {
  const float scale = ScaleOf(from, to, options.align_corners);
  const float offset = options.half_pixel_centers ? 0.5f : 0.0f;
  std::vector<int64_t> all;
  for (int64_t i = 0; i < to; ++i) {
    const float position = (static_cast<float>(i) + offset) * scale;
    const float index = options.align_corners ? std::round(position) : std::floor(position);
    all.push_back(std::min(std::max<int64_t>(static_cast<int64_t>(index), 0), from - 1));
  }
  return all;
}

void CopyColumns(const uint8_t* x, const std::vector<int64_t>& columns, int64_t channels, uint8_t* y) {
  for (int64_t column : columns) {
    std::memcpy(y, x + column * channels, channels);
    y += channels;
  }
}

Status LowerNearest(const Lowering& lowering, Node* node) {
  const Image x = lowering.image(node->inputs[0]), y = lowering.image(node->output);
  const std::vector<int64_t> rows = MakeNearest(x.height, y.height, node->options);
  const std::vector<int64_t> columns = MakeNearest(x.width, y.width, node->options);
  lowering.Add(*node, MakeRowStep(y.Rows(), static_cast<double>(y.Bytes()) / 8, [=](int64_t row) {
    const int64_t from = row / y.height * x.height + rows[row % y.height];
    CopyColumns(x.Row(from), columns, x.channels, y.Row(row));
  }));
  return Status::Ok();
}

}  // namespace

const Operator kResizeBilinear = {"resize bilinear", CheckResize, InferResize, nullptr, LowerBilinear};
const Operator kResizeNearest = {"resize nearest", CheckResize, InferResize, nullptr, LowerNearest};

}  // namespace dbq
