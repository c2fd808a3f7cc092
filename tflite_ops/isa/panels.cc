#include "isa/panels.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace dbq {
namespace {

// 1, 2 or 4 vectors of 16 channels.
int VectorsFor(int64_t channels) { return channels > 32 ? 4 : channels > 16 ? 2 : 1; }

void MakePanels(int panel_channels, PackedGemm* packed, int64_t depth_bytes) {
  int64_t offset = 0;
  for (int64_t m = 0; m < packed->shape.channels; m += panel_channels) {
    const int channels = static_cast<int>(std::min<int64_t>(panel_channels, packed->shape.channels - m));
    packed->panels.push_back({m, offset, channels, VectorsFor(channels)});
    offset += depth_bytes * packed->panels.back().vectors * kVectorChannels;
  }
  packed->weights = Buffer<int8_t>(offset);
}

// Whole steps of a segment, each `stride` bytes behind the last.
template <int64_t depth_step>
void CopySteps(const int8_t* from, int64_t steps, int64_t stride, int8_t* to) {
  for (int64_t i = 0; i < steps; ++i) std::memcpy(to + i * stride, from + i * depth_step, depth_step);
}

using CopyFunction = void (*)(const int8_t* from, int64_t steps, int64_t stride, int8_t* to);

// The depth steps that kernels have.
CopyFunction CopyFor(int depth_step) {
  switch (depth_step) {
    case 1:
      return CopySteps<1>;
    case 2:
      return CopySteps<2>;
    case 4:
      return CopySteps<4>;
    case 8:
      return CopySteps<8>;
    default:
      return CopySteps<16>;
  }
}

// One channel into its lane; `to` is the panel. The last step of a segment may be short.
void PackChannel(const int8_t* integers, const PackedGemm& packed, int depth_step, int lane, int lanes, int8_t* to) {
  const CopyFunction copy = CopyFor(depth_step);
  const int64_t length = packed.shape.length, whole = length / depth_step, rest = length % depth_step;
  const int64_t stride = int64_t{lanes} * depth_step;
  to += lane * depth_step;
  for (int64_t s = 0; s < packed.shape.segments; ++s, integers += length, to += packed.steps * stride) {
    copy(integers, whole, stride, to);
    if (rest > 0) std::memcpy(to + whole * stride, integers + length - rest, rest);
  }
}

}  // namespace

void PackPanels(const GemmWeights& weights, int depth_step, int segment_step, int panel_channels, LaneOrder order,
                PackedGemm* packed) {
  packed->shape = weights.shape;
  packed->steps = RoundUp(weights.shape.length, segment_step) / depth_step;
  packed->stage = weights.stage;
  packed->panels.clear();
  MakePanels(panel_channels, packed, weights.shape.segments * packed->steps * depth_step);
  const int64_t panels = static_cast<int64_t>(packed->panels.size());
  packed->bias = Buffer<int32_t>(panels * kPanelChannels);
  packed->multiplier = Buffer<float>(panels * kPanelChannels);
  for (int64_t i = 0; i < panels; ++i) {
    const Panel& panel = packed->panels[i];
    for (int c = 0; c < panel.channels; ++c) {
      const int64_t m = panel.first_channel + c;
      const int lane = order == nullptr ? c : order(c, panel.vectors);
      packed->bias[i * kPanelChannels + lane] = weights.bias[m];
      packed->multiplier[i * kPanelChannels + lane] = weights.multiplier[m];
      PackChannel(weights.integers + m * weights.shape.Depth(), *packed, depth_step, lane,
                  panel.vectors * kVectorChannels, packed->weights.data() + panel.weights_offset);
    }
  }
}

void CopyDepthwise(const DepthwiseWeights& weights, PackedDepthwise* packed) {
  const int64_t channels = weights.shape.channels, count = weights.shape.Taps() * channels;
  packed->shape = weights.shape;
  packed->stage = weights.stage;
  packed->weights = Buffer<int8_t>(count);
  packed->bias = Buffer<int32_t>(channels);
  packed->multiplier = Buffer<float>(channels);
  std::copy_n(weights.integers, count, packed->weights.data());
  std::copy_n(weights.bias, channels, packed->bias.data());
  std::copy_n(weights.multiplier, channels, packed->multiplier.data());
}

int64_t RowBlocks(int64_t channels, int bytes, bool narrow) {
  return narrow ? channels / std::gcd(channels, int64_t{bytes}) : CeilDiv(channels, bytes);
}

int64_t RowChannel(int64_t channels, int bytes, bool narrow, int64_t block, int i) {
  const int64_t position = block * bytes + i;
  if (narrow) return position % channels;
  return position < channels ? position : -1;
}

}  // namespace dbq
