// A part of a network as the delegate took it over: values, and nodes in an order in which they can run.
//
// Knows nothing of TFLite. A packed operator and its builtin twin are the same node.
#ifndef DBQ_GRAPH_GRAPH_H_
#define DBQ_GRAPH_GRAPH_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/layer.h"
#include "core/status.h"
#include "graph/image.h"

namespace dbq {

struct Operator;
struct PackedLayer;

// An int8 activation, a constant beside one, or float32 that only the runtime has: an input or output of the graph.
struct Value {
  std::vector<int> shape;
  float scale = 0;
  int32_t zero_point = 0;
  int tensor = -1;  // of the runtime
  bool is_float = false;
  std::vector<int8_t> constant;

  uint8_t StoredZeroPoint() const { return static_cast<uint8_t>(zero_point + 128); }
  int64_t Elements() const;
  int64_t TensorBytes() const { return Elements() * (is_float ? static_cast<int64_t>(sizeof(float)) : 1); }
};

// What operators without weights are told; each uses some.
struct Options {
  Activation activation = Activation::kNone;
  Padding padding = Padding::kValid;
  int kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1;
  bool keep_dims = false;
  bool align_corners = false, half_pixel_centers = false;
  float slope = 0;
  // Reshape: the shape; Pad: before and after of every axis; Resize: height and width; Table: the codes
  std::vector<int32_t> numbers;
};

// Ternary weights before they are put together: integers = p * b1, or p * b1 + q * b2.
struct Branches {
  int planes = 0;
  std::vector<int8_t> trits;    // [planes, weights]
  std::vector<uint8_t> scales;  // [planes, channels]
};

struct Node {
  const Operator* op = nullptr;
  std::string label;  // for messages: operator and output
  std::vector<int> inputs;
  int output = -1;
  Options options;

  // Of convolutions and fully connected layers.
  Layer layer;                              // without its integers: only kernels keep them
  std::function<Integers()> load;           // from the file
  std::function<Branches()> load_branches;  // of a packed operator
  Border padded;                            // zero points that a Pad before it would have added
  std::shared_ptr<PackedLayer> packed;      // kept from plan to plan
};

struct Graph {
  std::vector<Value> values;
  std::vector<Node> nodes;
  std::vector<int> inputs, outputs;

  int AddValue(const Value& value) {
    values.push_back(value);
    return static_cast<int>(values.size()) - 1;
  }
};

// Operators that together are a function of one code become one table.
void FoldFunctions(Graph* graph);

// Layers whose thresholds are those of a table become scaled sums and that table.
void SeparateTables(Graph* graph);

// Makes the graph smaller and gives every node the form that it can run: pads become part of the convolutions behind
// them, and a fully connected layer gets its input without a border.
void Simplify(Graph* graph);

}  // namespace dbq

#endif  // DBQ_GRAPH_GRAPH_H_
