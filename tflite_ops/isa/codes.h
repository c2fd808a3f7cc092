// CodeKernels as plain loops. Every file of an instruction set includes this and lets the compiler make vectors of it.
//
// Everything is in an unnamed namespace on purpose: an inline function compiled with more machine flags could be picked
// by the linker for the baseline code as well. A file with vectors of its own for an operator leaves that loop unused.
#ifndef DBQ_ISA_CODES_H_
#define DBQ_ISA_CODES_H_

#include "isa/kernel.h"

namespace dbq {
namespace {

// Adding and taking away 1.5 * 2^23 rounds a float of less than 2^22 to the nearest integer, ties to even.
constexpr float kRound = 12582912.0f;

[[maybe_unused]] void AddCodes(const AddParams& params, const uint8_t* __restrict a, const uint8_t* __restrict b,
                               uint8_t* __restrict y, int64_t count) {
  const AddParams p = params;
  for (int64_t i = 0; i < count; ++i) {
    int32_t sum = ((a[i] * p.multiplier_a + b[i] * p.multiplier_b + p.bias) >> p.shift) + p.zero_point;
    sum = sum < p.low ? p.low : sum;
    y[i] = static_cast<uint8_t>(sum > p.high ? p.high : sum);
  }
}

#if defined(__aarch64__)
// A positive float32 is mantissa * 2^-shift, the mantissa of 24 bits.
struct MulFactor {
  int32_t mantissa, shift;
  explicit MulFactor(float scale) {
    uint32_t bits;
    __builtin_memcpy(&bits, &scale, sizeof(bits));
    mantissa = static_cast<int32_t>((bits & 0x7FFFFF) | 0x800000);
    shift = 127 + 23 - static_cast<int32_t>(bits >> 23);
  }
};

[[maybe_unused]] void MulCodes(const MulParams& params, const uint8_t* __restrict a, const uint8_t* __restrict b,
                               uint8_t* __restrict y, int64_t count) {
  const MulParams p = params;
  const MulFactor factor(p.scale);
  const int32_t low = static_cast<int32_t>(p.stage.low), high = static_cast<int32_t>(p.stage.high);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t product = int64_t{factor.mantissa} * ((a[i] - p.zero_a) * (b[i] - p.zero_b));
    int32_t code = static_cast<int32_t>((product + (INT64_C(1) << (factor.shift - 1))) >> factor.shift);
    code = code < low ? low : code;
    y[i] = static_cast<uint8_t>((code > high ? high : code) + p.stage.zero_point);
  }
}
#else
[[maybe_unused]] void MulCodes(const MulParams& params, const uint8_t* __restrict a, const uint8_t* __restrict b,
                               uint8_t* __restrict y, int64_t count) {
  const MulParams p = params;
  for (int64_t i = 0; i < count; ++i) {
    float scaled = static_cast<float>((a[i] - p.zero_a) * (b[i] - p.zero_b)) * p.scale;
    scaled = scaled < p.stage.low ? p.stage.low : scaled;
    scaled = scaled > p.stage.high ? p.stage.high : scaled;
    y[i] = static_cast<uint8_t>(static_cast<int32_t>((scaled + kRound) - kRound) + p.stage.zero_point);
  }
}
#endif

// Some channels at a time, whose sums stay in registers; uint16 holds 257 codes.
void SumCodes(const uint8_t* __restrict x, int64_t pixels, int32_t* __restrict sums, int64_t count) {
  constexpr int kTogether = 64;
  constexpr int64_t kMostPixels = 257;
  for (int64_t c = 0; c < count; c += kTogether) {
    const int64_t used = count - c < kTogether ? count - c : kTogether;
    for (int64_t first = 0; first < pixels; first += kMostPixels) {
      const int64_t last = pixels - first < kMostPixels ? pixels : first + kMostPixels;
      uint16_t words[kTogether] = {};
      for (int64_t pixel = first; pixel < last; ++pixel) {
        const uint8_t* codes = x + pixel * count + c;
        for (int i = 0; i < kTogether; ++i) words[i] = static_cast<uint16_t>(words[i] + codes[i]);
      }
      for (int64_t i = 0; i < used; ++i) sums[c + i] += words[i];
    }
  }
}

void MaximumCodes(const uint8_t* __restrict x, uint8_t* __restrict y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = x[i] > y[i] ? x[i] : y[i];
}

void FlipCodes(const void* from, void* to, int64_t count) {
  const uint8_t* __restrict x = static_cast<const uint8_t*>(from);
  uint8_t* __restrict y = static_cast<uint8_t*>(to);
  for (int64_t i = 0; i < count; ++i) y[i] = x[i] ^ 0x80;
}

void ClampCodes(const uint8_t* __restrict x, uint8_t low, uint8_t high, uint8_t* __restrict y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t raised = x[i] < low ? low : x[i];
    y[i] = raised > high ? high : raised;
  }
}

[[maybe_unused]] void LookUpCodes(const uint8_t* __restrict x, const uint8_t* __restrict table, uint8_t* __restrict y,
                                  int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = table[x[i]];
}

// The comparisons are such that NaN, of which each is false, becomes the upper bound.
void QuantizeCodes(const QuantizeParams& params, const float* __restrict x, uint8_t* __restrict y, int64_t count) {
  const QuantizeParams p = params;
  for (int64_t i = 0; i < count; ++i) {
    float scaled = x[i] * p.inverse;
    scaled = scaled < p.stage.high ? scaled : p.stage.high;
    scaled = scaled > p.stage.low ? scaled : p.stage.low;
    y[i] = static_cast<uint8_t>(static_cast<int32_t>((scaled + kRound) - kRound) + p.stage.zero_point);
  }
}

void DequantizeCodes(const DequantizeParams& params, const uint8_t* __restrict x, float* __restrict y, int64_t count) {
  const DequantizeParams p = params;
  for (int64_t i = 0; i < count; ++i) y[i] = static_cast<float>(x[i] - p.zero_point) * p.scale;
}

[[maybe_unused]] void BlendCodes(const BlendRow& row, uint8_t* y) {
  constexpr int kOne = 1 << 11, kShift = 22;
  for (int64_t pixel = 0; pixel < row.width; ++pixel, y += row.channels) {
    const int64_t left = row.left[pixel], right = row.right[pixel];
    const int32_t across = row.across[pixel];
    for (int64_t c = 0; c < row.channels; ++c) {
      const int32_t top = row.top[left + c] * (kOne - across) + row.top[right + c] * across;
      const int32_t bottom = row.bottom[left + c] * (kOne - across) + row.bottom[right + c] * across;
      y[c] = static_cast<uint8_t>((top * kOne + (bottom - top) * row.down + (1 << (kShift - 1))) >> kShift);
    }
  }
}

}  // namespace
}  // namespace dbq

#endif  // DBQ_ISA_CODES_H_
