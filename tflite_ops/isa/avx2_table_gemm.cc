// Ternary matrix products for AVX2 without multiplication, 16 pixels x 8 channels.
//
// For four input channels a table holds the 3^4 = 81 signed sums of sixteen pixels (int16); an output channel then adds
// one row of it for four weights: one addition for 64 products. A table serves all output channels, and both branches.
#if defined(__x86_64__)

#include "isa/avx2.h"
#include "isa/table.h"

namespace dbq {
namespace {

// ---- tables

// Four codes of each of eight pixels -> bytes, eight of a code side by side.
DBQ_INLINE Int LoadEight(const uint8_t* const* x, int64_t offset) {
  int32_t codes[8];
  DBQ_UNROLL for (int i = 0; i < 8; ++i) __builtin_memcpy(&codes[i], x[i] + offset, 4);
  const Int rows = _mm256_setr_epi32(codes[0], codes[1], codes[2], codes[3], codes[4], codes[5], codes[6], codes[7]);
  const Int by_code = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,  //
                                       0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const Int together = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  return _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(rows, by_code), together);
}

// Four codes of each of sixteen pixels -> signed words, [code][pixel].
DBQ_INLINE void LoadGroup(const Pixels& pixels, int64_t offset, Int (&words)[kGroup]) {
  const Int sign = _mm256_set1_epi8(static_cast<char>(0x80));
  const Int first = _mm256_xor_si256(LoadEight(pixels.x, offset), sign);
  const Int second = _mm256_xor_si256(LoadEight(pixels.x + 8, offset), sign);
  const Int even = _mm256_unpacklo_epi64(first, second), odd = _mm256_unpackhi_epi64(first, second);
  words[0] = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(even));
  words[1] = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(odd));
  words[2] = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(even, 1));
  words[3] = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(odd, 1));
}

// The nine signed sums of two words.
DBQ_INLINE void PairSums(Int a, Int b, Int (&sums)[9]) {
  const Int zero = Zero(), sum = _mm256_add_epi16(a, b), difference = SubWords(a, b);
  sums[0] = SubWords(zero, sum), sums[1] = SubWords(zero, a), sums[2] = SubWords(zero, difference);
  sums[3] = SubWords(zero, b), sums[4] = zero, sums[5] = b;
  sums[6] = difference, sums[7] = a, sums[8] = sum;
}

DBQ_INLINE void BuildTable(const Int (&words)[kGroup], int16_t* table) {
  Int left[9], right[9];
  PairSums(words[0], words[1], left);
  PairSums(words[2], words[3], right);
  for (int i = 0; i < 9; ++i, table += 9 * kTablePixels) {
    const Int l = left[i];
    DBQ_UNROLL for (int j = 0; j < 9; ++j) Store(table + j * kTablePixels, _mm256_add_epi16(l, right[j]));
  }
}

void BuildTables(const GemmTask& task, const Pixels& pixels, int64_t count, Position* position, int16_t* tables) {
  for (int64_t i = 0; i < count; ++i, tables += kTableRows * kTablePixels) {
    Int words[kGroup];
    LoadGroup(pixels, task.segment_offset[position->segment] + position->step * kGroup, words);
    BuildTable(words, tables);
    if (++position->step == task.gemm->steps) position->step = 0, ++position->segment;
  }
}

// ---- sums

DBQ_INLINE void AddFour(const uint16_t* index, const uint8_t* rows, Int* sum) {
  DBQ_UNROLL for (int c = 0; c < 4; ++c) sum[c] = _mm256_add_epi16(sum[c], Load(rows + index[c]));
}

using TableIndex = uint16_t;

// sums [octets * 8][16 pixels] += rows of the tables; the first block of a chunk starts at zero.
__attribute__((noinline)) void AddRows(const uint16_t* index, int64_t octets, int64_t groups, const int16_t* tables,
                                       int16_t* sums, bool first) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(tables);
  for (int64_t octet = 0; octet < octets; ++octet, sums += kOctet * kTablePixels) {
    Int sum[kOctet];
    DBQ_UNROLL for (int c = 0; c < kOctet; ++c) sum[c] = first ? Zero() : Load(sums + c * kTablePixels);
    for (int64_t group = 0; group < groups; ++group, index += kOctet) {
      AddFour(index, bytes, sum);
      AddFour(index + 4, bytes, sum + 4);
    }
    DBQ_UNROLL for (int c = 0; c < kOctet; ++c) Store(sums + c * kTablePixels, sum[c]);
  }
}

// ---- the way out

// Channel c: the chunk's sums times their factors, on top of the bias or of the earlier chunks' total. Pixels 0-3, 8-11
// and 4-7, 12-15: vpmaddwd takes the sums of both planes, or zeros, as pairs.
template <bool first, int planes>
DBQ_INLINE void Widen(const Lanes& lanes, int64_t c, Int* low, Int* high) {
  const int32_t* totals = lanes.totals + c * kTablePixels;
  *low = first ? BroadcastInt(lanes.bias[c]) : Load(totals);
  *high = first ? *low : Load(totals + 8);
  const Int words = Load(lanes.sums + c * kTablePixels);
  const Int others = planes == 2 ? Load(lanes.sums + (kPanelChannels + c) * kTablePixels) : Zero();
  const uint32_t factor = static_cast<uint16_t>(lanes.factors[c]);
  const uint32_t other = planes == 2 ? static_cast<uint16_t>(lanes.factors[lanes.factors_plane + c]) : 0;
  const Int factors = BroadcastInt(static_cast<int32_t>(factor | other << 16));
  *low = AddInts(*low, MultiplyPairs(LowWords(words, others), factors));
  *high = AddInts(*high, MultiplyPairs(HighWords(words, others), factors));
}

template <bool first, int planes>
void KeepPanel(const Lanes& lanes, int64_t channels) {
  for (int64_t c = 0; c < channels; ++c) {
    Int low, high;
    Widen<first, planes>(lanes, c, &low, &high);
    Store(lanes.totals + c * kTablePixels, low), Store(lanes.totals + c * kTablePixels + 8, high);
  }
}

// In each half: bytes of channels 2 i and 2 i + 1, eight pixels each -> of pixels 2 i and 2 i + 1, eight channels each.
DBQ_INLINE void Transpose(Int (&v)[4]) {
  const Int a = LowBytes(v[0], v[2]), b = HighBytes(v[0], v[2]);  // channels 0 4, 1 5
  const Int c = LowBytes(v[1], v[3]), d = HighBytes(v[1], v[3]);  // channels 2 6, 3 7
  const Int even[2] = {LowBytes(a, c), HighBytes(a, c)}, odd[2] = {LowBytes(b, d), HighBytes(b, d)};
  DBQ_UNROLL for (int half = 0; half < 2; ++half) {
    v[half * 2] = LowBytes(even[half], odd[half]), v[half * 2 + 1] = HighBytes(even[half], odd[half]);
  }
}

template <bool first, int planes>
DBQ_INLINE void PackOctet(const Lanes& lanes, int64_t c, const WayOut& out, const Clamp& clamp, Int (&bytes)[4]) {
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
    Int vectors[4];
    PackOctet<first, planes>(lanes, c, out, clamp, vectors);
    alignas(32) uint8_t bytes[2][8][kOctet];  // [half][pixel][channel]
    DBQ_UNROLL for (int i = 0; i < 4; ++i) {
      _mm_store_si128(reinterpret_cast<__m128i*>(bytes[0][2 * i]), _mm256_castsi256_si128(vectors[i]));
      _mm_store_si128(reinterpret_cast<__m128i*>(bytes[1][2 * i]), _mm256_extracti128_si256(vectors[i], 1));
    }
    uint8_t* to = task.output + panel.first_channel + c;
    for (int64_t i = 0; i < pixels; ++i) {
      StoreBytes<kOctet>(bytes[i / 8][i % 8], panel.channels - c, to + task.output_offset[pixel + i]);
    }
  }
}

}  // namespace
}  // namespace dbq

#include "isa/table_run.h"

namespace dbq {
namespace {

// In the unit of the other AVX2 kernels' costs: a group's table, eight look-ups, eight channels' way out. Measured on
// an Intel Xeon, on whole networks: large products of one branch pay beside vpmaddubsw, too.
double TableCost(const GemmShape& s) {
  if (s.planes < 1 || s.planes > 2) return 0;
  const double octets = static_cast<double>(CeilDiv(s.channels, kOctet)), look_ups = s.planes == 1 ? 6.5 : 13.0;
  return static_cast<double>(CeilDiv(s.pixels, kTablePixels)) *
         (static_cast<double>(Groups(s)) * (80.0 + look_ups * octets) + 60.0 * octets);
}

}  // namespace

const GemmKernel gemm_avx2_table_16x8c4 = {
    "gemm_avx2_table_16x8c4", kAvx2, true, true, kTablePixels, TableCost, ScratchBytes, PackTable, RunTable};

}  // namespace dbq

#endif  // defined(__x86_64__)
