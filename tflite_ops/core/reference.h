// What a packed operator means: docs/packing.md as plain loops over the tensors as they lie in the file.
//
// Shares no code with the kernels that it checks: not the decoding, not the padding, not the rounding. The tensors must
// be valid (DecodeLayer accepts them). Slow on purpose.
#ifndef DBQ_CORE_REFERENCE_H_
#define DBQ_CORE_REFERENCE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/geometry.h"
#include "core/layer.h"

namespace dbq {
namespace reference {

// Named views of params (docs/packing.md, "params").
struct Params {
  const int32_t* values;
  int branches() const { return values[1]; }
  int kernel(int axis) const { return values[2 + axis]; }
  int in_channels() const { return values[4]; }
  int out_channels() const { return values[5]; }
  int stride(int axis) const { return values[6 + axis]; }
  int dilation(int axis) const { return values[8 + axis]; }
  bool same() const { return values[10] == 0; }
  int activation() const { return values[11]; }
  int multiplier() const { return values[12]; }
  int input_zero_point() const { return values[13]; }
  int output_zero_point() const { return values[14]; }
};

// Integer weight number `index` (memory order of the int8 tensor) of channel m, out of `count`.
inline int Weight(const ConstantTensors& t, int64_t index, int64_t count, int m) {
  int weight = 0;
  for (int branch = 0; branch < t.params[1]; ++branch) {
    int digits = t.codes[branch * ((count + 4) / 5) + index / 5];
    for (int64_t i = 0; i < index % 5; ++i) digits /= 3;
    weight += (digits % 3 - 1) * t.branch_scales[branch * t.branch_scales_columns + m];
  }
  return weight;
}

inline int8_t Output(const ConstantTensors& t, int64_t accumulator, int m) {
  if (t.params[0] == 2) {
    int code = t.params[16];
    for (int64_t row = 0; row < t.thresholds_rows; ++row) {
      code += accumulator >= t.thresholds[row * t.thresholds_columns + m];
    }
    return static_cast<int8_t>(code);
  }
  const Params p{t.params};
  const float zero_point = static_cast<float>(p.output_zero_point());
  const float output_scale = t.scales[1];
  auto bound = [&](float value) {
    return std::nearbyint(std::min(std::max(value / output_scale + zero_point, -128.0f), 127.0f));
  };
  double low = -128, high = 127;
  if (p.activation() == 1 || p.activation() == 3) low = bound(0.0f);
  if (p.activation() == 2) low = bound(-1.0f), high = bound(1.0f);
  if (p.activation() == 3) high = bound(6.0f);
  const float product = t.scales[0] * t.scales[2 + m];
  const float multiplier = product / output_scale;
  const float scaled = static_cast<float>(accumulator) * multiplier;
  const double y = static_cast<double>(zero_point) + std::nearbyint(static_cast<double>(scaled));
  return static_cast<int8_t>(std::min(std::max(y, low), high));
}

// First input row (column) under the kernel's first tap for output row (column) o; negative inside the padding.
inline int64_t Origin(const Params& p, int axis, int64_t o, int64_t input, int64_t output) {
  if (!p.same()) return o * p.stride(axis);
  const int64_t covered = (output - 1) * p.stride(axis) + int64_t{p.kernel(axis) - 1} * p.dilation(axis) + 1;
  return o * p.stride(axis) - std::max<int64_t>(covered - input, 0) / 2;
}

// Value of x minus its zero point, 0 outside of the image.
inline int64_t Input(const ImageShape& s, const int8_t* x, int zero_point, int n, int64_t row, int64_t column, int c) {
  if (row < 0 || row >= s.height || column < 0 || column >= s.width) return 0;
  return x[((n * static_cast<int64_t>(s.height) + row) * s.width + column) * s.channels + c] - zero_point;
}

// Calls accumulate(n, row, column, m) -> int64 for every output and stores the requantized result.
template <typename Accumulate>
void ForEachOutput(const ConstantTensors& t, const ImageShape& out, int8_t* y, Accumulate accumulate) {
  for (int n = 0; n < out.batch; ++n)
    for (int row = 0; row < out.height; ++row)
      for (int column = 0; column < out.width; ++column)
        for (int m = 0; m < out.channels; ++m) *y++ = Output(t, t.bias[m] + accumulate(n, row, column, m), m);
}

inline void Conv2D(const ConstantTensors& t, const ImageShape& in, const int8_t* x, const ImageShape& out, int8_t* y) {
  const Params p{t.params};
  const int64_t count = int64_t{p.out_channels()} * p.kernel(0) * p.kernel(1) * p.in_channels();
  ForEachOutput(t, out, y, [&](int n, int row, int column, int m) {
    const int64_t top = Origin(p, 0, row, in.height, out.height), left = Origin(p, 1, column, in.width, out.width);
    int64_t sum = 0;
    for (int i = 0; i < p.kernel(0); ++i)
      for (int j = 0; j < p.kernel(1); ++j)
        for (int c = 0; c < p.in_channels(); ++c) {
          const int64_t index = ((int64_t{m} * p.kernel(0) + i) * p.kernel(1) + j) * p.in_channels() + c;
          const int64_t value = Input(in, x, p.input_zero_point(), n, top + int64_t{i} * p.dilation(0),
                                      left + int64_t{j} * p.dilation(1), c);
          sum += value * Weight(t, index, count, m);
        }
    return sum;
  });
}

inline void DepthwiseConv2D(const ConstantTensors& t, const ImageShape& in, const int8_t* x, const ImageShape& out,
                            int8_t* y) {
  const Params p{t.params};
  const int64_t count = int64_t{p.kernel(0)} * p.kernel(1) * p.out_channels();
  ForEachOutput(t, out, y, [&](int n, int row, int column, int m) {
    const int64_t top = Origin(p, 0, row, in.height, out.height), left = Origin(p, 1, column, in.width, out.width);
    int64_t sum = 0;
    for (int i = 0; i < p.kernel(0); ++i)
      for (int j = 0; j < p.kernel(1); ++j) {
        const int64_t index = (int64_t{i} * p.kernel(1) + j) * p.out_channels() + m;
        const int64_t value = Input(in, x, p.input_zero_point(), n, top + int64_t{i} * p.dilation(0),
                                    left + int64_t{j} * p.dilation(1), m / p.multiplier());
        sum += value * Weight(t, index, count, m);
      }
    return sum;
  });
}

// x [rows, K], y [rows, M].
inline void FullyConnected(const ConstantTensors& t, int rows, const int8_t* x, int8_t* y) {
  const Params p{t.params};
  Conv2D(t, {rows, 1, 1, p.in_channels()}, x, {rows, 1, 1, p.out_channels()}, y);
}

}  // namespace reference
}  // namespace dbq

#endif  // DBQ_CORE_REFERENCE_H_
