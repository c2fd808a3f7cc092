// Ternary matrix products for Armv8.0 without multiplication, 8 pixels x 8 channels.
//
// For four input channels a table holds the 3^4 = 81 signed sums of eight pixels (int16); an output channel then adds
// one row of it for four weights. A table serves all output channels, so that its 81 additions pay from about 32 of
// them. Tables of sixteen groups of four fill two thirds of a first-level cache of 32 KiB.
#if defined(__aarch64__)

#include "isa/neon.h"
#include "isa/table.h"

namespace dbq {
namespace {

// ---- tables

// Four codes of each of eight pixels -> signed words, [code][pixel].
DBQ_INLINE void LoadGroup(const Pixels& pixels, int64_t offset, int16x8_t (&words)[kGroup]) {
  uint32x4_t rows[2] = {vdupq_n_u32(0), vdupq_n_u32(0)};
  const auto at = [&](int i) { return reinterpret_cast<const uint32_t*>(pixels.x[i] + offset); };
  DBQ_UNROLL for (int half = 0; half < 2; ++half) {
    rows[half] = vld1q_lane_u32(at(half * 4), rows[half], 0);
    rows[half] = vld1q_lane_u32(at(half * 4 + 1), rows[half], 1);
    rows[half] = vld1q_lane_u32(at(half * 4 + 2), rows[half], 2);
    rows[half] = vld1q_lane_u32(at(half * 4 + 3), rows[half], 3);
    rows[half] = veorq_u32(rows[half], vdupq_n_u32(0x80808080));
  }
  const int8x16x2_t all = {{vreinterpretq_s8_u32(rows[0]), vreinterpretq_s8_u32(rows[1])}};
  const uint8x16_t order = {0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29};
  DBQ_UNROLL for (int half = 0; half < 2; ++half) {
    const int8x16_t two = vqtbl2q_s8(all, vaddq_u8(order, vdupq_n_u8(static_cast<uint8_t>(2 * half))));
    words[half * 2] = vmovl_s8(vget_low_s8(two));
    words[half * 2 + 1] = vmovl_high_s8(two);
  }
}

// The nine signed sums of two words.
DBQ_INLINE void PairSums(int16x8_t a, int16x8_t b, int16x8_t (&sums)[9]) {
  const int16x8_t zero = vdupq_n_s16(0), sum = vaddq_s16(a, b), difference = vsubq_s16(a, b);
  sums[0] = vnegq_s16(sum), sums[1] = vnegq_s16(a), sums[2] = vnegq_s16(difference);
  sums[3] = vnegq_s16(b), sums[4] = zero, sums[5] = b;
  sums[6] = difference, sums[7] = a, sums[8] = sum;
}

// Nine neighbouring rows. Assembly, because pairs of stores cost an in-order processor what one does.
// clang-format off
DBQ_INLINE void StoreRows(int16x8_t left, const int16x8_t (&right)[9], int16_t* rows) {
  asm volatile(
      "add v16.8h, %0.8h, %1.8h\n\tadd v17.8h, %0.8h, %2.8h\n\tadd v18.8h, %0.8h, %3.8h\n\t"
      "add v19.8h, %0.8h, %4.8h\n\tadd v20.8h, %0.8h, %5.8h\n\tadd v21.8h, %0.8h, %6.8h\n\t"
      "add v22.8h, %0.8h, %7.8h\n\tadd v23.8h, %0.8h, %8.8h\n\tadd v24.8h, %0.8h, %9.8h\n\t"
      "stp q16, q17, [%10]\n\tstp q18, q19, [%10, #32]\n\tstp q20, q21, [%10, #64]\n\t"
      "stp q22, q23, [%10, #96]\n\tstr q24, [%10, #128]\n\t"
      :
      : "w"(left), "w"(right[0]), "w"(right[1]), "w"(right[2]), "w"(right[3]), "w"(right[4]), "w"(right[5]),
        "w"(right[6]), "w"(right[7]), "w"(right[8]), "r"(rows)
      : "memory", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24");
}
// clang-format on

DBQ_INLINE void BuildTable(const int16x8_t (&words)[kGroup], int16_t* table) {
  int16x8_t left[9], right[9];
  PairSums(words[0], words[1], left);
  PairSums(words[2], words[3], right);
  DBQ_UNROLL for (int i = 0; i < 9; ++i) StoreRows(left[i], right, table + i * 9 * kTablePixels);
}

void BuildTables(const GemmTask& task, const Pixels& pixels, int64_t count, Position* position, int16_t* tables) {
  for (int64_t i = 0; i < count; ++i, tables += kTableRows * kTablePixels) {
    int16x8_t words[kGroup];
    LoadGroup(pixels, task.segment_offset[position->segment] + position->step * kGroup, words);
    BuildTable(words, tables);
    if (++position->step == task.gemm->steps) position->step = 0, ++position->segment;
  }
}

// ---- sums

// sums [octets * 8][8 pixels] += rows of the tables, whose address ends in zeros: an offset becomes an address when its
// bits are put in. Channel c: the row of this group is added, that of the next is loaded, and the address of the one
// behind it comes out of a word of four offsets; so nothing waits for a load on a processor that runs in order. What is
// read behind the last offset is not used, and is the offset of some row.
#define DBQ_ADD(c, load) "add v" #c ".8h, v" #c ".8h, v" #load ".8h\n\t"
#define DBQ_LOOK_UP(load, at) "ldr q" #load ", [x" #at "]\n\t"
#define DBQ_ADDRESS(at, word, bit) "bfxil x" #at ", x" #word ", #" #bit ", #15\n\t"
// clang-format off
#define DBQ_ADDRESSES                                                                                   \
  DBQ_ADDRESS(4, 12, 0) DBQ_ADDRESS(5, 12, 16) DBQ_ADDRESS(6, 12, 32) DBQ_ADDRESS(7, 12, 48)            \
  DBQ_ADDRESS(8, 13, 0) DBQ_ADDRESS(9, 13, 16) DBQ_ADDRESS(10, 13, 32) DBQ_ADDRESS(11, 13, 48)
#define DBQ_GROUP(at)                                                                                   \
  "ldr x12, [%[index], #" #at "]\n\tldr x13, [%[index], #" #at " + 8]\n\t"                              \
  DBQ_ADD(0, 16) DBQ_LOOK_UP(16, 4) DBQ_ADD(1, 17) DBQ_LOOK_UP(17, 5)                                   \
  DBQ_ADD(2, 18) DBQ_LOOK_UP(18, 6) DBQ_ADD(3, 19) DBQ_LOOK_UP(19, 7)                                   \
  DBQ_ADD(4, 20) DBQ_LOOK_UP(20, 8) DBQ_ADD(5, 21) DBQ_LOOK_UP(21, 9)                                   \
  DBQ_ADD(6, 22) DBQ_LOOK_UP(22, 10) DBQ_ADD(7, 23) DBQ_LOOK_UP(23, 11)                                 \
  DBQ_ADDRESSES
#define DBQ_ZERO(a, b, c, d)                                                                            \
  "movi v" #a ".8h, #0\n\tmovi v" #b ".8h, #0\n\tmovi v" #c ".8h, #0\n\tmovi v" #d ".8h, #0\n\t"
#define DBQ_LOAD_SUMS                                                                                   \
  "ldp q0, q1, [%[sums]]\n\tldp q2, q3, [%[sums], #32]\n\t"                                             \
  "ldp q4, q5, [%[sums], #64]\n\tldp q6, q7, [%[sums], #96]\n\t"
#define DBQ_ROW_SUMS(start)                                                                             \
  asm volatile(                                                                                         \
      "mov x4, %[tables]\n\tmov x5, %[tables]\n\tmov x6, %[tables]\n\tmov x7, %[tables]\n\t"            \
      "mov x8, %[tables]\n\tmov x9, %[tables]\n\tmov x10, %[tables]\n\tmov x11, %[tables]\n\t"          \
      "ldp x12, x13, [%[index]]\n\t"                                                                    \
      DBQ_ADDRESSES                                                                                     \
      "ldp x12, x13, [%[index], #16]\n\t"                                                               \
      "add %[index], %[index], #32\n\t"                                                                 \
      DBQ_LOOK_UP(16, 4) DBQ_LOOK_UP(17, 5) DBQ_LOOK_UP(18, 6) DBQ_LOOK_UP(19, 7)                       \
      DBQ_LOOK_UP(20, 8) DBQ_LOOK_UP(21, 9) DBQ_LOOK_UP(22, 10) DBQ_LOOK_UP(23, 11)                     \
      DBQ_ADDRESSES                                                                                     \
      "\n1:\n\t"                                                                                        \
      start                                                                                             \
      "mov %[left], %[groups]\n"                                                                        \
      "2:\n\t"                                                                                          \
      DBQ_GROUP(0)                                                                                      \
      DBQ_GROUP(16)                                                                                     \
      "add %[index], %[index], #32\n\t"                                                                 \
      "subs %[left], %[left], #2\n\t"                                                                   \
      "b.ne 2b\n\t"                                                                                     \
      "stp q0, q1, [%[sums]]\n\t"                                                                       \
      "stp q2, q3, [%[sums], #32]\n\t"                                                                  \
      "stp q4, q5, [%[sums], #64]\n\t"                                                                  \
      "stp q6, q7, [%[sums], #96]\n\t"                                                                  \
      "add %[sums], %[sums], #128\n\t"                                                                  \
      "subs %[octets], %[octets], #1\n\t"                                                               \
      "b.ne 1b\n\t"                                                                                     \
      : [index] "+r"(index), [octets] "+r"(octets), [sums] "+r"(sums), [left] "=&r"(left)               \
      : [groups] "r"(groups), [tables] "r"(tables)                                                      \
      : "memory", "cc", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "v0", "v1", "v2", "v3", "v4",\
        "v5", "v6", "v7", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23")
using TableIndex = uint8_t;

// The first block of a chunk starts at zero.
__attribute__((noinline)) void AddRows(const uint8_t* index, int64_t octets, int64_t groups, const int16_t* tables,
                                       int16_t* sums, bool first) {
  int64_t left;
  if (first) {
    DBQ_ROW_SUMS(DBQ_ZERO(0, 1, 2, 3) DBQ_ZERO(4, 5, 6, 7));
  } else {
    DBQ_ROW_SUMS(DBQ_LOAD_SUMS);
  }
}
// clang-format on

// ---- the way out

// Channel c: the chunk's sums times their factors, on top of the bias or of the earlier chunks' total.
template <bool first, int planes>
DBQ_INLINE void Widen(const Lanes& lanes, int64_t c, Int* low, Int* high) {
  const int32_t* totals = lanes.totals + c * kTablePixels;
  *low = first ? vld1q_dup_s32(lanes.bias + c) : vld1q_s32(totals);
  *high = first ? vld1q_dup_s32(lanes.bias + c) : vld1q_s32(totals + 4);
  DBQ_UNROLL for (int plane = 0; plane < planes; ++plane) {
    const int16x8_t words = vld1q_s16(lanes.sums + (plane * kPanelChannels + c) * kTablePixels);
    const int16x8_t factor = vld1q_dup_s16(lanes.factors + plane * lanes.factors_plane + c);
    *low = vmlal_s16(*low, vget_low_s16(words), vget_low_s16(factor));
    *high = vmlal_high_s16(*high, words, factor);
  }
}

template <bool first, int planes>
void KeepPanel(const Lanes& lanes, int64_t channels) {
  for (int64_t c = 0; c < channels; ++c) {
    Int low, high;
    Widen<first, planes>(lanes, c, &low, &high);
    vst1q_s32(lanes.totals + c * kTablePixels, low), vst1q_s32(lanes.totals + c * kTablePixels + 4, high);
  }
}

// Bytes of channels 2 i and 2 i + 1, eight pixels each -> of pixels 2 i and 2 i + 1, eight channels each.
DBQ_INLINE void Transpose(uint8x16_t (&v)[4]) {
  const uint8x16_t a = vzip1q_u8(v[0], v[2]), b = vzip2q_u8(v[0], v[2]);  // channels 0 4, 1 5
  const uint8x16_t c = vzip1q_u8(v[1], v[3]), d = vzip2q_u8(v[1], v[3]);  // channels 2 6, 3 7
  const uint8x16_t even[2] = {vzip1q_u8(a, c), vzip2q_u8(a, c)}, odd[2] = {vzip1q_u8(b, d), vzip2q_u8(b, d)};
  DBQ_UNROLL for (int half = 0; half < 2; ++half) {
    v[half * 2] = vzip1q_u8(even[half], odd[half]), v[half * 2 + 1] = vzip2q_u8(even[half], odd[half]);
  }
}

template <bool first, int planes>
DBQ_INLINE void PackOctet(const Lanes& lanes, int64_t c, const WayOut& out, const Clamp& clamp,
                          uint8x16_t (&bytes)[4]) {
  DBQ_UNROLL for (int i = 0; i < 4; ++i) {
    Int y[4];
    DBQ_UNROLL for (int j = 0; j < 2; ++j) {
      Widen<first, planes>(lanes, c + 2 * i + j, &y[2 * j], &y[2 * j + 1]);
      y[2 * j] = out.OfChannel(y[2 * j], c + 2 * i + j), y[2 * j + 1] = out.OfChannel(y[2 * j + 1], c + 2 * i + j);
    }
    bytes[i] = Pack(y[0], y[1], y[2], y[3], clamp);
  }
  Transpose(bytes);
}

template <bool first, int planes>
void StorePanel(const GemmTask& task, const Lanes& lanes, const Panel& panel, int64_t pixel) {
  const Clamp clamp(task.gemm->stage);
  const WayOut out(*task.gemm, panel.first_channel / kPanelChannels);
  const int64_t left = task.count - pixel, pixels = left < kTablePixels ? left : kTablePixels;
  for (int64_t c = 0; c < panel.channels; c += kOctet) {
    uint8x16_t bytes[4];
    PackOctet<first, planes>(lanes, c, out, clamp, bytes);
    uint8_t* to = task.output + panel.first_channel + c;
    DBQ_UNROLL for (int i = 0; i < kTablePixels; ++i) {
      if (i == pixels) break;
      const uint8x8_t row = i % 2 == 0 ? vget_low_u8(bytes[i / 2]) : vget_high_u8(bytes[i / 2]);
      StoreEight(row, panel.channels - c, to + task.output_offset[pixel + i]);
    }
  }
}

}  // namespace
}  // namespace dbq

#include "isa/table_run.h"

namespace dbq {
namespace {

// In cycles of a Cortex-A53 (llvm-mca): a group's table, eight look-ups, eight channels' way out.
double TableCost(const GemmShape& s) {
  if (s.planes < 1 || s.planes > 2) return 0;
  const double octets = static_cast<double>(CeilDiv(s.channels, kOctet)), planes = s.planes;
  return static_cast<double>(CeilDiv(s.pixels, kTablePixels)) *
         (static_cast<double>(Groups(s)) * (240.0 + 25.0 * planes * octets) + 260.0 * octets);
}

}  // namespace

const GemmKernel gemm_neon_table_8x8c4 = {
    "gemm_neon_table_8x8c4", kNeon, false, true, kTablePixels, TableCost, ScratchBytes, PackTable, RunTable};

}  // namespace dbq

#endif  // defined(__aarch64__)
