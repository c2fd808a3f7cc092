// Matrix products for Armv8.0, 2 pixels x 8 channels, any weights.
//
// As XNNPACK does it: SMULL and SMLAL2 put two products of bytes into an int16, SADALP adds pairs of those to int32, so
// that sixteen products are three instructions. Every accumulator's four lanes meet at the end.
#if defined(__aarch64__)

#include "isa/neon.h"

namespace dbq {
namespace {

constexpr int kRows = 2;
constexpr int kChannels = 16;  // of a panel: two tiles
constexpr int kTileChannels = 8;
constexpr int kDepthStep = 16;

int64_t NoScratch(const GemmShape&) { return 0; }

// Two products of -128 and -128 would pass int16.
bool HasLowest(const int8_t* w, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (w[i] == -128) return true;
  }
  return false;
}

void PackGemm(const GemmWeights& weights, PackedGemm* packed) {
  PackPanels(weights, kDepthStep, kDepthStep, kChannels, nullptr, packed);
  packed->has_lowest = HasLowest(weights.integers, weights.shape.Depth() * weights.shape.channels);
  AddSignedShares(weights, kChannels, packed);
}

struct Tile {
  const uint8_t* x[kRows];
  const int32_t* segment_offset;
  int64_t segments, steps;
  const int8_t* w;  // of eight channels; a step is 256 bytes
};

// Four channels of both rows: w in v4 to v7, x in v0 and v1, products in v8 to v15. Eight products are under way at a
// time, because an in-order Cortex-A53 waits six cycles for each; the last use of a register is followed by its next
// load.
#define DBQ_SMULL(p, w, x) "smull v" #p ".8h, v" #w ".8b, v" #x ".8b\n\t"
#define DBQ_SMLAL(p, w, x) "smlal2 v" #p ".8h, v" #w ".16b, v" #x ".16b\n\t"
#define DBQ_SADALP(sum, p) "sadalp v" #sum ".4s, v" #p ".8h\n\t"
// clang-format off
#define DBQ_PRODUCTS(next)                                                       \
  DBQ_SMULL(8, 4, 0) DBQ_SMULL(12, 4, 1) DBQ_SMULL(9, 5, 0) DBQ_SMULL(13, 5, 1)   \
  DBQ_SMULL(10, 6, 0) DBQ_SMULL(14, 6, 1) DBQ_SMULL(11, 7, 0) DBQ_SMULL(15, 7, 1) \
  DBQ_SMLAL(8, 4, 0) DBQ_SMLAL(12, 4, 1) "ldr q4, [%[w], #" #next "]\n\t"         \
  DBQ_SMLAL(9, 5, 0) DBQ_SMLAL(13, 5, 1) "ldr q5, [%[w], #" #next " + 16]\n\t"    \
  DBQ_SMLAL(10, 6, 0) DBQ_SMLAL(14, 6, 1) "ldr q6, [%[w], #" #next " + 32]\n\t"   \
  DBQ_SMLAL(11, 7, 0) DBQ_SMLAL(15, 7, 1) "ldr q7, [%[w], #" #next " + 48]\n\t"

// sums: [2 rows][8 channels].
DBQ_INLINE void RunTile(const Tile& tile, int32_t* sums) {
  const int8_t* w = tile.w;
  const int32_t* offset = tile.segment_offset;
  int64_t segments = tile.segments, steps, at;
  const uint8_t *x0, *x1;
  asm volatile(
      "movi v2.16b, #128\n\t"
      "movi v16.4s, #0\n\tmovi v17.4s, #0\n\tmovi v18.4s, #0\n\tmovi v19.4s, #0\n\t"
      "movi v20.4s, #0\n\tmovi v21.4s, #0\n\tmovi v22.4s, #0\n\tmovi v23.4s, #0\n\t"
      "movi v24.4s, #0\n\tmovi v25.4s, #0\n\tmovi v26.4s, #0\n\tmovi v27.4s, #0\n\t"
      "movi v28.4s, #0\n\tmovi v29.4s, #0\n\tmovi v30.4s, #0\n\tmovi v31.4s, #0\n\t"
      "ldp q4, q5, [%[w]]\n\t"
      "ldp q6, q7, [%[w], #32]\n"
      "1:\n\t"  // a segment
      "ldrsw %[at], [%[offset]], #4\n\t"
      "mov %[steps], %[all_steps]\n\t"
      "add %[x0], %[row0], %[at]\n\t"
      "add %[x1], %[row1], %[at]\n\t"
      "ldr q0, [%[x0]]\n\t"
      "ldr q1, [%[x1]]\n\t"
      "mov %[at], #16\n\t"
      "eor v0.16b, v0.16b, v2.16b\n\t"
      "eor v1.16b, v1.16b, v2.16b\n"
      "2:\n\t"  // a step
      DBQ_PRODUCTS(64)
      DBQ_SADALP(16, 8) DBQ_SADALP(24, 12) DBQ_SADALP(17, 9) DBQ_SADALP(25, 13)
      DBQ_SADALP(18, 10) DBQ_SADALP(26, 14) DBQ_SADALP(19, 11) DBQ_SADALP(27, 15)
      DBQ_PRODUCTS(256)
      "ldr q0, [%[x0], %[at]]\n\t"
      DBQ_SADALP(20, 8) DBQ_SADALP(28, 12)
      "ldr q1, [%[x1], %[at]]\n\t"
      DBQ_SADALP(21, 9) DBQ_SADALP(29, 13)
      DBQ_SADALP(22, 10) DBQ_SADALP(30, 14)
      "eor v0.16b, v0.16b, v2.16b\n\t"
      DBQ_SADALP(23, 11) DBQ_SADALP(31, 15)
      "eor v1.16b, v1.16b, v2.16b\n\t"
      "add %[w], %[w], #256\n\t"
      "add %[at], %[at], #16\n\t"
      "subs %[steps], %[steps], #1\n\t"
      "b.ne 2b\n\t"
      "subs %[segments], %[segments], #1\n\t"
      "b.ne 1b\n\t"
      "addp v16.4s, v16.4s, v17.4s\n\taddp v18.4s, v18.4s, v19.4s\n\t"
      "addp v20.4s, v20.4s, v21.4s\n\taddp v22.4s, v22.4s, v23.4s\n\t"
      "addp v24.4s, v24.4s, v25.4s\n\taddp v26.4s, v26.4s, v27.4s\n\t"
      "addp v28.4s, v28.4s, v29.4s\n\taddp v30.4s, v30.4s, v31.4s\n\t"
      "addp v16.4s, v16.4s, v18.4s\n\taddp v20.4s, v20.4s, v22.4s\n\t"
      "addp v24.4s, v24.4s, v26.4s\n\taddp v28.4s, v28.4s, v30.4s\n\t"
      "stp q16, q20, [%[sums]]\n\t"
      "stp q24, q28, [%[sums], #32]\n\t"
      : [w] "+r"(w), [offset] "+r"(offset), [segments] "+r"(segments), [steps] "=&r"(steps), [at] "=&r"(at),
        [x0] "=&r"(x0), [x1] "=&r"(x1)
      : [row0] "r"(tile.x[0]), [row1] "r"(tile.x[1]), [all_steps] "r"(tile.steps), [sums] "r"(sums)
      : "memory", "cc", "v0", "v1", "v2", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15",
        "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
}

// clang-format on

// As RunTile, for weights of -128: one product at a time. Rare, so it is short and not fast.
void RunTileLowest(const Tile& tile, int32_t* sums) {
  for (int row = 0; row < kRows; ++row) {
    for (int c = 0; c < kTileChannels; ++c) {
      const int8_t* w = tile.w + c * kDepthStep;
      Int sum = vdupq_n_s32(0);
      for (int64_t s = 0; s < tile.segments; ++s) {
        const uint8_t* x = tile.x[row] + tile.segment_offset[s];
        for (int64_t k = 0; k < tile.steps; ++k, w += kChannels * kDepthStep) {
          const int8x16_t a = LoadCodes(x + k * kDepthStep), b = vld1q_s8(w);
          sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
          sum = vpadalq_s16(sum, vmull_high_s8(a, b));
        }
      }
      sums[row * kTileChannels + c] = vaddvq_s32(sum);
    }
  }
}

// What eight channels of a panel have in common.
struct Octet {
  const PackedGemm* gemm;
  const int8_t* w;
  Int bias[2];
  WayOut out;
  int lane;
  int64_t first_channel, channels;
  Octet(const PackedGemm& g, int64_t index, int first) : gemm(&g), out(g, index), lane(first) {
    const Panel& panel = g.panels[index];
    w = g.weights.data() + panel.weights_offset + first * kDepthStep;
    first_channel = panel.first_channel + first, channels = panel.channels - first;
    for (int i = 0; i < 2; ++i) {
      const int64_t at = index * kPanelChannels + first + i * 4;
      bias[i] = vld1q_s32(g.bias.data() + at);
    }
  }
};

DBQ_INLINE void StoreRow(const Octet& octet, const Clamp& clamp, const int32_t* sums, uint8_t* pixel) {
  const Int a = octet.out(vaddq_s32(vld1q_s32(sums), octet.bias[0]), octet.lane);
  const Int b = octet.out(vaddq_s32(vld1q_s32(sums + 4), octet.bias[1]), octet.lane + 4);
  StoreEight(PackHalf(a, b, clamp), octet.channels, pixel + octet.first_channel);
}

// The channels' weights stay in the first-level cache while the pixels pass.
void RunOctet(const GemmTask& task, const Octet& octet) {
  const Clamp clamp(octet.gemm->stage);
  const bool has_lowest = octet.gemm->has_lowest;
  Tile tile{{}, task.segment_offset, octet.gemm->shape.segments, octet.gemm->steps, octet.w};
  for (int64_t pixel = 0; pixel < task.count; pixel += kRows) {
    const int64_t other = pixel + 1 < task.count ? pixel + 1 : pixel;
    tile.x[0] = task.x + task.x_offset[pixel], tile.x[1] = task.x + task.x_offset[other];
    alignas(16) int32_t sums[kRows * kTileChannels];
    has_lowest ? RunTileLowest(tile, sums) : RunTile(tile, sums);
    StoreRow(octet, clamp, sums, task.output + task.output_offset[pixel]);
    StoreRow(octet, clamp, sums + (other - pixel) * kTileChannels, task.output + task.output_offset[other]);
  }
}

void RunGemm(const GemmTask& task) {
  for (int64_t index = task.first_panel; index < task.last_panel; ++index) {
    const int channels = task.gemm->panels[index].channels;
    for (int first = 0; first < channels; first += kTileChannels) RunOctet(task, Octet(*task.gemm, index, first));
  }
}

// In cycles of a Cortex-A53 (llvm-mca): 66 for a step of a tile, the rest before and after.
double GemmCost(const GemmShape& s) {
  const int64_t tiles = CeilDiv(s.pixels, kRows) * CeilDiv(s.channels, kTileChannels);
  return static_cast<double>(tiles) * (180.0 + 66.0 * static_cast<double>(s.segments * CeilDiv(s.length, kDepthStep)));
}

}  // namespace

const GemmKernel gemm_neon_2x8c16 = {"gemm_neon_2x8c16", kNeon,     false,    false,  kRows,
                                     GemmCost,           NoScratch, PackGemm, RunGemm};

}  // namespace dbq

#endif  // defined(__aarch64__)
