// Kernels for AVX2; this file alone is compiled with -mavx2.
//
// Products of int16 pairs summed into int32 (vpmaddwd) are exact here: |x - zero_point| <= 255 and |weight| <= 127.
// No templates or inline functions of the standard library: the linker could keep their AVX2 copy for baseline code.
#if defined(__x86_64__)

#include <immintrin.h>

#include "core/kernel.h"

namespace dbq {
namespace {

constexpr int kRows = 6;
constexpr int kChannels = 16;
constexpr int kStep = 2;

void Load(const int8_t* x, int64_t count, int32_t zero_point, void* row) {
  int16_t* out = static_cast<int16_t*>(row);
  if (x == nullptr) {
    for (int64_t i = 0; i < count; ++i) out[i] = 0;
    return;
  }
  const __m256i offset = _mm256_set1_epi16(static_cast<int16_t>(zero_point));
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm256_sub_epi16(wide, offset));
  }
  for (; i < count; ++i) out[i] = static_cast<int16_t>(x[i] - zero_point);
}

// Eight int32 accumulators -> eight int32 codes, clamped, zero point added.
inline __m256i RequantizeVector(__m256i accumulator, const float* multiplier, const OutputStage& stage) {
  __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(accumulator), _mm256_loadu_ps(multiplier));
  scaled = _mm256_max_ps(scaled, _mm256_set1_ps(stage.low));
  scaled = _mm256_min_ps(scaled, _mm256_set1_ps(stage.high));
  return _mm256_add_epi32(_mm256_cvtps_epi32(scaled), _mm256_set1_epi32(stage.zero_point));
}

// Sixteen int32 codes in order -> int8. The packs work in 128-bit lanes, the permutation puts them in order.
inline __m128i NarrowVectors(__m256i low, __m256i high) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
  return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

void Store(__m128i codes, int count, int8_t* output) {
  if (count == kChannels) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(output), codes);
    return;
  }
  alignas(16) int8_t buffer[kChannels];
  _mm_store_si128(reinterpret_cast<__m128i*>(buffer), codes);
  for (int c = 0; c < count; ++c) output[c] = buffer[c];
}

inline __m256i BroadcastPair(const int16_t* pair) {
  int32_t bits;
  __builtin_memcpy(&bits, pair, sizeof(bits));
  return _mm256_set1_epi32(bits);
}

template <int rows>
void RunTile(const GemmTile& tile) {
  const __m256i bias_low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tile.bias));
  const __m256i bias_high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tile.bias + 8));
  __m256i low[rows], high[rows];
  const int16_t* row[rows];
  for (int r = 0; r < rows; ++r) {
    low[r] = bias_low;
    high[r] = bias_high;
    row[r] = reinterpret_cast<const int16_t*>(static_cast<const char*>(tile.rows) + r * tile.row_bytes);
  }
  const int8_t* weights = tile.weights;
  for (int64_t step = 0; step < tile.steps; ++step, weights += kChannels * kStep) {
    const __m256i weights_low = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weights)));
    const __m256i weights_high = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weights + 16)));
    for (int r = 0; r < rows; ++r) {
      const __m256i x = BroadcastPair(row[r] + step * kStep);
      low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(x, weights_low));
      high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(x, weights_high));
    }
  }
  for (int r = 0; r < rows; ++r) {
    const __m256i codes_low = RequantizeVector(low[r], tile.multiplier, tile.stage);
    const __m256i codes_high = RequantizeVector(high[r], tile.multiplier + 8, tile.stage);
    Store(NarrowVectors(codes_low, codes_high), tile.channel_count, tile.output + r * tile.output_stride);
  }
}

void RunGemm(const GemmTile& tile) {
  switch (tile.row_count) {
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

inline __m128i LoadEight(const int8_t* values) {
  return _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(values)));
}

// Eight channels of two taps: [a0 b0 a1 b1 ... a7 b7].
inline __m256i Interleave(__m128i a, __m128i b) {
  return _mm256_set_m128i(_mm_unpackhi_epi16(a, b), _mm_unpacklo_epi16(a, b));
}

void RunEightChannels(const DepthwisePixel& pixel, int64_t c) {
  const __m128i offset = _mm_set1_epi16(static_cast<int16_t>(pixel.input_zero_point));
  __m256i sum = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(pixel.bias + c));
  for (int tap = 0; tap < pixel.tap_count; tap += 2) {
    const int8_t* weights = pixel.weights + tap * pixel.channels + c;
    const bool pair = tap + 1 < pixel.tap_count;
    const __m128i x0 = _mm_sub_epi16(LoadEight(pixel.taps[tap] + c), offset);
    const __m128i x1 = pair ? _mm_sub_epi16(LoadEight(pixel.taps[tap + 1] + c), offset) : _mm_setzero_si128();
    const __m128i w1 = pair ? LoadEight(weights + pixel.channels) : _mm_setzero_si128();
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(Interleave(x0, x1), Interleave(LoadEight(weights), w1)));
  }
  const __m256i codes = RequantizeVector(sum, pixel.multiplier + c, pixel.stage);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(pixel.output + c), NarrowVectors(codes, codes));
}

void RunDepthwise(const DepthwisePixel& pixel) {
  int64_t c = pixel.channel_begin;
  for (; c + 8 <= pixel.channel_end; c += 8) RunEightChannels(pixel, c);
  if (c == pixel.channel_end) return;
  DepthwisePixel rest = pixel;
  rest.channel_begin = c;
  depthwise_scalar.run(rest);
}

}  // namespace

const GemmKernel gemm_avx2_6x16c2 = {"gemm_avx2_6x16c2", Isa::kAvx2, kRows,  kChannels, kStep,
                                     sizeof(int16_t),    Load,       RunGemm};
const DepthwiseKernel depthwise_avx2_8c2 = {"depthwise_avx2_8c2", Isa::kAvx2, RunDepthwise};

}  // namespace dbq

#endif  // defined(__x86_64__)
