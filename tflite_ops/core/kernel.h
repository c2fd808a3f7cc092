// The two kinds of inner kernel, and the list of all that this build holds.
//
// A kernel is plain data: what it needs (instruction set, tile, format of its operands) and a function. Nothing else in
// the library knows an instruction set. To add one: write core/isa/<name>.cc, add its kernels to core/kernels.inc and
// its run-time check to core/isa.cc; tests and selection follow from the list.
#ifndef DBQ_CORE_KERNEL_H_
#define DBQ_CORE_KERNEL_H_

#include <cstddef>
#include <cstdint>

#include "core/isa.h"
#include "core/requantize.h"

namespace dbq {

// A tile of output: up to `kernel.rows` pixels by up to `kernel.channels` channels.
struct GemmTile {
  const void* rows;         // [row_count] rows of `steps * depth_step` elements, in the kernel's own element format
  int64_t row_bytes;        // distance of two rows
  int row_count;            // 1 .. kernel.rows
  int64_t steps;            // ceil(K / depth_step)
  const int8_t* weights;    // one panel [steps][channels][depth_step], zero filled
  const int32_t* bias;      // [channels]
  const float* multiplier;  // [channels]
  OutputStage stage;
  int8_t* output;
  int64_t output_stride;  // distance of two output pixels
  int channel_count;      // channels to store, 1 .. kernel.channels
};

struct GemmKernel {
  const char* name;
  Isa isa;
  int rows, channels, depth_step;
  size_t element_bytes;
  // Converts `count` activations to the kernel's element format, zero point removed; x == nullptr writes zeros.
  void (*load)(const int8_t* x, int64_t count, int32_t zero_point, void* row);
  void (*run)(const GemmTile& tile);
};

// One output pixel of a depthwise convolution with multiplier 1, channels channel_begin .. channel_end - 1.
struct DepthwisePixel {
  const int8_t* const* taps;  // [tap_count] pointers to M activations; padding points to M zero points
  int tap_count;
  const int8_t* weights;  // [tap_count, M]
  int64_t channels;       // M
  int64_t channel_begin, channel_end;
  const int32_t* bias;
  const float* multiplier;
  int32_t input_zero_point;
  OutputStage stage;
  int8_t* output;  // [M]
};

struct DepthwiseKernel {
  const char* name;
  Isa isa;
  void (*run)(const DepthwisePixel& pixel);
};

#define DBQ_GEMM_KERNEL(name) extern const GemmKernel name;
#define DBQ_DEPTHWISE_KERNEL(name) extern const DepthwiseKernel name;
#include "core/kernels.inc"
#undef DBQ_GEMM_KERNEL
#undef DBQ_DEPTHWISE_KERNEL

}  // namespace dbq

#endif  // DBQ_CORE_KERNEL_H_
