// One operator's constant tensors, checked and decoded once.
#ifndef DBQ_CORE_LAYER_H_
#define DBQ_CORE_LAYER_H_

#include <cstdint>
#include <vector>

#include "core/params.h"
#include "core/requantize.h"
#include "core/status.h"

namespace dbq {

// The constant tensors 1..6 of docs/packing.md as they lie in the file; counts are in elements.
struct ConstantTensors {
  const uint8_t* codes = nullptr;
  int64_t codes_count = 0;
  const uint8_t* branch_scales = nullptr;
  int64_t branch_scales_rows = 0, branch_scales_columns = 0;
  const float* scales = nullptr;
  int64_t scales_count = 0;
  const int32_t* bias = nullptr;
  int64_t bias_count = 0;
  const int32_t* params = nullptr;
  int64_t params_count = 0;
  const int32_t* thresholds = nullptr;  // of version 2
  int64_t thresholds_rows = 0, thresholds_columns = 0;
};

// A convolution or fully connected layer with int8 weights: what a packed and a builtin operator are after decoding.
struct Layer {
  OpKind kind = OpKind::kConv2D;
  LayerParams params;
  float input_scale = 0, output_scale = 0;
  std::vector<int8_t> integers;   // p*b1 + q*b2; [M, K] (OHWI), depthwise [kernel_h * kernel_w, M] (1HWM); once decoded
  std::vector<int32_t> bias;      // [M]
  std::vector<float> multiplier;  // [M] float32(float32(input_scale * weight_scale) / output_scale)
  int levels = 0;                 // of version 2; 0: sums are scaled
  std::vector<int32_t> thresholds;  // [levels, M]; the code is the number of those that a sum has reached
  OutputStage stage;
};

// integers = p*b1 + q*b2 of checked tensors, in the layout of the layer.
struct Integers {
  std::vector<int8_t> values;
  std::vector<int32_t> sums;  // [M] of a channel's values; empty where they were not added up
};

Integers DecodeIntegers(OpKind kind, const LayerParams& params, const uint8_t* codes, const uint8_t* branch_scales);

// Zero point and bounds of an int8 output.
OutputStage MakeOutputStage(Activation activation, float scale, int32_t zero_point);

// All but the integers. Never reads outside the given counts.
Status ReadLayer(OpKind kind, const ConstantTensors& tensors, Layer* layer);

// With the integers; allocates at most a small multiple of codes_count.
Status DecodeLayer(OpKind kind, const ConstantTensors& tensors, Layer* layer);

}  // namespace dbq

#endif  // DBQ_CORE_LAYER_H_
