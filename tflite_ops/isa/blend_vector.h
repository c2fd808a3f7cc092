// Rows between two others, eight codes at a time: AVX2, which the AVX-512 files have as well. DBQ_INLINE is theirs.
#ifndef DBQ_ISA_BLEND_VECTOR_H_
#define DBQ_ISA_BLEND_VECTOR_H_

#include <immintrin.h>

#include "isa/kernel.h"

namespace dbq {
namespace {

// Pairs of neighbouring columns, multiplied by their weights and added.
DBQ_INLINE __m256i BlendAcross(const uint8_t* left, const uint8_t* right, __m256i weights) {
  const __m128i pairs = _mm_unpacklo_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(left)),
                                          _mm_loadl_epi64(reinterpret_cast<const __m128i*>(right)));
  return _mm256_madd_epi16(_mm256_cvtepu8_epi16(pairs), weights);
}

DBQ_INLINE __m128i BlendEight(const BlendRow& row, int64_t left, int64_t right, __m256i weights) {
  const __m256i top = BlendAcross(row.top + left, row.top + right, weights);
  const __m256i bottom = BlendAcross(row.bottom + left, row.bottom + right, weights);
  const __m256i down = _mm256_mullo_epi32(_mm256_sub_epi32(bottom, top), _mm256_set1_epi32(row.down));
  const __m256i rounded = _mm256_add_epi32(_mm256_slli_epi32(top, 11), _mm256_set1_epi32(1 << 21));
  const __m256i codes = _mm256_srli_epi32(_mm256_add_epi32(rounded, down), 22);
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
  return _mm_packus_epi16(words, words);
}

// Pixels are written from left to right: what passes a pixel's end is written over. Nothing passes the row's end.
void BlendBytes(const BlendRow& row, uint8_t* y) {
  const uint8_t* const end = y + row.width * row.channels;
  for (int64_t pixel = 0; pixel < row.width; ++pixel, y += row.channels) {
    const int32_t across = row.across[pixel];
    const __m256i weights = _mm256_set1_epi32(across << 16 | ((1 << 11) - across));
    for (int64_t c = 0; c < row.channels; c += 8) {
      const __m128i codes = BlendEight(row, row.left[pixel] + c, row.right[pixel] + c, weights);
      if (y + c + 8 <= end) {
        _mm_storel_epi64(reinterpret_cast<__m128i*>(y + c), codes);
        continue;
      }
      uint8_t bytes[8];
      _mm_storel_epi64(reinterpret_cast<__m128i*>(bytes), codes);
      __builtin_memcpy(y + c, bytes, static_cast<size_t>(end - (y + c)));
    }
  }
}

}  // namespace
}  // namespace dbq

#endif  // DBQ_ISA_BLEND_VECTOR_H_
