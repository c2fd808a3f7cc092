#include "core/gemm.h"

#include <algorithm>

namespace dbq {

PackedGemm PackGemm(const Layer& layer, const GemmKernel& kernel) {
  PackedGemm gemm;
  gemm.kernel = &kernel;
  gemm.depth = layer.params.Depth(layer.kind);
  gemm.steps = (gemm.depth + kernel.depth_step - 1) / kernel.depth_step;
  gemm.channels = layer.params.out_channels;
  gemm.stage = layer.stage;

  const int64_t padded_channels = (gemm.channels + kernel.channels - 1) / kernel.channels * kernel.channels;
  gemm.weights.assign(padded_channels * gemm.RowElements(), 0);
  for (int64_t m = 0; m < gemm.channels; ++m) {
    int8_t* panel = gemm.weights.data() + m / kernel.channels * kernel.channels * gemm.RowElements();
    for (int64_t k = 0; k < gemm.depth; ++k) {
      const int64_t cell = k / kernel.depth_step * kernel.channels + m % kernel.channels;
      panel[cell * kernel.depth_step + k % kernel.depth_step] = layer.integers[m * gemm.depth + k];
    }
  }
  gemm.bias = layer.bias;
  gemm.bias.resize(padded_channels, 0);
  gemm.multiplier = layer.multiplier;
  gemm.multiplier.resize(padded_channels, 0.0f);
  return gemm;
}

void RunGemm(const PackedGemm& gemm, const char* rows, int64_t row_count, int8_t* output) {
  const GemmKernel& kernel = *gemm.kernel;
  GemmTile tile;
  tile.row_bytes = gemm.RowBytes();
  tile.steps = gemm.steps;
  tile.stage = gemm.stage;
  tile.output_stride = gemm.channels;
  // Panels outside: a panel stays in the first-level cache while the rows pass.
  for (int64_t m = 0; m < gemm.channels; m += kernel.channels) {
    tile.weights = gemm.weights.data() + m * gemm.RowElements();
    tile.bias = gemm.bias.data() + m;
    tile.multiplier = gemm.multiplier.data() + m;
    tile.channel_count = static_cast<int>(std::min<int64_t>(kernel.channels, gemm.channels - m));
    for (int64_t r = 0; r < row_count; r += kernel.rows) {
      tile.rows = rows + r * tile.row_bytes;
      tile.row_count = static_cast<int>(std::min<int64_t>(kernel.rows, row_count - r));
      tile.output = output + r * gemm.channels + m;
      kernel.run(tile);
    }
  }
}

}  // namespace dbq
