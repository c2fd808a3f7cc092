// Thresholds that are those of a table behind scaled sums, as those of our packer are, run as these two again: every
// code stays. A table is looked up for 64 codes at a time; counting compares 16 sums with each threshold. Measured:
// docs/packing.md, "What counts thresholds".
#include <algorithm>

#include "core/requantize.h"
#include "graph/graph.h"
#include "ops/op.h"

namespace dbq {
namespace {

constexpr int kCodes = 256;

// The least code of a sum that takes a step, if all channels agree on one: it lies above the codes of all sums that do
// not take it. False where there is none.
bool FindStep(const Layer& layer, const OutputStage& stage, const int32_t* thresholds, int* step) {
  int first = -128, last = 128;
  for (size_t m = 0; m < layer.multiplier.size(); ++m) {
    const int32_t t = thresholds[m];
    if (t != INT32_MIN) first = std::max(first, Requantize(t - 1, layer.multiplier[m], stage) + 1);
    if (t != INT32_MAX) last = std::min(last, Requantize(t, layer.multiplier[m], stage));
  }
  *step = last;
  return first <= last;
}

// By the code modulo 256; empty where there is no such table.
std::vector<int32_t> TableOf(const Layer& layer, const OutputStage& stage) {
  std::vector<int32_t> table(kCodes, layer.stage.zero_point);
  for (int i = 0; i < layer.levels; ++i) {
    int step;
    const int64_t row = i * static_cast<int64_t>(layer.multiplier.size());
    if (!FindStep(layer, stage, layer.thresholds.data() + row, &step)) return {};
    for (int code = step; code < kCodes / 2; ++code) ++table[code & (kCodes - 1)];
  }
  return table;
}

bool Counts(const Node& node) { return node.layer.levels > 0; }

// Makes a node that counts one that scales; the table behind it, without codes where there is none.
Node TakeTable(Graph* graph, Node* node) {
  Layer& layer = node->layer;
  const LayerParams& p = layer.params;
  const OutputStage stage = MakeOutputStage(p.activation, layer.output_scale, p.output_zero_point);
  Node table;
  table.options.numbers = TableOf(layer, stage);
  if (table.options.numbers.empty()) return table;
  table.op = &kTable;
  table.label = node->label;
  table.output = node->output;
  Value scaled = graph->values[node->output];
  scaled.scale = layer.output_scale, scaled.zero_point = p.output_zero_point, scaled.tensor = -1;
  node->output = graph->AddValue(scaled);
  table.inputs = {node->output};
  layer.levels = 0, layer.stage = stage;
  layer.thresholds.clear();
  return table;
}

}  // namespace

void SeparateTables(Graph* graph) {
  if (std::none_of(graph->nodes.begin(), graph->nodes.end(), Counts)) return;
  std::vector<Node> nodes;
  for (Node& node : graph->nodes) {
    Node table = Counts(node) ? TakeTable(graph, &node) : Node();
    nodes.push_back(std::move(node));
    if (table.op != nullptr) nodes.push_back(std::move(table));
  }
  graph->nodes = std::move(nodes);
}

}  // namespace dbq
