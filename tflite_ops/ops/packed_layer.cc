#include "ops/packed_layer.h"

#include <algorithm>
#include <cmath>

namespace dbq {
namespace {

struct ChannelSums {
  int32_t sum = 0, magnitudes = 0;
  int32_t largest = 0, nonzero = 0;  // magnitude, weights
};

// int32 holds them: a channel has at most kMaxDepth weights.
ChannelSums SumChannel(const int8_t* w, int64_t count, int64_t stride) {
  ChannelSums s;
  for (int64_t k = 0; k < count; ++k) {
    const int32_t weight = w[k * stride], magnitude = weight < 0 ? -weight : weight;
    s.sum += weight;
    s.magnitudes += magnitude;
    s.largest = s.largest > magnitude ? s.largest : magnitude;
    s.nonzero += weight != 0;
  }
  return s;
}

// The channel is the slowest axis of OHWI and the fastest of 1HWM.
std::vector<ChannelSums> SumChannels(const Layer& layer, const std::vector<int8_t>& integers) {
  const int64_t channels = layer.params.out_channels, depth = layer.params.Depth(layer.kind);
  const bool channel_last = layer.kind == OpKind::kDepthwiseConv2D;
  std::vector<ChannelSums> sums(channels);
  for (int64_t m = 0; m < channels; ++m) {
    sums[m] = channel_last ? SumChannel(integers.data() + m, depth, channels)
                           : SumChannel(integers.data() + m * depth, depth, 1);
  }
  return sums;
}

// One magnitude in every channel, whoever wrote the weights: only equal ones add up to this.
bool IsTernary(const std::vector<ChannelSums>& sums) {
  return std::all_of(sums.begin(), sums.end(), [](const ChannelSums& s) {
    return s.magnitudes == int64_t{s.largest} * s.nonzero && s.largest <= 127;
  });
}

}  // namespace

// Sums wrap around as the kernels' do: only the whole sum has to fit.
void LoadStored(Node* node, StoredLayer* stored) {
  const Layer& layer = node->layer;
  // Decoded with the checks at first; from then on only kernels keep them.
  stored->integers = layer.integers.empty() ? node->load() : std::move(node->layer.integers);
  node->layer.integers.clear();
  stored->stage = layer.stage;
  stored->stage.zero_point += 128;
  stored->bounded = true;
  const std::vector<ChannelSums> sums = SumChannels(layer, stored->integers);
  stored->planes = IsTernary(sums) ? 1 : node->load_branches ? layer.params.branches : 0;
  for (size_t m = 0; m < sums.size(); ++m) {
    const int64_t share = int64_t{sums[m].sum} * (layer.params.input_zero_point + 128);
    stored->bias.push_back(static_cast<int32_t>(static_cast<uint32_t>(layer.bias[m] - share)));
    const double largest =
        std::abs(static_cast<double>(layer.bias[m])) + 255.0 * static_cast<double>(sums[m].magnitudes);
    if (!(largest * static_cast<double>(layer.multiplier[m]) < 2147483000.0)) stored->bounded = false;
  }
}

Branches LoadBranches(const Node& node, const StoredLayer& stored) {
  if (stored.planes > 1) return node.load_branches();
  Branches branches;
  branches.planes = 1;
  for (int8_t w : stored.integers) branches.trits.push_back(static_cast<int8_t>((w > 0) - (w < 0)));
  for (const ChannelSums& s : SumChannels(node.layer, stored.integers)) {
    branches.scales.push_back(static_cast<uint8_t>(std::max(s.largest, 1)));
  }
  return branches;
}

}  // namespace dbq
