// Depthwise convolutions for AVX2.
//
// A weight is split, w = 16 h + l with |h| <= 8 and -8 <= l <= 7: products of both halves with codes can be summed in
// int16 by vpmaddubsw (255 * 8 * 2 for a pair), which at most eight pairs fill; both sums meet in int32 as 16 h + l.
// Bytes of two taps are interleaved, so that a pair is two taps of one channel: one above the other, in the last row
// side by side.
//
// 32 neighbouring bytes of a row are a vector, whatever pixels they belong to, where the stride is 1; else a vector is
// 32 channels of one pixel, or up to 16 of two. Two neighbouring pixels of 32 channels (3x3, stride 1) share pairs.
#if defined(__x86_64__)

#include "isa/avx2.h"
#include "isa/panels.h"

namespace dbq {
namespace {

constexpr int kVectorBytes = 32, kTwoBytes = 16;

// Vectors over several pixels: neighbouring bytes, or two times up to 16 channels.
bool IsNarrow(const DepthwiseShape& s) { return s.stride_w == 1 && s.channels % kVectorBytes != 0; }
bool IsTwo(const DepthwiseShape& s) { return s.stride_w > 1 && s.channels <= kTwoBytes; }
bool IsShared(const DepthwiseShape& s) { return s.kernel_h == 3 && s.stride_w == 1 && !IsNarrow(s); }

int64_t Blocks(const DepthwiseShape& s) { return RowBlocks(s.channels, kVectorBytes, IsNarrow(s)); }

int64_t ChannelAt(const DepthwiseShape& s, int64_t block, int i) {
  if (IsTwo(s)) return i % kTwoBytes < s.channels ? i % kTwoBytes : -1;
  return RowChannel(s.channels, kVectorBytes, IsNarrow(s), block, i);
}

// The taps of a square kernel of odd size, two by two; the very last pair has no second one. Column -1: no tap.
constexpr int Pairs(int size) { return size * (size / 2) + (size + 1) / 2; }
struct Pair {
  int row[2], column[2];
};
constexpr Pair PairAt(int size, int index) {
  const int above = size * (size / 2), row = index / size * 2, column = index % size, last = 2 * (index - above);
  if (index < above) return {{row, row + 1}, {column, column}};
  return {{size - 1, size - 1}, {last, last + 1 < size ? last + 1 : -1}};
}

// The last row of a pixel whose pairs are those of the pixel before it: they follow behind Pairs(3).
constexpr int kSharedPairs = 2;
constexpr Pair SharedPairAt(int index) { return {{2, 2}, {2 * index - 1, 2 * index}}; }

int PairsFor(const DepthwiseShape& s) { return Pairs(s.kernel_h) + (IsShared(s) ? kSharedPairs : 0); }
int64_t BlockBytes(const DepthwiseShape& s) { return int64_t{PairsFor(s)} * 4 * kVectorBytes; }

// One tap of the channels of a block; zero where there are none.
Int LoadTap(const DepthwiseWeights& weights, int64_t block, int64_t tap) {
  const DepthwiseShape& s = weights.shape;
  const int64_t channels = s.channels, first = block * kVectorBytes;
  const int8_t* from = weights.integers + tap * channels;
  alignas(32) int8_t bytes[kVectorBytes] = {};
  if (IsTwo(s)) {
    for (int i = 0; i < 2; ++i) __builtin_memcpy(bytes + i * kTwoBytes, from, static_cast<size_t>(channels));
  } else if (IsNarrow(s)) {
    for (int64_t i = 0, c = first % channels; i < kVectorBytes; ++i, c = c + 1 == channels ? 0 : c + 1) {
      bytes[i] = from[c];
    }
  } else {
    const int64_t left = channels - first;
    __builtin_memcpy(bytes, from + first, static_cast<size_t>(left < kVectorBytes ? left : kVectorBytes));
  }
  return Load(bytes);
}

// floor((w + 8) / 16), from -8 to 8: of w + 128 that is ((w + 128) / 8 + 1) / 2 - 8, which bytes can hold.
DBQ_INLINE Int HighHalf(Int w) {
  const Int u = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
  const Int eighth = _mm256_and_si256(_mm256_srli_epi16(u, 3), _mm256_set1_epi8(31));
  const Int next = _mm256_add_epi8(eighth, _mm256_set1_epi8(1));
  return _mm256_sub_epi8(_mm256_and_si256(_mm256_srli_epi16(next, 1), _mm256_set1_epi8(31)), _mm256_set1_epi8(8));
}

DBQ_INLINE Int LowHalf(Int w, Int high) {
  return _mm256_sub_epi8(w, _mm256_and_si256(_mm256_slli_epi16(high, 4), _mm256_set1_epi8(-16)));
}

// [block][pair][h, l][half][32 bytes], the two taps of a pair interleaved as AddPair interleaves codes
void PackBlock(const DepthwiseWeights& weights, int64_t block, int8_t* to) {
  const DepthwiseShape& s = weights.shape;
  for (int index = 0; index < PairsFor(s); ++index, to += 4 * kVectorBytes) {
    const int own = Pairs(s.kernel_h);
    const Pair pair = index < own ? PairAt(s.kernel_h, index) : SharedPairAt(index - own);
    Int high[2] = {}, low[2] = {};
    for (int tap = 0; tap < 2; ++tap) {
      if (pair.column[tap] < 0) continue;
      const Int w = LoadTap(weights, block, pair.row[tap] * s.kernel_w + pair.column[tap]);
      high[tap] = HighHalf(w), low[tap] = LowHalf(w, high[tap]);
    }
    Store(to, LowBytes(high[0], high[1]));
    Store(to + kVectorBytes, HighBytes(high[0], high[1]));
    Store(to + 2 * kVectorBytes, LowBytes(low[0], low[1]));
    Store(to + 3 * kVectorBytes, HighBytes(low[0], low[1]));
  }
}

void PackHalves(const DepthwiseWeights& weights, PackedDepthwise* packed) {
  const DepthwiseShape& s = weights.shape;
  const int64_t blocks = Blocks(s);
  packed->shape = s, packed->stage = weights.stage;
  packed->weights = Buffer<int8_t>(blocks * BlockBytes(s));
  packed->bias = Buffer<int32_t>(blocks * kVectorBytes);
  packed->multiplier = Buffer<float>(blocks * kVectorBytes);
  for (int64_t block = 0; block < blocks; ++block) {
    PackBlock(weights, block, packed->weights.data() + block * BlockBytes(s));
    for (int i = 0; i < kVectorBytes; ++i) {
      const int64_t channel = ChannelAt(s, block, i), at = block * kVectorBytes + PackedLane(i);
      if (channel < 0) continue;
      packed->bias[at] = weights.bias[channel], packed->multiplier[at] = weights.multiplier[channel];
    }
  }
}

// Sums of high and low halves of 32 bytes: [low or high eight bytes of a lane].
struct Sums {
  Int high[2], low[2];
};

DBQ_INLINE void AddPair(Sums* sums, Int upper, Int lower, const int8_t* w) {
  const Int pair[2] = {_mm256_unpacklo_epi8(upper, lower), _mm256_unpackhi_epi8(upper, lower)};
  DBQ_UNROLL for (int half = 0; half < 2; ++half) {
    sums->high[half] = AddBytes(sums->high[half], pair[half], Load(w + half * kVectorBytes));
    sums->low[half] = AddBytes(sums->low[half], pair[half], Load(w + (2 + half) * kVectorBytes));
  }
}

// 16 high + low of eight bytes of a lane into two of the int32 sums that Pack wants.
DBQ_INLINE void JoinHalf(Int high, Int low, Int* total) {
  const Int factors = _mm256_set1_epi32(1 << 16 | 16);
  total[0] = _mm256_add_epi32(total[0], _mm256_madd_epi16(_mm256_unpacklo_epi16(high, low), factors));
  total[1] = _mm256_add_epi32(total[1], _mm256_madd_epi16(_mm256_unpackhi_epi16(high, low), factors));
}

DBQ_INLINE void Join(const Sums& sums, Int (&total)[4]) {
  DBQ_UNROLL for (int half = 0; half < 2; ++half) JoinHalf(sums.high[half], sums.low[half], total + half * 2);
}

// 32 bytes of a row.
struct LoadRow {
  inline __attribute__((always_inline)) Int operator()(const uint8_t* x) const { return Load(x); }
};

// 16 bytes of each of two pixels.
struct LoadTwo {
  int64_t step;
  inline __attribute__((always_inline)) Int operator()(const uint8_t* x) const {
    return _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(x + step), reinterpret_cast<const __m128i*>(x));
  }
};

// 32 bytes of one output row; x: the first tap.
template <int size, typename LoadTap>
DBQ_INLINE Int RunVector(const PackedDepthwise& packed, const uint8_t* x, int64_t x_row, int64_t block,
                         const Clamp& clamp, const LoadTap& load) {
  constexpr int kPairs = Pairs(size), kMostPairs = 7;  // in int16
  const int8_t* w = packed.weights.data() + block * BlockBytes(packed.shape);
  const int32_t* bias = packed.bias.data() + block * kVectorBytes;
  Int total[4];
  DBQ_UNROLL for (int v = 0; v < 4; ++v) total[v] = Load(bias + v * 8);
  Sums sums{};
  DBQ_UNROLL for (int index = 0; index < kPairs; ++index) {
    const Pair pair = PairAt(size, index);
    const Int first = load(x + pair.row[0] * x_row + pair.column[0] * packed.shape.channels);
    // Without a second tap the first one meets a weight of zero.
    const bool two = pair.column[1] >= 0;
    const Int second = two ? load(x + pair.row[1] * x_row + pair.column[1] * packed.shape.channels) : first;
    AddPair(&sums, first, second, w + index * 4 * kVectorBytes);
    if (index % kMostPairs == kMostPairs - 1) Join(sums, total), sums = Sums{};
  }
  Join(sums, total);
  const float* m = packed.multiplier.data() + block * kVectorBytes;
  DBQ_UNROLL for (int v = 0; v < 4; ++v) total[v] = Scaled(total[v], LoadFloats(m + v * 8));
  return Pack(total[0], total[1], total[2], total[3], clamp);
}

// 32 channels of two neighbouring pixels, one half of the bytes after the other, so that all sums stay in registers.
// The vertical pairs of the second pixel are the first one's, a column on; the last row's are the same vectors. The two
// columns that the next two pixels share with these are carried over, [half][column].
struct TwoPixels {
  const int8_t* weights;
  const int32_t* bias;
  const float* multiplier;
  int64_t channels, x_row;

  template <int half>
  static inline __attribute__((always_inline)) Int Interleave(const uint8_t* a, const uint8_t* b) {
    return half == 0 ? _mm256_unpacklo_epi8(Load(a), Load(b)) : _mm256_unpackhi_epi8(Load(a), Load(b));
  }

  template <int half>
  inline __attribute__((always_inline)) void AddHalf(const uint8_t* x, Int (&carried)[2], Int (&total)[2][4]) const {
    const uint8_t *below = x + x_row, *last = below + x_row;
    Int pairs[2][5];
    DBQ_UNROLL for (int i = 0; i < 4; ++i) {
      const Int column = i < 2 ? carried[i] : Interleave<half>(x + i * channels, below + i * channels);
      if (i >= 2) carried[i - 2] = column;
      if (i < 3) pairs[0][i] = column;
      if (i > 0) pairs[1][i - 1] = column;
    }
    pairs[0][3] = pairs[1][3] = Interleave<half>(last, last + channels);
    pairs[0][4] = pairs[1][4] = Interleave<half>(last + 2 * channels, last + 3 * channels);
    DBQ_UNROLL for (int pixel = 0; pixel < 2; ++pixel) {
      Int high, low;
      DBQ_UNROLL for (int i = 0; i < 5; ++i) {
        const int at = pixel == 1 && i >= 3 ? i + kSharedPairs : i;
        const int8_t* w = weights + at * 4 * kVectorBytes + half * kVectorBytes;
        if (i == 0) {
          high = _mm256_maddubs_epi16(pairs[pixel][i], Load(w));
          low = _mm256_maddubs_epi16(pairs[pixel][i], Load(w + 2 * kVectorBytes));
        } else {
          high = AddBytes(high, pairs[pixel][i], Load(w));
          low = AddBytes(low, pairs[pixel][i], Load(w + 2 * kVectorBytes));
        }
      }
      JoinHalf(high, low, total[pixel] + half * 2);
    }
  }

  inline __attribute__((always_inline)) void Start(const uint8_t* x, Int (&carried)[2][2]) const {
    DBQ_UNROLL for (int i = 0; i < 2; ++i) {
      carried[0][i] = Interleave<0>(x + i * channels, x + x_row + i * channels);
      carried[1][i] = Interleave<1>(x + i * channels, x + x_row + i * channels);
    }
  }

  template <bool clamped>
  inline __attribute__((always_inline)) void Run(const uint8_t* x, const Clamp& clamp, Int (&carried)[2][2],
                                                 uint8_t* y) const {
    Int total[2][4];
    DBQ_UNROLL for (int v = 0; v < 4; ++v) total[0][v] = total[1][v] = Load(bias + v * 8);
    AddHalf<0>(x, carried[0], total);
    AddHalf<1>(x, carried[1], total);
    DBQ_UNROLL for (int pixel = 0; pixel < 2; ++pixel) {
      Int* t = total[pixel];
      DBQ_UNROLL for (int v = 0; v < 4; ++v) t[v] = Scaled(t[v], LoadFloats(multiplier + v * 8));
      Store(y + pixel * channels, Pack<clamped>(t[0], t[1], t[2], t[3], clamp));
    }
  }
};

DBQ_INLINE void StoreVector(Int bytes, int64_t count, uint8_t* to) {
  if (count >= kVectorBytes) return Store(to, bytes);
  alignas(32) uint8_t buffer[kVectorBytes];
  Store(buffer, bytes);
  StoreBytes<kVectorBytes>(buffer, count, to);
}

template <int size>
__attribute__((noinline)) void RunNarrow(const DepthwiseTask& task, const uint8_t* x, uint8_t* y) {
  const PackedDepthwise& packed = *task.packed;
  const Clamp clamp(packed.stage);
  const int64_t bytes = task.width * packed.shape.channels, blocks = Blocks(packed.shape);
  for (int64_t i = 0, block = 0; i < bytes; i += kVectorBytes, block = block + 1 == blocks ? 0 : block + 1) {
    StoreVector(RunVector<size>(packed, x + i, task.x_row, block, clamp, LoadRow{}), bytes - i, y + i);
  }
}

// 3x3, stride 1, whole vectors of channels.
template <bool clamped>
__attribute__((noinline)) void RunShared(const DepthwiseTask& task, const uint8_t* x, uint8_t* y) {
  const PackedDepthwise& packed = *task.packed;
  const Clamp clamp(packed.stage);
  const int64_t channels = packed.shape.channels;
  for (int64_t block = 0, c = 0; c < channels; ++block, c += kVectorBytes) {
    const TwoPixels two{packed.weights.data() + block * BlockBytes(packed.shape), packed.bias.data() + c,
                        packed.multiplier.data() + c, channels, task.x_row};
    int64_t pixel = 0;
    Int carried[2][2];
    two.Start(x + c, carried);
    for (; pixel + 2 <= task.width; pixel += 2) {
      two.Run<clamped>(x + pixel * channels + c, clamp, carried, y + pixel * channels + c);
    }
    if (pixel == task.width) continue;
    Store(y + pixel * channels + c,
          RunVector<3>(packed, x + pixel * channels + c, task.x_row, block, clamp, LoadRow{}));
  }
}

template <int size>
__attribute__((noinline)) void RunWide(const DepthwiseTask& task, const uint8_t* x, uint8_t* y) {
  const PackedDepthwise& packed = *task.packed;
  const Clamp clamp(packed.stage);
  const int64_t channels = packed.shape.channels, step = packed.shape.stride_w * channels;
  for (int64_t block = 0; block * kVectorBytes < channels; ++block) {
    const int64_t c = block * kVectorBytes;
    for (int64_t pixel = 0; pixel < task.width; ++pixel) {
      const Int bytes = RunVector<size>(packed, x + pixel * step + c, task.x_row, block, clamp, LoadRow{});
      StoreVector(bytes, channels - c, y + pixel * channels + c);
    }
  }
}

// The last pixel alone is computed twice.
template <int size>
__attribute__((noinline)) void RunTwoPixels(const DepthwiseTask& task, const uint8_t* x, uint8_t* y) {
  const PackedDepthwise& packed = *task.packed;
  const Clamp clamp(packed.stage);
  const int64_t channels = packed.shape.channels, step = packed.shape.stride_w * channels;
  for (int64_t pixel = 0; pixel < task.width; pixel += 2) {
    const bool two = pixel + 1 < task.width;
    alignas(32) uint8_t bytes[kVectorBytes];
    Store(bytes, RunVector<size>(packed, x + pixel * step, task.x_row, 0, clamp, LoadTwo{two ? step : 0}));
    StoreBytes<kTwoBytes>(bytes, channels, y + pixel * channels);
    if (two) StoreBytes<kTwoBytes>(bytes + kTwoBytes, channels, y + (pixel + 1) * channels);
  }
}

template <int size>
void RunSquare(const DepthwiseTask& task) {
  for (int64_t row = 0; row < task.rows; ++row) {
    const uint8_t* x = task.x + row * task.packed->shape.stride_h * task.x_row;
    uint8_t* y = task.output + row * task.output_row;
    if (IsTwo(task.packed->shape)) {
      RunTwoPixels<size>(task, x, y);
    } else if (IsShared(task.packed->shape)) {
      IsClamped(task.packed->stage) ? RunShared<true>(task, x, y) : RunShared<false>(task, x, y);
    } else {
      IsNarrow(task.packed->shape) ? RunNarrow<size>(task, x, y) : RunWide<size>(task, x, y);
    }
  }
}

template <int size>
double SquareCost(const DepthwiseShape& s) {
  const bool fits = s.kernel_h == size && s.kernel_w == size && s.dilation_h == 1 && s.dilation_w == 1;
  const int64_t vector = IsTwo(s) ? kTwoBytes : kVectorBytes;
  const double used =
      IsNarrow(s) ? 1.0 : static_cast<double>(RoundUp(s.channels, vector)) / static_cast<double>(s.channels);
  return fits ? static_cast<double>(s.channels) * used * (static_cast<double>(s.Taps()) + 7) / 12 : 0;
}

// ---- any kernel: eight channels of two taps at a time, widened to int16

double EightCost(const DepthwiseShape& s) {
  return s.channels < 8 ? 0 : static_cast<double>(s.channels) * (1.0 + 0.4 * static_cast<double>(s.Taps()));
}

DBQ_INLINE __m128i LoadEight(const uint8_t* x) {
  return _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x)));
}
DBQ_INLINE __m128i LoadEightWeights(const int8_t* w) {
  return _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(w)));
}

// Eight channels of two taps: [a0 b0 a1 b1 ... a7 b7].
DBQ_INLINE Int InterleaveWords(__m128i a, __m128i b) {
  return _mm256_set_m128i(_mm_unpackhi_epi16(a, b), _mm_unpacklo_epi16(a, b));
}

void RunEightChannels(const PackedDepthwise& packed, const uint8_t* x, int64_t x_row, int64_t c, const Clamp& clamp,
                      uint8_t* y) {
  const DepthwiseShape& s = packed.shape;
  const int64_t column = s.dilation_w * s.channels;
  Int sum = Load(packed.bias.data() + c);
  const int8_t* w = packed.weights.data() + c;
  for (int i = 0; i < s.kernel_h; ++i) {
    const uint8_t* row = x + i * s.dilation_h * x_row + c;
    for (int j = 0; j < s.kernel_w; j += 2, w += s.channels) {
      const bool pair = j + 1 < s.kernel_w;
      const __m128i first = LoadEight(row + j * column), weights = LoadEightWeights(w);
      const __m128i second = pair ? LoadEight(row + (j + 1) * column) : _mm_setzero_si128();
      const __m128i more = pair ? LoadEightWeights(w += s.channels) : _mm_setzero_si128();
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(InterleaveWords(first, second), InterleaveWords(weights, more)));
    }
  }
  sum = Scaled(sum, LoadFloats(packed.multiplier.data() + c));
  // Bytes 0..3 and 16..19 of the packed vector are the eight channels.
  const Int bytes =
      _mm256_permutevar8x32_epi32(Pack(sum, sum, sum, sum, clamp), _mm256_setr_epi32(0, 4, 0, 0, 0, 0, 0, 0));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(y + c), _mm256_castsi256_si128(bytes));
}

// The channels that do not fill eight are done by moving the last eight back.
void RunEights(const DepthwiseTask& task) {
  const DepthwiseShape& s = task.packed->shape;
  const Clamp clamp(task.packed->stage);
  for (int64_t row = 0; row < task.rows; ++row) {
    for (int64_t i = 0; i < task.width; ++i) {
      const uint8_t* x = task.x + row * s.stride_h * task.x_row + i * s.stride_w * s.channels;
      uint8_t* y = task.output + row * task.output_row + i * s.channels;
      for (int64_t c = 0; c + 8 <= s.channels; c += 8) RunEightChannels(*task.packed, x, task.x_row, c, clamp, y);
      if (s.channels % 8 != 0) RunEightChannels(*task.packed, x, task.x_row, s.channels - 8, clamp, y);
    }
  }
}

}  // namespace

const DepthwiseKernel depthwise_avx2_8c2 = {"depthwise_avx2_8c2", kAvx2, true, EightCost, CopyDepthwise, RunEights};
const DepthwiseKernel depthwise_avx2_1x1 = {"depthwise_avx2_1x1", kAvx2, true, SquareCost<1>, PackHalves, RunSquare<1>};
const DepthwiseKernel depthwise_avx2_3x3 = {"depthwise_avx2_3x3", kAvx2, true, SquareCost<3>, PackHalves, RunSquare<3>};
const DepthwiseKernel depthwise_avx2_5x5 = {"depthwise_avx2_5x5", kAvx2, true, SquareCost<5>, PackHalves, RunSquare<5>};

}  // namespace dbq

#endif  // defined(__x86_64__)
