// Operators that together are a function of one code become a table: x * sigmoid(x), or x * relu6(x + 3) / 6 written
// with additions and multiplications. The table is what they compute for all 256 codes, so it is exact.
#include <algorithm>
#include <map>

#include "graph/graph.h"
#include "graph/plan.h"
#include "ops/op.h"

namespace dbq {
namespace {

constexpr int kCodes = 256;

bool IsFoldable(const Node& node) {
  constexpr const Operator* kFunctions[] = {&kLogistic,  &kTanh,  &kQuantize, &kLeakyRelu, &kRelu,
                                            &kHardSwish, &kTable, &kAdd,      &kMul};
  return std::find(std::begin(kFunctions), std::end(kFunctions), node.op) != std::end(kFunctions);
}

bool IsNumber(const Value& value) { return !value.constant.empty() && value.Elements() == 1; }

class Folder {
 public:
  explicit Folder(Graph* graph) : graph_(graph), root_(graph->values.size()), writer_(graph->values.size(), -1) {}

  void Run() {
    FindRoots();
    for (size_t i = 0; i < graph_->nodes.size(); ++i) {
      std::vector<int> group;
      if (IsNeeded(graph_->nodes[i].output)) Collect(static_cast<int>(i), &group);
      if (group.size() > 1) Fold(static_cast<int>(i), group);
    }
    RemoveUnused();
  }

 private:
  void FindRoots() {
    for (size_t i = 0; i < root_.size(); ++i) root_[i] = static_cast<int>(i);
    for (size_t i = 0; i < graph_->nodes.size(); ++i) {
      const Node& node = graph_->nodes[i];
      writer_[node.output] = static_cast<int>(i);
      const int root = IsFoldable(node) ? CommonRoot(node) : -1;
      if (root >= 0) root_[node.output] = root;
    }
  }

  // The value of whose codes all inputs are functions; -1 where there is no such one.
  int CommonRoot(const Node& node) const {
    int root = -1;
    for (int input : node.inputs) {
      if (IsNumber(graph_->values[input])) continue;
      if (root >= 0 && root_[input] != root) return -1;
      root = root_[input];
    }
    return root;
  }

  // A function that something else than a larger function of the same codes reads.
  bool IsNeeded(int value) const {
    if (root_[value] == value) return false;
    const std::vector<int>& outputs = graph_->outputs;
    if (std::find(outputs.begin(), outputs.end(), value) != outputs.end()) return true;
    return std::any_of(graph_->nodes.begin(), graph_->nodes.end(), [&](const Node& node) {
      const bool reads = std::find(node.inputs.begin(), node.inputs.end(), value) != node.inputs.end();
      return reads && root_[node.output] != root_[value];
    });
  }

  // The nodes between a function and its codes, in their order.
  void Collect(int node, std::vector<int>* group) const {
    if (std::find(group->begin(), group->end(), node) != group->end()) return;
    for (int input : graph_->nodes[node].inputs) {
      if (root_[input] != input) Collect(writer_[input], group);
    }
    group->push_back(node);
  }

  void Fold(int index, const std::vector<int>& group) {
    Node& node = graph_->nodes[index];
    std::vector<int32_t> codes = Evaluate(group);
    if (codes.empty()) return;
    node.op = &kTable;
    node.inputs = {root_[node.output]};
    node.options = Options{};
    node.options.numbers = std::move(codes);
  }

  // By the code modulo 256; empty where the nodes cannot run by themselves.
  std::vector<int32_t> Evaluate(const std::vector<int>& group) const {
    Graph small;
    std::map<int, int> known;
    const auto copy = [&](int value) {
      if (known.count(value) > 0) return known[value];
      Value copied = graph_->values[value];
      if (copied.constant.empty()) copied.shape = {kCodes};
      return known[value] = small.AddValue(copied);
    };
    const int root = root_[graph_->nodes[group.back()].output];
    small.inputs = {copy(root)};
    for (int index : group) {
      const Node& node = graph_->nodes[index];
      Node copied;
      copied.op = node.op, copied.label = node.label, copied.options = node.options;
      for (int input : node.inputs) copied.inputs.push_back(copy(input));
      copied.output = copy(node.output);
      small.nodes.push_back(std::move(copied));
    }
    small.outputs = {small.nodes.back().output};
    return AllCodes(&small);
  }

  static std::vector<int32_t> AllCodes(Graph* small) {
    std::unique_ptr<Plan> plan;
    if (!Compile(small, kScalar, 1, &plan).ok()) return {};
    int8_t x[kCodes], y[kCodes];
    for (int i = 0; i < kCodes; ++i) x[i] = static_cast<int8_t>(i);
    const void* inputs[] = {x};
    void* outputs[] = {y};
    plan->Run(inputs, outputs, nullptr);
    return std::vector<int32_t>(y, y + kCodes);
  }

  // From the end: what only an unused node reads is unused, too.
  void RemoveUnused() {
    std::vector<bool> used(graph_->values.size());
    for (int output : graph_->outputs) used[output] = true;
    std::vector<Node> kept;
    for (size_t i = graph_->nodes.size(); i-- > 0;) {
      Node& node = graph_->nodes[i];
      if (!used[node.output]) continue;
      for (int input : node.inputs) used[input] = true;
      kept.push_back(std::move(node));
    }
    std::reverse(kept.begin(), kept.end());
    graph_->nodes = std::move(kept);
  }

  Graph* graph_;
  std::vector<int> root_;    // of every value: that of whose codes it is a function, or itself
  std::vector<int> writer_;  // node, or -1
};

}  // namespace

void FoldFunctions(Graph* graph) { Folder(graph).Run(); }

}  // namespace dbq
