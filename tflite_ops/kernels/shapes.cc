#include "kernels/shapes.h"

#include "kernels/tensors.h"

namespace dbq {
namespace {

Status PlanConvolution(const LayerParams& params, const tflite::IntArray& shape, ShapePlan* plan) {
  if (shape.size != 4) return Status::Error("input must have rank 4 (NHWC), got rank %d", shape.size);
  const ImageShape input{shape.data[0], shape.data[1], shape.data[2], shape.data[3]};
  DBQ_RETURN_IF_ERROR(MakeConvGeometry(params, input, &plan->geometry));
  const ImageShape& output = plan->geometry.output;
  plan->output = {output.batch, output.height, output.width, output.channels};
  return Status::Ok();
}

// Rows are what is left of the input when it is cut into vectors of K; keep_num_dims keeps the leading axes.
Status PlanFullyConnected(const LayerParams& params, const tflite::Tensor& input, ShapePlan* plan) {
  const tflite::IntArray& shape = *input.dims;
  const int64_t elements = ElementCount(input);
  if (elements < 0 || elements % params.in_channels != 0) {
    return Status::Error("input must have a number of elements divisible by %d, got %lld", params.in_channels,
                         static_cast<long long>(elements));
  }
  const int rows = static_cast<int>(elements / params.in_channels);
  DBQ_RETURN_IF_ERROR(MakeConvGeometry(params, {rows, 1, 1, params.in_channels}, &plan->geometry));
  plan->output = {rows, params.out_channels};
  if (!params.keep_num_dims) return Status::Ok();
  if (shape.size < 1 || shape.data[shape.size - 1] != params.in_channels) {
    return Status::Error("input must end in an axis of %d (keep_num_dims), got rank %d ending in %d",
                         params.in_channels, shape.size, shape.size < 1 ? 0 : shape.data[shape.size - 1]);
  }
  plan->output.assign(shape.data, shape.data + shape.size);
  plan->output.back() = params.out_channels;
  return Status::Ok();
}

}  // namespace

Status PlanShapes(OpKind kind, const LayerParams& params, const tflite::Tensor& input, ShapePlan* plan) {
  if (input.dims == nullptr) return Status::Error("input has no shape; export the file again");
  if (kind == OpKind::kFullyConnected) return PlanFullyConnected(params, input, plan);
  return PlanConvolution(params, *input.dims, plan);
}

}  // namespace dbq
