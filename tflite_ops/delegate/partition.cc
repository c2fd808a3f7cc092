#include "delegate/partition.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "delegate/import.h"
#include "delegate/tensors.h"

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

std::vector<int> ShapeOf(const tflite::Tensor& tensor) {
  if (tensor.dims == nullptr) return {};
  return std::vector<int>(tensor.dims->data, tensor.dims->data + tensor.dims->size);
}

std::vector<std::vector<int>> Shapes(const Graph& graph, const std::vector<int>& values) {
  std::vector<std::vector<int>> shapes;
  for (int value : values) shapes.push_back(graph.values[value].shape);
  return shapes;
}

bool Contains(const std::vector<int>& values, int value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

}  // namespace

Partition::Partition(tflite::Context* context, const tflite::DelegateParams& params, const Settings& settings)
    : settings_(settings) {
  status_ = Import(context, params);
}

// Several partitions, and interpreters, may add to one file.
Partition::~Partition() {
  if (plan_ == nullptr || settings_.profile.empty()) return;
  std::FILE* file = std::fopen(settings_.profile.c_str(), "a");
  if (file == nullptr) return;
  std::fputs(plan_->ProfileText().c_str(), file);
  std::fclose(file);
}

Status Partition::Import(tflite::Context* context, const tflite::DelegateParams& params) {
  Importer importer(context, &graph_);
  graph_.nodes.reserve(params.nodes_to_replace->size);
  for (int i = 0; i < params.nodes_to_replace->size; ++i) {
    tflite::Node* node = nullptr;
    tflite::Registration* registration = nullptr;
    const int index = params.nodes_to_replace->data[i];
    if (context->GetNodeAndRegistration(context, index, &node, &registration) != tflite::kOk) {
      return Status::Error("node %d is missing", index);
    }
    Node ready;
    if (ReadyNodes::Take(index, &ready)) {
      importer.Take(*node, std::move(ready));
    } else {
      DBQ_RETURN_IF_ERROR(importer.Add(*node, *registration));
    }
  }
  std::vector<int> written;
  for (const Node& node : graph_.nodes) {
    for (int input : node.inputs) {
      const bool given = !Contains(written, input) && graph_.values[input].constant.empty();
      if (given && !Contains(graph_.inputs, input)) graph_.inputs.push_back(input);
    }
    written.push_back(node.output);
  }
  for (int i = 0; i < params.output_tensors->size; ++i) {
    const int tensor = params.output_tensors->data[i];
    if (importer.Knows(tensor)) graph_.outputs.push_back(importer.ValueOf(tensor));
  }
  Simplify(&graph_);
  inputs_.resize(graph_.inputs.size());
  outputs_.resize(graph_.outputs.size());
  return Status::Ok();
}

bool Partition::InputsAreDynamic(const tflite::Context* context) const {
  return std::any_of(graph_.inputs.begin(), graph_.inputs.end(), [&](int input) {
    return GetTensor(context, graph_.values[input].tensor)->allocation_type == tflite::kDynamic;
  });
}

bool Partition::IsPlanned(const tflite::Context* context) const {
  if (plan_ == nullptr || threads_ != std::max(1, context->recommended_num_threads)) return false;
  for (size_t i = 0; i < graph_.inputs.size(); ++i) {
    if (ShapeOf(*GetTensor(context, graph_.values[graph_.inputs[i]].tensor)) != input_shapes_[i]) return false;
  }
  return true;
}

// True when every value has the batch as its first axis and nothing else depends on it: then the plan is for one
// example, whose activations stay in the caches, and runs once for each. The graph is left with these shapes.
bool Partition::FindBatch() {
  std::vector<int> used = graph_.inputs;
  for (const Node& node : graph_.nodes) used.push_back(node.output);
  const std::vector<std::vector<int>> whole = Shapes(graph_, used);
  bool images = false;  // vectors are better multiplied together
  for (const std::vector<int>& shape : whole) {
    if (shape.empty() || shape[0] != whole[0][0] || shape[0] < 2) return false;
    images = images || shape.size() == 4;
  }
  if (!images) return false;
  batch_ = whole[0][0];
  for (int input : graph_.inputs) graph_.values[input].shape[0] = 1;
  bool separable = InferShapes(&graph_).ok();
  for (size_t i = 0; i < used.size() && separable; ++i) {
    std::vector<int> shape = graph_.values[used[i]].shape;
    separable = !shape.empty() && shape[0] == 1;
    if (separable) shape[0] = whole[i][0];
    separable = separable && shape == whole[i];
  }
  if (separable) return true;
  batch_ = 1;
  for (size_t i = 0; i < graph_.inputs.size(); ++i) graph_.values[graph_.inputs[i]].shape = input_shapes_[i];
  return false;
}

Status Partition::PlanShapes(tflite::Context* context) {
  team_.Wait();
  plan_.reset();
  threads_ = std::max(1, context->recommended_num_threads);
  batch_ = 1;
  for (int input : graph_.inputs) {
    graph_.values[input].shape = ShapeOf(*GetTensor(context, graph_.values[input].tensor));
  }
  input_shapes_ = Shapes(graph_, graph_.inputs);
  DBQ_RETURN_IF_ERROR(InferShapes(&graph_));
  output_shapes_ = Shapes(graph_, graph_.outputs);
  FindBatch();
  DBQ_RETURN_IF_ERROR(Compile(&graph_, settings_.features, threads_, &plan_));
  if (!settings_.profile.empty()) plan_->StartProfile();
  return Status::Ok();
}

Status Partition::ResizeOutputs(tflite::Context* context) const {
  for (size_t i = 0; i < graph_.outputs.size(); ++i) {
    tflite::IntArray* shape = MakeIntArray(output_shapes_[i]);
    if (shape == nullptr) return Status::Error("out of memory");
    tflite::Tensor* tensor = GetTensor(context, graph_.values[graph_.outputs[i]].tensor);
    if (context->ResizeTensor(context, tensor, shape) == tflite::kOk) continue;
    return Status::Error("the runtime refused to resize the output tensor");
  }
  return Status::Ok();
}

Status Partition::Prepare(tflite::Context* context) {
  DBQ_RETURN_IF_ERROR(status_);
  if (!InputsAreDynamic(context)) {
    if (!IsPlanned(context)) DBQ_RETURN_IF_ERROR(PlanShapes(context));
    return ResizeOutputs(context);
  }
  // The shapes are known only when the inputs have been computed.
  for (int output : graph_.outputs) {
    tflite::Tensor* tensor = GetTensor(context, graph_.values[output].tensor);
    if (tensor->allocation_type == tflite::kDynamic) continue;
    tensor->allocation_type = tflite::kDynamic;
    tensor->data = nullptr;
  }
  return Status::Ok();
}

Status Partition::CheckMemory(const tflite::Tensor& tensor, int value) const {
  const int64_t bytes = graph_.values[value].TensorBytes() * batch_;
  if (static_cast<int64_t>(tensor.bytes) < bytes) {
    return Status::Error("tensor '%s' must have %lld bytes, got %zu; call AllocateTensors first",
                         tensor.name == nullptr ? "" : tensor.name, static_cast<long long>(bytes), tensor.bytes);
  }
  if (bytes > 0 && tensor.data == nullptr) {
    return Status::Error("tensor '%s' has no memory; call AllocateTensors first",
                         tensor.name == nullptr ? "" : tensor.name);
  }
  return Status::Ok();
}

Status Partition::CollectPointers(const tflite::Context* context) {
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const tflite::Tensor& tensor = *GetTensor(context, graph_.values[graph_.inputs[i]].tensor);
    DBQ_RETURN_IF_ERROR(CheckMemory(tensor, graph_.inputs[i]));
    inputs_[i] = tensor.data;
  }
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const tflite::Tensor& tensor = *GetTensor(context, graph_.values[graph_.outputs[i]].tensor);
    DBQ_RETURN_IF_ERROR(CheckMemory(tensor, graph_.outputs[i]));
    outputs_[i] = tensor.data;
  }
  return Status::Ok();
}

Status Partition::Eval(tflite::Context* context) {
  if (InputsAreDynamic(context)) {
    if (!IsPlanned(context)) DBQ_RETURN_IF_ERROR(PlanShapes(context));
    DBQ_RETURN_IF_ERROR(ResizeOutputs(context));
  }
  if (plan_ == nullptr) return Status::Error("there is no plan; call AllocateTensors first");
  DBQ_RETURN_IF_ERROR(CollectPointers(context));
  for (int64_t n = 0; n < batch_; ++n) {
    plan_->Run(inputs_.data(), outputs_.data(), &team_);
    for (size_t i = 0; i < inputs_.size(); ++i) {
      inputs_[i] = static_cast<const int8_t*>(inputs_[i]) + graph_.values[graph_.inputs[i]].TensorBytes();
    }
    for (size_t i = 0; i < outputs_.size(); ++i) {
      outputs_[i] = static_cast<int8_t*>(outputs_[i]) + graph_.values[graph_.outputs[i]].TensorBytes();
    }
  }
  return Status::Ok();
}

// ---- plain functions that let no C++ exception out

namespace {

tflite::Status Report(tflite::Context* context, const char* message) {
  context->ReportError(context, "%s\n", message);
  return tflite::kError;
}

template <typename Call>
tflite::Status Guard(tflite::Context* context, const tflite::Node* node, Call call) {
  auto* partition = static_cast<Partition*>(node->user_data);
  if (partition == nullptr) return Report(context, "keras_dbq: the operators could not be created");
  try {
    const Status status = call(partition);
    return status.ok() ? tflite::kOk : Report(context, status.message());
  } catch (const std::exception& error) {
    return Report(context, error.what());
  }
}

void* Init(tflite::Context* context, const char* buffer, size_t) {
  const auto* params = reinterpret_cast<const tflite::DelegateParams*>(buffer);
  const auto* settings = static_cast<const Settings*>(params->delegate->data_);
  try {
    return new Partition(context, *params, *settings);
  } catch (const std::exception&) {
    return nullptr;  // reported by Prepare
  }
}

void Free(tflite::Context*, void* partition) { delete static_cast<Partition*>(partition); }

tflite::Status Prepare(tflite::Context* context, tflite::Node* node) {
  return Guard(context, node, [&](Partition* partition) { return partition->Prepare(context); });
}

tflite::Status Eval(tflite::Context* context, tflite::Node* node) {
  return Guard(context, node, [&](Partition* partition) { return partition->Eval(context); });
}

}  // namespace

tflite::Registration MakeRegistration() {
  tflite::Registration registration{};
  registration.init = Init;
  registration.free = Free;
  registration.prepare = Prepare;
  registration.invoke = Eval;
  registration.builtin_code = tflite::kBuiltinDelegate;
  registration.custom_name = "DbqPartition";
  registration.version = kFormatVersion;
  return registration;
}

}  // namespace dbq
