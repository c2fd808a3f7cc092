// Options of builtin operators and quantization of tensors, declared by layout as in tflite_abi.h.
#ifndef DBQ_DELEGATE_TFLITE_OPTIONS_H_
#define DBQ_DELEGATE_TFLITE_OPTIONS_H_

#include <cstdint>

#include "delegate/tflite_abi.h"

namespace dbq {
namespace tflite {

enum BuiltinOperator : int32_t {
  kAdd = 0,
  kAveragePool2d = 1,
  kConcatenation = 2,
  kConv2d = 3,
  kDepthwiseConv2d = 4,
  kDequantize = 6,
  kFullyConnected = 9,
  kLogistic = 14,
  kMaxPool2d = 17,
  kMul = 18,
  kRelu = 19,
  kRelu6 = 21,
  kReshape = 22,
  kResizeBilinear = 23,
  kTanh = 28,
  kPad = 34,
  kGather = 36,
  kMean = 40,
  kCast = 53,
  kResizeNearestNeighbor = 97,
  kLeakyRelu = 98,
  kQuantize = 114,
  kHardSwish = 117,
};

enum Padding : int { kPaddingSame = 1, kPaddingValid = 2 };

constexpr int kAffineQuantization = 1;

struct FloatArray {
  int size;
  float data[1];  // [size]
};

struct AffineQuantization {
  FloatArray* scale;
  IntArray* zero_point;
  int32_t quantized_dimension;
};

struct ConvParams {
  Padding padding;
  int stride_width, stride_height;
  int activation;
  int dilation_width_factor, dilation_height_factor;
};

struct DepthwiseConvParams {
  Padding padding;
  int stride_width, stride_height;
  int depth_multiplier;
  int activation;
  int dilation_width_factor, dilation_height_factor;
};

struct FullyConnectedParams {
  int activation;
  int weights_format;
  bool keep_num_dims;
};

struct PoolParams {
  Padding padding;
  int stride_width, stride_height;
  int filter_width, filter_height;
  int activation;
};

struct AddParams {
  int activation;
};

struct MulParams {
  int activation;
};

struct ConcatenationParams {
  int axis;
  int activation;
};

struct ReshapeParams {
  int shape[8];
  int num_dimensions;
};

struct ReducerParams {
  bool keep_dims;
};

// Of both kinds.
struct ResizeParams {
  bool align_corners;
  bool half_pixel_centers;
};

struct LeakyReluParams {
  float alpha;
};

struct GatherParams {
  int axis;
  int batch_dims;
};

}  // namespace tflite
}  // namespace dbq

#endif  // DBQ_DELEGATE_TFLITE_OPTIONS_H_
