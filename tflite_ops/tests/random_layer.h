// A valid layer with random weights, as it would lie in a file, and a random input.
#ifndef DBQ_TESTS_RANDOM_LAYER_H_
#define DBQ_TESTS_RANDOM_LAYER_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "core/geometry.h"
#include "core/layer.h"
#include "core/packing.h"
#include "tests/testing.h"

namespace dbq {
namespace testing {

// What a test chooses; the rest of params follows.
struct LayerShape {
  OpKind kind = OpKind::kConv2D;
  int branches = 1;
  int kernel_h = 1, kernel_w = 1;
  int in_channels = 1, out_channels = 1;  // depthwise: out_channels follows from the multiplier
  int stride_h = 1, stride_w = 1;
  int dilation_h = 1, dilation_w = 1;
  Padding padding = Padding::kSame;
  Activation activation = Activation::kNone;
  int depth_multiplier = 1;
  int levels = 0;  // thresholds of a channel; 0: format version 1
  int input_zero_point = 0, output_zero_point = 0;
  ImageShape image = {1, 1, 1, 1};

  std::string Describe() const {
    char text[256];
    std::snprintf(
        text, sizeof(text),
        "%s branches %d kernel %dx%d channels %d->%d stride %d,%d dilation %d,%d %s activation %d multiplier %d "
        "zero points %d,%d image %dx%dx%d levels %d",
        OpName(kind), branches, kernel_h, kernel_w, in_channels, out_channels, stride_h, stride_w, dilation_h,
        dilation_w, padding == Padding::kSame ? "SAME" : "VALID", static_cast<int>(activation), depth_multiplier,
        input_zero_point, output_zero_point, image.batch, image.height, image.width, levels);
    return text;
  }
};

// Owns the constant tensors of one operator.
struct FileLayer {
  std::vector<uint8_t> codes, branch_scales;
  std::vector<float> scales;
  std::vector<int32_t> bias, params, thresholds;
  int rows = 1, columns = 1;  // of branch_scales
  int levels = 0;             // rows of thresholds

  ConstantTensors View() const {
    return {codes.data(),
            static_cast<int64_t>(codes.size()),
            branch_scales.data(),
            rows,
            columns,
            scales.data(),
            static_cast<int64_t>(scales.size()),
            bias.data(),
            static_cast<int64_t>(bias.size()),
            params.data(),
            static_cast<int64_t>(params.size()),
            levels == 0 ? nullptr : thresholds.data(),
            levels,
            columns};
  }
};

inline std::vector<int32_t> MakeParams(const LayerShape& s) {
  const bool depthwise = s.kind == OpKind::kDepthwiseConv2D;
  std::vector<int32_t> params = {s.levels == 0 ? kFormatVersion : kThresholdVersion,
                                 s.branches,
                                 s.kernel_h,
                                 s.kernel_w,
                                 s.in_channels,
                                 s.out_channels,
                                 s.stride_h,
                                 s.stride_w,
                                 s.dilation_h,
                                 s.dilation_w,
                                 static_cast<int>(s.padding),
                                 static_cast<int>(s.activation),
                                 depthwise ? s.depth_multiplier : 0,
                                 s.input_zero_point,
                                 s.output_zero_point,
                                 0};
  if (s.levels > 0) params.push_back(std::min(s.output_zero_point, 127 - s.levels));
  return params;
}

// Rows that do not fall; some channels have equal ones, and the ends of int32.
inline void SortThresholds(const LayerShape& s, Random* random, std::vector<int32_t>* thresholds) {
  for (int m = 0; m < s.out_channels; ++m) {
    std::vector<int32_t> column;
    for (int i = 0; i < s.levels; ++i) column.push_back((*thresholds)[i * s.out_channels + m]);
    std::sort(column.begin(), column.end());
    if (s.levels > 1 && random->Int(0, 3) == 0) column[1] = column[0];
    if (s.levels > 0 && random->Int(0, 7) == 0) column.back() = INT32_MAX;
    if (s.levels > 0 && random->Int(0, 7) == 0) column[0] = INT32_MIN;
    for (int i = 0; i < s.levels; ++i) (*thresholds)[i * s.out_channels + m] = column[i];
  }
}

// Codes are random legal bytes: every trit is as likely. Outputs fill and pass the int8 range.
inline FileLayer MakeLayer(const LayerShape& s, Random* random) {
  FileLayer layer;
  layer.params = MakeParams(s);
  const int64_t depth = int64_t{s.kernel_h} * s.kernel_w * (s.kind == OpKind::kDepthwiseConv2D ? 1 : s.in_channels);
  const int64_t weights = depth * s.out_channels;
  for (int branch = 0; branch < s.branches; ++branch) {
    for (int64_t i = 0; i < weights; i += kTritsPerByte) {
      int byte = 0, power = 1;
      for (int64_t j = i; j < i + kTritsPerByte; ++j, power *= 3) byte += power * (j < weights ? random->Int(0, 2) : 1);
      layer.codes.push_back(static_cast<uint8_t>(byte));
    }
  }
  layer.rows = s.branches, layer.columns = s.out_channels;
  layer.branch_scales.assign(s.branches * s.out_channels, 0);
  const float spread = std::sqrt(static_cast<float>(depth)) * 74.0f * 90.0f;  // of the accumulator
  layer.scales = {0.03f, 0.03f * 0.01f * spread / 60.0f};
  for (int m = 0; m < s.out_channels; ++m) {
    const int q = s.branches == 2 ? random->Int(0, 63) : 0;
    layer.branch_scales[m] = static_cast<uint8_t>(127 - q);
    if (s.branches == 2) layer.branch_scales[s.out_channels + m] = static_cast<uint8_t>(q);
    layer.scales.push_back(random->Float(0.005f, 0.02f));
    layer.bias.push_back(random->Int(-static_cast<int>(spread), static_cast<int>(spread)));
  }
  layer.levels = s.levels;
  for (int i = 0; i < s.levels * s.out_channels; ++i) {
    layer.thresholds.push_back(random->Int(-2 * static_cast<int>(spread), 2 * static_cast<int>(spread)));
  }
  SortThresholds(s, random, &layer.thresholds);
  return layer;
}

inline std::vector<int8_t> MakeInput(int64_t count, Random* random) {
  std::vector<int8_t> x(count);
  for (int8_t& value : x) value = static_cast<int8_t>(random->Int(-128, 127));
  return x;
}

}  // namespace testing
}  // namespace dbq

#endif  // DBQ_TESTS_RANDOM_LAYER_H_
