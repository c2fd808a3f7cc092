// What depthwise kernels for aarch64 share: how channels lie in vectors of 16 bytes, and the walk over an image.
//
// 16 neighbouring bytes of a row are a vector, whatever pixels they belong to, where the stride is 1 and channels do
// not fill vectors; else a vector is 16 channels of one pixel. Everything is in an unnamed namespace, as in neon.h.
#ifndef DBQ_ISA_NEON_DEPTHWISE_H_
#define DBQ_ISA_NEON_DEPTHWISE_H_

#include "isa/neon.h"
#include "isa/panels.h"

namespace dbq {
namespace {

constexpr int kVectorBytes = 16;

// Vectors over several pixels.
bool IsNarrow(const DepthwiseShape& s) { return s.stride_w == 1 && s.channels % kVectorBytes != 0; }

int64_t Blocks(const DepthwiseShape& s) { return RowBlocks(s.channels, kVectorBytes, IsNarrow(s)); }

// Share of a vector's bytes that are used.
[[maybe_unused]] double Used(const DepthwiseShape& s) {
  return IsNarrow(s) ? 1.0 : static_cast<double>(s.channels) / static_cast<double>(Blocks(s) * kVectorBytes);
}

// -1 behind the last.
int64_t ChannelAt(const DepthwiseShape& s, int64_t block, int i) {
  return RowChannel(s.channels, kVectorBytes, IsNarrow(s), block, i);
}

// Where a kernel wants the weight of a tap, in the bytes of a block.
using TapPlace = int64_t (*)(const DepthwiseShape& s, int tap, int i);

[[maybe_unused]] void PackBlocks(const DepthwiseWeights& weights, int64_t block_bytes, TapPlace place,
                                 PackedDepthwise* packed) {
  const DepthwiseShape& s = packed->shape = weights.shape;
  const int64_t blocks = Blocks(s);
  packed->stage = weights.stage;
  packed->weights = Buffer<int8_t>(blocks * block_bytes);
  packed->bias = Buffer<int32_t>(blocks * kVectorBytes);
  packed->multiplier = Buffer<float>(blocks * kVectorBytes);
  for (int64_t at = 0; at < blocks * kVectorBytes; ++at) {
    const int64_t block = at / kVectorBytes, channel = ChannelAt(s, block, static_cast<int>(at % kVectorBytes));
    if (channel < 0) continue;
    const int8_t* w = weights.integers + channel;
    packed->bias[at] = weights.bias[channel] + SignedShare(w, s.Taps(), s.channels);
    packed->multiplier[at] = weights.multiplier[channel];
    for (int tap = 0; tap < s.Taps(); ++tap) {
      const int8_t weight = w[tap * s.channels];
      packed->has_lowest = packed->has_lowest || weight == -128;
      packed->weights[block * block_bytes + place(s, tap, static_cast<int>(at % kVectorBytes))] = weight;
    }
  }
}

// What the vectors of a row have in common.
struct DepthwiseRow {
  const PackedDepthwise& packed;
  int64_t x_row;
  Clamp clamp;
};

DBQ_INLINE uint8x16_t Finish(const DepthwiseRow& row, const Int (&total)[4], int64_t block) {
  const float* multiplier = row.packed.multiplier.data() + block * kVectorBytes;
  Int y[4];
  DBQ_UNROLL for (int v = 0; v < 4; ++v) y[v] = Scaled(total[v], vld1q_f32(multiplier + v * 4));
  return Pack(y[0], y[1], y[2], y[3], row.clamp);
}

DBQ_INLINE void StartTotals(const DepthwiseRow& row, int64_t block, Int (&total)[4]) {
  const int32_t* bias = row.packed.bias.data() + block * kVectorBytes;
  DBQ_UNROLL for (int v = 0; v < 4; ++v) total[v] = vld1q_s32(bias + v * 4);
}

// Vector::Run(row, x, block): 16 output bytes from the first tap's address.
template <typename Vector>
__attribute__((noinline)) void RunNarrow(const DepthwiseRow& row, const uint8_t* x, int64_t width, uint8_t* y) {
  const int64_t bytes = width * row.packed.shape.channels, blocks = Blocks(row.packed.shape);
  for (int64_t i = 0, block = 0; i < bytes; i += kVectorBytes, block = block + 1 == blocks ? 0 : block + 1) {
    StoreSixteen(Vector::Run(row, x + i, block), bytes - i, y + i);
  }
}

template <typename Vector>
__attribute__((noinline)) void RunWide(const DepthwiseRow& row, const uint8_t* x, int64_t width, uint8_t* y) {
  const int64_t channels = row.packed.shape.channels, step = row.packed.shape.stride_w * channels;
  for (int64_t block = 0, c = 0; c < channels; ++block, c += kVectorBytes) {
    for (int64_t pixel = 0; pixel < width; ++pixel) {
      StoreSixteen(Vector::Run(row, x + pixel * step + c, block), channels - c, y + pixel * channels + c);
    }
  }
}

template <typename Vector>
void RunRows(const DepthwiseTask& task) {
  const DepthwiseShape& s = task.packed->shape;
  const DepthwiseRow common{*task.packed, task.x_row, Clamp(task.packed->stage)};
  for (int64_t row = 0; row < task.rows; ++row) {
    const uint8_t* x = task.x + row * s.stride_h * task.x_row;
    uint8_t* y = task.output + row * task.output_row;
    IsNarrow(s) ? RunNarrow<Vector>(common, x, task.width, y) : RunWide<Vector>(common, x, task.width, y);
  }
}

[[maybe_unused]] bool IsSquare(const DepthwiseShape& s, int size) {
  return s.kernel_h == size && s.kernel_w == size && s.dilation_h == 1 && s.dilation_w == 1;
}

}  // namespace
}  // namespace dbq

#endif  // DBQ_ISA_NEON_DEPTHWISE_H_
