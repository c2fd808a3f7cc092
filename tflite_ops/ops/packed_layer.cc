#include "ops/packed_layer.h"

#include <algorithm>
#include <cmath>

namespace dbq {
namespace {

struct ChannelSums {
  int32_t sum = 0, magnitudes = 0;
  int32_t largest = 0, nonzero = 0;  // magnitude, weights
};

// Neighbouring weights, so few that int16 holds their sums (twice as many fit a vector), and whole vectors of them.
constexpr int64_t kBlock = 240;

void CountBlock(const int8_t* w, int64_t count, ChannelSums* s) {
  int16_t sum = 0, largest = 0, nonzero = 0;
  uint16_t magnitudes = 0;
  for (int64_t k = 0; k < count; ++k) {
    const int16_t weight = w[k], magnitude = static_cast<int16_t>(weight < 0 ? -weight : weight);
    sum = static_cast<int16_t>(sum + weight);
    magnitudes = static_cast<uint16_t>(magnitudes + magnitude);
    largest = largest > magnitude ? largest : magnitude;
    nonzero = static_cast<int16_t>(nonzero + (weight != 0));
  }
  s->sum += sum, s->magnitudes += magnitudes, s->nonzero += nonzero;
  s->largest = std::max<int32_t>(s->largest, largest);
}

// Weights of many channels, one after the other, so that vectors are of channels; int32 holds the sums: a channel has
// at most kMaxDepth weights.
class ColumnSums {
 public:
  explicit ColumnSums(int64_t channels)
      : sum_(channels), magnitudes_(channels), largest_(channels), nonzero_(channels) {}

  void Add(const int8_t* w) {
    int32_t *sum = sum_.data(), *magnitudes = magnitudes_.data(), *largest = largest_.data(),
            *nonzero = nonzero_.data();
    const int64_t channels = static_cast<int64_t>(sum_.size());
    for (int64_t m = 0; m < channels; ++m) sum[m] += w[m];
    for (int64_t m = 0; m < channels; ++m) nonzero[m] += w[m] != 0;
    for (int64_t m = 0; m < channels; ++m) {
      const int32_t weight = w[m], magnitude = weight < 0 ? -weight : weight;
      magnitudes[m] += magnitude;
      largest[m] = largest[m] > magnitude ? largest[m] : magnitude;
    }
  }
  ChannelSums At(size_t m) const { return {sum_[m], magnitudes_[m], largest_[m], nonzero_[m]}; }

 private:
  std::vector<int32_t> sum_, magnitudes_, largest_, nonzero_;
};

// The channel is the slowest axis of OHWI and the fastest of 1HWM.
std::vector<ChannelSums> SumChannels(const Layer& layer, const std::vector<int8_t>& integers) {
  const int64_t channels = layer.params.out_channels, depth = layer.params.Depth(layer.kind);
  std::vector<ChannelSums> sums(channels);
  const int8_t* w = integers.data();
  if (layer.kind == OpKind::kDepthwiseConv2D) {
    ColumnSums columns(channels);
    for (int64_t k = 0; k < depth; ++k) columns.Add(w + k * channels);
    for (size_t m = 0; m < sums.size(); ++m) sums[m] = columns.At(m);
    return sums;
  }
  for (ChannelSums& sum : sums) {
    for (int64_t k = 0; k < depth; k += kBlock) CountBlock(w + k, std::min(kBlock, depth - k), &sum);
    w += depth;
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

namespace {

// One branch of an operator of ours: ternary without a look at the weights.
bool IsOneBranch(const Node& node) { return node.load_branches != nullptr && node.layer.params.branches == 1; }

// |acc * multiplier| < 2^31, where the weights of channel m add up to at most `magnitudes`.
bool IsBounded(const Layer& layer, int64_t m, double magnitudes) {
  if (layer.levels > 0) return true;  // nothing is scaled
  const double largest = std::abs(static_cast<double>(layer.bias[m])) + 255.0 * magnitudes;
  return largest * static_cast<double>(layer.multiplier[m]) < 2147483000.0;
}

// Whatever the weights are.
bool IsSurelyBounded(const Layer& layer) {
  for (int64_t m = 0; m < layer.params.out_channels; ++m) {
    if (!IsBounded(layer, m, 128.0 * static_cast<double>(layer.params.Depth(layer.kind)))) return false;
  }
  return true;
}

// Sums wrap around as the kernels' do: only the whole sum has to fit.
void SetBias(const Layer& layer, const std::vector<int32_t>& sums, StoredLayer* stored) {
  stored->bias.resize(sums.size());
  for (size_t m = 0; m < sums.size(); ++m) {
    const int64_t share = int64_t{sums[m]} * (layer.params.input_zero_point + 128);
    stored->bias[m] = static_cast<int32_t>(static_cast<uint32_t>(layer.bias[m] - share));
  }
}

}  // namespace

void LoadStored(const Node& node, StoredLayer* stored) {
  const Layer& layer = node.layer;
  Integers loaded = node.load();
  stored->integers = std::move(loaded.values);
  stored->stage = layer.stage;
  stored->stage.zero_point += 128;
  stored->bounded = true;
  if (IsOneBranch(node) && !loaded.sums.empty() &&
      IsSurelyBounded(layer)) {  // most layers: the rest would be a good part of a load
    stored->planes = 1;
    return SetBias(layer, loaded.sums, stored);
  }
  const std::vector<ChannelSums> sums = SumChannels(layer, stored->integers);
  stored->planes = IsTernary(sums) ? 1 : node.load_branches ? layer.params.branches : 0;
  std::vector<int32_t> totals;
  for (size_t m = 0; m < sums.size(); ++m) {
    totals.push_back(sums[m].sum);
    if (!IsBounded(layer, static_cast<int64_t>(m), sums[m].magnitudes)) stored->bounded = false;
  }
  SetBias(layer, totals, stored);
}

namespace {

// The magnitude of a channel's weights, of which all but zeros have the same; in a loop that becomes vectors.
uint8_t Magnitude(const int8_t* w, int64_t count) {
  uint8_t largest = 1;
  for (int64_t k = 0; k < count; ++k) {
    const uint8_t magnitude = static_cast<uint8_t>(w[k] < 0 ? -w[k] : w[k]);
    largest = largest > magnitude ? largest : magnitude;
  }
  return largest;
}

}  // namespace

// Of a layer that is no depthwise one: its channels are the slowest axis.
Branches LoadBranches(const Node& node, const StoredLayer& stored) {
  if (stored.planes > 1) return node.load_branches();
  Branches branches;
  branches.planes = 1;
  const size_t count = stored.integers.size(), channels = stored.bias.size();
  branches.trits.resize(count);
  const int8_t* w = stored.integers.data();
  for (size_t i = 0; i < count; ++i) branches.trits[i] = static_cast<int8_t>((w[i] > 0) - (w[i] < 0));
  const int64_t depth = static_cast<int64_t>(count / std::max<size_t>(channels, 1));
  for (size_t m = 0; m < channels; ++m) branches.scales.push_back(Magnitude(w + m * depth, depth));
  return branches;
}

}  // namespace dbq
