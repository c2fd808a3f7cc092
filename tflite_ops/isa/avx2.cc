// Kernels for AVX2; this file alone is compiled with -mavx2.
//
// Codes are widened to int16, so that products of pairs summed into int32 (vpmaddwd) are exact.
// No templates or inline functions of the standard library: the linker could keep their AVX2 copy for baseline code.
#if defined(__x86_64__)

#include <immintrin.h>

#include "isa/codes.h"
#include "isa/kernel.h"
#include "isa/panels.h"

namespace dbq {
namespace {

constexpr int kRows = 6;
constexpr int kChannels = 16;
constexpr int kStep = 2;
constexpr int kBlock = 8 * kRows;  // pixels that are widened at a time

double GemmCost(const GemmShape& s) { return static_cast<double>(s.pixels * s.Depth() * s.channels) / 24; }
int64_t RowElements(const GemmShape& s) { return s.segments * RoundUp(s.length, kStep); }
int64_t ScratchBytes(const GemmShape& s) { return kBlock * RowElements(s) * 2; }
void PackGemm(const GemmWeights& weights, PackedGemm* packed) {
  PackPanels(weights, kStep, kStep, kChannels, nullptr, packed);
}

// The last element of an odd segment meets a weight of zero: whatever is read there does not count.
int16_t* WidenSegment(const uint8_t* x, int64_t count, int16_t* to) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), wide);
  }
  for (; i < count; ++i) to[i] = x[i];
  return to + count;
}

void WidenRows(const GemmTask& task, int64_t first, int64_t count, int16_t* to) {
  const PackedGemm& gemm = *task.gemm;
  for (int64_t pixel = first; pixel < first + count; ++pixel) {
    const uint8_t* x = task.x + task.x_offset[pixel];
    for (int64_t s = 0; s < gemm.shape.segments; ++s) {
      to = WidenSegment(x + task.segment_offset[s], gemm.steps * kStep, to);
    }
  }
}

// Eight int32 accumulators -> eight codes. Clamped as float, so no conversion overflows.
inline __m256i RequantizeVector(__m256i accumulator, const float* multiplier, const OutputStage& stage) {
  __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(accumulator), _mm256_loadu_ps(multiplier));
  scaled = _mm256_max_ps(scaled, _mm256_set1_ps(stage.low));
  scaled = _mm256_min_ps(scaled, _mm256_set1_ps(stage.high));
  return _mm256_add_epi32(_mm256_cvtps_epi32(scaled), _mm256_set1_epi32(stage.zero_point));
}

// Sixteen int32 codes in order -> uint8. The packs work in 128-bit lanes, the permutation puts them in order.
inline __m128i NarrowVectors(__m256i low, __m256i high) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
  return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

void Store(__m128i codes, int64_t count, uint8_t* output) {
  if (count == kChannels) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(output), codes);
    return;
  }
  alignas(16) uint8_t buffer[kChannels];
  _mm_store_si128(reinterpret_cast<__m128i*>(buffer), codes);
  for (int64_t c = 0; c < count; ++c) output[c] = buffer[c];
}

inline __m256i BroadcastPair(const int16_t* pair) {
  int32_t bits;
  __builtin_memcpy(&bits, pair, sizeof(bits));
  return _mm256_set1_epi32(bits);
}

struct Tile {
  const int16_t* rows;
  int64_t row_elements;
  const PackedGemm* gemm;
  int64_t panel;
  uint8_t* output;
  const int32_t* output_offset;
};

template <int rows>
void RunTile(const Tile& tile) {
  const PackedGemm& gemm = *tile.gemm;
  const Panel& panel = gemm.panels[tile.panel];
  const int32_t* bias = gemm.bias.data() + tile.panel * kPanelChannels;
  const float* multiplier = gemm.multiplier.data() + tile.panel * kPanelChannels;
  const __m256i bias_low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bias));
  const __m256i bias_high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bias + 8));
  __m256i low[rows], high[rows];
  for (int r = 0; r < rows; ++r) low[r] = bias_low, high[r] = bias_high;
  const int8_t* weights = gemm.weights.data() + panel.weights_offset;
  for (int64_t k = 0; k < tile.row_elements; k += kStep, weights += kChannels * kStep) {
    const __m256i weights_low = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weights)));
    const __m256i weights_high = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weights + 16)));
    for (int r = 0; r < rows; ++r) {
      const __m256i x = BroadcastPair(tile.rows + r * tile.row_elements + k);
      low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(x, weights_low));
      high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(x, weights_high));
    }
  }
  for (int r = 0; r < rows; ++r) {
    const __m256i codes_low = RequantizeVector(low[r], multiplier, gemm.stage);
    const __m256i codes_high = RequantizeVector(high[r], multiplier + 8, gemm.stage);
    Store(NarrowVectors(codes_low, codes_high), panel.channels,
          tile.output + tile.output_offset[r] + panel.first_channel);
  }
}

void RunRows(const Tile& tile, int64_t rows) {
  switch (rows) {
    case 1:
      return RunTile<1>(tile);
    case 2:
      return RunTile<2>(tile);
    case 3:
      return RunTile<3>(tile);
    case 4:
      return RunTile<4>(tile);
    case 5:
      return RunTile<5>(tile);
    default:
      return RunTile<kRows>(tile);
  }
}

// Panels outside: a panel stays in the first-level cache while the rows pass.
void RunBlock(const GemmTask& task, int64_t first, int64_t count, const int16_t* rows) {
  const int64_t elements = RowElements(task.gemm->shape);
  for (int64_t panel = task.first_panel; panel < task.last_panel; ++panel) {
    for (int64_t r = 0; r < count; r += kRows) {
      RunRows({rows + r * elements, elements, task.gemm, panel, task.output, task.output_offset + first + r},
              count - r < kRows ? count - r : kRows);
    }
  }
}

void RunGemm(const GemmTask& task) {
  int16_t* rows = reinterpret_cast<int16_t*>(task.scratch);
  for (int64_t first = 0; first < task.count; first += kBlock) {
    const int64_t count = task.count - first < kBlock ? task.count - first : kBlock;
    WidenRows(task, first, count, rows);
    RunBlock(task, first, count, rows);
  }
}

double DepthwiseCost(const DepthwiseShape& s) {
  return s.channels < 8 ? 0 : static_cast<double>(s.channels) * (1.0 + 0.4 * static_cast<double>(s.Taps()));
}

inline __m128i LoadEight(const uint8_t* x) {
  return _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x)));
}
inline __m128i LoadEightWeights(const int8_t* w) {
  return _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(w)));
}

// Eight channels of two taps: [a0 b0 a1 b1 ... a7 b7].
inline __m256i Interleave(__m128i a, __m128i b) {
  return _mm256_set_m128i(_mm_unpackhi_epi16(a, b), _mm_unpacklo_epi16(a, b));
}

// Eight channels of a pixel. The channels that do not fill eight are done by moving the last eight back.
void RunEightChannels(const PackedDepthwise& packed, const uint8_t* x, int64_t x_row, int64_t c, uint8_t* y) {
  const DepthwiseShape& s = packed.shape;
  const int64_t column = s.dilation_w * s.channels;
  __m256i sum = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(packed.bias.data() + c));
  const int8_t* w = packed.weights.data() + c;
  for (int i = 0; i < s.kernel_h; ++i) {
    const uint8_t* row = x + i * s.dilation_h * x_row + c;
    for (int j = 0; j < s.kernel_w; j += 2, w += s.channels) {
      const bool pair = j + 1 < s.kernel_w;
      const __m128i first = LoadEight(row + j * column), weights = LoadEightWeights(w);
      const __m128i second = pair ? LoadEight(row + (j + 1) * column) : _mm_setzero_si128();
      const __m128i more = pair ? LoadEightWeights(w += s.channels) : _mm_setzero_si128();
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(Interleave(first, second), Interleave(weights, more)));
    }
  }
  const __m256i codes = RequantizeVector(sum, packed.multiplier.data() + c, packed.stage);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(y + c), NarrowVectors(codes, codes));
}

void RunDepthwise(const DepthwiseTask& task) {
  const DepthwiseShape& s = task.packed->shape;
  for (int64_t row = 0; row < task.rows; ++row) {
    for (int64_t i = 0; i < task.width; ++i) {
      const uint8_t* x = task.x + row * s.stride_h * task.x_row + i * s.stride_w * s.channels;
      uint8_t* y = task.output + row * task.output_row + i * s.channels;
      for (int64_t c = 0; c + 8 <= s.channels; c += 8) RunEightChannels(*task.packed, x, task.x_row, c, y);
      if (s.channels % 8 != 0) RunEightChannels(*task.packed, x, task.x_row, s.channels - 8, y);
    }
  }
}

}  // namespace

const GemmKernel gemm_avx2_6x16c2 = {"gemm_avx2_6x16c2", kAvx2,        false,    kRows,
                                     GemmCost,           ScratchBytes, PackGemm, RunGemm};
const DepthwiseKernel depthwise_avx2_8c2 = {"depthwise_avx2_8c2", kAvx2,         false,
                                            DepthwiseCost,        CopyDepthwise, RunDepthwise};
const CodeKernels codes_avx2 = {"codes_avx2", kAvx2,     AddCodes,   MulCodes,   SumCodes,
                                MaximumCodes, FlipCodes, ClampCodes, LookUpCodes};

}  // namespace dbq

#endif  // defined(__x86_64__)
