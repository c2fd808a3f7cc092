// Ternary weights as offsets into tables of signed sums (avx2_table_gemm.cc, neon_table_gemm.cc): their layout.
//
// int16 sums. A chunk is at most 256 weights t of codes s = u - 128 in -128 .. 127, so that the sum is in
// -32768 .. 32768, and 32768 needs 256 weights of -1: such a chunk is stored with its signs turned and a factor of -p.
#ifndef DBQ_ISA_TABLE_H_
#define DBQ_ISA_TABLE_H_

#include "isa/kernel.h"
#include "isa/panels.h"

namespace dbq {

#if defined(__x86_64__)
constexpr int kTablePixels = 16;     // a vector of int16
constexpr int64_t kBlockGroups = 8;  // whose tables fit a first-level cache of 32 KiB
constexpr int kUnroll = 1;           // groups at a time
#else
constexpr int kTablePixels = 8;
constexpr int64_t kBlockGroups = 16;
constexpr int kUnroll = 2;
#endif
constexpr int kOctet = 8;  // channels
constexpr int kGroup = 4;  // weights
constexpr int kTableRows = 81;
constexpr int kTableRowBytes = kTablePixels * 2;
constexpr int64_t kTableBytes = kTableRows * kTableRowBytes;
constexpr int64_t kChunkGroups = 64;
constexpr int64_t kIndexBytes = kOctet * 2;  // of an octet and a group
// Offsets of rows are put into the low bits of an address.
constexpr int64_t kTableAlignment = int64_t{1} << 15;
#if defined(__x86_64__)
constexpr int64_t kTableSlack = 0;  // bytes to find such an address; here the offset is added
#else
constexpr int64_t kTableSlack = kTableAlignment;
#endif
static_assert(kBlockGroups * kTableBytes <= kTableAlignment && kBlockGroups % kUnroll == 0, "offsets must fit");

// Offsets of rows: [panel of 64 channels][plane][block][octet][group of the block][8 channels], uint16.
// Factors: [panel][plane][chunk][64 channels].
void PackTable(const GemmWeights& weights, PackedGemm* packed);

namespace {

[[maybe_unused]] int64_t Groups(const GemmShape& s) { return s.segments * CeilDiv(s.length, kGroup); }
[[maybe_unused]] int64_t StoredGroups(const GemmShape& s) { return RoundUp(Groups(s), kUnroll); }
[[maybe_unused]] int64_t Chunks(const GemmShape& s) { return CeilDiv(Groups(s), kChunkGroups); }
[[maybe_unused]] int64_t Octets(const Panel& panel) { return CeilDiv(panel.channels, kOctet); }

[[maybe_unused]] int64_t GroupsOfBlock(int64_t groups, int64_t block) {
  const int64_t left = groups - block * kBlockGroups;
  return left < kBlockGroups ? left : kBlockGroups;
}

// Where the next group's codes are.
struct Position {
  int64_t segment = 0, step = 0;
};

struct Pixels {
  const uint8_t* x[kTablePixels];
};

// What a thread works with.
struct Scratch {
  int16_t *tables, *sums;  // [group of a block][81][pixels], [panel][plane][64][pixels]
  int32_t* totals;         // of earlier chunks: [channel][pixels, in the order of Widen]
};

[[maybe_unused]] int64_t PaddedChannels(const GemmShape& s) { return RoundUp(s.channels, kPanelChannels); }

// Without planes the kernel is not asked for, but its memory may be.
[[maybe_unused]] int64_t Planes(const GemmShape& s) { return s.planes > 1 ? s.planes : 1; }

[[maybe_unused]] int64_t SumLanes(const GemmShape& s) { return Planes(s) * PaddedChannels(s) * kTablePixels; }

[[maybe_unused]] int64_t ScratchBytes(const GemmShape& s) {
  const int64_t sums = SumLanes(s) * static_cast<int64_t>(sizeof(int16_t));
  const int64_t totals = PaddedChannels(s) * kTablePixels * static_cast<int64_t>(sizeof(int32_t));
  return kTableSlack + kBlockGroups * kTableBytes + sums + totals;
}

[[maybe_unused]] Scratch Cut(const GemmShape& s, uint8_t* bytes) {
  if (kTableSlack > 0) bytes += -reinterpret_cast<uintptr_t>(bytes) % kTableAlignment;
  auto* sums = reinterpret_cast<int16_t*>(bytes + kBlockGroups * kTableBytes);
  return {reinterpret_cast<int16_t*>(bytes), sums, reinterpret_cast<int32_t*>(sums + SumLanes(s))};
}

// A panel's channels after a chunk. Sums and factors of a plane lie behind those of the one before.
struct Lanes {
  const int16_t *sums, *factors;
  int64_t factors_plane;
  int32_t* totals;
  const int32_t* bias;
};

[[maybe_unused]] Lanes LanesOf(const PackedGemm& gemm, int64_t panel, int64_t chunk, const Scratch& scratch) {
  const int64_t m = panel * kPanelChannels, chunks = Chunks(gemm.shape), planes = Planes(gemm.shape);
  return {scratch.sums + m * planes * kTablePixels,
          gemm.factors.data() + (panel * planes * chunks + chunk) * kPanelChannels, chunks * kPanelChannels,
          scratch.totals + m * kTablePixels, gemm.bias.data() + m};
}

}  // namespace
}  // namespace dbq

#endif  // DBQ_ISA_TABLE_H_
