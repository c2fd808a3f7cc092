// What the AVX-512 kernels share: requantization of four vectors into one, and the lane order that it asks for.
//
// Everything is in an unnamed namespace on purpose: an inline function compiled with more machine flags could be picked
// by the linker for the baseline code as well.
#ifndef DBQ_ISA_AVX512_H_
#define DBQ_ISA_AVX512_H_

#include <immintrin.h>

#include "isa/kernel.h"

#define DBQ_INLINE static inline __attribute__((always_inline))
#define DBQ_UNROLL _Pragma("GCC unroll 32")
// Where clang may choose memory for an operand it always does, and stores the register first.
#if defined(__clang__)
#define DBQ_OR_MEMORY
#else
#define DBQ_OR_MEMORY "m"
#endif

namespace dbq {
namespace {

using Int = __m512i;
using Float = __m512;

DBQ_INLINE Int Load(const void* p) { return _mm512_loadu_si512(p); }
DBQ_INLINE void Store(void* p, Int v) { _mm512_storeu_si512(p, v); }
DBQ_INLINE Float LoadFloats(const float* p) { return _mm512_loadu_ps(p); }

DBQ_INLINE Int Broadcast(const void* p) {
  int32_t value;
  __builtin_memcpy(&value, p, sizeof(value));
  return _mm512_set1_epi32(value);
}

// Assembly, because GCC 12 spills the accumulators of the intrinsic in every step of an unrolled loop.
DBQ_INLINE Int Dot(Int sum, Int x, Int w) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v" DBQ_OR_MEMORY(w));
  return sum;
}

DBQ_INLINE Int Scaled(Int sum, Float multiplier) {
  return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), multiplier));
}

DBQ_INLINE Int LoadInts(const int32_t* p) { return Load(p); }
// code - 1 where a > b
DBQ_INLINE Int LessWhere(Int code, Int a, Int b) {
  return _mm512_mask_sub_epi32(code, _mm512_cmpgt_epi32_mask(a, b), code, _mm512_set1_epi32(1));
}

// An OutputStage in registers. The packs saturate to 0..255, so only an activation's own bounds are left to do.
struct Clamp {
  Int zero_point, low, high;
  explicit Clamp(const OutputStage& s)
      : zero_point(_mm512_set1_epi16(static_cast<int16_t>(s.zero_point))),
        low(_mm512_set1_epi8(static_cast<char>(static_cast<int>(s.low) + s.zero_point))),
        high(_mm512_set1_epi8(static_cast<char>(static_cast<int>(s.high) + s.zero_point))) {}
};

// int32 in four vectors -> bytes. Bytes 16 i .. 16 i + 15 hold 128-bit lane i of a, b, c, d, one after the other.
DBQ_INLINE Int Pack(Int a, Int b, Int c, Int d, const Clamp& clamp) {
  const Int low = _mm512_adds_epi16(_mm512_packs_epi32(a, b), clamp.zero_point);
  const Int high = _mm512_adds_epi16(_mm512_packs_epi32(c, d), clamp.zero_point);
  return _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(low, high), clamp.low), clamp.high);
}

// Where byte `i` of Pack's result lies in a, b, c, d: vector * 16 + lane.
DBQ_INLINE int PackedLane(int i) { return i % 16 / 4 * 16 + i / 16 * 4 + i % 4; }

// For a panel: lanes such that Pack of its vectors, of 4 / vectors pixels, has each pixel's channels in order once the
// dwords are put together (PixelOrder).
DBQ_INLINE int PanelLane(int c, int vectors) { return c / 4 % vectors * 16 + c / (4 * vectors) * 4 + c % 4; }

// The dwords of two pixels of 32 channels, or of four of 16, pixel after pixel.
DBQ_INLINE Int PixelOrder(int vectors) {
  return vectors == 2 ? _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15)
                      : _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}

DBQ_INLINE __mmask64 FirstBytes(int64_t count) { return count >= 64 ? ~0ull : (1ull << count) - 1; }

// `bytes` holds pixels r, r + 1, ...: one of 64 channels, two of 32 or four of 16, cut to the mask's channels.
template <int vectors>
DBQ_INLINE void StorePixels(Int bytes, int r, int rows, __mmask64 mask, uint8_t* output, const int32_t* offset) {
  if constexpr (vectors == 4) {
    _mm512_mask_storeu_epi8(output + offset[r], mask, bytes);
  } else if constexpr (vectors == 2) {
    const __mmask32 half = static_cast<__mmask32>(mask);
    _mm256_mask_storeu_epi8(output + offset[r], half, _mm512_castsi512_si256(bytes));
    if (r + 1 < rows) _mm256_mask_storeu_epi8(output + offset[r + 1], half, _mm512_extracti64x4_epi64(bytes, 1));
  } else {
    const __mmask16 quarter = static_cast<__mmask16>(mask);
    _mm_mask_storeu_epi8(output + offset[r], quarter, _mm512_castsi512_si128(bytes));
    if (r + 1 < rows) _mm_mask_storeu_epi8(output + offset[r + 1], quarter, _mm512_extracti32x4_epi32(bytes, 1));
    if (r + 2 < rows) _mm_mask_storeu_epi8(output + offset[r + 2], quarter, _mm512_extracti32x4_epi32(bytes, 2));
    if (r + 3 < rows) _mm_mask_storeu_epi8(output + offset[r + 3], quarter, _mm512_extracti32x4_epi32(bytes, 3));
  }
}

// One line each, so that code for both vector lengths can be written once.
DBQ_INLINE Int Zero() { return _mm512_setzero_si512(); }
DBQ_INLINE Int BroadcastInt(int32_t v) { return _mm512_set1_epi32(v); }
DBQ_INLINE Int BroadcastWord(int32_t v) { return _mm512_set1_epi16(static_cast<int16_t>(v)); }
DBQ_INLINE Float BroadcastFloat(float v) { return _mm512_set1_ps(v); }
DBQ_INLINE Int LowBytes(Int a, Int b) { return _mm512_unpacklo_epi8(a, b); }
DBQ_INLINE Int HighBytes(Int a, Int b) { return _mm512_unpackhi_epi8(a, b); }
DBQ_INLINE Int LowWords(Int a, Int b) { return _mm512_unpacklo_epi16(a, b); }
DBQ_INLINE Int HighWords(Int a, Int b) { return _mm512_unpackhi_epi16(a, b); }
DBQ_INLINE Int SubWords(Int a, Int b) { return _mm512_sub_epi16(a, b); }
DBQ_INLINE Int MulLowWords(Int a, Int b) { return _mm512_mullo_epi16(a, b); }
DBQ_INLINE Int MulHighWords(Int a, Int b) { return _mm512_mulhi_epi16(a, b); }
DBQ_INLINE Int MultiplyPairs(Int a, Int b) { return _mm512_madd_epi16(a, b); }
DBQ_INLINE Int AddInts(Int a, Int b) { return _mm512_add_epi32(a, b); }
DBQ_INLINE Int ShiftRight(Int a, __m128i count) { return _mm512_sra_epi32(a, count); }
template <int count>
DBQ_INLINE Int ShiftLeft(Int a) {
  return _mm512_slli_epi32(a, count);
}

}  // namespace
}  // namespace dbq

#include "isa/way_out.h"

#endif  // DBQ_ISA_AVX512_H_
