// What operators with a kernel that moves over an image have in common: shapes, padding, borders.
#ifndef DBQ_OPS_WINDOW_H_
#define DBQ_OPS_WINDOW_H_

#include <vector>

#include "graph/graph.h"
#include "ops/op.h"

namespace dbq {

struct WindowGeometry {
  int64_t height = 0, width = 0;  // of the output
  int64_t top = 0, left = 0;      // pixels of padding before the image
  int64_t stride_h = 1, stride_w = 1;
  Border border;  // all padding that the kernel touches
  // First image row under the kernel.
  int64_t Top(int64_t output_row) const { return output_row * stride_h - top; }
};

// Of a convolution (its layer's params); a pad that became part of it counts.
Status MakeWindowGeometry(const std::vector<int>& shape, const Node& node, WindowGeometry* geometry);
Status InferWindow(const Graph& graph, const Node& node, std::vector<int>* shape);
Border WindowBorder(const Graph& graph, const Node& node);

// XNNPACK takes multipliers below 256 and no subnormal scales; packed operators have no such limits.
Status CheckLayer(const Graph& graph, const Node& node);

}  // namespace dbq

#endif  // DBQ_OPS_WINDOW_H_
