// Output shape of an operator, and the convolution that computes it.
#ifndef DBQ_KERNELS_SHAPES_H_
#define DBQ_KERNELS_SHAPES_H_

#include <vector>

#include "core/geometry.h"
#include "core/params.h"
#include "core/status.h"
#include "delegate/tflite_abi.h"

namespace dbq {

struct ShapePlan {
  ConvGeometry geometry;    // fully connected: a 1x1 image per row
  std::vector<int> output;  // shape of the output tensor
};

Status PlanShapes(OpKind kind, const LayerParams& params, const tflite::Tensor& input, ShapePlan* plan);

}  // namespace dbq

#endif  // DBQ_KERNELS_SHAPES_H_
