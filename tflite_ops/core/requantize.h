// int32 accumulator -> output code, XNNPACK's float32 round-to-nearest-even (docs/packing.md, "Result").
//
// Functions are `static` on purpose: files of one ISA include this header with their own machine flags, and an
// `inline` function compiled there could be picked by the linker for the baseline code as well.
#ifndef DBQ_CORE_REQUANTIZE_H_
#define DBQ_CORE_REQUANTIZE_H_

#include <cstdint>

namespace dbq {

// Output zero point and clamp. The bounds are kept relative to the zero point, as float32: clamping before the
// rounding gives the same integer (the bounds are integers) and no conversion of a huge float can overflow.
struct OutputStage {
  float low = 0, high = 0;  // (activation bound) - zero_point
  int32_t zero_point = 0;
};

// lrint rounds ties to even in the default rounding mode.
static inline int32_t Requantize(int32_t accumulator, float multiplier, const OutputStage& stage) {
  float scaled = static_cast<float>(accumulator) * multiplier;
  scaled = scaled < stage.low ? stage.low : scaled;
  scaled = scaled > stage.high ? stage.high : scaled;
  return static_cast<int32_t>(__builtin_lrintf(scaled)) + stage.zero_point;
}

}  // namespace dbq

#endif  // DBQ_CORE_REQUANTIZE_H_
