// Convolution and fully connected: rows of input patches times weight panels.
#include <algorithm>
#include <vector>

#include "core/executor.h"
#include "core/gemm.h"
#include "core/select.h"

namespace dbq {
namespace {

// Patches gathered at a time: as many as stay in the second-level cache beside one weight panel.
constexpr int64_t kBlockBytes = 64 * 1024;

class ConvExecutor : public Executor {
 public:
  ConvExecutor(const Layer& layer, const GemmKernel& kernel) : params_(layer.params), gemm_(PackGemm(layer, kernel)) {
    const int64_t tiles = std::max<int64_t>(1, kBlockBytes / (gemm_.RowBytes() * kernel.rows));
    block_pixels_ = std::min<int64_t>(tiles, 32) * kernel.rows;
  }

  void Prepare(const ConvGeometry& geometry, int threads) override {
    geometry_ = geometry;
    // One-pixel outputs with many channels stay on one thread: pixels are what is split.
    const int64_t pixels = geometry.output.Pixels();
    block_ = std::min<int64_t>(block_pixels_, std::max<int64_t>(1, (pixels + threads - 1) / threads));
    blocks_ = (pixels + block_ - 1) / block_;
    slots_ = UsefulSlots(threads, blocks_, block_ * gemm_.depth * gemm_.channels);
    scratch_.assign(slots_ * block_ * gemm_.RowBytes(), 0);
  }

  void Run(const int8_t* x, int8_t* y, ThreadPool* pool) override {
    pool->Run(slots_, blocks_, [&](int64_t begin, int64_t end, int slot) {
      char* rows = scratch_.data() + slot * block_ * gemm_.RowBytes();
      for (int64_t block = begin; block < end; ++block) RunBlock(block * block_, rows, x, y);
    });
  }

 private:
  void RunBlock(int64_t first, char* rows, const int8_t* x, int8_t* y) const {
    const int64_t count = std::min(block_, geometry_.output.Pixels() - first);
    for (int64_t i = 0; i < count; ++i) GatherPatch(first + i, x, rows + i * gemm_.RowBytes());
    RunGemm(gemm_, rows, count, y + first * gemm_.channels);
  }

  // Everything under the kernel for one output pixel, in OHWI order without the O.
  void GatherPatch(int64_t pixel, const int8_t* x, char* row) const {
    const ImageShape& out = geometry_.output;
    const int64_t left = pixel % out.width * params_.stride_w - geometry_.pad_left;
    const int64_t top = pixel / out.width % out.height * params_.stride_h - geometry_.pad_top;
    const int8_t* image = x + pixel / out.width / out.height * ImageSize();
    for (int64_t i = 0; i < params_.kernel_h; ++i) {
      GatherKernelRow(image, top + i * params_.dilation_h, left, &row);
    }
    Load(nullptr, gemm_.RowElements() - gemm_.depth, &row);
  }

  void GatherKernelRow(const int8_t* image, int64_t y, int64_t left, char** row) const {
    const ImageShape& in = geometry_.input;
    const int64_t channels = in.channels;
    if (y < 0 || y >= in.height) return Load(nullptr, params_.kernel_w * channels, row);
    const int8_t* line = image + y * in.width * channels;
    const bool dense = params_.dilation_w == 1 || params_.kernel_w == 1;
    if (dense && left >= 0 && left + params_.kernel_w <= in.width) {
      return Load(line + left * channels, params_.kernel_w * channels, row);
    }
    for (int64_t j = 0; j < params_.kernel_w; ++j) {
      const int64_t column = left + j * params_.dilation_w;
      Load(column < 0 || column >= in.width ? nullptr : line + column * channels, channels, row);
    }
  }

  void Load(const int8_t* x, int64_t count, char** row) const {
    gemm_.kernel->load(x, count, params_.input_zero_point, *row);
    *row += count * static_cast<int64_t>(gemm_.kernel->element_bytes);
  }

  int64_t ImageSize() const {
    return static_cast<int64_t>(geometry_.input.height) * geometry_.input.width * geometry_.input.channels;
  }

  LayerParams params_;
  PackedGemm gemm_;
  int64_t block_pixels_ = 1;
  ConvGeometry geometry_;
  int64_t block_ = 1, blocks_ = 0;
  int slots_ = 1;
  std::vector<char> scratch_;
};

}  // namespace

std::unique_ptr<Executor> MakeConvExecutor(const Layer& layer, const GemmKernel& kernel) {
  return std::make_unique<ConvExecutor>(layer, kernel);
}

std::unique_ptr<Executor> MakeExecutor(const Layer& layer, Isa isa) {
  if (layer.kind == OpKind::kDepthwiseConv2D) return MakeDepthwiseExecutor(layer, SelectDepthwise(isa));
  return MakeConvExecutor(layer, SelectGemm(isa));
}

}  // namespace dbq
