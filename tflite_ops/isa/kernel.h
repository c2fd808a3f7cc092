// The kinds of inner kernel, and the list of all that this build holds.
//
// A kernel is plain data: the features it needs, what it costs for a shape, how it wants its weights, and a function.
// Nothing else in the library knows an instruction set. Inside of a plan every activation is uint8: the int8 code +
// 128, because dot product instructions want one unsigned operand. Zero points and output stages here are in that
// domain.
#ifndef DBQ_ISA_KERNEL_H_
#define DBQ_ISA_KERNEL_H_

#include <cstdint>
#include <vector>

#include "core/buffer.h"
#include "core/requantize.h"
#include "isa/features.h"

namespace dbq {

// ---- matrix products: convolutions and fully connected layers

// One output channel is `segments` dot products of `length` neighbouring bytes each: the rows under a kernel.
struct GemmShape {
  int64_t pixels = 0, segments = 1, length = 0, channels = 0;
  int planes = 0;  // branches of trits: weights are p * b1, or p * b1 + q * b2; 0: any weights
  int64_t Depth() const { return segments * length; }
};

// Weights as they are decoded. `bias` holds the zero point's share: acc = bias + sum u * w.
struct GemmWeights {
  GemmShape shape;
  const int8_t* integers;  // [channels, segments, length]
  const int32_t* bias;
  const float* multiplier;
  OutputStage stage;
  const int8_t* trits = nullptr;    // [planes, channels, segments, length]
  const uint8_t* scales = nullptr;  // [planes, channels]: p, q
  // Of a layer whose codes count the thresholds that a sum has reached; else its sums are scaled.
  int levels = 0;
  const int32_t* thresholds = nullptr;  // [levels], rows of `row` channels
  int64_t thresholds_row = 0;
};

// Up to 16 * vectors channels; channels behind the last are zero.
struct Panel {
  int64_t first_channel, weights_offset;
  int channels, vectors;
};

// Weights in the layout of one kernel.
struct PackedGemm {
  GemmShape shape;
  int64_t steps = 0;  // of a segment, in the kernel's depth step
  std::vector<Panel> panels;
  Buffer<int8_t> weights;
  Buffer<int32_t> bias;      // [64 per panel], in the order of the kernel's lanes
  Buffer<float> multiplier;  // likewise
  int levels = 0;
  Buffer<int32_t> thresholds;  // [panel][levels][64]
  Buffer<int16_t> factors;     // p, q: in the order of the kernel
  bool has_lowest = false;     // some weight is -128; told where a kernel has to know
  OutputStage stage;
  int64_t Bytes() const {
    return weights.bytes() + bias.bytes() + multiplier.bytes() + thresholds.bytes() + factors.bytes();
  }
};

// Pixels 0 .. count - 1 times panels first_panel .. last_panel - 1.
struct GemmTask {
  const PackedGemm* gemm;
  const uint8_t* x;
  const int32_t* x_offset;        // [count] first byte of each pixel's patch
  const int32_t* segment_offset;  // [segments] from there
  uint8_t* output;
  const int32_t* output_offset;  // [count]
  int64_t count;
  int64_t first_panel, last_panel;
  uint8_t* scratch;  // of the calling thread, ScratchBytes of the kernel
};

struct GemmKernel {
  const char* name;
  Features needs;
  // The result is clamped after the conversion to int32: |acc * multiplier| has to stay below 2^31.
  bool bounded;
  bool wants_trits;  // GemmWeights::trits and scales
  int rows;          // pixels of a full tile
  // Estimated cycles; 0 when the kernel cannot do the shape.
  double (*cost)(const GemmShape& shape);
  int64_t (*scratch_bytes)(const GemmShape& shape);
  void (*pack)(const GemmWeights& weights, PackedGemm* packed);
  void (*run)(const GemmTask& task);
};

// ---- depthwise convolutions with multiplier 1

struct DepthwiseShape {
  int kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  int64_t channels = 0;
  int64_t Taps() const { return int64_t{kernel_h} * kernel_w; }
};

struct DepthwiseWeights {
  DepthwiseShape shape;
  const int8_t* integers;  // [taps, channels]
  const int32_t* bias;     // with the zero point's share
  const float* multiplier;
  OutputStage stage;
};

struct PackedDepthwise {
  DepthwiseShape shape;
  Buffer<int8_t> weights;
  Buffer<int32_t> bias;
  Buffer<float> multiplier;
  bool has_lowest = false;  // as of a PackedGemm
  OutputStage stage;
  int64_t Bytes() const { return weights.bytes() + bias.bytes() + multiplier.bytes(); }
};

// `rows` output rows of `width` pixels. x points to the first tap of the first output pixel; pixels are dense.
struct DepthwiseTask {
  const PackedDepthwise* packed;
  const uint8_t* x;
  int64_t x_row;  // bytes between two input rows
  uint8_t* output;
  int64_t output_row;
  int64_t rows, width;
};

struct DepthwiseKernel {
  const char* name;
  Features needs;
  bool bounded;  // as of a GemmKernel
  // Estimated cycles for a pixel; 0 when the kernel cannot do the shape.
  double (*cost)(const DepthwiseShape& shape);
  void (*pack)(const DepthwiseWeights& weights, PackedDepthwise* packed);
  void (*run)(const DepthwiseTask& task);
};

// ---- operators that go through neighbouring codes

// y = clamp(((a * multiplier_a + b * multiplier_b + bias) >> shift) + zero_point)
struct AddParams {
  int32_t multiplier_a, multiplier_b, bias;
  uint32_t shift;
  int32_t zero_point, low, high;
};

// y = clamp(rne(float((a - zero_a) * (b - zero_b)) * scale) + zero_point); on Arm, where XNNPACK multiplies integers,
// the exact product, ties up. scale: 2^-16 .. 2^8.
struct MulParams {
  int32_t zero_a, zero_b;
  float scale;
  OutputStage stage;
};

// y = rne(clamp(x * inverse)) + zero_point; NaN becomes the upper bound.
struct QuantizeParams {
  float inverse;
  OutputStage stage;
};

// y = (x - zero_point) * scale
struct DequantizeParams {
  float scale;
  int32_t zero_point;
};

// One row of an image between two others. Behind what is read and written lie kSlackBytes.
struct BlendRow {
  const uint8_t *top, *bottom;
  int32_t down;  // weight of `bottom`, of 2^11
  int64_t width, channels;
  const int64_t *left, *right;  // [width] bytes from the start of both rows
  const int32_t* across;        // [width] weight of `right`, of 2^11
};

struct CodeKernels {
  const char* name;
  Features needs;
  void (*add)(const AddParams& p, const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t count);
  void (*mul)(const MulParams& p, const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t count);
  // sums += the codes of `pixels` dense pixels of `count` channels; behind the last lie kSlackBytes.
  void (*sum)(const uint8_t* x, int64_t pixels, int32_t* sums, int64_t count);
  void (*maximum)(const uint8_t* x, uint8_t* y, int64_t count);  // y = max(y, x)
  void (*flip)(const void* x, void* y, int64_t count);           // int8 <-> uint8
  void (*clamp)(const uint8_t* x, uint8_t low, uint8_t high, uint8_t* y, int64_t count);
  void (*look_up)(const uint8_t* x, const uint8_t* table, uint8_t* y, int64_t count);  // table: 256
  // The sum of four corners and their weights, by 2^22 to nearest, ties up.
  void (*blend)(const BlendRow& row, uint8_t* y);
  void (*quantize)(const QuantizeParams& p, const float* x, uint8_t* y, int64_t count);
  void (*dequantize)(const DequantizeParams& p, const uint8_t* x, float* y, int64_t count);
};

#define DBQ_GEMM_KERNEL(name) extern const GemmKernel name;
#define DBQ_DEPTHWISE_KERNEL(name) extern const DepthwiseKernel name;
#define DBQ_CODE_KERNELS(name) extern const CodeKernels name;
#include "isa/kernels.inc"
#undef DBQ_GEMM_KERNEL
#undef DBQ_DEPTHWISE_KERNEL
#undef DBQ_CODE_KERNELS

}  // namespace dbq

#endif  // DBQ_ISA_KERNEL_H_
