// Kernels in plain C++: run everywhere, and are what every other instruction set falls back to.
#include "core/kernel.h"

namespace dbq {
namespace {

constexpr int kRows = 4;
constexpr int kChannels = 8;

void Load(const int8_t* x, int64_t count, int32_t zero_point, void* row) {
  int16_t* out = static_cast<int16_t*>(row);
  for (int64_t i = 0; i < count; ++i) out[i] = x == nullptr ? 0 : static_cast<int16_t>(x[i] - zero_point);
}

void RunRow(const GemmTile& tile, const int16_t* row, int8_t* output) {
  int32_t accumulator[kChannels];
  for (int c = 0; c < kChannels; ++c) accumulator[c] = tile.bias[c];
  const int8_t* weights = tile.weights;
  for (int64_t k = 0; k < tile.steps; ++k, weights += kChannels) {
    for (int c = 0; c < kChannels; ++c) accumulator[c] += row[k] * weights[c];
  }
  for (int c = 0; c < tile.channel_count; ++c) {
    output[c] = Requantize(accumulator[c], tile.multiplier[c], tile.stage);
  }
}

void RunGemm(const GemmTile& tile) {
  for (int r = 0; r < tile.row_count; ++r) {
    const char* row = static_cast<const char*>(tile.rows) + r * tile.row_bytes;
    RunRow(tile, reinterpret_cast<const int16_t*>(row), tile.output + r * tile.output_stride);
  }
}

void RunDepthwise(const DepthwisePixel& pixel) {
  for (int64_t c = pixel.channel_begin; c < pixel.channel_end; ++c) {
    int32_t accumulator = pixel.bias[c];
    for (int tap = 0; tap < pixel.tap_count; ++tap) {
      accumulator += (pixel.taps[tap][c] - pixel.input_zero_point) * pixel.weights[tap * pixel.channels + c];
    }
    pixel.output[c] = Requantize(accumulator, pixel.multiplier[c], pixel.stage);
  }
}

}  // namespace

const GemmKernel gemm_scalar_4x8c1 = {"gemm_scalar_4x8c1", Isa::kScalar, kRows,  kChannels, 1,
                                      sizeof(int16_t),     Load,         RunGemm};
const DepthwiseKernel depthwise_scalar = {"depthwise_scalar", Isa::kScalar, RunDepthwise};

}  // namespace dbq
