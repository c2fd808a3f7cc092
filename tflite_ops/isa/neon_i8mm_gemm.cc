// Matrix products for Armv8.6 with products of 2 x 8 and 8 x 2 bytes (USMMLA), 4 pixels x 16 channels, any weights.
//
// The first operand of USMMLA is unsigned, so that codes stay as they are.
#if defined(__aarch64__)

#include "isa/neon.h"

namespace dbq {
namespace {

constexpr int kRows = 4;
constexpr int kChannels = 16;
constexpr int kPairs = kChannels / 2;
constexpr int kDepthStep = 8;
constexpr int kStepBytes = kChannels * kDepthStep;

int64_t NoScratch(const GemmShape&) { return 0; }

void PackGemm(const GemmWeights& weights, PackedGemm* packed) {
  PackPanels(weights, kDepthStep, kDepthStep, kChannels, nullptr, packed);
}

// a: two pixels' codes of a step. sum: [pixel 0: channel 0, 1][pixel 1: channel 0, 1] of pairs of channels.
template <int halves>
DBQ_INLINE void AddStep(const uint8x16_t (&a)[halves], const int8_t* w, Int (&sum)[halves][kPairs]) {
  DBQ_UNROLL for (int i = 0; i < kPairs; ++i) {
    const int8x16_t b = vld1q_s8(w + i * 16);
    DBQ_UNROLL for (int h = 0; h < halves; ++h) sum[h][i] = vusmmlaq_s32(sum[h][i], a[h], b);
  }
}

DBQ_INLINE uint64x2_t Load(const uint8_t* x) { return vreinterpretq_u64_u8(vld1q_u8(x)); }

// Two steps at a time. The weights behind the segment's.
template <int halves>
DBQ_INLINE const int8_t* AddSegment(const uint8_t* const (&x)[2 * halves], int64_t offset, int64_t steps,
                                    const int8_t* w, Int (&sum)[halves][kPairs]) {
  int64_t step = 0;
  for (; step + 2 <= steps; step += 2, offset += 16, w += 2 * kStepBytes) {
    uint8x16_t first[halves], second[halves];
    DBQ_UNROLL for (int h = 0; h < halves; ++h) {
      const uint64x2_t even = Load(x[2 * h] + offset), odd = Load(x[2 * h + 1] + offset);
      first[h] = vreinterpretq_u8_u64(vzip1q_u64(even, odd)), second[h] = vreinterpretq_u8_u64(vzip2q_u64(even, odd));
    }
    AddStep<halves>(first, w, sum);
    AddStep<halves>(second, w + kStepBytes, sum);
  }
  if (step == steps) return w;
  uint8x16_t last[halves];
  DBQ_UNROLL for (int h = 0; h < halves; ++h) {
    last[h] = vcombine_u8(vld1_u8(x[2 * h] + offset), vld1_u8(x[2 * h + 1] + offset));
  }
  AddStep<halves>(last, w, sum);
  return w + kStepBytes;
}

// Sums of pairs -> those of one pixel, with the bias.
DBQ_INLINE void RowOf(const Int (&sum)[kPairs], int row, const int32_t* bias, Int (&to)[4]) {
  DBQ_UNROLL for (int v = 0; v < 4; ++v) {
    const int64x2_t a = vreinterpretq_s64_s32(sum[2 * v]), b = vreinterpretq_s64_s32(sum[2 * v + 1]);
    const int64x2_t both = row == 0 ? vzip1q_s64(a, b) : vzip2q_s64(a, b);
    to[v] = vaddq_s32(vreinterpretq_s32_s64(both), vld1q_s32(bias + v * 4));
  }
}

// `count` of the pixels are stored; those behind them are the last again.
template <int halves>
__attribute__((noinline)) void RunTile(const GemmTask& task, int64_t index, int64_t pixel, int64_t count) {
  const PackedGemm& gemm = *task.gemm;
  const Panel& panel = gemm.panels[index];
  const int8_t* w = gemm.weights.data() + panel.weights_offset;
  const uint8_t* x[2 * halves];
  Int sum[halves][kPairs];
  for (int r = 0; r < 2 * halves; ++r) x[r] = task.x + task.x_offset[pixel + (r < count ? r : count - 1)];
  DBQ_UNROLL for (int h = 0; h < halves; ++h) {
    DBQ_UNROLL for (int i = 0; i < kPairs; ++i) sum[h][i] = vdupq_n_s32(0);
  }
  for (int64_t s = 0; s < gemm.shape.segments; ++s) {
    w = AddSegment<halves>(x, task.segment_offset[s], gemm.steps, w, sum);
  }
  const Clamp clamp(gemm.stage);
  const WayOut out(gemm, index);
  DBQ_UNROLL for (int r = 0; r < 2 * halves; ++r) {
    if (r == count) break;
    Int row[4];
    RowOf(sum[r / 2], r % 2, gemm.bias.data() + index * kPanelChannels, row);
    StoreRow(row, out, clamp, panel.channels, task.output + task.output_offset[pixel + r] + panel.first_channel);
  }
}

// A panel stays in the first-level cache while the pixels pass.
void RunGemm(const GemmTask& task) {
  for (int64_t index = task.first_panel; index < task.last_panel; ++index) {
    for (int64_t pixel = 0; pixel < task.count; pixel += kRows) {
      const int64_t left = task.count - pixel;
      if (left > 2) {
        RunTile<2>(task, index, pixel, left < kRows ? left : kRows);
      } else {
        RunTile<1>(task, index, pixel, left);
      }
    }
  }
}

// In cycles of a Neoverse V1: two products of matrices each, and loads beside them.
double GemmCost(const GemmShape& s) {
  const double halves = static_cast<double>(CeilDiv(s.pixels, 2) * CeilDiv(s.channels, kChannels));
  return halves * (16.0 + 4.5 * static_cast<double>(s.segments * CeilDiv(s.length, kDepthStep)));
}

}  // namespace

const GemmKernel gemm_neoni8mm_4x16c8 = {
    "gemm_neoni8mm_4x16c8", kNeon | kDotProd | kI8mm, false, false, kRows, GemmCost, NoScratch, PackGemm, RunGemm};

}  // namespace dbq

#endif  // defined(__aarch64__)
