// What the matrix products with vectors of eight int32 share: 6 pixels x 16 channels, or 12 x 8 where there are no
// more.
#ifndef DBQ_ISA_AVX2_TILE_H_
#define DBQ_ISA_AVX2_TILE_H_

#include "isa/avx2.h"
#include "isa/panels.h"

namespace dbq {
namespace {

constexpr int kRows = 6;
constexpr int kChannels = 16;
constexpr int kByteStep = 4;  // products of bytes in a lane of int32

// Lane of a channel: Pack puts four of the first vector beside four of the second.
int Order(int c, int) { return c / 4 % 2 * 8 + c / 8 * 4 + c % 4; }
// Up to eight channels in all are one vector.
int NarrowOrder(int c, int) { return c; }
LaneOrder OrderFor(const GemmShape& s) { return s.channels <= 8 ? NarrowOrder : Order; }

struct Tile {
  const PackedGemm* gemm;
  int64_t panel;
  const int16_t* x;      // of the first pixel, widened; ternary: null
  const GemmTask* task;  // bytes
  int64_t pixel;
};

// One vector of channels: four pixels at a time, else two.
template <int rows, int vectors>
DBQ_INLINE void StoreTile(const Tile& tile, Int (&sum)[rows][vectors]) {
  constexpr int kTogether = 4 / vectors, kBytes = 8 * vectors;
  const PackedGemm& gemm = *tile.gemm;
  const Panel& panel = gemm.panels[tile.panel];
  const Clamp clamp(gemm.stage);
  const WayOut out(gemm, tile.panel);
  const int32_t* offset = tile.task->output_offset + tile.pixel;
  uint8_t* output = tile.task->output + panel.first_channel;
  // Dwords of a pixel after Pack: every kTogether-th of both lanes.
  const Int order =
      vectors == 1 ? _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7) : _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7);
  DBQ_UNROLL for (int r = 0; r < rows; r += kTogether) {
    Int y[4];
    DBQ_UNROLL for (int i = 0; i < 4; ++i) {
      const int row = r + i / vectors < rows ? r + i / vectors : r, v = i % vectors;
      y[i] = out(sum[row][v], v * 8);
    }
    alignas(32) uint8_t bytes[48];
    Store(bytes, _mm256_permutevar8x32_epi32(Pack(y[0], y[1], y[2], y[3], clamp), order));
    for (int i = 0; i < kTogether; ++i) {
      if (r + i == rows) break;
      StoreBytes<kBytes>(bytes + i * kBytes, panel.channels, output + offset[r + i]);
    }
  }
}

template <int rows, int vectors>
DBQ_INLINE void StartSums(const Tile& tile, Int (&sum)[rows][vectors]) {
  const int32_t* bias = tile.gemm->bias.data() + tile.panel * kPanelChannels;
  DBQ_UNROLL for (int v = 0; v < vectors; ++v) {
    DBQ_UNROLL for (int r = 0; r < rows; ++r) sum[r][v] = Load(bias + v * 8);
  }
}

double Panels(const GemmShape& s) { return static_cast<double>(s.pixels * CeilDiv(s.channels, kChannels)); }

}  // namespace
}  // namespace dbq

#endif  // DBQ_ISA_AVX2_TILE_H_
