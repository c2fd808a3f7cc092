// What operators on single codes have in common.
#ifndef DBQ_OPS_ELEMENTWISE_H_
#define DBQ_OPS_ELEMENTWISE_H_

#include <vector>

#include "graph/graph.h"

namespace dbq {

// The least and largest stored code (int8 + 128) that the activation lets through.
struct StoredBounds {
  uint8_t low, high;
};
StoredBounds MakeStoredBounds(const Node& node, const Value& output);

// All inputs have one shape, and the output has it, too.
Status InferSameShape(const Graph& graph, const Node& node, std::vector<int>* shape);

// Operators that move codes need the same scale and zero point on both sides.
Status CheckSameScales(const Graph& graph, const Node& node);

}  // namespace dbq

#endif  // DBQ_OPS_ELEMENTWISE_H_
