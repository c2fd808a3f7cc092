// What the AVX2 kernels share: requantization of four vectors into one, and the lane order that it asks for.
//
// Everything is in an unnamed namespace on purpose: an inline function compiled with more machine flags could be picked
// by the linker for the baseline code as well.
#ifndef DBQ_ISA_AVX2_H_
#define DBQ_ISA_AVX2_H_

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

using Int = __m256i;
using Float = __m256;

DBQ_INLINE Int Load(const void* p) { return _mm256_loadu_si256(static_cast<const Int*>(p)); }
DBQ_INLINE void Store(void* p, Int v) { _mm256_storeu_si256(static_cast<Int*>(p), v); }
DBQ_INLINE Float LoadFloats(const float* p) { return _mm256_loadu_ps(p); }

DBQ_INLINE Int Broadcast(const void* p) {
  int32_t value;
  __builtin_memcpy(&value, p, sizeof(value));
  return _mm256_set1_epi32(value);
}

// sum (int16) += uint8 x * int8 w, two neighbours together. Assembly, because GCC 12 spills the accumulators of
// intrinsics in every step of an unrolled loop.
DBQ_INLINE Int AddBytes(Int sum, Int x, Int w) {
  Int product;
  asm("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+x"(sum), "=&x"(product) : "x"(x), "x" DBQ_OR_MEMORY(w));
  return sum;
}

// sum (int32) += int16 x * int16 w, two neighbours together.
DBQ_INLINE Int AddWords(Int sum, Int x, Int w) {
  Int product;
  asm("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(product) : "x"(x), "x" DBQ_OR_MEMORY(w));
  return sum;
}

DBQ_INLINE Int Scaled(Int sum, Float multiplier) {
  return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), multiplier));
}

DBQ_INLINE Int LoadInts(const int32_t* p) { return Load(p); }
// code - 1 where a > b
DBQ_INLINE Int LessWhere(Int code, Int a, Int b) { return _mm256_add_epi32(code, _mm256_cmpgt_epi32(a, b)); }

// An OutputStage in registers. The packs saturate to 0..255, so only an activation's own bounds are left to do.
struct Clamp {
  Int zero_point, low, high;
  explicit Clamp(const OutputStage& s)
      : zero_point(_mm256_set1_epi16(static_cast<int16_t>(s.zero_point))),
        low(_mm256_set1_epi8(static_cast<char>(static_cast<int>(s.low) + s.zero_point))),
        high(_mm256_set1_epi8(static_cast<char>(static_cast<int>(s.high) + s.zero_point))) {}
};

// Whether an activation has bounds of its own.
DBQ_INLINE bool IsClamped(const OutputStage& s) {
  return static_cast<int>(s.low) + s.zero_point > 0 || static_cast<int>(s.high) + s.zero_point < 255;
}

// int32 in four vectors -> bytes. Bytes 16 i .. 16 i + 15 hold 128-bit lane i of a, b, c, d, one after the other.
template <bool clamped = true>
DBQ_INLINE Int Pack(Int a, Int b, Int c, Int d, const Clamp& clamp) {
  const Int low = _mm256_adds_epi16(_mm256_packs_epi32(a, b), clamp.zero_point);
  const Int high = _mm256_adds_epi16(_mm256_packs_epi32(c, d), clamp.zero_point);
  const Int bytes = _mm256_packus_epi16(low, high);
  return clamped ? _mm256_min_epu8(_mm256_max_epu8(bytes, clamp.low), clamp.high) : bytes;
}

// Where byte `i` of Pack's result lies in a, b, c, d: vector * 8 + lane.
DBQ_INLINE int PackedLane(int i) { return i % 16 / 4 * 8 + i / 16 * 4 + i % 4; }

// The first `count` of 8, 16 or 32 bytes, or all where there are more.
template <int size>
DBQ_INLINE void StoreBytes(const uint8_t* bytes, int64_t count, uint8_t* to) {
  if (count >= size) {
    __builtin_memcpy(to, bytes, size);
  } else {
    __builtin_memcpy(to, bytes, static_cast<size_t>(count));
  }
}

// One line each, so that code for both vector lengths can be written once.
DBQ_INLINE Int Zero() { return _mm256_setzero_si256(); }
DBQ_INLINE Int BroadcastInt(int32_t v) { return _mm256_set1_epi32(v); }
DBQ_INLINE Int BroadcastWord(int32_t v) { return _mm256_set1_epi16(static_cast<int16_t>(v)); }
DBQ_INLINE Float BroadcastFloat(float v) { return _mm256_set1_ps(v); }
DBQ_INLINE Int LowBytes(Int a, Int b) { return _mm256_unpacklo_epi8(a, b); }
DBQ_INLINE Int HighBytes(Int a, Int b) { return _mm256_unpackhi_epi8(a, b); }
DBQ_INLINE Int LowWords(Int a, Int b) { return _mm256_unpacklo_epi16(a, b); }
DBQ_INLINE Int HighWords(Int a, Int b) { return _mm256_unpackhi_epi16(a, b); }
DBQ_INLINE Int SubWords(Int a, Int b) { return _mm256_sub_epi16(a, b); }
DBQ_INLINE Int MulLowWords(Int a, Int b) { return _mm256_mullo_epi16(a, b); }
DBQ_INLINE Int MulHighWords(Int a, Int b) { return _mm256_mulhi_epi16(a, b); }
DBQ_INLINE Int MultiplyPairs(Int a, Int b) { return _mm256_madd_epi16(a, b); }
DBQ_INLINE Int AddInts(Int a, Int b) { return _mm256_add_epi32(a, b); }
DBQ_INLINE Int ShiftRight(Int a, __m128i count) { return _mm256_sra_epi32(a, count); }
template <int count>
DBQ_INLINE Int ShiftLeft(Int a) {
  return _mm256_slli_epi32(a, count);
}

}  // namespace
}  // namespace dbq

#include "isa/way_out.h"

#endif  // DBQ_ISA_AVX2_H_
