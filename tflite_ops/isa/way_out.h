// How a vector of sums becomes codes above the zero point, in matrix products. For the instruction set whose header
// includes this behind Int, Float, Scaled, LoadInts, LoadFloats, BroadcastInt, BroadcastFloat and LessWhere.
#ifndef DBQ_ISA_WAY_OUT_H_
#define DBQ_ISA_WAY_OUT_H_

#include "isa/kernel.h"
#include "isa/panels.h"

namespace dbq {
namespace {

// Of a panel's lanes: a multiplier each, or thresholds, of which those that the sum has reached are counted.
struct WayOut {
  const float* multiplier;
  const int32_t* thresholds;  // [levels][kPanelChannels]
  int levels;                 // 0: sums are scaled

  WayOut(const PackedGemm& gemm, int64_t panel)
      : multiplier(gemm.multiplier.data() + panel * kPanelChannels),
        thresholds(gemm.thresholds.data() + panel * gemm.levels * kPanelChannels),
        levels(gemm.levels) {}

  // Sums of neighbouring lanes.
  inline __attribute__((always_inline)) Int operator()(Int sum, int lane) const {
    if (__builtin_expect(levels == 0, 1)) return Scaled(sum, LoadFloats(multiplier + lane));
    Int code = BroadcastInt(levels);
    for (int i = 0; i < levels; ++i) code = LessWhere(code, LoadInts(thresholds + i * kPanelChannels + lane), sum);
    return code;
  }

  // Sums of one channel for many pixels.
  inline __attribute__((always_inline)) Int OfChannel(Int sum, int64_t lane) const {
    if (__builtin_expect(levels == 0, 1)) return Scaled(sum, BroadcastFloat(multiplier[lane]));
    Int code = BroadcastInt(levels);
    for (int i = 0; i < levels; ++i) code = LessWhere(code, BroadcastInt(thresholds[i * kPanelChannels + lane]), sum);
    return code;
  }
};

}  // namespace
}  // namespace dbq

#endif  // DBQ_ISA_WAY_OUT_H_
