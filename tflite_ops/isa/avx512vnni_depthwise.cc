// Depthwise convolutions for AVX512-VNNI.
//
// The bytes of four image rows are interleaved, so that a 32-bit lane holds four taps of one channel, one above the
// other: one vpdpbusd is four taps of sixteen channels. Two output rows share the interleaved vectors, with weights
// (w0 w1 w2 0) and (0 w0 w1 w2) for a kernel of three rows. A kernel of five rows takes eight rows in two groups.
//
// How a row of pixels is cut into vectors of 64 bytes:
// - wide: 64 channels of one pixel, the last block cut by a mask. Neighbouring pixels share columns (3x3, stride 1).
// - narrow: 64 neighbouring bytes of a row, whatever pixels they belong to; the weights repeat with the period of
//   channels and 64. With stride 2 the bytes are picked from 128, for 8, 16 and 32 channels.
#if defined(__x86_64__)

#include "isa/avx512.h"
#include "isa/panels.h"

namespace dbq {
namespace {

constexpr int kBlockBytes = 64;

bool IsNarrow(const DepthwiseShape& s) {
  return s.channels < 64 && (s.stride_w == 1 || s.channels == 8 || s.channels == 16 || s.channels == 32);
}

int64_t Blocks(const DepthwiseShape& s) { return RowBlocks(s.channels, kBlockBytes, IsNarrow(s)); }

// Output rows that are computed together.
constexpr int RowsTogether(int stride) { return stride == 1 ? 2 : 1; }
constexpr int Groups(int kernel_h, int stride) { return (kernel_h + RowsTogether(stride) - 1 + 3) / 4; }

void PackStages(const DepthwiseWeights& weights, int64_t blocks, PackedDepthwise* packed) {
  packed->shape = weights.shape;
  packed->stage = weights.stage;
  packed->bias = Buffer<int32_t>(blocks * kBlockBytes);
  packed->multiplier = Buffer<float>(blocks * kBlockBytes);
  const bool narrow = IsNarrow(weights.shape);
  for (int64_t i = 0, channel = 0; i < blocks * kBlockBytes; ++i, ++channel) {
    if (channel == weights.shape.channels) {
      if (!narrow) break;  // the last block is cut
      channel = 0;
    }
    const int64_t at = i - i % kBlockBytes + PackedLane(static_cast<int>(i % kBlockBytes));
    packed->bias[at] = weights.bias[channel];
    packed->multiplier[at] = weights.multiplier[channel];
  }
}

// Four taps of 64 bytes, in the lanes of Pack.
struct Taps {
  Int v[4];
};

DBQ_INLINE Taps Interleave(Int r0, Int r1, Int r2, Int r3) {
  const Int a = _mm512_unpacklo_epi8(r0, r1), b = _mm512_unpackhi_epi8(r0, r1);
  const Int c = _mm512_unpacklo_epi8(r2, r3), d = _mm512_unpackhi_epi8(r2, r3);
  return {{_mm512_unpacklo_epi16(a, c), _mm512_unpackhi_epi16(a, c), _mm512_unpacklo_epi16(b, d),
           _mm512_unpackhi_epi16(b, d)}};
}

// One tap of the channels of a block.
Int LoadTap(const DepthwiseWeights& weights, int64_t block, int64_t tap) {
  const int64_t channels = weights.shape.channels, first = block * kBlockBytes;
  const int8_t* from = weights.integers + tap * channels;
  if (!IsNarrow(weights.shape)) return _mm512_maskz_loadu_epi8(FirstBytes(channels - first), from + first);
  alignas(64) int8_t repeated[kBlockBytes];
  for (int64_t i = 0, c = first % channels; i < kBlockBytes; ++i, c = c + 1 == channels ? 0 : c + 1) {
    repeated[i] = from[c];
  }
  return Load(repeated);
}

// [block][column][group][row][vector][16 lanes][4 taps]
void PackBlock(const DepthwiseWeights& weights, int64_t block, int8_t* to) {
  const DepthwiseShape& s = weights.shape;
  for (int column = 0; column < s.kernel_w; ++column) {
    for (int group = 0; group < Groups(s.kernel_h, s.stride_h); ++group) {
      for (int row = 0; row < RowsTogether(s.stride_h); ++row, to += 256) {
        Int r[4];
        for (int i = 0; i < 4; ++i) {
          const int tap = group * 4 + i - row;
          r[i] = tap >= 0 && tap < s.kernel_h ? LoadTap(weights, block, tap * s.kernel_w + column) : Zero();
        }
        const Taps taps = Interleave(r[0], r[1], r[2], r[3]);
        for (int i = 0; i < 4; ++i) Store(to + 64 * i, taps.v[i]);
      }
    }
  }
}

void PackRows(const DepthwiseWeights& weights, PackedDepthwise* packed) {
  const DepthwiseShape& s = weights.shape;
  const int64_t blocks = Blocks(s);
  const int64_t size = int64_t{256} * s.kernel_w * Groups(s.kernel_h, s.stride_h) * RowsTogether(s.stride_h);
  packed->weights = Buffer<int8_t>(blocks * size);
  for (int64_t block = 0; block < blocks; ++block) PackBlock(weights, block, packed->weights.data() + block * size);
  PackStages(weights, blocks, packed);
}

// The input rows under `rows` output rows. Rows that no tap needs are read and multiplied by zero, so they repeat one.
struct RowPointers {
  const uint8_t* in[8];
  uint8_t* out[2];
};

template <int kernel_h, int kernel_w, int step, int rows>
struct Loop {
  static constexpr int kGroups = Groups(kernel_h, step);
  static constexpr int kColumn = kGroups * RowsTogether(step) * 256;  // bytes of weights

  const RowPointers& at;
  const int8_t* weights;
  Int bias[4];
  Float multiplier[4];

  inline __attribute__((always_inline)) Loop(const PackedDepthwise& packed, const RowPointers& pointers, int64_t block)
      : at(pointers), weights(packed.weights.data() + block * kernel_w * kColumn) {
    DBQ_UNROLL for (int v = 0; v < 4; ++v) {
      bias[v] = Load(packed.bias.data() + block * kBlockBytes + v * 16);
      multiplier[v] = LoadFloats(packed.multiplier.data() + block * kBlockBytes + v * 16);
    }
  }

  inline __attribute__((always_inline)) void Start(Int (&sum)[rows][4]) const {
    DBQ_UNROLL for (int row = 0; row < rows; ++row) { DBQ_UNROLL for (int v = 0; v < 4; ++v) sum[row][v] = bias[v]; }
  }

  inline __attribute__((always_inline)) void Add(Int (&sum)[rows][4], const Taps& taps, int column, int group) const {
    const int8_t* w = weights + column * kColumn + group * RowsTogether(step) * 256;
    DBQ_UNROLL for (int row = 0; row < rows; ++row) {
      DBQ_UNROLL for (int v = 0; v < 4; ++v) sum[row][v] = Dot(sum[row][v], taps.v[v], Load(w + (row * 4 + v) * 64));
    }
  }

  inline __attribute__((always_inline)) void Finish(Int (&sum)[rows][4], int64_t to, __mmask64 mask,
                                                    const Clamp& clamp) const {
    DBQ_UNROLL for (int row = 0; row < rows; ++row) {
      Int y[4];
      DBQ_UNROLL for (int v = 0; v < 4; ++v) y[v] = Scaled(sum[row][v], multiplier[v]);
      _mm512_mask_storeu_epi8(at.out[row] + to, mask, Pack(y[0], y[1], y[2], y[3], clamp));
    }
  }

  // load(row, column): 64 bytes. All columns of one group of rows after the other.
  template <typename LoadBytes>
  inline __attribute__((always_inline)) void AddAll(Int (&sum)[rows][4], LoadBytes load) const {
    DBQ_UNROLL for (int column = 0; column < kernel_w; ++column) {
      DBQ_UNROLL for (int group = 0; group < kGroups; ++group) {
        const int r = group * 4;
        Add(sum, Interleave(load(r, column), load(r + 1, column), load(r + 2, column), load(r + 3, column)), column,
            group);
      }
    }
  }
};

// The qwords of 64 output bytes among the 128 under them at stride 2.
Int EveryOtherPixel(int64_t channels) {
  alignas(64) int64_t index[8];
  for (int64_t q = 0; q < 8; ++q) index[q] = q * 8 / channels * channels * 2 / 8 + q * 8 % channels / 8;
  return Load(index);
}

template <int kernel_h, int kernel_w, int step, int rows>
__attribute__((noinline)) void RunNarrow(const PackedDepthwise& packed, const RowPointers& at, int64_t width) {
  const int64_t channels = packed.shape.channels, bytes = width * channels, blocks = Blocks(packed.shape);
  const Clamp clamp(packed.stage);
  const Int picked = step == 1 ? _mm512_setzero_si512() : EveryOtherPixel(channels);
  for (int64_t i = 0, block = 0; i < bytes; i += kBlockBytes, block = block + 1 == blocks ? 0 : block + 1) {
    const Loop<kernel_h, kernel_w, step, rows> loop(packed, at, block);
    Int sum[rows][4];
    loop.Start(sum);
    loop.AddAll(
        sum, [&](int row, int column) __attribute__((always_inline)) {
          const uint8_t* x = at.in[row] + step * i + column * channels;
          if constexpr (step == 1) return Load(x);
          return _mm512_permutex2var_epi64(Load(x), picked, Load(x + kBlockBytes));
        });
    loop.Finish(sum, i, FirstBytes(bytes - i), clamp);
  }
}

template <int kernel_h, int kernel_w, int step, int rows>
__attribute__((noinline)) void RunWide(const PackedDepthwise& packed, const RowPointers& at, int64_t width) {
  const int64_t channels = packed.shape.channels;
  const Clamp clamp(packed.stage);
  for (int64_t block = 0, blocks = Blocks(packed.shape); block < blocks; ++block) {
    const Loop<kernel_h, kernel_w, step, rows> loop(packed, at, block);
    const __mmask64 mask = FirstBytes(channels - block * kBlockBytes);
    for (int64_t pixel = 0; pixel < width; ++pixel) {
      Int sum[rows][4];
      loop.Start(sum);
      loop.AddAll(
          sum, [&](int row, int column) __attribute__((always_inline)) {
            return Load(at.in[row] + (pixel * step + column) * channels + block * kBlockBytes);
          });
      loop.Finish(sum, pixel * channels + block * kBlockBytes, mask, clamp);
    }
  }
}

// 3x3: a column of interleaved taps serves the next pixels, too.
template <int step, int rows>
__attribute__((noinline)) void RunWide3(const PackedDepthwise& packed, const RowPointers& at, int64_t width) {
  const int64_t channels = packed.shape.channels;
  const Clamp clamp(packed.stage);
  for (int64_t block = 0, blocks = Blocks(packed.shape); block < blocks; ++block) {
    const Loop<3, 3, step, rows> loop(packed, at, block);
    const __mmask64 mask = FirstBytes(channels - block * kBlockBytes);
    auto column = [&](int64_t x) __attribute__((always_inline)) {
      const int64_t i = x * channels + block * kBlockBytes;
      return Interleave(Load(at.in[0] + i), Load(at.in[1] + i), Load(at.in[2] + i), Load(at.in[3] + i));
    };
    Taps left = column(0), middle = step == 1 ? column(1) : left;
    for (int64_t pixel = 0; pixel < width; ++pixel) {
      Int sum[rows][4];
      loop.Start(sum);
      if (step == 2) middle = column(2 * pixel + 1);
      loop.Add(sum, left, 0, 0);
      loop.Add(sum, middle, 1, 0);
      const Taps right = column(step * pixel + 2);
      loop.Add(sum, right, 2, 0);
      loop.Finish(sum, pixel * channels + block * kBlockBytes, mask, clamp);
      left = step == 1 ? middle : right;
      middle = right;
    }
  }
}

template <int kernel_h, int step, int rows>
void RunRows(const DepthwiseTask& task, int64_t row) {
  RowPointers at{};
  constexpr int kNeeded = (rows - 1) * step + kernel_h;
  for (int k = 0; k < 8; ++k) {
    at.in[k] = task.x + (row * step + (k < kNeeded ? k : kNeeded - 1)) * task.x_row;
  }
  for (int k = 0; k < rows; ++k) at.out[k] = task.output + (row + k) * task.output_row;
  if (IsNarrow(task.packed->shape)) return RunNarrow<kernel_h, kernel_h, step, rows>(*task.packed, at, task.width);
  if constexpr (kernel_h == 3) return RunWide3<step, rows>(*task.packed, at, task.width);
  RunWide<kernel_h, kernel_h, step, rows>(*task.packed, at, task.width);
}

template <int size>
void RunSquare(const DepthwiseTask& task) {
  if (task.packed->shape.stride_w == 2) {
    for (int64_t row = 0; row < task.rows; ++row) RunRows<size, 2, 1>(task, row);
    return;
  }
  int64_t row = 0;
  for (; row + 2 <= task.rows; row += 2) RunRows<size, 1, 2>(task, row);
  if (row < task.rows) RunRows<size, 1, 1>(task, row);
}

template <int size>
double SquareCost(const DepthwiseShape& s) {
  const bool fits = s.kernel_h == size && s.kernel_w == size && s.stride_h == s.stride_w && s.stride_w <= 2 &&
                    s.dilation_h == 1 && s.dilation_w == 1;
  return fits ? static_cast<double>(s.channels * (s.Taps() + 7)) / 40 : 0;
}

// ---- any kernel: four taps at a time, wherever they are

// [block][group of four taps][vector][16 lanes][4 taps]
void PackTaps(const DepthwiseWeights& weights, PackedDepthwise* packed) {
  const DepthwiseShape& s = weights.shape;
  const int64_t blocks = CeilDiv(s.channels, kBlockBytes), groups = CeilDiv(s.Taps(), 4);
  packed->weights = Buffer<int8_t>(blocks * groups * 256);
  for (int64_t c = 0; c < s.channels; ++c) {
    int8_t* to = packed->weights.data() + c / kBlockBytes * groups * 256 + PackedLane(c % kBlockBytes) * 4;
    for (int64_t t = 0; t < s.Taps(); ++t) to[t / 4 * 256 + t % 4] = weights.integers[t * s.channels + c];
  }
  packed->shape = s, packed->stage = weights.stage;
  packed->bias = Buffer<int32_t>(blocks * kBlockBytes);
  packed->multiplier = Buffer<float>(blocks * kBlockBytes);
  for (int64_t c = 0; c < s.channels; ++c) {
    const int64_t at = c / kBlockBytes * kBlockBytes + PackedLane(c % kBlockBytes);
    packed->bias[at] = weights.bias[c], packed->multiplier[at] = weights.multiplier[c];
  }
}

void RunTapsBlock(const DepthwiseTask& task, const uint8_t* x, int64_t block, const Clamp& clamp, uint8_t* y) {
  const PackedDepthwise& packed = *task.packed;
  const DepthwiseShape& s = packed.shape;
  const int64_t taps = s.Taps(), column = s.dilation_w * s.channels, row = s.dilation_h * task.x_row;
  const int8_t* w = packed.weights.data() + block * CeilDiv(taps, 4) * 256;
  Int sum[4];
  DBQ_UNROLL for (int v = 0; v < 4; ++v) sum[v] = Load(packed.bias.data() + block * kBlockBytes + v * 16);
  int64_t i = 0, j = 0;
  // Taps behind the last meet a weight of zero: the last one is read again.
  auto next = [&]() {
    const Int bytes = Load(x + i * row + j * column);
    if (i * s.kernel_w + j + 1 == taps) return bytes;
    if (++j == s.kernel_w) j = 0, ++i;
    return bytes;
  };
  for (int64_t t = 0; t < taps; t += 4, w += 256) {
    const Int a = next(), b = next(), c = next(), d = next();
    const Taps four = Interleave(a, b, c, d);
    DBQ_UNROLL for (int v = 0; v < 4; ++v) sum[v] = Dot(sum[v], four.v[v], Load(w + v * 64));
  }
  DBQ_UNROLL for (int v = 0; v < 4; ++v) {
    sum[v] = Scaled(sum[v], LoadFloats(packed.multiplier.data() + block * kBlockBytes + v * 16));
  }
  _mm512_mask_storeu_epi8(y, FirstBytes(s.channels - block * kBlockBytes), Pack(sum[0], sum[1], sum[2], sum[3], clamp));
}

void RunTaps(const DepthwiseTask& task) {
  const DepthwiseShape& s = task.packed->shape;
  const Clamp clamp(task.packed->stage);
  for (int64_t row = 0; row < task.rows; ++row) {
    for (int64_t pixel = 0; pixel < task.width; ++pixel) {
      const uint8_t* x = task.x + row * s.stride_h * task.x_row + pixel * s.stride_w * s.channels;
      uint8_t* y = task.output + row * task.output_row + pixel * s.channels;
      for (int64_t block = 0; block * kBlockBytes < s.channels; ++block) {
        RunTapsBlock(task, x + block * kBlockBytes, block, clamp, y + block * kBlockBytes);
      }
    }
  }
}

double TapsCost(const DepthwiseShape& s) {
  return static_cast<double>(CeilDiv(s.channels, 64) * (30 + 16 * CeilDiv(s.Taps(), 4)));
}

}  // namespace

const DepthwiseKernel depthwise_avx512vnni_1x1 = {
    "depthwise_avx512vnni_1x1", kAvx512Vnni, true, SquareCost<1>, PackRows, RunSquare<1>};
const DepthwiseKernel depthwise_avx512vnni_3x3 = {
    "depthwise_avx512vnni_3x3", kAvx512Vnni, true, SquareCost<3>, PackRows, RunSquare<3>};
const DepthwiseKernel depthwise_avx512vnni_5x5 = {
    "depthwise_avx512vnni_5x5", kAvx512Vnni, true, SquareCost<5>, PackRows, RunSquare<5>};
const DepthwiseKernel depthwise_avx512vnni_taps = {
    "depthwise_avx512vnni_taps", kAvx512Vnni, true, TapsCost, PackTaps, RunTaps};

}  // namespace dbq

#endif  // defined(__x86_64__)
