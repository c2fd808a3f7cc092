// The int32 parameter tensor of an operator (docs/packing.md, "params"), checked and named.
#ifndef DBQ_CORE_PARAMS_H_
#define DBQ_CORE_PARAMS_H_

#include <cstdint>

#include "core/status.h"

namespace dbq {

enum class OpKind { kConv2D, kDepthwiseConv2D, kFullyConnected };
enum class Padding { kSame = 0, kValid = 1 };
enum class Activation { kNone = 0, kRelu = 1, kReluN1To1 = 2, kRelu6 = 3 };

constexpr int kFormatVersion = 1;
// Of a convolution or fully connected layer that counts thresholds instead of scaling its sums.
constexpr int kThresholdVersion = 2;
constexpr int kParamCount = 17;  // one less in version 1
constexpr int kMostThresholds = 15;
// Longest dot product whose int32 sum cannot overflow with a zero bias: K * 127 * 255 <= 2^31 - 1.
constexpr int64_t kMaxDepth = INT64_C(2147483647) / (127 * 255);

// Name of the custom operator in the file, e.g. "DbqConv2D".
const char* OpName(OpKind kind);

struct LayerParams {
  int branches = 0;
  int kernel_h = 0, kernel_w = 0;
  int in_channels = 0, out_channels = 0;
  int stride_h = 0, stride_w = 0;
  int dilation_h = 0, dilation_w = 0;
  Padding padding = Padding::kValid;
  Activation activation = Activation::kNone;
  int depth_multiplier = 0;
  int32_t input_zero_point = 0, output_zero_point = 0;
  bool keep_num_dims = false;
  bool has_thresholds = false;  // version 2
  int32_t lowest_code = 0;      // of version 2
  int groups = 1;               // of an ordinary convolution; packed operators have one

  // K: length of one dot product. At most kMaxDepth once parsed.
  int64_t Depth(OpKind kind) const {
    const int64_t taps = static_cast<int64_t>(kernel_h) * kernel_w;
    return kind == OpKind::kDepthwiseConv2D ? taps : taps * (in_channels / groups);
  }
  // W: number of weights.
  int64_t WeightCount(OpKind kind) const { return Depth(kind) * out_channels; }
};

// Reads `count` int32 values; every field is range checked, so that no later size computation can overflow int64.
Status ParseParams(OpKind kind, const int32_t* values, int64_t count, LayerParams* params);

}  // namespace dbq

#endif  // DBQ_CORE_PARAMS_H_
