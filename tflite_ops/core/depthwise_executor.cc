// Depthwise convolution: per output pixel a list of pointers to the taps, padding pointing to zero points.
#include <vector>

#include "core/executor.h"
#include "core/kernel.h"

namespace dbq {
namespace {

class DepthwiseExecutor : public Executor {
 public:
  DepthwiseExecutor(const Layer& layer, const DepthwiseKernel& kernel) : layer_(layer), kernel_(kernel) {
    padding_.assign(layer.params.out_channels, static_cast<int8_t>(layer.params.input_zero_point));
  }

  void Prepare(const ConvGeometry& geometry, int threads) override {
    geometry_ = geometry;
    const ImageShape& out = geometry.output;
    rows_ = static_cast<int64_t>(out.batch) * out.height;
    slots_ = UsefulSlots(threads, rows_, out.width * Taps() * out.channels);
    taps_.assign(slots_ * Taps(), nullptr);
    const bool expand = layer_.params.depth_multiplier > 1;
    expanded_.assign(expand ? geometry.input.Pixels() * out.channels : 0, 0);
  }

  void Run(const int8_t* x, int8_t* y, ThreadPool* pool) override {
    if (!expanded_.empty()) x = Expand(x);
    pool->Run(slots_, rows_, [&](int64_t begin, int64_t end, int slot) {
      for (int64_t row = begin; row < end; ++row) RunRow(row, x, y, taps_.data() + slot * Taps());
    });
  }

 private:
  int64_t Taps() const { return layer_.params.Depth(layer_.kind); }

  // Repeats every channel `depth_multiplier` times, so that kernels only know multiplier 1.
  const int8_t* Expand(const int8_t* x) {
    const int64_t elements = geometry_.input.Pixels() * geometry_.input.channels;
    int8_t* out = expanded_.data();
    for (int64_t i = 0; i < elements; ++i) {
      for (int r = 0; r < layer_.params.depth_multiplier; ++r) *out++ = x[i];
    }
    return expanded_.data();
  }

  void RunRow(int64_t row, const int8_t* x, int8_t* y, const int8_t** taps) const {
    const ImageShape& out = geometry_.output;
    const LayerParams& p = layer_.params;
    const int64_t channels = out.channels;
    const int64_t image_size = static_cast<int64_t>(geometry_.input.height) * geometry_.input.width * channels;
    const int8_t* image = x + row / out.height * image_size;
    const int64_t top = row % out.height * p.stride_h - geometry_.pad_top;
    DepthwisePixel pixel{taps,
                         static_cast<int>(Taps()),
                         layer_.integers.data(),
                         channels,
                         0,
                         channels,
                         layer_.bias.data(),
                         layer_.multiplier.data(),
                         p.input_zero_point,
                         layer_.stage,
                         y + row * out.width * channels};
    for (int64_t column = 0; column < out.width; ++column, pixel.output += channels) {
      CollectTaps(image, top, column * p.stride_w - geometry_.pad_left, taps);
      kernel_.run(pixel);
    }
  }

  void CollectTaps(const int8_t* image, int64_t top, int64_t left, const int8_t** taps) const {
    const LayerParams& p = layer_.params;
    const ImageShape& in = geometry_.input;
    for (int64_t i = 0; i < p.kernel_h; ++i) {
      const int64_t y = top + i * p.dilation_h;
      for (int64_t j = 0; j < p.kernel_w; ++j) {
        const int64_t x = left + j * p.dilation_w;
        const bool inside = y >= 0 && y < in.height && x >= 0 && x < in.width;
        *taps++ = inside ? image + (y * in.width + x) * p.out_channels : padding_.data();
      }
    }
  }

  Layer layer_;
  const DepthwiseKernel& kernel_;
  std::vector<int8_t> padding_;  // [M] zero points
  ConvGeometry geometry_;
  int64_t rows_ = 0;
  int slots_ = 1;
  std::vector<const int8_t*> taps_;  // [slots, kernel_h * kernel_w]
  std::vector<int8_t> expanded_;     // [N, H, W, M] when depth_multiplier > 1
};

}  // namespace

std::unique_ptr<Executor> MakeDepthwiseExecutor(const Layer& layer, const DepthwiseKernel& kernel) {
  return std::make_unique<DepthwiseExecutor>(layer, kernel);
}

}  // namespace dbq
