// ADD and MUL on vectors, for the instruction set whose header was included before: `Int` is a vector of it, and Pack
// brings four vectors of int32 back into the order in which unpacking took them apart.
#ifndef DBQ_ISA_CODES_VECTOR_H_
#define DBQ_ISA_CODES_VECTOR_H_

#include "isa/kernel.h"

namespace dbq {
namespace {

constexpr int64_t kCodeBytes = static_cast<int64_t>(sizeof(Int));

// The products that ADD sums: 21 bits of a multiplier are 11 low and 10 high ones, so that both fit int16.
struct AddVectors {
  static constexpr int kLowBits = 11;
  Int low, high, bias;
  __m128i shift;
  Clamp clamp;

  explicit AddVectors(const AddParams& p)
      : low(Pair(p.multiplier_a & ((1 << kLowBits) - 1), p.multiplier_b & ((1 << kLowBits) - 1))),
        high(Pair(p.multiplier_a >> kLowBits, p.multiplier_b >> kLowBits)),
        bias(BroadcastInt(p.bias)),
        shift(_mm_cvtsi32_si128(static_cast<int>(p.shift))),
        clamp(Stage(p)) {}

  static Int Pair(int a, int b) {
    return BroadcastInt(static_cast<int32_t>(static_cast<uint32_t>(b) << 16 | static_cast<uint32_t>(a)));
  }
  static OutputStage Stage(const AddParams& p) {
    return {static_cast<float>(p.low - p.zero_point), static_cast<float>(p.high - p.zero_point), p.zero_point};
  }

  // pairs: int16 a, b of one code after the other.
  inline __attribute__((always_inline)) Int Sum(Int pairs) const {
    const Int upper = ShiftLeft<kLowBits>(MultiplyPairs(pairs, high));
    return ShiftRight(AddInts(AddInts(MultiplyPairs(pairs, low), upper), bias), shift);
  }

  inline __attribute__((always_inline)) Int operator()(Int a, Int b) const {
    const Int zero = Zero(), first = LowBytes(a, b), second = HighBytes(a, b);
    return Pack(Sum(LowBytes(first, zero)), Sum(HighBytes(first, zero)), Sum(LowBytes(second, zero)),
                Sum(HighBytes(second, zero)), clamp);
  }
};

struct MulVectors {
  Int zero_a, zero_b;
  Float scale;
  Clamp clamp;

  explicit MulVectors(const MulParams& p)
      : zero_a(BroadcastWord(p.zero_a)),
        zero_b(BroadcastWord(p.zero_b)),
        scale(BroadcastFloat(p.scale)),
        clamp(p.stage) {}

  inline __attribute__((always_inline)) Int operator()(Int a, Int b) const {
    const Int zero = Zero();
    Int y[4];
    Multiply(LowBytes(a, zero), LowBytes(b, zero), y);
    Multiply(HighBytes(a, zero), HighBytes(b, zero), y + 2);
    return Pack(y[0], y[1], y[2], y[3], clamp);
  }

  // Words to scaled products, in the order of the words.
  inline __attribute__((always_inline)) void Multiply(Int a, Int b, Int* y) const {
    const Int x = SubWords(a, zero_a), z = SubWords(b, zero_b);
    const Int low = MulLowWords(x, z), high = MulHighWords(x, z);
    y[0] = Scaled(LowWords(low, high), scale);
    y[1] = Scaled(HighWords(low, high), scale);
  }
};

// The last codes go through buffers: nothing behind the end is written.
template <typename Operation>
DBQ_INLINE void RunVectors(const Operation& operation, const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t count) {
  int64_t i = 0;
  for (; i + kCodeBytes <= count; i += kCodeBytes) Store(y + i, operation(Load(a + i), Load(b + i)));
  if (i == count) return;
  alignas(64) uint8_t last_a[kCodeBytes] = {}, last_b[kCodeBytes] = {};
  const size_t rest = static_cast<size_t>(count - i);
  __builtin_memcpy(last_a, a + i, rest);
  __builtin_memcpy(last_b, b + i, rest);
  Store(last_a, operation(Load(last_a), Load(last_b)));
  __builtin_memcpy(y + i, last_a, rest);
}

void AddVectorCodes(const AddParams& p, const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t count) {
  RunVectors(AddVectors(p), a, b, y, count);
}

void MulVectorCodes(const MulParams& p, const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t count) {
  RunVectors(MulVectors(p), a, b, y, count);
}

}  // namespace
}  // namespace dbq

#endif  // DBQ_ISA_CODES_VECTOR_H_
