#include "kernels/op.h"

#include <algorithm>
#include <cstdlib>

namespace dbq {
namespace {

// The runtime owns the shape that ResizeTensor is given, and frees it with free().
tflite::IntArray* MakeIntArray(const std::vector<int>& values) {
  auto* array = static_cast<tflite::IntArray*>(std::malloc(sizeof(tflite::IntArray) + values.size() * sizeof(int)));
  if (array == nullptr) return nullptr;
  array->size = static_cast<int>(values.size());
  std::copy(values.begin(), values.end(), array->data);
  return array;
}

}  // namespace

Op::Op(OpKind kind, const tflite::Node& node, Shared* shared) : kind_(kind), shared_(shared) {
  std::fill(std::begin(inputs_), std::end(inputs_), -1);
  if (node.inputs != nullptr) {
    input_count_ = node.inputs->size;
    std::copy_n(node.inputs->data, std::min<int>(input_count_, kInputCount), inputs_);
  }
  if (node.outputs != nullptr) output_count_ = node.outputs->size;
  if (output_count_ > 0) output_ = node.outputs->data[0];
}

const char* Op::Name(const tflite::Context* context) const {
  const tflite::Tensor* output = GetTensor(context, output_);
  return output == nullptr || output->name == nullptr ? "" : output->name;
}

Status Op::CheckNode() const {
  if (input_count_ != kInputCount || output_count_ != 1) {
    return Status::Error("expected %d inputs and 1 output, got %d and %d; export the file again", kInputCount,
                         input_count_, output_count_);
  }
  // Resizing the output would change the shape of what is read.
  if (std::find(std::begin(inputs_), std::end(inputs_), output_) == std::end(inputs_)) return Status::Ok();
  return Status::Error("the output must not be one of the inputs, got tensor %d twice; export the file again", output_);
}

Status Op::Decode(const tflite::Context* context) {
  ConstantCopies constants;
  DBQ_RETURN_IF_ERROR(constants.Read(context, inputs_));
  Layer layer;
  DBQ_RETURN_IF_ERROR(DecodeLayer(kind_, constants.view(), &layer));
  params_ = layer.params;
  input_scale_ = layer.input_scale;
  output_scale_ = layer.output_scale;
  executor_ = MakeExecutor(layer, shared_->isa);
  return Status::Ok();
}

Status Op::Prepare(tflite::Context* context) {
  DBQ_RETURN_IF_ERROR(CheckNode());
  if (executor_ == nullptr) DBQ_RETURN_IF_ERROR(Decode(context));
  const tflite::Tensor* input = GetTensor(context, inputs_[kInput]);
  tflite::Tensor* output = GetTensor(context, output_);
  if (input == nullptr) return Status::Error("input is missing; export the file again");
  if (output == nullptr) return Status::Error("output is missing; export the file again");
  DBQ_RETURN_IF_ERROR(CheckActivation("input", *input, input_scale_, params_.input_zero_point));
  DBQ_RETURN_IF_ERROR(CheckActivation("output", *output, output_scale_, params_.output_zero_point));
  if (input->allocation_type != tflite::kDynamic) return Resize(context);
  // The shape is known only when the input has been computed.
  if (output->allocation_type != tflite::kDynamic) {
    output->allocation_type = tflite::kDynamic;
    output->data = nullptr;
  }
  return Status::Ok();
}

Status Op::Resize(tflite::Context* context) {
  ShapePlan plan;
  DBQ_RETURN_IF_ERROR(PlanShapes(kind_, params_, *GetTensor(context, inputs_[kInput]), &plan));
  executor_->Prepare(plan.geometry, std::max(1, context->recommended_num_threads));
  input_bytes_ = plan.geometry.input.Pixels() * plan.geometry.input.channels;
  output_bytes_ = plan.geometry.output.Pixels() * plan.geometry.output.channels;
  tflite::IntArray* shape = MakeIntArray(plan.output);
  if (shape == nullptr) return Status::Error("out of memory");
  const tflite::Status status = context->ResizeTensor(context, GetTensor(context, output_), shape);
  return status == tflite::kOk ? Status::Ok() : Status::Error("the runtime refused to resize the output tensor");
}

Status Op::Eval(tflite::Context* context) {
  const tflite::Tensor* input = GetTensor(context, inputs_[kInput]);
  tflite::Tensor* output = GetTensor(context, output_);
  if (output->allocation_type == tflite::kDynamic) DBQ_RETURN_IF_ERROR(Resize(context));
  if (static_cast<int64_t>(input->bytes) < input_bytes_ || static_cast<int64_t>(output->bytes) < output_bytes_) {
    return Status::Error("tensors must have %lld and %lld bytes, got %zu and %zu; call AllocateTensors first",
                         static_cast<long long>(input_bytes_), static_cast<long long>(output_bytes_), input->bytes,
                         output->bytes);
  }
  if (output_bytes_ == 0) return Status::Ok();
  if (input->data == nullptr || output->data == nullptr) return Status::Error("tensors have no memory");
  executor_->Run(static_cast<const int8_t*>(input->data), static_cast<int8_t*>(output->data), &shared_->pool);
  return Status::Ok();
}

}  // namespace dbq
