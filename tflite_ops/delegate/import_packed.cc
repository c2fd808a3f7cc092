#include "delegate/import_packed.h"

#include <algorithm>

#include "core/packing.h"
#include "delegate/tensors.h"
#include "ops/op.h"

namespace dbq {
namespace {

const Operator* OperatorOf(OpKind kind) {
  if (kind == OpKind::kConv2D) return &kConvolution;
  return kind == OpKind::kDepthwiseConv2D ? &kDepthwise : &kFullyConnected;
}

Status CheckNode(const tflite::Node& node) {
  const int inputs = node.inputs == nullptr ? 0 : node.inputs->size;
  const int outputs = node.outputs == nullptr ? 0 : node.outputs->size;
  if (inputs < kInputCount || inputs > kMostInputs || outputs != 1) {
    return Status::Error("expected %d or %d inputs and 1 output, got %d and %d; export the file again", kInputCount,
                         kMostInputs, inputs, outputs);
  }
  // Resizing the output would change the shape of what is read.
  const int output = node.outputs->data[0];
  const int* last = node.inputs->data + inputs;
  if (std::find(static_cast<const int*>(node.inputs->data), last, output) == last) return Status::Ok();
  return Status::Error("the output must not be one of the inputs, got tensor %d twice; export the file again", output);
}

Status CheckActivations(const tflite::Context* context, const tflite::Node& node, const Layer& layer) {
  const tflite::Tensor* input = GetTensor(context, node.inputs->data[kInput]);
  const tflite::Tensor* output = GetTensor(context, node.outputs->data[0]);
  if (input == nullptr) return Status::Error("input is missing; export the file again");
  if (output == nullptr) return Status::Error("output is missing; export the file again");
  if (input->dims == nullptr) return Status::Error("input has no shape; export the file again");
  DBQ_RETURN_IF_ERROR(CheckActivation("input", *input, layer.input_scale, layer.params.input_zero_point));
  // Codes that count have a grid of their own, which no operator asks for.
  if (layer.levels > 0) return CheckCodes("output", *output);
  return CheckActivation("output", *output, layer.output_scale, layer.params.output_zero_point);
}

Branches LoadBranches(int64_t weights, const LayerParams& params, const uint8_t* codes, const uint8_t* scales) {
  Branches branches;
  branches.planes = params.branches;
  branches.trits.resize(weights * params.branches);
  branches.scales.assign(scales, scales + int64_t{params.out_channels} * params.branches);
  for (int plane = 0; plane < params.branches; ++plane) {
    DecodePlane(codes + plane * PlaneBytes(weights), weights, branches.trits.data() + plane * weights);
  }
  return branches;
}

}  // namespace

Status ImportPacked(OpKind kind, const tflite::Context* context, const tflite::Node& node, Node* imported) {
  DBQ_RETURN_IF_ERROR(CheckNode(node));
  ConstantCopies constants;
  DBQ_RETURN_IF_ERROR(constants.Read(context, node.inputs->data, node.inputs->size));
  DBQ_RETURN_IF_ERROR(ReadLayer(kind, constants.view(), &imported->layer));
  DBQ_RETURN_IF_ERROR(CheckActivations(context, node, imported->layer));
  imported->op = OperatorOf(kind);
  const auto* codes = static_cast<const uint8_t*>(GetTensor(context, node.inputs->data[kCodes])->data);
  const auto* scales = static_cast<const uint8_t*>(GetTensor(context, node.inputs->data[kBranchScales])->data);
  const LayerParams params = imported->layer.params;
  imported->load = [=] { return DecodeIntegers(kind, params, codes, scales); };
  imported->load_branches = [=] { return LoadBranches(params.WeightCount(kind), params, codes, scales); };
  return Status::Ok();
}

}  // namespace dbq
