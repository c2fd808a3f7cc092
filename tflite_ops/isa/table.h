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

}  // namespace
}  // namespace dbq

#endif  // DBQ_ISA_TABLE_H_
