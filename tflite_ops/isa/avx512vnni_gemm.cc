// Matrix product for AVX512-VNNI: panels of 64, 32 or 16 channels, four products of a channel in a lane.
//
// A tile holds `rows` pixels times `vectors` vectors of 16 channels in registers: 6 x 4, 12 x 2 or 12 x 1.
#if defined(__x86_64__)

#include "isa/avx512.h"
#include "isa/panels.h"

namespace dbq {
namespace {

struct Tile {
  const PackedGemm* gemm;
  const Panel* panel;
  const int32_t* bias;
  WayOut out;
  const uint8_t* x;
  const int32_t* x_offset;
  const int32_t* segment_offset;
  uint8_t* output;
  const int32_t* output_offset;
};

template <int rows, int vectors>
DBQ_INLINE void Accumulate(const Tile& tile, Int (&sum)[rows][vectors]) {
  const uint8_t* x[rows];
  DBQ_UNROLL for (int r = 0; r < rows; ++r) x[r] = tile.x + tile.x_offset[r];
  const PackedGemm& gemm = *tile.gemm;
  const int8_t* w = gemm.weights.data() + tile.panel->weights_offset;
  const int64_t used = (gemm.shape.length + 3) / 4 * 4, skipped = (gemm.steps * 4 - used) * 16 * vectors;
  for (int64_t s = 0; s < gemm.shape.segments; ++s, w += skipped) {
    const int64_t begin = tile.segment_offset[s], end = begin + used;
    for (int64_t k = begin; k < end; k += 4, w += vectors * 64) {
      Int b[vectors];
      DBQ_UNROLL for (int v = 0; v < vectors; ++v) b[v] = Load(w + v * 64);
      DBQ_UNROLL for (int r = 0; r < rows; ++r) {
        const Int a = Broadcast(x[r] + k);
        DBQ_UNROLL for (int v = 0; v < vectors; ++v) sum[r][v] = Dot(sum[r][v], a, b[v]);
      }
    }
  }
}

// The pixels that share a vector of bytes after Pack; the last ones may be missing.
template <int rows, int vectors>
DBQ_INLINE void StoreTile(const Tile& tile, Int (&sum)[rows][vectors]) {
  constexpr int kTogether = 4 / vectors;
  const Clamp clamp(tile.gemm->stage);
  const __mmask64 mask = FirstBytes(tile.panel->channels);
  DBQ_UNROLL for (int r = 0; r < rows; r += kTogether) {
    Int y[4];
    DBQ_UNROLL for (int i = 0; i < 4; ++i) {
      const int row = r + i / vectors;
      y[i] = row < rows ? tile.out(sum[row < rows ? row : r][i % vectors], i % vectors * 16) : _mm512_setzero_si512();
    }
    Int bytes = Pack(y[0], y[1], y[2], y[3], clamp);
    if constexpr (vectors < 4) bytes = _mm512_permutexvar_epi32(PixelOrder(vectors), bytes);
    StorePixels<vectors>(bytes, r, rows, mask, tile.output + tile.panel->first_channel, tile.output_offset);
  }
}

template <int rows, int vectors>
__attribute__((noinline)) void RunTile(const Tile& tile) {
  Int sum[rows][vectors];
  DBQ_UNROLL for (int v = 0; v < vectors; ++v) {
    const Int bias = Load(tile.bias + v * 16);
    DBQ_UNROLL for (int r = 0; r < rows; ++r) sum[r][v] = bias;
  }
  Accumulate(tile, sum);
  StoreTile(tile, sum);
}

// One pixel: four chains of sums would wait for each other, so the steps are dealt out to four sets of them.
void RunOnePixel(const Tile& tile) {
  constexpr int kSets = 4;
  const PackedGemm& gemm = *tile.gemm;
  const int8_t* w = gemm.weights.data() + tile.panel->weights_offset;
  Int sum[kSets][4];
  DBQ_UNROLL for (int v = 0; v < 4; ++v) {
    sum[0][v] = Load(tile.bias + v * 16);
    DBQ_UNROLL for (int i = 1; i < kSets; ++i) sum[i][v] = _mm512_setzero_si512();
  }
  const int64_t used = (gemm.shape.length + 3) / 4, skipped = (gemm.steps - used) * 256;
  for (int64_t s = 0; s < gemm.shape.segments; ++s, w += skipped) {
    const uint8_t* x = tile.x + tile.x_offset[0] + tile.segment_offset[s];
    int64_t k = 0;
    for (; k + kSets <= used; k += kSets) {
      DBQ_UNROLL for (int i = 0; i < kSets; ++i, w += 256, x += 4) {
        const Int a = Broadcast(x);
        DBQ_UNROLL for (int v = 0; v < 4; ++v) sum[i][v] = Dot(sum[i][v], a, Load(w + v * 64));
      }
    }
    for (; k < used; ++k, w += 256, x += 4) {
      const Int a = Broadcast(x);
      DBQ_UNROLL for (int v = 0; v < 4; ++v) sum[0][v] = Dot(sum[0][v], a, Load(w + v * 64));
    }
  }
  Int total[1][4];
  DBQ_UNROLL for (int v = 0; v < 4; ++v) {
    total[0][v] = _mm512_add_epi32(_mm512_add_epi32(sum[0][v], sum[1][v]), _mm512_add_epi32(sum[2][v], sum[3][v]));
  }
  StoreTile(tile, total);
}

// Full tiles first, then one smaller tile for the rest.
template <int vectors, int rows>
void RunRest(const Tile& tile, int64_t count) {
  if (count == rows) return RunTile<rows, vectors>(tile);
  if constexpr (rows > 1) RunRest<vectors, rows - 1>(tile, count);
}

template <int vectors, int rows>
void RunPanel(Tile tile, int64_t count) {
  for (; count >= rows; count -= rows, tile.x_offset += rows, tile.output_offset += rows) RunTile<rows, vectors>(tile);
  if (count > 0) RunRest<vectors, rows - 1>(tile, count);
}

// Measured, for a vector of 16 channels of a pixel: the way out, and a step of four products.
double GemmCost(const GemmShape& s) {
  const double steps = static_cast<double>(s.segments * CeilDiv(s.length, 4));
  const double vectors = static_cast<double>(CeilDiv(s.channels, 16));
  return static_cast<double>(s.pixels) * vectors * (2.0 + 0.37 * steps) + 40;
}

int64_t NoScratch(const GemmShape&) { return 0; }
int Order(int c, int vectors) { return PanelLane(c, vectors); }
void PackGemm(const GemmWeights& weights, PackedGemm* packed) {
  PackPanels(weights, 4, 4, kPanelChannels, Order, packed);
}

void RunGemm(const GemmTask& task) {
  for (int64_t i = task.first_panel; i < task.last_panel; ++i) {
    const PackedGemm& gemm = *task.gemm;
    const Panel& panel = gemm.panels[i];
    const Tile tile{&gemm,
                    &panel,
                    gemm.bias.data() + i * kPanelChannels,
                    WayOut(gemm, i),
                    task.x,
                    task.x_offset,
                    task.segment_offset,
                    task.output,
                    task.output_offset};
    if (panel.vectors == 4 && task.count == 1) {
      RunOnePixel(tile);
    } else if (panel.vectors == 4) {
      RunPanel<4, 6>(tile, task.count);
    } else if (panel.vectors == 2) {
      RunPanel<2, 12>(tile, task.count);
    } else {
      RunPanel<1, 12>(tile, task.count);
    }
  }
}

}  // namespace

const GemmKernel gemm_avx512vnni_6x64c4 = {
    "gemm_avx512vnni_6x64c4", kAvx512Vnni, true, false, 12, GemmCost, NoScratch, PackGemm, RunGemm};

}  // namespace dbq

#endif  // defined(__x86_64__)
