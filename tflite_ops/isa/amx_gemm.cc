// Matrix product for AMX: 16 pixels times 16 channels of int32 in a tile register, 64 products deep.
//
// Panels are those of the AVX512-VNNI kernel with every segment padded to 64: sixteen steps of a vector of channels,
// one below the other, are a weight tile. Four tiles of sums: 16 pixels x 64 channels, 32 x 32 or 64 x 16. Patches at a
// constant distance are read where they lie; others are gathered into scratch memory, once for all panels.
#if defined(__x86_64__)

#include "isa/avx512.h"
#include "isa/panels.h"

namespace dbq {
namespace {

constexpr int kTilePixels = 16;
constexpr int kDepth = 64;
constexpr int kMostTiles = 16;                  // of pixels that pass while a panel stays in the cache
constexpr int64_t kSums = 4 * 16 * 16;          // int32 in four tiles
constexpr int64_t kSumBytes = 2 * kSums * 4;    // those of a block, and of the one before
constexpr int64_t kGatheredBytes = 512 * 1024;  // a part of the second-level cache

int64_t PaddedDepth(const GemmShape& s) { return s.segments * RoundUp(s.length, kDepth); }

// Tiles of pixels in a block: as many as gathered patches fit, a multiple of the four that narrow panels take.
int64_t BlockTiles(const GemmShape& s) {
  const int64_t fit = kGatheredBytes / (kTilePixels * PaddedDepth(s)) / 4 * 4;
  return fit < 4 ? 4 : fit > kMostTiles ? kMostTiles : fit;
}

int64_t ScratchBytes(const GemmShape& s) { return kSumBytes + BlockTiles(s) * kTilePixels * PaddedDepth(s); }
int Order(int c, int vectors) { return PanelLane(c, vectors); }

// A depth step of 4 as for AVX512-VNNI; lengths are rounded up to whole tiles.
void PackGemm(const GemmWeights& weights, PackedGemm* packed) {
  PackPanels(weights, 4, kDepth, kPanelChannels, Order, packed);
}

// Tiles 0..3 are sums, 4 and 5 patches: `pixels` rows. 6 and 7 are weights: sixteen steps of four products.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {};

  explicit TileConfig(int pixels) {
    for (int i = 0; i < 8; ++i) rows[i] = static_cast<uint8_t>(i < 6 ? pixels : 16);
  }
};

// Where the patches of a tile lie.
struct Patches {
  const uint8_t* x;
  int64_t stride;          // bytes from pixel to pixel
  const int32_t* segment;  // null: one segment after the other, each padded
};

bool EvenlySpaced(const int32_t* offset, int pixels) {
  const Int first = _mm512_set1_epi32(offset[0]), step = _mm512_set1_epi32(offset[1] - offset[0]);
  const Int index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const Int expected = _mm512_add_epi32(first, _mm512_mullo_epi32(index, step));
  const __mmask16 used = static_cast<__mmask16>((1u << pixels) - 1);
  return _mm512_mask_cmpneq_epi32_mask(used, expected, Load(offset)) == 0;
}

// Bytes behind a segment meet weights of zero.
void GatherPatch(const GemmTask& task, int64_t pixel, uint8_t* to) {
  const GemmShape& s = task.gemm->shape;
  for (int64_t segment = 0; segment < s.segments; ++segment) {
    const uint8_t* x = task.x + task.x_offset[pixel] + task.segment_offset[segment];
    for (int64_t k = 0; k < s.length; k += kDepth, to += kDepth) _mm512_storeu_si512(to, Load(x + k));
  }
}

Patches FindPatches(const GemmTask& task, int64_t pixel, int pixels, uint8_t* scratch) {
  const int32_t* offset = task.x_offset + pixel;
  if (EvenlySpaced(offset, pixels)) return {task.x + offset[0], offset[1] - offset[0], task.segment_offset};
  const int64_t depth = PaddedDepth(task.gemm->shape);
  for (int i = 0; i < pixels; ++i) GatherPatch(task, pixel + i, scratch + i * depth);
  return {scratch, depth, nullptr};
}

DBQ_INLINE const uint8_t* SegmentStart(const Patches& patches, int64_t segment, int64_t padded) {
  return patches.x + (patches.segment == nullptr ? segment * padded : patches.segment[segment]);
}

// 16 pixels x 64 channels.
void Accumulate4(const PackedGemm& gemm, const int8_t* w, const Patches& patches) {
  const int64_t padded = gemm.steps * 4;
  for (int64_t s = 0; s < gemm.shape.segments; ++s) {
    const uint8_t* x = SegmentStart(patches, s, padded);
    for (int64_t k = 0; k < padded; k += kDepth, w += 16 * 256) {
      _tile_loadd(4, x + k, patches.stride);
      _tile_loadd(6, w, 256);
      _tile_dpbusd(0, 4, 6);
      _tile_loadd(7, w + 64, 256);
      _tile_dpbusd(1, 4, 7);
      _tile_loadd(6, w + 128, 256);
      _tile_dpbusd(2, 4, 6);
      _tile_loadd(7, w + 192, 256);
      _tile_dpbusd(3, 4, 7);
    }
  }
}

// Up to 32 pixels x 32 channels; sums 0 and 1 are the first 16 pixels.
void Accumulate2(const PackedGemm& gemm, const int8_t* w, const Patches* patches, int64_t tiles) {
  const int64_t padded = gemm.steps * 4;
  for (int64_t s = 0; s < gemm.shape.segments; ++s) {
    const uint8_t* x0 = SegmentStart(patches[0], s, padded);
    const uint8_t* x1 = tiles > 1 ? SegmentStart(patches[1], s, padded) : x0;
    for (int64_t k = 0; k < padded; k += kDepth, w += 16 * 128) {
      _tile_loadd(4, x0 + k, patches[0].stride);
      _tile_loadd(6, w, 128);
      _tile_dpbusd(0, 4, 6);
      _tile_loadd(7, w + 64, 128);
      _tile_dpbusd(1, 4, 7);
      if (tiles == 1) continue;
      _tile_loadd(5, x1 + k, patches[1].stride);
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
    }
  }
}

// Up to 64 pixels x 16 channels.
void Accumulate1(const PackedGemm& gemm, const int8_t* w, const Patches* patches, int64_t tiles) {
  const int64_t padded = gemm.steps * 4;
  for (int64_t s = 0; s < gemm.shape.segments; ++s) {
    const uint8_t* x[4];
    for (int64_t i = 0; i < 4; ++i) x[i] = SegmentStart(patches[i < tiles ? i : 0], s, padded);
    for (int64_t k = 0; k < padded; k += kDepth, w += 16 * 64) {
      _tile_loadd(7, w, 64);
      _tile_loadd(4, x[0] + k, patches[0].stride);
      _tile_dpbusd(0, 4, 7);
      if (tiles == 1) continue;
      _tile_loadd(5, x[1] + k, patches[1].stride);
      _tile_dpbusd(1, 5, 7);
      if (tiles == 2) continue;
      _tile_loadd(4, x[2] + k, patches[2].stride);
      _tile_dpbusd(2, 4, 7);
      if (tiles == 3) continue;
      _tile_loadd(5, x[3] + k, patches[3].stride);
      _tile_dpbusd(3, 5, 7);
    }
  }
}

// What the tiles of a panel have in common.
struct Block {
  const GemmTask* task;
  int64_t panel;
  const Patches* patches;
  int64_t tiles;  // of pixels; several only when they are full
  int pixels;     // of a tile
  const int32_t* output_offset;
};

// The way out: sums [tile][16 pixels][16 channels].
template <int vectors>
void StoreSums(const Block& block, const int32_t* sums) {
  const PackedGemm& gemm = *block.task->gemm;
  const Clamp clamp(gemm.stage);
  const __mmask64 mask = FirstBytes(gemm.panels[block.panel].channels);
  uint8_t* output = block.task->output + gemm.panels[block.panel].first_channel;
  const WayOut out(gemm, block.panel);
  const int count = static_cast<int>(block.tiles - 1) * kTilePixels + block.pixels;
  for (int pixel = 0; pixel < count; pixel += 4 / vectors) {
    Int y[4];
    DBQ_UNROLL for (int i = 0; i < 4; ++i) {
      const int p = pixel + i / vectors, v = i % vectors;
      const Int sum = Load(sums + ((p / kTilePixels * vectors + v) * kTilePixels + p % kTilePixels) * 16);
      y[i] = out(sum, v * 16);
    }
    Int bytes = Pack(y[0], y[1], y[2], y[3], clamp);
    if constexpr (vectors < 4) bytes = _mm512_permutexvar_epi32(PixelOrder(vectors), bytes);
    StorePixels<vectors>(bytes, pixel, count, mask, output, block.output_offset);
  }
}

void StoreBlock(const Block& block, const int32_t* sums) {
  const int vectors = block.task->gemm->panels[block.panel].vectors;
  if (vectors == 4) return StoreSums<4>(block, sums);
  if (vectors == 2) return StoreSums<2>(block, sums);
  StoreSums<1>(block, sums);
}

// Every row of a tile of sums starts as the bias of its 16 channels. Sum i has the channels i % vectors.
void StartSums(const int32_t* bias, int vectors) {
  _tile_loadd(0, bias, 0);
  _tile_loadd(1, bias + 1 % vectors * 16, 0);
  _tile_loadd(2, bias + 2 % vectors * 16, 0);
  _tile_loadd(3, bias + 3 % vectors * 16, 0);
}

void Multiply(const Block& block, int32_t* sums) {
  const PackedGemm& gemm = *block.task->gemm;
  const Panel& panel = gemm.panels[block.panel];
  const int8_t* w = gemm.weights.data() + panel.weights_offset;
  StartSums(gemm.bias.data() + block.panel * kPanelChannels, panel.vectors);
  if (panel.vectors == 4) Accumulate4(gemm, w, block.patches[0]);
  if (panel.vectors == 2) Accumulate2(gemm, w, block.patches, block.tiles);
  if (panel.vectors == 1) Accumulate1(gemm, w, block.patches, block.tiles);
  _tile_stored(0, sums, 64);
  _tile_stored(1, sums + 256, 64);
  _tile_stored(2, sums + 512, 64);
  _tile_stored(3, sums + 768, 64);
}

// Sums go out one block late: while the tile unit works on the next.
class Pipeline {
 public:
  explicit Pipeline(uint8_t* scratch) : sums_(reinterpret_cast<int32_t*>(scratch)) {}
  void Run(const Block& block) {
    Multiply(block, sums_ + count_ % 2 * kSums);
    Flush();
    waiting_ = block;
    ++count_;
  }
  void Flush() {
    if (waiting_.task != nullptr) StoreBlock(waiting_, sums_ + (count_ + 1) % 2 * kSums);
    waiting_.task = nullptr;
  }

 private:
  int32_t* sums_;
  Block waiting_{};
  int count_ = 0;
};

// `tiles` tiles of `pixels` pixels, all panels.
void RunPixels(const GemmTask& task, int64_t first, int64_t tiles, int pixels) {
  const int64_t tile_bytes = kTilePixels * PaddedDepth(task.gemm->shape);
  Patches patches[kMostTiles];
  for (int64_t i = 0; i < tiles; ++i) {
    patches[i] = FindPatches(task, first + i * kTilePixels, pixels, task.scratch + kSumBytes + i * tile_bytes);
  }
  Pipeline pipeline(task.scratch);
  for (int64_t panel = task.first_panel; panel < task.last_panel; ++panel) {
    const int64_t together = 4 / task.gemm->panels[panel].vectors;
    for (int64_t i = 0; i < tiles; i += together) {
      pipeline.Run({&task, panel, patches + i, tiles - i < together ? tiles - i : together, pixels,
                    task.output_offset + first + i * kTilePixels});
    }
  }
  pipeline.Flush();
}

void RunGemm(const GemmTask& task) {
  const int64_t full = task.count / kTilePixels, rest = task.count % kTilePixels;
  const int64_t most = BlockTiles(task.gemm->shape);
  if (full > 0) {
    const TileConfig config(kTilePixels);
    _tile_loadconfig(&config);
    for (int64_t tile = 0; tile < full; tile += most) {
      RunPixels(task, tile * kTilePixels, full - tile < most ? full - tile : most, kTilePixels);
    }
  }
  if (rest > 0) {
    const TileConfig config(static_cast<int>(rest));
    _tile_loadconfig(&config);
    RunPixels(task, full * kTilePixels, 1, static_cast<int>(rest));
  }
  _tile_release();
}

// Measured: a tile of sums costs this much to start and to store, and this much for every 64 products.
double GemmCost(const GemmShape& s) {
  const double tiles = static_cast<double>(CeilDiv(s.pixels, kTilePixels) * CeilDiv(s.channels, 16));
  return tiles * (57.0 + 36.0 * static_cast<double>(PaddedDepth(s) / kDepth)) + 300;
}

}  // namespace

const GemmKernel gemm_amx_16x64c64 = {
    "gemm_amx_16x64c64", kAvx512Vnni | kAmxInt8, true, false, kTilePixels, GemmCost, ScratchBytes, PackGemm, RunGemm};

}  // namespace dbq

#endif  // defined(__x86_64__)
