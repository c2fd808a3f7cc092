// What the kernels for aarch64 share: requantization of vectors and the way out.
//
// Conversions and packs saturate, so that no kernel here asks for bounded accumulators.
//
// Everything is in an unnamed namespace on purpose: an inline function compiled with more machine flags could be picked
// by the linker for the baseline code as well.
#ifndef DBQ_ISA_NEON_H_
#define DBQ_ISA_NEON_H_

#include <arm_neon.h>

#include "isa/kernel.h"
#include "isa/panels.h"

#define DBQ_INLINE static inline __attribute__((always_inline))
#define DBQ_UNROLL _Pragma("GCC unroll 32")

namespace dbq {
namespace {

using Int = int32x4_t;
using Float = float32x4_t;

// Codes as signed bytes: u - 128.
DBQ_INLINE int8x16_t LoadCodes(const uint8_t* x) {
  return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(x), vdupq_n_u8(0x80)));
}

// Ties to even, as lrint.
DBQ_INLINE Int Scaled(Int sum, Float multiplier) { return vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(sum), multiplier)); }

DBQ_INLINE Int LoadInts(const int32_t* p) { return vld1q_s32(p); }
DBQ_INLINE Float LoadFloats(const float* p) { return vld1q_f32(p); }
DBQ_INLINE Int BroadcastInt(int32_t v) { return vdupq_n_s32(v); }
DBQ_INLINE Float BroadcastFloat(float v) { return vdupq_n_f32(v); }
// code - 1 where a > b
DBQ_INLINE Int LessWhere(Int code, Int a, Int b) { return vaddq_s32(code, vreinterpretq_s32_u32(vcgtq_s32(a, b))); }

}  // namespace
}  // namespace dbq

#include "isa/way_out.h"

namespace dbq {
namespace {

// An OutputStage in registers. The packs saturate to 0..255, so only an activation's own bounds are left to do.
struct Clamp {
  int16x8_t zero_point;
  uint8x16_t low, high;
  explicit Clamp(const OutputStage& s)
      : zero_point(vdupq_n_s16(static_cast<int16_t>(s.zero_point))),
        low(vdupq_n_u8(static_cast<uint8_t>(static_cast<int>(s.low) + s.zero_point))),
        high(vdupq_n_u8(static_cast<uint8_t>(static_cast<int>(s.high) + s.zero_point))) {}
};

DBQ_INLINE uint8x8_t PackHalf(Int a, Int b, const Clamp& clamp) {
  const int16x8_t words = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), clamp.zero_point);
  return vmin_u8(vmax_u8(vqmovun_s16(words), vget_low_u8(clamp.low)), vget_low_u8(clamp.high));
}

DBQ_INLINE uint8x16_t Pack(Int a, Int b, Int c, Int d, const Clamp& clamp) {
  const int16x8_t low = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), clamp.zero_point);
  const int16x8_t high = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(c), d), clamp.zero_point);
  return vminq_u8(vmaxq_u8(vqmovun_high_s16(vqmovun_s16(low), high), clamp.low), clamp.high);
}

// The first `count` of 8 bytes, or all where there are more.
DBQ_INLINE void StoreEight(uint8x8_t bytes, int64_t count, uint8_t* to) {
  if (count >= 8) return vst1_u8(to, bytes);
  uint8_t buffer[8];
  vst1_u8(buffer, bytes);
  for (int64_t i = 0; i < count; ++i) to[i] = buffer[i];
}

// The first `count` of 16 bytes, or all where there are more.
DBQ_INLINE void StoreSixteen(uint8x16_t bytes, int64_t count, uint8_t* to) {
  if (count >= 16) return vst1q_u8(to, bytes);
  uint8x8_t half = vget_low_u8(bytes);
  if (count >= 8) vst1_u8(to, half), to += 8, count -= 8, half = vget_high_u8(bytes);
  StoreEight(half, count, to);
}

// Sums of 16 channels, the first `count` of which are stored.
DBQ_INLINE void StoreRow(const Int (&sum)[4], const WayOut& out, const Clamp& clamp, int64_t count, uint8_t* to) {
  Int y[4];
  DBQ_UNROLL for (int v = 0; v < 4; ++v) y[v] = out(sum[v], v * 4);
  StoreSixteen(Pack(y[0], y[1], y[2], y[3], clamp), count, to);
}

// sum u w = sum (u - 128) w + this.
DBQ_INLINE int32_t SignedShare(const int8_t* w, int64_t count, int64_t stride) {
  int32_t sum = 0;
  for (int64_t k = 0; k < count; ++k) sum += w[k * stride];
  return 128 * sum;
}

// That share for every bias of panels of `panel_channels` channels in their order.
[[maybe_unused]] void AddSignedShares(const GemmWeights& weights, int panel_channels, PackedGemm* packed) {
  const int64_t depth = weights.shape.Depth();
  for (int64_t m = 0; m < weights.shape.channels; ++m) {
    packed->bias[m / panel_channels * kPanelChannels + m % panel_channels] +=
        SignedShare(weights.integers + m * depth, depth, 1);
  }
}

}  // namespace
}  // namespace dbq

#endif  // DBQ_ISA_NEON_H_
