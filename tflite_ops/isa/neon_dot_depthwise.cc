// Depthwise convolutions of 3x3 for Armv8.2 with dot products: three rows are interleaved, so that a 32-bit lane holds
// the three taps of one channel that lie above each other, and a fourth whose weight is zero.
#if defined(__aarch64__)

#include "isa/neon_depthwise.h"

namespace dbq {
namespace {

constexpr int kSize = 3, kRowsOfLane = 4;
constexpr int kColumnBytes = kVectorBytes * kRowsOfLane;

// [block][column][channel][4 rows]
int64_t ColumnAfterColumn(const DepthwiseShape&, int tap, int i) {
  return tap % kSize * kColumnBytes + i * kRowsOfLane + tap / kSize;
}

void PackColumns(const DepthwiseWeights& weights, PackedDepthwise* packed) {
  PackBlocks(weights, kSize * kColumnBytes, ColumnAfterColumn, packed);
}

// 16 channels of one column of the image.
struct Column {
  int8x16_t lanes[4];
};

DBQ_INLINE int8x16_t Pairs(int16x8_t v) { return vreinterpretq_s8_s16(v); }

DBQ_INLINE Column LoadColumn(const uint8_t* x, int64_t x_row) {
  const int8x16_t a = LoadCodes(x), b = LoadCodes(x + x_row), c = LoadCodes(x + 2 * x_row);
  const int16x8_t above[2] = {vreinterpretq_s16_s8(vzip1q_s8(a, b)), vreinterpretq_s16_s8(vzip2q_s8(a, b))};
  const int16x8_t below[2] = {vreinterpretq_s16_s8(vzip1q_s8(c, c)), vreinterpretq_s16_s8(vzip2q_s8(c, c))};
  return {{Pairs(vzip1q_s16(above[0], below[0])), Pairs(vzip2q_s16(above[0], below[0])),
           Pairs(vzip1q_s16(above[1], below[1])), Pairs(vzip2q_s16(above[1], below[1]))}};
}

DBQ_INLINE void AddColumn(const Column& column, const int8_t* w, Int (&total)[4]) {
  DBQ_UNROLL for (int v = 0; v < 4; ++v) total[v] = vdotq_s32(total[v], column.lanes[v], vld1q_s8(w + v * 16));
}

struct Columns {
  DBQ_INLINE uint8x16_t Run(const DepthwiseRow& row, const uint8_t* x, int64_t block) {
    const int8_t* w = row.packed.weights.data() + block * kSize * kColumnBytes;
    Int total[4];
    StartTotals(row, block, total);
    DBQ_UNROLL for (int j = 0; j < kSize; ++j) {
      AddColumn(LoadColumn(x + j * row.packed.shape.channels, row.x_row), w + j * kColumnBytes, total);
    }
    return Finish(row, total, block);
  }
};

// Stride 1, whole vectors: a column that is interleaved serves three pixels, in the columns after each other.
DBQ_INLINE void RunSliding(const DepthwiseRow& row, const uint8_t* x, int64_t width, int64_t block, uint8_t* y) {
  const int64_t channels = row.packed.shape.channels;
  const int8_t* w = row.packed.weights.data() + block * kSize * kColumnBytes;
  Column columns[kSize] = {LoadColumn(x, row.x_row), LoadColumn(x + channels, row.x_row), {}};
  for (int64_t pixel = 0; pixel < width; pixel += kSize) {
    DBQ_UNROLL for (int i = 0; i < kSize; ++i) {
      if (pixel + i == width) return;
      columns[(i + 2) % kSize] = LoadColumn(x + (pixel + i + 2) * channels, row.x_row);
      Int total[4];
      StartTotals(row, block, total);
      DBQ_UNROLL for (int j = 0; j < kSize; ++j) AddColumn(columns[(i + j) % kSize], w + j * kColumnBytes, total);
      vst1q_u8(y + (pixel + i) * channels, Finish(row, total, block));
    }
  }
}

void RunDot(const DepthwiseTask& task) {
  const DepthwiseShape& s = task.packed->shape;
  if (s.stride_w != 1 || s.channels % kVectorBytes != 0) return RunRows<Columns>(task);
  const DepthwiseRow common{*task.packed, task.x_row, Clamp(task.packed->stage)};
  for (int64_t row = 0; row < task.rows; ++row) {
    const uint8_t* x = task.x + row * s.stride_h * task.x_row;
    uint8_t* y = task.output + row * task.output_row;
    for (int64_t c = 0; c < s.channels; c += kVectorBytes) {
      RunSliding(common, x + c, task.width, c / kVectorBytes, y + c);
    }
  }
}

// Beside SquareCost of neon_depthwise.cc.
double DotCost(const DepthwiseShape& s) {
  return IsSquare(s, kSize) ? static_cast<double>(s.channels) / kVectorBytes / Used(s) * 50.0 : 0;
}

}  // namespace

const DepthwiseKernel depthwise_neondot_3x3 = {
    "depthwise_neondot_3x3", kNeon | kDotProd, false, DotCost, PackColumns, RunDot};

}  // namespace dbq

#endif  // defined(__aarch64__)
