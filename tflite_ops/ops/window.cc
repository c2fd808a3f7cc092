#include "ops/window.h"

#include <algorithm>
#include <cmath>

#include "core/geometry.h"

namespace dbq {
namespace {

// Padding behind the image that the last position of the kernel touches.
int64_t Behind(int64_t output, int64_t stride, int64_t kernel, int64_t dilation, int64_t before, int64_t input) {
  return std::max<int64_t>(0, (output - 1) * stride + (kernel - 1) * dilation + 1 - before - input);
}

}  // namespace

Status MakeWindowGeometry(const std::vector<int>& shape, const Node& node, WindowGeometry* g) {
  if (shape.size() != 4) return Status::Error("input must have rank 4 (NHWC), got rank %zu", shape.size());
  const LayerParams& p = node.layer.params;
  const ImageShape padded{shape[0], static_cast<int>(shape[1] + node.padded.top + node.padded.bottom),
                          static_cast<int>(shape[2] + node.padded.left + node.padded.right), shape[3]};
  ConvGeometry conv;
  DBQ_RETURN_IF_ERROR(MakeConvGeometry(p, padded, &conv));
  g->height = conv.output.height, g->width = conv.output.width;
  g->top = conv.pad_top + node.padded.top, g->left = conv.pad_left + node.padded.left;
  g->stride_h = p.stride_h, g->stride_w = p.stride_w;
  g->border = {g->top, g->left, Behind(g->height, p.stride_h, p.kernel_h, p.dilation_h, g->top, shape[1]),
               Behind(g->width, p.stride_w, p.kernel_w, p.dilation_w, g->left, shape[2])};
  return Status::Ok();
}

Status InferWindow(const Graph& graph, const Node& node, std::vector<int>* shape) {
  const std::vector<int>& x = graph.values[node.inputs[0]].shape;
  WindowGeometry g;
  DBQ_RETURN_IF_ERROR(MakeWindowGeometry(x, node, &g));
  *shape = {x[0], static_cast<int>(g.height), static_cast<int>(g.width), node.layer.params.out_channels};
  return Status::Ok();
}

Border WindowBorder(const Graph& graph, const Node& node) {
  WindowGeometry g;
  const Status status = MakeWindowGeometry(graph.values[node.inputs[0]].shape, node, &g);
  return status.ok() ? g.border : Border{};
}

Status CheckLayer(const Graph&, const Node& node) {
  constexpr float kLargest = 256.0f;
  for (float multiplier : node.layer.multiplier) {
    if (!(multiplier < kLargest)) {
      return Status::Error("input * weight / output scale must be below 256, got %g", static_cast<double>(multiplier));
    }
  }
  if (std::fpclassify(node.layer.input_scale) == FP_NORMAL && std::fpclassify(node.layer.output_scale) == FP_NORMAL) {
    return Status::Ok();
  }
  return Status::Error("scales must not be subnormal");
}

}  // namespace dbq
