// Matrix product for processors with AVX-VNNI and no AVX-512: vpdpbusd on vectors of 256 bits.
#if defined(__x86_64__)

#include "isa/avx2.h"
#include "isa/avx2_tile.h"
#include "isa/panels.h"

namespace dbq {
namespace {

// Assembly, because GCC 12 spills the accumulators of the intrinsic in every step of an unrolled loop.
DBQ_INLINE Int Dot(Int sum, Int x, Int w) {
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(x), "x" DBQ_OR_MEMORY(w));
  return sum;
}

void PackGemm(const GemmWeights& weights, PackedGemm* packed) {
  PackPanels(weights, kByteStep, kByteStep, kChannels, OrderFor(weights.shape), packed);
}

template <int rows, int vectors>
__attribute__((noinline)) void RunTile(const Tile& tile) {
  const PackedGemm& gemm = *tile.gemm;
  const uint8_t* x[rows];
  DBQ_UNROLL for (int r = 0; r < rows; ++r) x[r] = tile.task->x + tile.task->x_offset[tile.pixel + r];
  const int8_t* w = gemm.weights.data() + gemm.panels[tile.panel].weights_offset;
  Int sum[rows][vectors];
  StartSums(tile, sum);
  for (int64_t s = 0; s < gemm.shape.segments; ++s) {
    const int64_t begin = tile.task->segment_offset[s], end = begin + gemm.steps * kByteStep;
    for (int64_t k = begin; k < end; k += kByteStep, w += 64) {
      Int b[vectors];
      DBQ_UNROLL for (int v = 0; v < vectors; ++v) b[v] = Load(w + v * 32);
      DBQ_UNROLL for (int r = 0; r < rows; ++r) {
        const Int a = Broadcast(x[r] + k);
        DBQ_UNROLL for (int v = 0; v < vectors; ++v) sum[r][v] = Dot(sum[r][v], a, b[v]);
      }
    }
  }
  StoreTile(tile, sum);
}

// A full tile, or the largest that the pixels fill.
template <int rows, int vectors>
void RunRows(const Tile& tile, int64_t count) {
  if (count >= rows) return RunTile<rows, vectors>(tile);
  if constexpr (rows > 1) RunRows<rows - 1, vectors>(tile, count);
}

void RunGemm(const GemmTask& task) {
  const bool narrow = task.gemm->shape.channels <= 8;
  const int64_t rows = narrow ? 2 * kRows : kRows;
  for (int64_t panel = task.first_panel; panel < task.last_panel; ++panel) {
    for (int64_t pixel = 0; pixel < task.count; pixel += rows) {
      const Tile tile{task.gemm, panel, nullptr, &task, pixel};
      narrow ? RunRows<2 * kRows, 1>(tile, task.count - pixel) : RunRows<kRows, 2>(tile, task.count - pixel);
    }
  }
}

int64_t NoScratch(const GemmShape&) { return 0; }

// One or two pixels wait for the latency of the sums.
double Cost(const GemmShape& s) {
  const double step = s.pixels > 2 ? 0.9 : 2.4;
  return Panels(s) * (4.0 + step * static_cast<double>(s.segments * CeilDiv(s.length, kByteStep)));
}

}  // namespace

const GemmKernel gemm_avxvnni_6x16c4 = {
    "gemm_avxvnni_6x16c4", kAvx2 | kAvxVnni, true, false, kRows, Cost, NoScratch, PackGemm, RunGemm};

}  // namespace dbq

#endif  // defined(__x86_64__)
