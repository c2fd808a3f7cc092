// Matrix products for Armv8.2 with dot products (SDOT), 4 pixels x 16 channels, any weights.
#if defined(__aarch64__)

#include "isa/neon.h"

namespace dbq {
namespace {

constexpr int kRows = 4;
constexpr int kChannels = 16;
constexpr int kVectors = 4;
constexpr int kDepthStep = 4;
constexpr int kStepBytes = kChannels * kDepthStep;

int64_t NoScratch(const GemmShape&) { return 0; }

void PackGemm(const GemmWeights& weights, PackedGemm* packed) {
  PackPanels(weights, kDepthStep, kDepthStep, kChannels, nullptr, packed);
  AddSignedShares(weights, kChannels, packed);
}

// Codes of a step of one pixel, four times.
DBQ_INLINE int8x16_t Broadcast(const uint8_t* x) {
  uint32_t value;
  __builtin_memcpy(&value, x, sizeof(value));
  return vreinterpretq_s8_u32(vdupq_n_u32(value ^ 0x80808080u));
}

// One of the four steps that a vector of codes holds.
template <int rows, int step>
DBQ_INLINE void AddStep(const int8x16_t (&a)[rows], const int8_t* w, Int (&sum)[rows][kVectors]) {
  DBQ_UNROLL for (int v = 0; v < kVectors; ++v) {
    const int8x16_t b = vld1q_s8(w + step * kStepBytes + v * 16);
    DBQ_UNROLL for (int r = 0; r < rows; ++r) sum[r][v] = vdotq_laneq_s32(sum[r][v], b, a[r], step);
  }
}

// The weights behind the segment's.
template <int rows>
DBQ_INLINE const int8_t* AddSegment(const uint8_t* const (&x)[rows], int64_t offset, int64_t steps, const int8_t* w,
                                    Int (&sum)[rows][kVectors]) {
  int8x16_t a[rows];
  int64_t step = 0;
  for (; step + 4 <= steps; step += 4, offset += 16, w += 4 * kStepBytes) {
    DBQ_UNROLL for (int r = 0; r < rows; ++r) a[r] = LoadCodes(x[r] + offset);
    AddStep<rows, 0>(a, w, sum);
    AddStep<rows, 1>(a, w, sum);
    AddStep<rows, 2>(a, w, sum);
    AddStep<rows, 3>(a, w, sum);
  }
  for (; step < steps; ++step, offset += kDepthStep, w += kStepBytes) {
    DBQ_UNROLL for (int r = 0; r < rows; ++r) a[r] = Broadcast(x[r] + offset);
    AddStep<rows, 0>(a, w, sum);
  }
  return w;
}

template <int rows>
__attribute__((noinline)) void RunTile(const GemmTask& task, int64_t index, int64_t pixel) {
  const PackedGemm& gemm = *task.gemm;
  const Panel& panel = gemm.panels[index];
  const int8_t* w = gemm.weights.data() + panel.weights_offset;
  const uint8_t* x[rows];
  Int sum[rows][kVectors];
  DBQ_UNROLL for (int r = 0; r < rows; ++r) {
    x[r] = task.x + task.x_offset[pixel + r];
    DBQ_UNROLL for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = vld1q_s32(gemm.bias.data() + index * kPanelChannels + v * 4);
    }
  }
  for (int64_t s = 0; s < gemm.shape.segments; ++s) {
    w = AddSegment<rows>(x, task.segment_offset[s], gemm.steps, w, sum);
  }
  const Clamp clamp(gemm.stage);
  const WayOut out(gemm, index);
  DBQ_UNROLL for (int r = 0; r < rows; ++r) {
    StoreRow(sum[r], out, clamp, panel.channels, task.output + task.output_offset[pixel + r] + panel.first_channel);
  }
}

// A panel stays in the first-level cache while the pixels pass.
void RunGemm(const GemmTask& task) {
  for (int64_t index = task.first_panel; index < task.last_panel; ++index) {
    int64_t pixel = 0;
    for (; pixel + kRows <= task.count; pixel += kRows) RunTile<kRows>(task, index, pixel);
    for (; pixel + 2 <= task.count; pixel += 2) RunTile<2>(task, index, pixel);
    if (pixel < task.count) RunTile<1>(task, index, pixel);
  }
}

// In cycles of a Cortex-A76: two dot products each, and loads beside them.
double GemmCost(const GemmShape& s) {
  const double tiles = static_cast<double>(s.pixels) / kRows * static_cast<double>(CeilDiv(s.channels, kChannels));
  return tiles * (30.0 + 9.0 * static_cast<double>(s.segments * CeilDiv(s.length, kDepthStep)));
}

}  // namespace

const GemmKernel gemm_neondot_4x16c4 = {
    "gemm_neondot_4x16c4", kNeon | kDotProd, false, false, kRows, GemmCost, NoScratch, PackGemm, RunGemm};

}  // namespace dbq

#endif  // defined(__aarch64__)
