// One operator of the graph: the shape of its output, the borders that it wants, and its way into the plan.
#ifndef DBQ_OPS_OP_H_
#define DBQ_OPS_OP_H_

#include <memory>
#include <vector>

#include "graph/graph.h"
#include "graph/image.h"
#include "graph/plan.h"
#include "isa/select.h"

namespace dbq {

// What a node is lowered with: its values have memory by now.
struct Lowering {
  const Graph* graph;
  const std::vector<Image>* images;  // one for every value
  Features features;
  const CodeKernels* codes;
  Plan* plan;

  const Value& value(int index) const { return graph->values[index]; }
  const Image& image(int index) const { return (*images)[index]; }
  // The output, with its border filled by the first unit of the step.
  void Add(const Node& node, std::unique_ptr<Step> step) const;
  // Without an output in the arena.
  void AddEnd(std::unique_ptr<Step> step) const;
};

struct Operator {
  const char* name;
  // Why the arithmetic is not the one that is pinned; ok when it is. Scales, zero points and options, not shapes.
  Status (*check)(const Graph& graph, const Node& node);
  // Shape of the output from the shapes of the inputs.
  Status (*infer)(const Graph& graph, const Node& node, std::vector<int>* shape);
  // Border that input number 0 needs; null: none.
  Border (*border)(const Graph& graph, const Node& node);
  Status (*lower)(const Lowering& lowering, Node* node);
};

extern const Operator kConvolution, kDepthwise, kFullyConnected, kRepeat;
extern const Operator kAdd, kMul, kMean, kAveragePool, kMaxPool, kPad, kConcatenation, kReshape;
extern const Operator kLogistic, kTanh, kQuantize, kLeakyRelu, kRelu, kHardSwish, kTable;
extern const Operator kResizeBilinear, kResizeNearest;
extern const Operator kQuantizeFloat, kDequantize;  // from and to tensors of the runtime

// Output rows first .. last - 1 are one unit each of a step; an operator on rows says what to do with one.
template <typename RunRow>
class RowStep : public Step {
 public:
  RowStep(int64_t rows, double cost, RunRow run) : Step(rows, cost), run_(run) {}
  void Run(const RunContext&, int64_t begin, int64_t end) const override {
    for (int64_t row = begin; row < end; ++row) run_(row);
  }

 private:
  RunRow run_;
};

// A step that calls run(row) for every row of an image; `cost` is its estimated time in cycles.
template <typename RunRow>
std::unique_ptr<Step> MakeRowStep(int64_t rows, double cost, RunRow run) {
  return std::make_unique<RowStep<RunRow>>(rows, cost, run);
}

}  // namespace dbq

#endif  // DBQ_OPS_OP_H_
