// Convolutions (ordinary and grouped) and fully connected layers: matrix products over patches that are not copied.
//
// The rows of the image under a kernel are the segments of a patch. The border holds zero points, so that a patch at
// the edge is a patch like any other.
#include <algorithm>
#include <vector>

#include "core/geometry.h"
#include "ops/op.h"
#include "ops/packed_layer.h"
#include "ops/window.h"

namespace dbq {
namespace {

// Pixels that pass while a panel of weights stays in the first-level cache.
constexpr int64_t kBlockBytes = 256 * 1024;

// First bytes of every pixel's patch, and of its output; with slack behind the end: kernels read them as vectors.
struct PixelOffsets {
  Buffer<int32_t> x, y;
  explicit PixelOffsets(int64_t pixels) : x(pixels), y(pixels) {}
};

// One product for every group, over the same pixels.
class GemmStep : public Step {
 public:
  GemmStep(std::shared_ptr<PackedLayer> layer, PixelOffsets pixels, const std::vector<int32_t>& segment_offset,
           const Image& x, const Image& y)
      : Step(Units(*layer, pixels.x.count()), Cost(*layer)),
        layer_(std::move(layer)),
        x_offset_(std::move(pixels.x)),
        segment_offset_(Copy(segment_offset)),
        output_offset_(std::move(pixels.y)),
        x_(x.data),
        output_(y.data) {}

  const char* Kernel() const override { return layer_->gemm_kernel->name; }
  int64_t WeightBytes() const override {
    int64_t bytes = 0;
    for (const PackedGemm& gemm : layer_->gemms) bytes += gemm.Bytes();
    return bytes;
  }
  int64_t ScratchBytes() const override { return layer_->gemm_kernel->scratch_bytes(layer_->gemms[0].shape); }

  // Units are tiles of pixels; where there are too few of them to share, panels of channels.
  void Run(const RunContext& context, int64_t begin, int64_t end) const override {
    const int64_t pixels = layer_->gemms[0].shape.pixels, rows = layer_->gemm_kernel->rows;
    if (ByPanels(*layer_, pixels)) return RunGroups(context, 0, pixels, begin, end);
    const int64_t block = std::max<int64_t>(1, kBlockBytes / (layer_->gemms[0].shape.Depth() * rows));
    for (int64_t tile = begin; tile < end; tile += block) {
      const int64_t last = std::min(end, tile + block);
      RunGroups(context, tile * rows, std::min(pixels, last * rows), 0, Panels(*layer_));
    }
  }

 private:
  static int64_t Panels(const PackedLayer& layer) { return static_cast<int64_t>(layer.gemms[0].panels.size()); }
  static bool ByPanels(const PackedLayer& layer, int64_t pixels) { return pixels <= layer.gemm_kernel->rows; }
  static int64_t Units(const PackedLayer& layer, int64_t pixels) {
    return ByPanels(layer, pixels) ? Panels(layer) : CeilDiv(pixels, layer.gemm_kernel->rows);
  }
  static double Cost(const PackedLayer& layer) {
    return layer.gemm_kernel->cost(layer.gemms[0].shape) * static_cast<double>(layer.gemms.size());
  }
  // With slack behind the end: kernels read offsets as vectors.
  static Buffer<int32_t> Copy(const std::vector<int32_t>& values) {
    Buffer<int32_t> copy(static_cast<int64_t>(values.size()));
    std::copy(values.begin(), values.end(), copy.data());
    return copy;
  }

  void RunGroups(const RunContext& context, int64_t first, int64_t last, int64_t panel, int64_t last_panel) const {
    for (size_t group = 0; group < layer_->gemms.size(); ++group) {
      const PackedGemm& gemm = layer_->gemms[group];
      layer_->gemm_kernel->run({&gemm, x_ + group * gemm.shape.length, x_offset_.data() + first, segment_offset_.data(),
                                output_ + group * gemm.shape.channels, output_offset_.data() + first, last - first,
                                panel, last_panel, context.scratch});
    }
  }

  std::shared_ptr<PackedLayer> layer_;
  Buffer<int32_t> x_offset_, segment_offset_, output_offset_;
  const uint8_t* x_;
  uint8_t* output_;
};

// Rows of the image that lie side by side are one segment; with gaps between taps, or groups, every tap is one.
GemmShape MakeShape(const LayerParams& p, int64_t pixels) {
  const bool rows = p.groups == 1 && (p.dilation_w == 1 || p.kernel_w == 1);
  const int64_t channels = p.in_channels / p.groups;
  GemmShape shape{pixels, p.kernel_h, p.kernel_w * channels, p.out_channels / p.groups};
  if (!rows) shape.segments *= p.kernel_w, shape.length = channels;
  return shape;
}

std::vector<int32_t> SegmentOffsets(const LayerParams& p, const GemmShape& shape, const Image& x) {
  std::vector<int32_t> offsets;
  const int64_t columns = shape.segments / p.kernel_h;
  for (int64_t i = 0; i < p.kernel_h; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      offsets.push_back(static_cast<int32_t>(i * p.dilation_h * x.RowBytes() + j * p.dilation_w * x.channels));
    }
  }
  return offsets;
}

void PackGroups(const StoredLayer& stored, const Node& node, const GemmShape& shape, PackedLayer* packed) {
  const Layer& layer = node.layer;
  const Branches branches = packed->gemm_kernel->wants_trits ? LoadBranches(node, stored) : Branches{};
  packed->gemms.resize(layer.params.groups);
  for (int64_t group = 0; group < layer.params.groups; ++group) {
    const int64_t first = group * shape.channels, weights = first * shape.Depth();
    GemmWeights part{shape, stored.integers.data() + weights, stored.bias.data() + first,
                     layer.multiplier.data() + first, stored.stage};
    if (layer.levels > 0) {
      part.levels = layer.levels;
      part.thresholds = layer.thresholds.data() + first, part.thresholds_row = layer.params.out_channels;
    }
    if (branches.planes > 0) {
      part.trits = branches.trits.data() + weights;
      part.scales = branches.scales.data() + first;
    }
    packed->gemm_kernel->pack(part, &packed->gemms[group]);
  }
}

// Chooses a kernel and packs, at the first plan only.
void PackLayer(const Lowering& lowering, GemmShape shape, Node* node) {
  if (node->packed == nullptr) node->packed = std::make_shared<PackedLayer>();
  PackedLayer& packed = *node->packed;
  if (packed.gemms.empty()) {
    StoredLayer stored;
    LoadStored(*node, &stored);
    shape.planes = stored.planes;
    if (packed.gemm_kernel == nullptr) packed.gemm_kernel = &SelectGemm(shape, stored.bounded, lowering.features);
    PackGroups(stored, *node, shape, &packed);
  }
  for (PackedGemm& gemm : packed.gemms) gemm.shape.pixels = shape.pixels;
}

PixelOffsets MakeOffsets(const WindowGeometry& g, const Image& x, const Image& y) {
  PixelOffsets offsets(y.Rows() * y.width);
  for (int64_t row = 0, i = 0; row < y.Rows(); ++row) {
    const int64_t top = g.Top(row % y.height);
    const int64_t start = row / y.height * x.ImageBytes() + top * x.RowBytes() - g.left * x.channels;
    const int64_t end = y.Row(row) - y.data;
    for (int64_t column = 0; column < y.width; ++column, ++i) {
      offsets.x[i] = static_cast<int32_t>(start + column * g.stride_w * x.channels);
      offsets.y[i] = static_cast<int32_t>(end + column * y.channels);
    }
  }
  return offsets;
}

Status LowerConvolution(const Lowering& lowering, Node* node) {
  const Image &x = lowering.image(node->inputs[0]), &y = lowering.image(node->output);
  const GemmShape shape = MakeShape(node->layer.params, y.Rows() * y.width);
  PackLayer(lowering, shape, node);
  if (shape.pixels == 0) return Status::Ok();
  WindowGeometry geometry;
  DBQ_RETURN_IF_ERROR(MakeWindowGeometry(lowering.graph->values[node->inputs[0]].shape, *node, &geometry));
  lowering.Add(*node, std::make_unique<GemmStep>(node->packed, MakeOffsets(geometry, x, y),
                                                 SegmentOffsets(node->layer.params, shape, x), x, y));
  return Status::Ok();
}

// Rows are what is left of the input when it is cut into vectors of K; keep_num_dims keeps the leading axes.
Status InferFullyConnected(const Graph& graph, const Node& node, std::vector<int>* shape) {
  const LayerParams& p = node.layer.params;
  const Value& x = graph.values[node.inputs[0]];
  const int64_t elements = x.Elements();
  if (elements < 0 || elements % p.in_channels != 0) {
    return Status::Error("input must have a number of elements divisible by %d, got %lld", p.in_channels,
                         static_cast<long long>(elements));
  }
  const int rows = static_cast<int>(elements / p.in_channels);
  std::vector<int> result = {rows, p.out_channels};
  if (p.keep_num_dims) {
    if (x.shape.empty() || x.shape.back() != p.in_channels) {
      return Status::Error("input must end in an axis of %d (keep_num_dims), got rank %zu ending in %d", p.in_channels,
                           x.shape.size(), x.shape.empty() ? 0 : x.shape.back());
    }
    result = x.shape;
    result.back() = p.out_channels;
  }
  *shape = result;
  return Status::Ok();
}

Status LowerFullyConnected(const Lowering& lowering, Node* node) {
  const LayerParams& p = node->layer.params;
  const Image &x = lowering.image(node->inputs[0]), &y = lowering.image(node->output);
  const int64_t rows = y.Rows() * y.width * y.channels / p.out_channels;
  const GemmShape shape{rows, 1, p.in_channels, p.out_channels};
  PackLayer(lowering, shape, node);
  if (rows == 0) return Status::Ok();
  PixelOffsets offsets(rows);
  for (int64_t row = 0; row < rows; ++row) {
    offsets.x[row] = static_cast<int32_t>(row * p.in_channels);
    const int64_t pixels = y.width;  // of a row, where the output keeps its axes
    offsets.y[row] = static_cast<int32_t>(y.Row(row / pixels) - y.data + row % pixels * y.channels);
  }
  const std::vector<int32_t> whole = {0};
  lowering.Add(*node, std::make_unique<GemmStep>(node->packed, std::move(offsets), whole, x, y));
  return Status::Ok();
}

}  // namespace

const Operator kConvolution = {"convolution", CheckLayer, InferWindow, WindowBorder, LowerConvolution};
const Operator kFullyConnected = {"fully connected", CheckLayer, InferFullyConnected, nullptr, LowerFullyConnected};

}  // namespace dbq
