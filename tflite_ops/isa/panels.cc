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

// How the weights of a channel lie in a panel. Divided once: for small layers that is a good part of the packing.
struct ChannelLayout {
  CopyFunction copy;
  int64_t segments, length, whole, rest;  // of a segment: steps, and weights of the last, short one
  int64_t depth_step, steps;

  ChannelLayout(const PackedGemm& packed, int step)
      : copy(CopyFor(step)),
        segments(packed.shape.segments),
        length(packed.shape.length),
        whole(length / step),
        rest(length % step),
        depth_step(step),
        steps(packed.steps) {}

  // One channel into its lane; `to` is the panel.
  void Pack(const int8_t* integers, int lane, int lanes, int8_t* to) const {
    const int64_t stride = lanes * depth_step;
    to += lane * depth_step;
    for (int64_t s = 0; s < segments; ++s, integers += length, to += steps * stride) {
      copy(integers, whole, stride, to);
      if (rest > 0) std::memcpy(to + whole * stride, integers + length - rest, rest);
    }
  }
};

// The lanes of a panel's channels.
struct Lanes {
  int lane[kPanelChannels];
  Lanes(LaneOrder order, int vectors) {
    for (int c = 0; c < vectors * kVectorChannels; ++c) lane[c] = order == nullptr ? c : order(c, vectors);
  }
};

}  // namespace

void PackPanels(const GemmWeights& weights, int depth_step, int segment_step, int panel_channels, LaneOrder order,
                PackedGemm* packed) {
  packed->shape = weights.shape;
  packed->steps = RoundUp(weights.shape.length, segment_step) / depth_step;
  packed->stage = weights.stage;
  packed->panels.clear();
  MakePanels(panel_channels, packed, weights.shape.segments * packed->steps * depth_step);
  const int64_t panels = static_cast<int64_t>(packed->panels.size()), depth = weights.shape.Depth();
  MakeLanes(weights, panels, packed);
  const ChannelLayout layout(*packed, depth_step);
  for (int64_t i = 0; i < panels; ++i) {
    const Panel& panel = packed->panels[i];
    const Lanes lanes(order, panel.vectors);
    const int64_t first = panel.first_channel;
    int8_t* to = packed->weights.data() + panel.weights_offset;
    for (int c = 0; c < panel.channels; ++c) {
      const int lane = lanes.lane[c];
      SetLane(weights, first + c, weights.bias[first + c], i, lane, packed);
      layout.Pack(weights.integers + (first + c) * depth, lane, panel.vectors * kVectorChannels, to);
    }
  }
}

void MakeLanes(const GemmWeights& weights, int64_t panels, PackedGemm* packed) {
  packed->bias = Buffer<int32_t>(panels * kPanelChannels);
  packed->multiplier = Buffer<float>(panels * kPanelChannels);
  packed->levels = weights.levels;
  packed->thresholds = Buffer<int32_t>(panels * weights.levels * kPanelChannels);
}

void SetLane(const GemmWeights& weights, int64_t m, int32_t bias, int64_t panel, int lane, PackedGemm* packed) {
  const int64_t at = panel * kPanelChannels + lane;
  packed->bias[at] = bias;
  packed->multiplier[at] = weights.multiplier[m];
  for (int64_t i = 0; i < weights.levels; ++i) {
    packed->thresholds[(panel * weights.levels + i) * kPanelChannels + lane] =
        weights.thresholds[i * weights.thresholds_row + m];
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
