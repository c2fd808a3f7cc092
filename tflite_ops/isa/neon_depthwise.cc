// Depthwise convolutions for Armv8.0: two products of bytes fit an int16, so that two taps share the way to int32.
#if defined(__aarch64__)

#include "isa/neon_depthwise.h"

namespace dbq {
namespace {

// [block][tap][16 bytes]
int64_t TapAfterTap(const DepthwiseShape&, int tap, int i) { return int64_t{tap} * kVectorBytes + i; }

void PackTaps(const DepthwiseWeights& weights, PackedDepthwise* packed) {
  PackBlocks(weights, weights.shape.Taps() * kVectorBytes, TapAfterTap, packed);
}

// int16 sums of one or two taps -> int32.
DBQ_INLINE void AddWords(int16x8_t low, int16x8_t high, Int (&total)[4]) {
  total[0] = vaddw_s16(total[0], vget_low_s16(low)), total[1] = vaddw_high_s16(total[1], low);
  total[2] = vaddw_s16(total[2], vget_low_s16(high)), total[3] = vaddw_high_s16(total[3], high);
}

// Tap after tap: any kernel, and weights of -128, two of which may pass int16.
struct AnyTaps {
  DBQ_INLINE uint8x16_t Run(const DepthwiseRow& row, const uint8_t* x, int64_t block) {
    const DepthwiseShape& s = row.packed.shape;
    const int8_t* w = row.packed.weights.data() + block * s.Taps() * kVectorBytes;
    Int total[4];
    StartTotals(row, block, total);
    for (int i = 0; i < s.kernel_h; ++i) {
      for (int j = 0; j < s.kernel_w; ++j, w += kVectorBytes) {
        const int8x16_t a = LoadCodes(x + i * s.dilation_h * row.x_row + j * s.dilation_w * s.channels);
        const int8x16_t b = vld1q_s8(w);
        AddWords(vmull_s8(vget_low_s8(a), vget_low_s8(b)), vmull_high_s8(a, b), total);
      }
    }
    return Finish(row, total, block);
  }
};

template <int size>
struct SquareTaps {
  DBQ_INLINE uint8x16_t Run(const DepthwiseRow& row, const uint8_t* x, int64_t block) {
    constexpr int kTaps = size * size;
    const int64_t column = row.packed.shape.channels;
    const int8_t* w = row.packed.weights.data() + block * kTaps * kVectorBytes;
    Int total[4];
    StartTotals(row, block, total);
    DBQ_UNROLL for (int tap = 0; tap < kTaps; tap += 2) {
      const int8x16_t a = LoadCodes(x + tap / size * row.x_row + tap % size * column);
      const int8x16_t b = vld1q_s8(w + tap * kVectorBytes);
      int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b)), high = vmull_high_s8(a, b);
      if (tap + 1 < kTaps) {
        const int8x16_t c = LoadCodes(x + (tap + 1) / size * row.x_row + (tap + 1) % size * column);
        const int8x16_t d = vld1q_s8(w + (tap + 1) * kVectorBytes);
        low = vmlal_s8(low, vget_low_s8(c), vget_low_s8(d)), high = vmlal_high_s8(high, c, d);
      }
      AddWords(low, high, total);
    }
    return Finish(row, total, block);
  }
};

template <int size>
void RunSquare(const DepthwiseTask& task) {
  task.packed->has_lowest ? RunRows<AnyTaps>(task) : RunRows<SquareTaps<size>>(task);
}

// In cycles of a Cortex-A53: a vector's instructions on the multiplier and adder.
template <int size>
double SquareCost(const DepthwiseShape& s) {
  if (!IsSquare(s, size)) return 0;
  return static_cast<double>(s.channels) / kVectorBytes / Used(s) * (5.0 * size * size + 25.0);
}

double AnyCost(const DepthwiseShape& s) {
  return static_cast<double>(s.channels) / kVectorBytes / Used(s) * (10.0 * static_cast<double>(s.Taps()) + 30.0);
}

}  // namespace

const DepthwiseKernel depthwise_neon_3x3 = {"depthwise_neon_3x3", kNeon, false, SquareCost<3>, PackTaps, RunSquare<3>};
const DepthwiseKernel depthwise_neon_5x5 = {"depthwise_neon_5x5", kNeon, false, SquareCost<5>, PackTaps, RunSquare<5>};
const DepthwiseKernel depthwise_neon_taps = {"depthwise_neon_taps", kNeon, false, AnyCost, PackTaps, RunRows<AnyTaps>};

}  // namespace dbq

#endif  // defined(__aarch64__)
