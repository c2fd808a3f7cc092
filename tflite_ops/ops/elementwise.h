// What operators on single codes have in common.
#ifndef DBQ_OPS_ELEMENTWISE_H_
#define DBQ_OPS_ELEMENTWISE_H_

#include <functional>
#include <vector>

#include "graph/graph.h"
#include "graph/plan.h"

namespace dbq {

// The least and largest stored code (int8 + 128) that the activation lets through.
struct StoredBounds {
  uint8_t low, high;
};
StoredBounds MakeStoredBounds(const Node& node, const Value& output);

Status InferSameShape(const Graph& graph, const Node& node, std::vector<int>* shape);

// One input has the output's shape; the other has it, too, or is one code, or one for every channel (of each image).
Status InferBroadcast(const Graph& graph, const Node& node, std::vector<int>* shape);

// Calls run(a, b, y, count) for rows of neighbouring codes, where `a` has the output's shape.
class BroadcastStep : public Step {
 public:
  using RunCodes = std::function<void(const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t count)>;

  BroadcastStep(const Image& a, const Image& b, const Image& y, RunCodes run);
  int64_t ScratchBytes() const override;
  void Run(const RunContext& context, int64_t begin, int64_t end) const override;

 private:
  void RepeatRow(int64_t image, uint8_t* scratch) const;

  Image a_, b_, y_;
  RunCodes run_;
};

// Whether the node's first input is the one that is repeated.
bool FirstIsRepeated(const Graph& graph, const Node& node);

// Operators that move codes need the same scale and zero point on both sides.
Status CheckSameScales(const Graph& graph, const Node& node);

}  // namespace dbq

#endif  // DBQ_OPS_ELEMENTWISE_H_
