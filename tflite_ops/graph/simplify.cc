#include <algorithm>

#include "graph/graph.h"
#include "ops/op.h"

namespace dbq {
namespace {

constexpr int kRank = 4;

int64_t Uses(const Graph& graph, int value) {
  int64_t uses = std::count(graph.outputs.begin(), graph.outputs.end(), value);
  for (const Node& node : graph.nodes) uses += std::count(node.inputs.begin(), node.inputs.end(), value);
  return uses;
}

bool IsWindowed(const Node& node) { return node.op == &kConvolution || node.op == &kDepthwise; }

// Before and after of every axis; only height and width may be padded.
bool PadsImage(const Node& node) {
  const std::vector<int32_t>& n = node.options.numbers;
  return node.op == &kPad && n.size() == 2 * kRank && n[0] + n[1] + n[6] + n[7] == 0;
}

// A pad adds zero points, and so does the border of a convolution.
void FusePads(Graph* graph) {
  for (Node& node : graph->nodes) {
    if (!IsWindowed(node) || node.layer.params.padding != Padding::kValid) continue;
    const auto pad = std::find_if(graph->nodes.begin(), graph->nodes.end(),
                                  [&](const Node& other) { return other.output == node.inputs[0]; });
    if (pad == graph->nodes.end() || !PadsImage(*pad) || Uses(*graph, pad->output) != 1) continue;
    const std::vector<int32_t>& n = pad->options.numbers;
    node.padded = {n[2], n[4], n[3], n[5]};
    node.inputs[0] = pad->inputs[0];
    pad->output = -1;
  }
  const auto unused = [](const Node& node) { return node.output < 0; };
  graph->nodes.erase(std::remove_if(graph->nodes.begin(), graph->nodes.end(), unused), graph->nodes.end());
}

// A fully connected layer reads its input as one vector: without a border, so not what a convolution reads, too.
void SeparateVectors(Graph* graph) {
  std::vector<bool> windowed(graph->values.size());
  for (const Node& node : graph->nodes) {
    if (IsWindowed(node)) windowed[node.inputs[0]] = true;
  }
  const auto reads_image = [&](const Node& node) { return node.op == &kFullyConnected && windowed[node.inputs[0]]; };
  if (std::none_of(graph->nodes.begin(), graph->nodes.end(), reads_image)) return;
  std::vector<Node> nodes;
  for (Node& node : graph->nodes) {
    if (reads_image(node)) {
      Node copy;
      copy.op = &kReshape;
      copy.label = node.label;
      copy.inputs = node.inputs;
      copy.output = graph->AddValue(Value(graph->values[node.inputs[0]]));
      node.inputs[0] = copy.output;
      nodes.push_back(std::move(copy));
    }
    nodes.push_back(std::move(node));
  }
  graph->nodes = std::move(nodes);
}

// A depthwise kernel has as many channels in as out: those of the input are repeated before it.
void RepeatChannels(Graph* graph) {
  const auto repeats = [](const Node& node) {
    return node.op == &kDepthwise && node.layer.params.depth_multiplier > 1;
  };
  if (std::none_of(graph->nodes.begin(), graph->nodes.end(), repeats)) return;
  std::vector<Node> nodes;
  for (Node& node : graph->nodes) {
    LayerParams& p = node.layer.params;
    if (repeats(node)) {
      Node repeat;
      repeat.op = &kRepeat;
      repeat.label = node.label;
      repeat.inputs = node.inputs;
      repeat.output = graph->AddValue(Value(graph->values[node.inputs[0]]));
      repeat.options.numbers = {p.depth_multiplier};
      node.inputs[0] = repeat.output;
      p.in_channels = p.out_channels, p.depth_multiplier = 1;
      nodes.push_back(std::move(repeat));
    }
    nodes.push_back(std::move(node));
  }
  graph->nodes = std::move(nodes);
}

}  // namespace

int64_t Value::Elements() const {
  int64_t count = 1;
  for (int size : shape) {
    if (size < 0) return -1;
    count *= size;  // both factors are below 2^31
    if (count > INT64_C(2147483647)) return -1;
  }
  return count;
}

void Simplify(Graph* graph) {
  SeparateTables(graph);
  FoldFunctions(graph);
  FusePads(graph);
  SeparateVectors(graph);
  RepeatChannels(graph);
}

}  // namespace dbq
