// Matrix products for AVX2, 6 pixels x 16 channels, or 12 x 8 where there are no more.
//
// Ternary weights, trits of one integer scale p for every channel: vpmaddubsw sums codes into int16, which holds 256
// of them; then vpmaddwd widens the sums and multiplies them by p at once, so that p costs nothing and is exact.
// Other weights: codes and weights are widened to int16, because two products of bytes would not fit. Where there are
// few products and channels, as in a first layer, weights are split instead: w = 16 h + l, whose halves are small.
#if defined(__x86_64__)

#include "isa/avx2.h"
#include "isa/avx2_tile.h"
#include "isa/panels.h"

namespace dbq {
namespace {

constexpr int kWordStep = 2;
constexpr int64_t kMostSteps = 64;  // of four codes, before int16 overflows: 64 * 2 * 255 < 2^15
constexpr int kBlock = 8 * kRows;   // pixels that are widened at a time

// ---- ternary weights

void PackTernary(const GemmWeights& weights, PackedGemm* packed) {
  const int64_t channels = weights.shape.channels;
  GemmWeights trits = weights;
  trits.integers = weights.trits;
  PackPanels(trits, kByteStep, kByteStep, kChannels, OrderFor(weights.shape), packed);
  packed->factors = Buffer<int16_t>(CeilDiv(channels, kChannels) * 2 * kPanelChannels);
  for (int64_t m = 0; m < channels; ++m) {
    const int lane = OrderFor(weights.shape)(m % kChannels, 2);
    int16_t* factor = packed->factors.data() + (m / kChannels * kPanelChannels + lane) * 2;
    factor[0] = factor[1] = weights.scales[m];
  }
}

// Steps that are left of a row of segments, in pieces that int16 can hold.
struct Steps {
  const PackedGemm& gemm;
  const int32_t* segment_offset;
  int64_t segment = 0, step = 0;

  int64_t Next(int64_t room) const { return gemm.steps - step < room ? gemm.steps - step : room; }
  int64_t Offset() const { return segment_offset[segment] + step * kByteStep; }
  bool IsDone() const { return segment == gemm.shape.segments; }
  void Advance(int64_t steps) {
    step += steps;
    if (step == gemm.steps) step = 0, ++segment;
  }
};

template <int rows, int vectors>
DBQ_INLINE void Widen(const Int (&words)[rows][vectors], const int16_t* factor, Int (&sum)[rows][vectors]) {
  DBQ_UNROLL for (int v = 0; v < vectors; ++v) {
    const Int f = Load(factor + v * 16);
    DBQ_UNROLL for (int r = 0; r < rows; ++r) {
      sum[r][v] = _mm256_add_epi32(sum[r][v], _mm256_madd_epi16(words[r][v], f));
    }
  }
}

template <int rows, int vectors>
__attribute__((noinline)) void RunTernaryTile(const Tile& tile) {
  const PackedGemm& gemm = *tile.gemm;
  const uint8_t* x[rows];
  DBQ_UNROLL for (int r = 0; r < rows; ++r) x[r] = tile.task->x + tile.task->x_offset[tile.pixel + r];
  const int8_t* w = gemm.weights.data() + gemm.panels[tile.panel].weights_offset;
  Int sum[rows][vectors];
  StartSums(tile, sum);
  for (Steps steps{gemm, tile.task->segment_offset}; !steps.IsDone();) {
    Int words[rows][vectors] = {};
    for (int64_t room = kMostSteps; room > 0 && !steps.IsDone();) {
      const int64_t count = steps.Next(room), begin = steps.Offset(), end = begin + count * kByteStep;
      for (int64_t k = begin; k < end; k += kByteStep, w += 64) {
        Int b[vectors];
        DBQ_UNROLL for (int v = 0; v < vectors; ++v) b[v] = Load(w + v * 32);
        DBQ_UNROLL for (int r = 0; r < rows; ++r) {
          const Int a = Broadcast(x[r] + k);
          DBQ_UNROLL for (int v = 0; v < vectors; ++v) words[r][v] = AddBytes(words[r][v], a, b[v]);
        }
      }
      steps.Advance(count);
      room -= count;
    }
    Widen(words, gemm.factors.data() + tile.panel * kPanelChannels * 2, sum);
  }
  StoreTile(tile, sum);
}

// ---- any weights

int64_t RowWords(const GemmShape& s) { return s.segments * RoundUp(s.length, kWordStep); }
int64_t ScratchBytes(const GemmShape& s) { return kBlock * RowWords(s) * 2; }
int64_t NoScratch(const GemmShape&) { return 0; }

void PackWords(const GemmWeights& weights, PackedGemm* packed) {
  PackPanels(weights, kWordStep, kWordStep, kChannels, OrderFor(weights.shape), packed);
  const int64_t count = packed->weights.count();
  Buffer<int8_t> words(2 * count);
  for (int64_t i = 0; i < count; ++i) reinterpret_cast<int16_t*>(words.data())[i] = packed->weights[i];
  packed->weights = static_cast<Buffer<int8_t>&&>(words);
  for (Panel& panel : packed->panels) panel.weights_offset *= 2;
}

// In whole vectors: what they write too much the next segment writes again, and the last word of an odd segment meets
// a weight of zero.
int16_t* WidenSegment(const uint8_t* x, int64_t count, int16_t* to) {
  for (int64_t i = 0; i < count; i += 16) {
    Store(to + i, _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i))));
  }
  return to + count;
}

void WidenRows(const GemmTask& task, int64_t first, int64_t count, int16_t* to) {
  const PackedGemm& gemm = *task.gemm;
  for (int64_t pixel = first; pixel < first + count; ++pixel) {
    const uint8_t* x = task.x + task.x_offset[pixel];
    for (int64_t s = 0; s < gemm.shape.segments; ++s) {
      to = WidenSegment(x + task.segment_offset[s], gemm.steps * kWordStep, to);
    }
  }
}

template <int rows, int vectors>
__attribute__((noinline)) void RunWordTile(const Tile& tile) {
  const PackedGemm& gemm = *tile.gemm;
  const int64_t words = RowWords(gemm.shape);
  const int16_t* x = tile.x;
  const auto* w = reinterpret_cast<const int16_t*>(gemm.weights.data() + gemm.panels[tile.panel].weights_offset);
  Int sum[rows][vectors];
  StartSums(tile, sum);
  for (int64_t k = 0; k < words; k += kWordStep, w += 32) {
    Int b[vectors];
    DBQ_UNROLL for (int v = 0; v < vectors; ++v) b[v] = Load(w + v * 16);
    DBQ_UNROLL for (int r = 0; r < rows; ++r) {
      const Int a = Broadcast(x + r * words + k);
      DBQ_UNROLL for (int v = 0; v < vectors; ++v) sum[r][v] = AddWords(sum[r][v], a, b[v]);
    }
  }
  StoreTile(tile, sum);
}

// ---- any weights, split

constexpr int kSplitRows = 6, kSplitChannels = 8, kHalfBytes = 64;
constexpr int64_t kMostTaps = 16;  // of one lane, before int16 overflows: 16 * 8 * 255 < 2^15

// Products that one of a channel's two lanes sums.
int64_t LaneTaps(const GemmShape& s) {
  const int64_t rest = s.length % kByteStep;
  return s.segments * (s.length / kByteStep * 2 + (rest < 2 ? rest : 2));
}

int LowHalf(int w) { return ((w + 8) & 15) - 8; }

// [step][h, l][16 lanes][4 products]
void PackSplit(const GemmWeights& weights, PackedGemm* packed) {
  const int64_t count = weights.shape.channels * weights.shape.Depth();
  Buffer<int8_t> half(count), panels[2];
  for (int i = 0; i < 2; ++i) {
    for (int64_t k = 0; k < count; ++k) {
      const int w = weights.integers[k], low = LowHalf(w);
      half[k] = static_cast<int8_t>(i == 0 ? (w - low) / 16 : low);
    }
    GemmWeights part = weights;
    part.integers = half.data();
    PackPanels(part, kByteStep, kByteStep, kChannels, NarrowOrder, packed);
    panels[i] = static_cast<Buffer<int8_t>&&>(packed->weights);
  }
  packed->weights = Buffer<int8_t>(2 * panels[0].count());
  for (int64_t at = 0; at < panels[0].count(); at += kHalfBytes) {
    for (int i = 0; i < 2; ++i)
      __builtin_memcpy(packed->weights.data() + 2 * at + i * kHalfBytes, &panels[i][at], kHalfBytes);
  }
}

template <int rows>
__attribute__((noinline)) void RunSplitTile(const Tile& tile) {
  const PackedGemm& gemm = *tile.gemm;
  const uint8_t* x[rows];
  DBQ_UNROLL for (int r = 0; r < rows; ++r) x[r] = tile.task->x + tile.task->x_offset[tile.pixel + r];
  const int8_t* w = gemm.weights.data();
  Int high[rows][1] = {}, low[rows][1] = {};
  for (int64_t s = 0; s < gemm.shape.segments; ++s) {
    const int64_t begin = tile.task->segment_offset[s], end = begin + gemm.steps * kByteStep;
    for (int64_t k = begin; k < end; k += kByteStep, w += 2 * kHalfBytes) {
      const Int h = Load(w), l = Load(w + kHalfBytes);
      DBQ_UNROLL for (int r = 0; r < rows; ++r) {
        const Int a = Broadcast(x[r] + k);
        high[r][0] = AddBytes(high[r][0], a, h), low[r][0] = AddBytes(low[r][0], a, l);
      }
    }
  }
  Int sum[rows][1];
  StartSums(tile, sum);
  const Int sixteen = BroadcastWord(16), one = BroadcastWord(1);
  DBQ_UNROLL for (int r = 0; r < rows; ++r) {
    const Int both = AddInts(MultiplyPairs(high[r][0], sixteen), MultiplyPairs(low[r][0], one));
    sum[r][0] = AddInts(sum[r][0], both);
  }
  StoreTile(tile, sum);
}

template <int rows>
void RunSplitRows(const Tile& tile, int64_t count) {
  if (count >= rows) return RunSplitTile<rows>(tile);
  if constexpr (rows > 1) RunSplitRows<rows - 1>(tile, count);
}

void RunSplit(const GemmTask& task) {
  if (task.first_panel == task.last_panel) return;  // there is one
  for (int64_t pixel = 0; pixel < task.count; pixel += kSplitRows) {
    RunSplitRows<kSplitRows>({task.gemm, 0, nullptr, &task, pixel}, task.count - pixel);
  }
}

// ---- both

// A full tile, or the largest that the pixels fill.
template <int rows, int vectors, bool ternary>
void RunRows(const Tile& tile, int64_t count) {
  if (count < rows) {
    if constexpr (rows > 1) RunRows<rows - 1, vectors, ternary>(tile, count);
    return;
  }
  if constexpr (ternary) return RunTernaryTile<rows, vectors>(tile);
  RunWordTile<rows, vectors>(tile);
}

// Pixels first .. last - 1 of a panel; words: those of the first pixel, or null.
template <bool ternary>
void RunPanel(const GemmTask& task, int64_t panel, int64_t first, int64_t last, const int16_t* words) {
  const bool narrow = task.gemm->shape.channels <= 8;
  const int64_t rows = narrow ? 2 * kRows : kRows, row_words = ternary ? 0 : RowWords(task.gemm->shape);
  for (int64_t pixel = first; pixel < last; pixel += rows) {
    const Tile tile{task.gemm, panel, words + (pixel - first) * row_words, &task, pixel};
    if (narrow) {
      RunRows<2 * kRows, 1, ternary>(tile, last - pixel);
    } else {
      RunRows<kRows, 2, ternary>(tile, last - pixel);
    }
  }
}

// Panels outside: a panel stays in the first-level cache while the rows pass.
void RunTernary(const GemmTask& task) {
  for (int64_t panel = task.first_panel; panel < task.last_panel; ++panel) {
    RunPanel<true>(task, panel, 0, task.count, nullptr);
  }
}

void RunWords(const GemmTask& task) {
  int16_t* words = reinterpret_cast<int16_t*>(task.scratch);
  for (int64_t first = 0; first < task.count; first += kBlock) {
    const int64_t last = task.count - first < kBlock ? task.count : first + kBlock;
    WidenRows(task, first, last - first, words);
    for (int64_t panel = task.first_panel; panel < task.last_panel; ++panel) {
      RunPanel<false>(task, panel, first, last, words);
    }
  }
}

double TernaryCost(const GemmShape& s) {
  return s.planes == 1 ? Panels(s) * (4.0 + 1.4 * static_cast<double>(s.segments * CeilDiv(s.length, kByteStep))) : 0;
}

double WordCost(const GemmShape& s) { return Panels(s) * (4.0 + 1.4 * static_cast<double>(RowWords(s) / kWordStep)); }

double SplitCost(const GemmShape& s) {
  if (s.channels > kSplitChannels || LaneTaps(s) > kMostTaps) return 0;
  return static_cast<double>(s.pixels) * (6.0 + 1.4 * static_cast<double>(s.segments * CeilDiv(s.length, kByteStep)));
}

}  // namespace

const GemmKernel gemm_avx2_split_6x8c4 = {
    "gemm_avx2_split_6x8c4", kAvx2, true, false, kSplitRows, SplitCost, NoScratch, PackSplit, RunSplit};
const GemmKernel gemm_avx2_ternary_6x16c4 = {
    "gemm_avx2_ternary_6x16c4", kAvx2, true, true, kRows, TernaryCost, NoScratch, PackTernary, RunTernary};
const GemmKernel gemm_avx2_6x16c2 = {"gemm_avx2_6x16c2", kAvx2,        true,      false,   kRows,
                                     WordCost,           ScratchBytes, PackWords, RunWords};

}  // namespace dbq

#endif  // defined(__x86_64__)
