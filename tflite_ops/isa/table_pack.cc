// Ternary weights -> offsets into tables of signed sums.
#include "isa/table.h"

namespace dbq {
namespace {

// The trits of one channel, each segment filled up with zeros.
void FillUp(const int8_t* from, const GemmShape& s, int8_t* to) {
  const int64_t padded = RoundUp(s.length, kGroup);
  for (int64_t segment = 0; segment < s.segments; ++segment, from += s.length, to += padded) {
    for (int64_t k = 0; k < padded; ++k) to[k] = k < s.length ? from[k] : int8_t{0};
  }
}

// Turns the signs of a chunk of 256 times -1; its factor's sign.
int Turn(int8_t* trits, int64_t count) {
  if (count < kChunkGroups * kGroup) return 1;
  for (int64_t k = 0; k < count; ++k) {
    if (trits[k] != -1) return 1;
  }
  for (int64_t k = 0; k < count; ++k) trits[k] = 1;
  return -1;
}

// [chunk][64 channels]
void PackFactors(int8_t* trits, int64_t groups, int scale, int16_t* factors) {
  for (int64_t first = 0; first < groups; first += kChunkGroups, factors += kPanelChannels) {
    const int64_t left = groups - first, count = left < kChunkGroups ? left : kChunkGroups;
    *factors = static_cast<int16_t>(Turn(trits + first * kGroup, count * kGroup) * scale);
  }
}

uint16_t RowOffset(const int8_t* trits, int64_t group) {
  int row = 0;
  for (int i = 0; i < kGroup; ++i) row = row * 3 + trits[i] + 1;
  return static_cast<uint16_t>(group * kTableBytes + row * kTableRowBytes);
}

// A group behind the last adds the first table's row of zeros.
void PackOffsets(const int8_t* trits, int64_t groups, int64_t octets, int lane, uint16_t* to) {
  constexpr int8_t kZeros[kGroup] = {};
  for (int64_t block = 0; block * kBlockGroups < groups; ++block) {
    const int64_t used = GroupsOfBlock(groups, block), count = RoundUp(used, kUnroll);
    for (int64_t i = 0; i < count; ++i, trits += kGroup) {
      to[(lane / kOctet * count + i) * kOctet + lane % kOctet] = i < used ? RowOffset(trits, i) : RowOffset(kZeros, 0);
    }
    to += octets * count * kOctet;
  }
}

void MakePanels(const GemmWeights& weights, PackedGemm* packed) {
  const GemmShape& s = packed->shape;
  int64_t offset = 0;
  packed->panels.clear();
  for (int64_t m = 0; m < s.channels; m += kPanelChannels) {
    const int64_t left = s.channels - m;
    packed->panels.push_back({m, offset, static_cast<int>(left < kPanelChannels ? left : kPanelChannels), 4});
    offset += s.planes * Octets(packed->panels.back()) * StoredGroups(s) * kIndexBytes;
  }
  const int64_t panels = static_cast<int64_t>(packed->panels.size());
  packed->weights = Buffer<int8_t>(offset);
  MakeLanes(weights, panels, packed);
  packed->factors = Buffer<int16_t>(panels * kPanelChannels * s.planes * Chunks(s));
}

// One plane of one channel.
void PackPlane(const GemmWeights& weights, int64_t m, int64_t plane, int8_t* trits, PackedGemm* packed) {
  const GemmShape& s = packed->shape;
  const int64_t groups = Groups(s), index = m / kPanelChannels, lane = m % kPanelChannels;
  const Panel& panel = packed->panels[index];
  const int64_t from = plane * s.channels + m;
  FillUp(weights.trits + from * s.Depth(), s, trits);
  PackFactors(trits, groups, weights.scales[from],
              packed->factors.data() + (index * s.planes + plane) * Chunks(s) * kPanelChannels + lane);
  const int64_t offset = panel.weights_offset + plane * Octets(panel) * StoredGroups(s) * kIndexBytes;
  PackOffsets(trits, groups, Octets(panel), static_cast<int>(lane),
              reinterpret_cast<uint16_t*>(packed->weights.data() + offset));
}

// Codes are signed here: 128 times the sum of the weights comes back in. Sums wrap around as the kernels' do.
int32_t SignedBias(const GemmWeights& weights, int64_t m) {
  uint32_t sum = 0;
  const int8_t* w = weights.integers + m * weights.shape.Depth();
  for (int64_t k = 0; k < weights.shape.Depth(); ++k) sum += static_cast<uint32_t>(int32_t{w[k]});
  return static_cast<int32_t>(static_cast<uint32_t>(weights.bias[m]) + sum * 128u);
}

}  // namespace

void PackTable(const GemmWeights& weights, PackedGemm* packed) {
  const GemmShape& s = packed->shape = weights.shape;
  packed->steps = CeilDiv(s.length, kGroup);
  packed->stage = weights.stage;
  MakePanels(weights, packed);
  Buffer<int8_t> trits(Groups(s) * kGroup);
  for (int64_t m = 0; m < s.channels; ++m) {
    const int lane = static_cast<int>(m % kPanelChannels);
    SetLane(weights, m, SignedBias(weights, m), m / kPanelChannels, lane, packed);
    for (int64_t plane = 0; plane < s.planes; ++plane) PackPlane(weights, m, plane, trits.data(), packed);
  }
}

}  // namespace dbq
