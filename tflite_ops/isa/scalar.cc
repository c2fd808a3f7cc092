// Kernels in plain C++: run everywhere, do every shape, and are what every other instruction set falls back to.
#include "isa/codes.h"
#include "isa/kernel.h"
#include "isa/panels.h"

namespace dbq {
namespace {

constexpr int kChannels = 16;

// Never 0: this is what is left for every shape.
double GemmCost(const GemmShape& s) { return 1.0 + static_cast<double>(s.pixels * s.Depth() * s.channels); }
int64_t NoScratch(const GemmShape&) { return 0; }

void PackGemm(const GemmWeights& weights, PackedGemm* packed) { PackPanels(weights, 1, 1, kChannels, nullptr, packed); }

int32_t Count(int32_t sum, const int32_t* thresholds, int levels) {
  int32_t reached = 0;
  for (int i = 0; i < levels; ++i) reached += sum >= thresholds[i * kPanelChannels];
  return reached;
}

void RunPixel(const GemmTask& task, const Panel& panel, int64_t index, int64_t pixel) {
  const PackedGemm& gemm = *task.gemm;
  uint32_t accumulator[kChannels];  // unsigned: on the way to a sum that fits, the zero point's share may pass 2^31
  for (int c = 0; c < kChannels; ++c) accumulator[c] = static_cast<uint32_t>(gemm.bias[index * kPanelChannels + c]);
  const int8_t* w = gemm.weights.data() + panel.weights_offset;
  for (int64_t s = 0; s < gemm.shape.segments; ++s) {
    const uint8_t* x = task.x + task.x_offset[pixel] + task.segment_offset[s];
    for (int64_t k = 0; k < gemm.steps; ++k, w += kChannels) {
      for (int c = 0; c < kChannels; ++c) accumulator[c] += static_cast<uint32_t>(x[k] * w[c]);
    }
  }
  uint8_t* y = task.output + task.output_offset[pixel] + panel.first_channel;
  const float* multiplier = gemm.multiplier.data() + index * kPanelChannels;
  const int32_t* thresholds = gemm.thresholds.data() + index * gemm.levels * kPanelChannels;
  for (int c = 0; c < panel.channels; ++c) {
    const int32_t sum = static_cast<int32_t>(accumulator[c]);
    y[c] = static_cast<uint8_t>(gemm.levels == 0 ? Requantize(sum, multiplier[c], gemm.stage)
                                                 : Count(sum, thresholds + c, gemm.levels) + gemm.stage.zero_point);
  }
}

void RunGemm(const GemmTask& task) {
  for (int64_t i = task.first_panel; i < task.last_panel; ++i) {
    for (int64_t pixel = 0; pixel < task.count; ++pixel) RunPixel(task, task.gemm->panels[i], i, pixel);
  }
}

// With what surrounds the taps of an output, which for a single tap is most of it.
double DepthwiseCost(const DepthwiseShape& s) {
  return (2.0 * static_cast<double>(s.Taps()) + 4.0) * static_cast<double>(s.channels);
}

void PackDepthwise(const DepthwiseWeights& weights, PackedDepthwise* packed) { CopyDepthwise(weights, packed); }

void RunDepthwisePixel(const PackedDepthwise& packed, const uint8_t* x, int64_t x_row, uint8_t* y) {
  const DepthwiseShape& s = packed.shape;
  for (int64_t c = 0; c < s.channels; ++c) {
    uint32_t accumulator = static_cast<uint32_t>(packed.bias[c]);
    const int8_t* w = packed.weights.data() + c;
    for (int i = 0; i < s.kernel_h; ++i) {
      const uint8_t* row = x + i * s.dilation_h * x_row + c;
      for (int j = 0; j < s.kernel_w; ++j, w += s.channels) {
        accumulator += static_cast<uint32_t>(row[j * s.dilation_w * s.channels] * *w);
      }
    }
    y[c] = static_cast<uint8_t>(Requantize(static_cast<int32_t>(accumulator), packed.multiplier[c], packed.stage));
  }
}

void RunDepthwise(const DepthwiseTask& task) {
  const DepthwiseShape& s = task.packed->shape;
  for (int64_t row = 0; row < task.rows; ++row) {
    const uint8_t* x = task.x + row * s.stride_h * task.x_row;
    uint8_t* y = task.output + row * task.output_row;
    for (int64_t i = 0; i < task.width; ++i) {
      RunDepthwisePixel(*task.packed, x + i * s.stride_w * s.channels, task.x_row, y + i * s.channels);
    }
  }
}

}  // namespace

const GemmKernel gemm_scalar_1x16c1 = {
    "gemm_scalar_1x16c1", kScalar, false, false, 1, GemmCost, NoScratch, PackGemm, RunGemm};
const DepthwiseKernel depthwise_scalar = {"depthwise_scalar", kScalar,       false,
                                          DepthwiseCost,      PackDepthwise, RunDepthwise};
const CodeKernels codes_scalar = {"codes_scalar", kScalar,    AddCodes,    MulCodes,   SumCodes,      MaximumCodes,
                                  FlipCodes,      ClampCodes, LookUpCodes, BlendCodes, QuantizeCodes, DequantizeCodes};

}  // namespace dbq
