// One pixel times ternary weights of two bits, for AVX512-VNNI: what a fully connected layer waits for is memory.
//
// A byte holds the codes (trit + 1) of four channels at one input: c0 + 4 c1 + 16 c2 + 64 c3. What is summed are the
// whole byte and its lowest 6, 4 and 2 bits, times x: the differences of these sums, divided, without a rest, by the
// powers of four, are the channels'. So 256 products take three masks and four multiplications. With signed x and
// unsigned codes, sum x * trit = sum x * code - sum x; branches are joined last: acc = bias + p * sum_1 + q * sum_2.
#if defined(__x86_64__)

#include "isa/avx512.h"
#include "isa/panels.h"

namespace dbq {
namespace {

constexpr int kGroup = 16;   // inputs of a turn: four steps of four
constexpr int kVectors = 4;  // of 16 channels
constexpr int kVectorBytes = 64;

int64_t Groups(const GemmShape& s) { return CeilDiv(s.length, kGroup); }
int64_t PanelBytes(const GemmShape& s) { return Groups(s) * s.planes * kVectors * kVectorBytes; }
int64_t ScratchBytes(const GemmShape& s) { return RoundUp(s.length, kVectorBytes); }

// [plane][step][16 lanes][4 inputs], two bits for each of the four vectors of channels
void PackChannel(const GemmWeights& weights, int64_t m, int lane, int8_t* panel) {
  const GemmShape& s = weights.shape;
  for (int plane = 0; plane < s.planes; ++plane) {
    const int8_t* trits = weights.trits + (plane * s.channels + m) * s.length;
    int8_t* to = panel + plane * Groups(s) * kVectors * kVectorBytes + lane % 16 * 4;
    for (int64_t k = 0; k < s.length; ++k) {
      int8_t* byte = to + k / 4 * kVectorBytes + k % 4;
      *byte = static_cast<int8_t>(*byte | (trits[k] + 1) << (2 * (lane / 16)));
    }
  }
}

void PackDense(const GemmWeights& weights, PackedGemm* packed) {
  const GemmShape& s = weights.shape;
  const int64_t panels = CeilDiv(s.channels, kPanelChannels);
  packed->shape = s, packed->stage = weights.stage;
  packed->panels.clear();
  packed->weights = Buffer<int8_t>(panels * PanelBytes(s));
  MakeLanes(weights, panels, packed);
  packed->factors = Buffer<int16_t>(panels * kPanelChannels * 2);
  for (int64_t m = 0; m < s.channels; ++m) {
    const int64_t panel = m / kPanelChannels;
    const int lane = PanelLane(static_cast<int>(m % kPanelChannels), kVectors);
    if (lane == 0) {
      const int64_t left = s.channels - m;
      packed->panels.push_back({m, panel * PanelBytes(s), static_cast<int>(left < 64 ? left : 64), kVectors});
    }
    PackChannel(weights, m, lane, packed->weights.data() + panel * PanelBytes(s));
    // Codes of x are signed here: 128 times the sum of the weights comes back in.
    int32_t sum = 0;
    for (int64_t k = 0; k < s.length; ++k) sum += weights.integers[m * s.length + k];
    const uint32_t bias = static_cast<uint32_t>(weights.bias[m]) + static_cast<uint32_t>(sum) * 128u;
    SetLane(weights, m, static_cast<int32_t>(bias), panel, lane, packed);
    for (int plane = 0; plane < s.planes; ++plane) {
      packed->factors[panel * kPanelChannels * 2 + plane * kPanelChannels + lane] =
          weights.scales[plane * s.channels + m];
    }
  }
}

// Signed x with zeros behind the end, and the sum of it.
int32_t SignInput(const uint8_t* x, int64_t count, uint8_t* to) {
  const Int sign = _mm512_set1_epi8(static_cast<char>(0x80)), ones = _mm512_set1_epi8(1);
  Int sum = _mm512_setzero_si512();
  for (int64_t i = 0; i < count; i += kVectorBytes) {
    const __mmask64 mask = FirstBytes(count - i);
    const Int bytes = _mm512_maskz_mov_epi8(mask, _mm512_xor_si512(Load(x + i), sign));
    Store(to + i, bytes);
    sum = Dot(sum, ones, bytes);
  }
  return _mm512_reduce_add_epi32(sum);
}

// Sums of codes times x of one plane.
DBQ_INLINE void SumPlane(const int8_t* w, const uint8_t* x, int64_t groups, Int (&total)[kVectors]) {
  const Int mask[3] = {_mm512_set1_epi8(3), _mm512_set1_epi8(15), _mm512_set1_epi8(63)};
  Int sum[2][kVectors] = {};  // of even and odd steps, which do not wait for each other
  for (int64_t group = 0; group < groups; ++group, x += kGroup) {
    DBQ_UNROLL for (int step = 0; step < 4; ++step, w += kVectorBytes) {
      const Int a = Broadcast(x + 4 * step), codes = Load(w);
      Int* s = sum[step % 2];
      DBQ_UNROLL for (int i = 0; i < 3; ++i) s[i] = Dot(s[i], _mm512_and_si512(codes, mask[i]), a);
      s[3] = Dot(s[3], codes, a);
    }
  }
  Int below = _mm512_setzero_si512();
  DBQ_UNROLL for (int v = 0; v < kVectors; ++v) {
    const Int all = AddInts(sum[0][v], sum[1][v]);
    total[v] = _mm512_srai_epi32(_mm512_sub_epi32(all, below), 2 * v);
    below = all;
  }
}

void RunPanel(const PackedGemm& gemm, int64_t index, const uint8_t* x, int32_t x_sum, uint8_t* y) {
  const int64_t groups = Groups(gemm.shape);
  const int8_t* w = gemm.weights.data() + gemm.panels[index].weights_offset;
  const Int minus = _mm512_set1_epi32(x_sum);
  Int total[kVectors];
  DBQ_UNROLL for (int v = 0; v < kVectors; ++v) total[v] = Load(gemm.bias.data() + index * kPanelChannels + v * 16);
  for (int plane = 0; plane < gemm.shape.planes; ++plane, w += groups * kVectors * kVectorBytes) {
    Int sum[kVectors];
    SumPlane(w, x, groups, sum);
    const int16_t* factors = gemm.factors.data() + (index * 2 + plane) * kPanelChannels;
    DBQ_UNROLL for (int v = 0; v < kVectors; ++v) {
      const Int factor = _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(factors + v * 16)));
      total[v] = AddInts(total[v], _mm512_mullo_epi32(factor, _mm512_sub_epi32(sum[v], minus)));
    }
  }
  const WayOut out(gemm, index);
  DBQ_UNROLL for (int v = 0; v < kVectors; ++v) total[v] = out(total[v], v * 16);
  const Int bytes = Pack(total[0], total[1], total[2], total[3], Clamp(gemm.stage));
  _mm512_mask_storeu_epi8(y + gemm.panels[index].first_channel, FirstBytes(gemm.panels[index].channels), bytes);
}

void RunDense(const GemmTask& task) {
  const PackedGemm& gemm = *task.gemm;
  for (int64_t pixel = 0; pixel < task.count; ++pixel) {
    const uint8_t* x = task.x + task.x_offset[pixel] + task.segment_offset[0];
    const int32_t x_sum = SignInput(x, gemm.shape.length, task.scratch);
    uint8_t* y = task.output + task.output_offset[pixel];
    for (int64_t panel = task.first_panel; panel < task.last_panel; ++panel) {
      RunPanel(gemm, panel, task.scratch, x_sum, y);
    }
  }
}

// int8 weights from the second-level cache cost as much as two planes, and more from further away.
double DenseCost(const GemmShape& s) {
  constexpr int64_t kOnePlane = 1 << 15, kTwoPlanes = 3 << 19;  // weights from which on fewer bytes are faster
  const int64_t weights = s.length * s.channels;
  const bool fits = s.planes > 0 && s.segments == 1 && s.pixels == 1;
  return fits && weights >= (s.planes == 1 ? kOnePlane : kTwoPlanes) ? static_cast<double>(weights) / 400 : 0;
}

}  // namespace

const GemmKernel gemm_avx512vnni_2bit_1x64c16 = {
    "gemm_avx512vnni_2bit_1x64c16", kAvx512Vnni, true, true, 1, DenseCost, ScratchBytes, PackDense, RunDense};

}  // namespace dbq

#endif  // defined(__x86_64__)
