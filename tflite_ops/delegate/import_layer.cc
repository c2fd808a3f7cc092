#include "delegate/import_layer.h"

#include <cmath>
#include <cstring>

#include "delegate/tensors.h"
#include "delegate/tflite_options.h"
#include "ops/op.h"

namespace dbq {
namespace {

// Normal numbers over 0; NaN is not between them.
constexpr float kSmallestScale = 0x1p-126f, kLargestScale = 0x1.fffffep127f;

struct Tensors {
  const tflite::Tensor *input, *weights, *bias, *output;
};

// [channels] scales of a tensor, or one for all of them.
Status ReadScales(const char* name, const tflite::Tensor& tensor, int channels, int axis, std::vector<float>* scales) {
  const tflite::AffineQuantization* q = Quantization(tensor);
  if (q == nullptr || (q->scale->size != 1 && q->scale->size != channels)) {
    return Status::Error("%s must have one scale, or one for every channel", name);
  }
  if (q->scale->size > 1 && q->quantized_dimension != axis) return Status::Error("%s has scales of another axis", name);
  for (int i = 0; i < q->zero_point->size; ++i) {
    if (q->zero_point->data[i] != 0) return Status::Error("%s must have zero point 0", name);
  }
  scales->assign(q->scale->data, q->scale->data + q->scale->size);
  bool normal = true;  // in a loop that the compiler makes vectors of
  for (float scale : *scales) normal &= scale >= kSmallestScale && scale <= kLargestScale;
  if (!normal) return Status::Error("%s must have scales that are normal numbers", name);
  scales->resize(channels, scales->front());
  return Status::Ok();
}

// Absent in a fully connected layer at most: XNNPACK takes no convolution without.
Status ReadBias(const Tensors& t, int channels, const std::vector<float>& weight_scales, Layer* layer) {
  layer->bias.assign(channels, 0);
  if (t.bias == nullptr) {
    if (layer->kind == OpKind::kFullyConnected) return Status::Ok();
    return Status::Error("a convolution must have a bias");
  }
  if (t.bias->type != tflite::kInt32 || !IsConstant(*t.bias) || t.bias->bytes != channels * sizeof(int32_t)) {
    return Status::Error("bias must be constant, int32, one for every channel");
  }
  std::vector<float> scales;
  DBQ_RETURN_IF_ERROR(ReadScales("bias", *t.bias, channels, 0, &scales));
  if (Quantization(*t.bias)->scale->size != Quantization(*t.weights)->scale->size) {
    return Status::Error("bias must have as many scales as the weights");
  }
  for (int m = 0; m < channels; ++m) {
    const float expected = layer->input_scale * weight_scales[m];
    if (!(std::fabs(scales[m] - expected) <= 0.01f * expected)) {
      return Status::Error("the scale of the bias must be input scale * weight scale");
    }
  }
  std::memcpy(layer->bias.data(), t.bias->data, t.bias->bytes);
  return Status::Ok();
}

Status FinishLayer(const Tensors& t, Node* node) {
  Layer& layer = node->layer;
  LayerParams& p = layer.params;
  p.branches = 1;
  layer.input_scale = t.input->params.scale, layer.output_scale = t.output->params.scale;
  p.input_zero_point = t.input->params.zero_point, p.output_zero_point = t.output->params.zero_point;
  // A bias may be so large that a sum passes int32: it wraps around in every kernel, XNNPACK's and ours.
  if (p.Depth(layer.kind) > kMaxDepth) return Status::Error("a dot product may pass int32");
  std::vector<float> scales;
  const int axis = layer.kind == OpKind::kDepthwiseConv2D ? 3 : 0;
  DBQ_RETURN_IF_ERROR(ReadScales("weights", *t.weights, p.out_channels, axis, &scales));
  DBQ_RETURN_IF_ERROR(ReadBias(t, p.out_channels, scales, &layer));
  layer.multiplier.resize(scales.size());
  for (size_t m = 0; m < scales.size(); ++m) {
    const float product = layer.input_scale * scales[m];
    layer.multiplier[m] = product / layer.output_scale;
  }
  layer.stage = MakeOutputStage(p.activation, layer.output_scale, p.output_zero_point);
  const auto* integers = static_cast<const int8_t*>(t.weights->data);
  const int64_t count = ElementCount(*t.weights);
  node->load = [=] { return Integers{std::vector<int8_t>(integers, integers + count), {}}; };
  return Status::Ok();
}

Status CheckWindow(const LayerParams& p, int padding, int activation) {
  if (p.stride_h < 1 || p.stride_w < 1 || p.dilation_h < 1 || p.dilation_w < 1 || p.kernel_h < 1 || p.kernel_w < 1) {
    return Status::Error("kernel, strides and dilations must be positive");
  }
  if (padding != tflite::kPaddingSame && padding != tflite::kPaddingValid) return Status::Error("unknown padding");
  if (activation < 0 || activation > static_cast<int>(Activation::kRelu6)) return Status::Error("unknown activation");
  return Status::Ok();
}

template <typename Options>
Status ReadWindow(const Options& o, const int* shape, LayerParams* p) {
  p->kernel_h = shape[1], p->kernel_w = shape[2];
  p->stride_h = o.stride_height, p->stride_w = o.stride_width;
  p->dilation_h = o.dilation_height_factor, p->dilation_w = o.dilation_width_factor;
  DBQ_RETURN_IF_ERROR(CheckWindow(*p, o.padding, o.activation));
  p->padding = o.padding == tflite::kPaddingSame ? Padding::kSame : Padding::kValid;
  p->activation = static_cast<Activation>(o.activation);
  return Status::Ok();
}

// Weights OHWI; an input of g times as many channels makes g groups.
Status ReadConvolution(const Tensors& t, const tflite::Node& node, Node* imported) {
  const int* shape = t.weights->dims->data;
  LayerParams& p = imported->layer.params;
  if (t.weights->dims->size != 4 || t.input->dims->size != 4)
    return Status::Error("input and weights must have rank 4");
  p.in_channels = t.input->dims->data[3], p.out_channels = shape[0];
  if (shape[3] < 1 || shape[0] < 1 || p.in_channels < 1 || p.in_channels % shape[3] != 0) {
    return Status::Error("the input's channels must be a multiple of the weights'");
  }
  p.groups = p.in_channels / shape[3];
  if (p.out_channels % p.groups != 0) return Status::Error("the output's channels must be a multiple of the groups");
  imported->op = &kConvolution;
  imported->layer.kind = OpKind::kConv2D;
  return ReadWindow(*static_cast<const tflite::ConvParams*>(node.builtin_data), shape, &p);
}

// Weights 1HWM.
Status ReadDepthwise(const Tensors& t, const tflite::Node& node, Node* imported) {
  const int* shape = t.weights->dims->data;
  const auto& options = *static_cast<const tflite::DepthwiseConvParams*>(node.builtin_data);
  LayerParams& p = imported->layer.params;
  if (t.weights->dims->size != 4 || t.input->dims->size != 4)
    return Status::Error("input and weights must have rank 4");
  p.in_channels = t.input->dims->data[3], p.out_channels = shape[3];
  p.depth_multiplier = options.depth_multiplier;
  if (shape[0] != 1 || p.in_channels < 1 || int64_t{p.in_channels} * p.depth_multiplier != p.out_channels) {
    return Status::Error("the weights' channels must be the input's * depth multiplier");
  }
  imported->op = &kDepthwise;
  imported->layer.kind = OpKind::kDepthwiseConv2D;
  return ReadWindow(options, shape, &p);
}

// Weights [M, K]: a 1x1 convolution.
Status ReadFullyConnected(const Tensors& t, const tflite::Node& node, Node* imported) {
  const auto& options = *static_cast<const tflite::FullyConnectedParams*>(node.builtin_data);
  LayerParams& p = imported->layer.params;
  if (t.weights->dims->size != 2 || options.weights_format != 0) return Status::Error("weights must have rank 2");
  p.out_channels = t.weights->dims->data[0], p.in_channels = t.weights->dims->data[1];
  if (p.out_channels < 1 || p.in_channels < 1) return Status::Error("weights must not be empty");
  p.kernel_h = p.kernel_w = p.stride_h = p.stride_w = p.dilation_h = p.dilation_w = 1;
  p.keep_num_dims = options.keep_num_dims;
  imported->op = &kFullyConnected;
  imported->layer.kind = OpKind::kFullyConnected;
  DBQ_RETURN_IF_ERROR(CheckWindow(p, tflite::kPaddingValid, options.activation));
  p.activation = static_cast<Activation>(options.activation);
  return Status::Ok();
}

Status Read(int32_t builtin, const Tensors& t, const tflite::Node& node, Node* imported) {
  if (builtin == tflite::kConv2d) return ReadConvolution(t, node, imported);
  if (builtin == tflite::kDepthwiseConv2d) return ReadDepthwise(t, node, imported);
  return ReadFullyConnected(t, node, imported);
}

}  // namespace

Status ImportLayer(int32_t builtin, const tflite::Context* context, const tflite::Node& node, Node* imported) {
  const int count = node.inputs->size;
  if (count != 2 && count != 3) return Status::Error("expected 2 or 3 inputs, got %d", count);
  const Tensors t{GetTensor(context, node.inputs->data[0]), GetTensor(context, node.inputs->data[1]),
                  count == 3 ? GetTensor(context, node.inputs->data[2]) : nullptr,
                  GetTensor(context, node.outputs->data[0])};
  if (t.weights == nullptr || t.weights->type != tflite::kInt8 || !IsConstant(*t.weights) ||
      ElementCount(*t.weights) != static_cast<int64_t>(t.weights->bytes)) {
    return Status::Error("weights must be constant and int8");
  }
  if (node.builtin_data == nullptr) return Status::Error("the operator has no options");
  DBQ_RETURN_IF_ERROR(Read(builtin, t, node, imported));
  return FinishLayer(t, imported);
}

}  // namespace dbq
