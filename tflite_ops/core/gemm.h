// Weights of a layer in the panel layout of one GEMM kernel, and the loop over tiles.
#ifndef DBQ_CORE_GEMM_H_
#define DBQ_CORE_GEMM_H_

#include <cstdint>
#include <vector>

#include "core/kernel.h"
#include "core/layer.h"

namespace dbq {

struct PackedGemm {
  const GemmKernel* kernel = nullptr;
  int64_t depth = 0, steps = 0, channels = 0;
  std::vector<int8_t> weights;    // [panels][steps][kernel channels][depth_step], zero filled
  std::vector<int32_t> bias;      // [panels * kernel channels]
  std::vector<float> multiplier;  // [panels * kernel channels]
  OutputStage stage;

  int64_t RowElements() const { return steps * kernel->depth_step; }
  int64_t RowBytes() const { return RowElements() * static_cast<int64_t>(kernel->element_bytes); }
};

// layer.integers is [M, K] (convolution, fully connected).
PackedGemm PackGemm(const Layer& layer, const GemmKernel& kernel);

// rows: [row_count] of RowBytes(), in the kernel's element format. output: [row_count, M].
void RunGemm(const PackedGemm& gemm, const char* rows, int64_t row_count, int8_t* output);

}  // namespace dbq

#endif  // DBQ_CORE_GEMM_H_
