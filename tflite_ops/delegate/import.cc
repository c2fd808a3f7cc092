#include "delegate/import.h"

#include <cmath>
#include <cstring>

#include "delegate/import_layer.h"
#include "delegate/import_packed.h"
#include "delegate/import_table.h"
#include "delegate/tensors.h"
#include "delegate/tflite_options.h"
#include "ops/op.h"

namespace dbq {
namespace {

constexpr OpKind kKinds[] = {OpKind::kConv2D, OpKind::kDepthwiseConv2D, OpKind::kFullyConnected};

// int8 codes with one scale.
Status CheckCodes(const tflite::Tensor* tensor) {
  if (tensor == nullptr || tensor->dims == nullptr) return Status::Error("a tensor is missing");
  if (tensor->type != tflite::kInt8) return Status::Error("a tensor is not int8");
  const tflite::AffineQuantization* q = Quantization(*tensor);
  if (q == nullptr || q->scale->size != 1 || !std::isnormal(q->scale->data[0]) || !(q->scale->data[0] > 0)) {
    return Status::Error("an activation must have one scale that is a normal number");
  }
  const int zero_point = q->zero_point->data[0];
  if (zero_point < -128 || zero_point > 127) return Status::Error("a zero point is outside of int8");
  return Status::Ok();
}

// Constants may only stand beside an activation.
Status CheckInput(const tflite::Context& context, const tflite::Node& node, int index) {
  const tflite::Tensor* tensor = GetTensor(&context, node.inputs->data[index]);
  DBQ_RETURN_IF_ERROR(CheckCodes(tensor));
  if (!IsConstant(*tensor)) return Status::Ok();
  const int other = node.inputs->size == 2 ? node.inputs->data[1 - index] : -1;
  const tflite::Tensor* beside = GetTensor(&context, other);
  const bool whole = ElementCount(*tensor) == static_cast<int64_t>(tensor->bytes) && tensor->bytes > 0;
  if (beside != nullptr && beside->type == tflite::kInt8 && !IsConstant(*beside) && whole) return Status::Ok();
  return Status::Error("an activation is constant");
}

Status ReadActivation(int activation, Options* options) {
  if (activation < 0 || activation > static_cast<int>(Activation::kRelu6)) return Status::Error("unknown activation");
  options->activation = static_cast<Activation>(activation);
  return Status::Ok();
}

Status ReadNumbers(const tflite::Context* context, const tflite::Node& node, Options* options) {
  const tflite::Tensor* tensor = node.inputs->size == 2 ? GetTensor(context, node.inputs->data[1]) : nullptr;
  if (tensor == nullptr || tensor->type != tflite::kInt32 || !IsConstant(*tensor)) {
    return Status::Error("the second input must be constant int32");
  }
  options->numbers.resize(tensor->bytes / sizeof(int32_t));
  std::memcpy(options->numbers.data(), tensor->data, options->numbers.size() * sizeof(int32_t));
  return Status::Ok();
}

Status ReadPool(const tflite::PoolParams& p, Options* o) {
  if (p.stride_height < 1 || p.stride_width < 1 || p.filter_height < 1 || p.filter_width < 1) {
    return Status::Error("window and strides must be positive");
  }
  if (p.padding != tflite::kPaddingSame && p.padding != tflite::kPaddingValid) return Status::Error("unknown padding");
  o->padding = p.padding == tflite::kPaddingSame ? Padding::kSame : Padding::kValid;
  o->stride_h = p.stride_height, o->stride_w = p.stride_width;
  o->kernel_h = p.filter_height, o->kernel_w = p.filter_width;
  return ReadActivation(p.activation, o);
}

Status ReadConcatenation(const tflite::Context* context, const tflite::Node& node, Options* options) {
  const auto& p = *static_cast<const tflite::ConcatenationParams*>(node.builtin_data);
  const int rank = GetTensor(context, node.outputs->data[0])->dims->size;
  if (p.axis != rank - 1 && p.axis != -1) return Status::Error("only the last axis is concatenated");
  DBQ_RETURN_IF_ERROR(ReadActivation(p.activation, options));
  return options->activation == Activation::kNone ? Status::Ok() : Status::Error("an activation follows");
}

// The new shape stands in a tensor, or in the options of old files; scalars have none.
Status ReadReshape(const tflite::Context* context, const tflite::Node& node, Options* options) {
  if (node.inputs->size == 2) {
    DBQ_RETURN_IF_ERROR(ReadNumbers(context, node, options));
  } else if (node.builtin_data != nullptr) {
    const auto& p = *static_cast<const tflite::ReshapeParams*>(node.builtin_data);
    if (p.num_dimensions < 0 || p.num_dimensions > 8) return Status::Error("unknown shape");
    options->numbers.assign(p.shape, p.shape + p.num_dimensions);
  }
  return options->numbers.empty() ? Status::Error("the new shape is empty") : Status::Ok();
}

Status ReadResize(const tflite::Context* context, const tflite::Node& node, Options* options) {
  const auto& p = *static_cast<const tflite::ResizeParams*>(node.builtin_data);
  options->align_corners = p.align_corners, options->half_pixel_centers = p.half_pixel_centers;
  return ReadNumbers(context, node, options);
}

struct Importable {
  int32_t builtin;
  const Operator* op;
  int activations;  // inputs that are; 0: all
  bool has_options;
};

constexpr Importable kImportable[] = {
    {tflite::kConv2d, &kConvolution, 1, true},
    {tflite::kDepthwiseConv2d, &kDepthwise, 1, true},
    {tflite::kFullyConnected, &kFullyConnected, 1, true},
    {tflite::kAdd, &kAdd, 2, true},
    {tflite::kMul, &kMul, 2, true},
    {tflite::kLogistic, &kLogistic, 1, false},
    {tflite::kMean, &kMean, 1, true},
    {tflite::kAveragePool2d, &kAveragePool, 1, true},
    {tflite::kMaxPool2d, &kMaxPool, 1, true},
    {tflite::kPad, &kPad, 1, false},
    {tflite::kConcatenation, &kConcatenation, 0, true},
    {tflite::kReshape, &kReshape, 1, false},
    {tflite::kTanh, &kTanh, 1, false},
    {tflite::kQuantize, &kQuantize, 1, false},
    {tflite::kLeakyRelu, &kLeakyRelu, 1, true},
    {tflite::kRelu, &kRelu, 1, false},
    {tflite::kRelu6, &kRelu, 1, false},
    {tflite::kHardSwish, &kHardSwish, 1, false},
    {tflite::kResizeBilinear, &kResizeBilinear, 1, true},
    {tflite::kResizeNearestNeighbor, &kResizeNearest, 1, true},
};

Status ReadOptions(int32_t builtin, const tflite::Context* context, const tflite::Node& node, Node* imported) {
  Options* options = &imported->options;
  switch (builtin) {
    case tflite::kAdd:
      return ReadActivation(static_cast<const tflite::AddParams*>(node.builtin_data)->activation, options);
    case tflite::kMul:
      return ReadActivation(static_cast<const tflite::MulParams*>(node.builtin_data)->activation, options);
    case tflite::kLogistic:
    case tflite::kTanh:
    case tflite::kQuantize:
    case tflite::kHardSwish:
      return Status::Ok();
    case tflite::kRelu:
      return ReadActivation(static_cast<int>(Activation::kRelu), options);
    case tflite::kRelu6:
      return ReadActivation(static_cast<int>(Activation::kRelu6), options);
    case tflite::kLeakyRelu:
      options->slope = static_cast<const tflite::LeakyReluParams*>(node.builtin_data)->alpha;
      return Status::Ok();
    case tflite::kResizeBilinear:
    case tflite::kResizeNearestNeighbor:
      return ReadResize(context, node, options);
    case tflite::kMean:
      options->keep_dims = static_cast<const tflite::ReducerParams*>(node.builtin_data)->keep_dims;
      return ReadNumbers(context, node, options);
    case tflite::kAveragePool2d:
    case tflite::kMaxPool2d:
      return ReadPool(*static_cast<const tflite::PoolParams*>(node.builtin_data), options);
    case tflite::kPad:
      return ReadNumbers(context, node, options);
    case tflite::kConcatenation:
      return ReadConcatenation(context, node, options);
    case tflite::kReshape:
      return ReadReshape(context, node, options);
    default:
      return ImportLayer(builtin, context, node, imported);
  }
}

}  // namespace

bool IsConversion(const tflite::Context& context, const tflite::Node& node, int32_t code) {
  if (code != tflite::kQuantize && code != tflite::kDequantize) return false;
  if (node.inputs == nullptr || node.outputs == nullptr || node.inputs->size != 1 || node.outputs->size != 1)
    return false;
  const tflite::Tensor* x = GetTensor(&context, node.inputs->data[0]);
  return code == tflite::kDequantize || (x != nullptr && x->type == tflite::kFloat32);
}

bool IsPacked(const tflite::Registration& registration, OpKind* kind) {
  if (registration.builtin_code != tflite::kBuiltinCustom || registration.custom_name == nullptr) return false;
  for (OpKind candidate : kKinds) {
    if (std::strcmp(registration.custom_name, OpName(candidate)) != 0) continue;
    *kind = candidate;
    return true;
  }
  return false;
}

std::string Label(const char* op, const tflite::Context* context, const tflite::Node& node) {
  const bool has_output = node.outputs != nullptr && node.outputs->size > 0;
  const tflite::Tensor* output = has_output ? GetTensor(context, node.outputs->data[0]) : nullptr;
  const char* name = output == nullptr || output->name == nullptr ? "" : output->name;
  return std::string(op) + " '" + name + "'";
}

int Importer::ValueOf(int tensor) {
  const auto known = values_.find(tensor);
  if (known != values_.end()) return known->second;
  const tflite::Tensor& t = *GetTensor(context_, tensor);
  Value value;
  value.scale = t.params.scale, value.zero_point = t.params.zero_point;
  value.tensor = tensor;
  value.is_float = t.type == tflite::kFloat32;
  if (t.dims != nullptr) value.shape.assign(t.dims->data, t.dims->data + t.dims->size);
  if (IsConstant(t)) {
    const auto* codes = static_cast<const int8_t*>(t.data);
    value.constant.assign(codes, codes + t.bytes);
  }
  return values_[tensor] = graph_->AddValue(value);
}

Status Importer::AddPacked(OpKind kind, const tflite::Node& node) {
  Node imported;
  imported.label = Label(OpName(kind), context_, node);
  const Status status = ImportPacked(kind, context_, node, &imported);
  if (!status.ok()) return Status::Error("%s: %s", imported.label.c_str(), status.message());
  imported.inputs = {ValueOf(node.inputs->data[0])};
  imported.output = ValueOf(node.outputs->data[0]);
  graph_->nodes.push_back(std::move(imported));
  return Status::Ok();
}

// QUANTIZE from, and DEQUANTIZE to float32.
Status Importer::AddConversion(const tflite::Node& node, const Operator* op) {
  const tflite::Tensor* codes = GetTensor(context_, op == &kDequantize ? node.inputs->data[0] : node.outputs->data[0]);
  const tflite::Tensor* real = GetTensor(context_, op == &kDequantize ? node.outputs->data[0] : node.inputs->data[0]);
  DBQ_RETURN_IF_ERROR(CheckCodes(codes));
  if (real == nullptr || real->dims == nullptr || real->type != tflite::kFloat32) {
    return Status::Error("a tensor is not float32");
  }
  if (IsConstant(*codes) || IsConstant(*real)) return Status::Error("an activation is constant");
  Node imported;
  imported.op = op;
  return AddNode(node, {node.inputs->data[0]}, std::move(imported));
}

Status Importer::AddBuiltin(const tflite::Node& node, int32_t code) {
  if (IsConversion(*context_, node, code)) {
    return AddConversion(node, code == tflite::kDequantize ? &kDequantize : &kQuantizeFloat);
  }
  const Importable* found = nullptr;
  for (const Importable& candidate : kImportable) {
    if (candidate.builtin == code) found = &candidate;
  }
  if (found == nullptr) return Status::Error("operator %d is not one of ours", static_cast<int>(code));
  if (node.inputs == nullptr || node.outputs == nullptr || node.outputs->size != 1 || node.inputs->size < 1 ||
      node.inputs->size < found->activations || (found->has_options && node.builtin_data == nullptr)) {
    return Status::Error("the operator is incomplete");
  }
  const int activations = found->activations == 0 ? node.inputs->size : found->activations;
  for (int i = 0; i < activations; ++i) DBQ_RETURN_IF_ERROR(CheckInput(*context_, node, i));
  DBQ_RETURN_IF_ERROR(CheckCodes(GetTensor(context_, node.outputs->data[0])));

  Node imported;
  imported.op = found->op;
  DBQ_RETURN_IF_ERROR(ReadOptions(code, context_, node, &imported));
  return AddNode(node, std::vector<int>(node.inputs->data, node.inputs->data + activations), std::move(imported));
}

// What AddBuiltin and AddTable have read and checked.
Status Importer::AddNode(const tflite::Node& node, const std::vector<int>& inputs, Node imported) {
  imported.label = Label(imported.op->name, context_, node);
  for (int tensor : inputs) imported.inputs.push_back(ValueOf(tensor));
  imported.output = ValueOf(node.outputs->data[0]);
  DBQ_RETURN_IF_ERROR(imported.op->check(*graph_, imported));
  // With the shapes of the file: later ones may differ in the batch.
  std::vector<int> shape;
  DBQ_RETURN_IF_ERROR(imported.op->infer(*graph_, imported, &shape));
  graph_->nodes.push_back(std::move(imported));
  return Status::Ok();
}

// FindTables has looked at the three nodes and their types.
Status Importer::AddTable(const tflite::Node& gather) {
  const auto found = casts_.find(gather.inputs->data[1]);
  if (found == casts_.end()) return Status::Error("the indices are not codes");
  DBQ_RETURN_IF_ERROR(CheckCodes(GetTensor(context_, found->second)));
  DBQ_RETURN_IF_ERROR(CheckCodes(GetTensor(context_, gather.outputs->data[0])));
  Node imported;
  DBQ_RETURN_IF_ERROR(ImportTable(context_, gather, &imported));
  return AddNode(gather, {found->second}, std::move(imported));
}

Status Importer::Add(const tflite::Node& node, const tflite::Registration& registration) {
  OpKind kind;
  if (IsPacked(registration, &kind)) return AddPacked(kind, node);
  if (registration.builtin_code == tflite::kGather) return AddTable(node);
  if (registration.builtin_code == tflite::kCast) {
    const int from = node.inputs->data[0];
    casts_[node.outputs->data[0]] = casts_.count(from) > 0 ? casts_[from] : from;
    return Status::Ok();
  }
  return AddBuiltin(node, registration.builtin_code);
}

void Importer::Take(const tflite::Node& node, Node ready) {
  for (size_t i = 0; i < ready.inputs.size(); ++i) ready.inputs[i] = ValueOf(node.inputs->data[i]);
  ready.output = ValueOf(node.outputs->data[0]);
  graph_->nodes.push_back(std::move(ready));
}

thread_local ReadyNodes* ReadyNodes::current_ = nullptr;

bool ReadyNodes::Take(int index, Node* node) {
  if (current_ == nullptr) return false;
  const auto found = current_->nodes_.find(index);
  if (found == current_->nodes_.end()) return false;
  *node = std::move(found->second);
  current_->nodes_.erase(found);
  return true;
}

}  // namespace dbq
