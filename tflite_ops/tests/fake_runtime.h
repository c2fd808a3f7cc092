// Just enough of the TFLite runtime to drive a delegate: one graph of custom operators, so that damaged tensors can be
// tried under sanitizers without TFLite itself.
#ifndef DBQ_TESTS_FAKE_RUNTIME_H_
#define DBQ_TESTS_FAKE_RUNTIME_H_

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "delegate/delegate.h"

namespace dbq {
namespace testing {

using IntArrayPointer = std::unique_ptr<tflite::IntArray, void (*)(void*)>;

inline IntArrayPointer MakeIntArray(const std::vector<int>& values) {
  auto* array = static_cast<tflite::IntArray*>(std::malloc(sizeof(tflite::IntArray) + values.size() * sizeof(int)));
  array->size = static_cast<int>(values.size());
  std::copy(values.begin(), values.end(), array->data);
  return IntArrayPointer(array, std::free);
}

class FakeRuntime {
 public:
  FakeRuntime() {
    context_.impl_ = this;
    context_.recommended_num_threads = 1;
    context_.GetExecutionPlan = [](tflite::Context* c, tflite::IntArray** plan) {
      *plan = From(c)->plan_.get();
      return tflite::kOk;
    };
    context_.GetNodeAndRegistration = [](tflite::Context* c, int i, tflite::Node** node, tflite::Registration** r) {
      *node = &From(c)->nodes_[i].node;
      *r = &From(c)->nodes_[i].registration;
      return tflite::kOk;
    };
    context_.ReplaceNodeSubsetsWithDelegateKernels = Replace;
    context_.ResizeTensor = Resize;
    context_.ReportError = Report;
  }
  FakeRuntime(const FakeRuntime&) = delete;

  ~FakeRuntime() {
    for (NodeSlot& slot : nodes_) {
      if (slot.registration.free != nullptr) slot.registration.free(&context_, slot.node.user_data);
    }
    for (tflite::Tensor& tensor : tensors_) std::free(tensor.dims);
  }

  // Data stays the caller's; null data and kDynamic are left to the test.
  int AddTensor(tflite::Type type, const std::vector<int>& shape, void* data, size_t bytes, bool constant) {
    tflite::Tensor tensor{};
    tensor.type = type;
    tensor.data = data;
    tensor.bytes = bytes;
    tensor.dims = MakeIntArray(shape).release();
    tensor.allocation_type = constant ? tflite::kMmapRo : static_cast<tflite::AllocationType>(2);
    tensor.name = "t";
    tensors_.push_back(tensor);
    context_.tensors = tensors_.data();
    context_.tensors_size = tensors_.size();
    return static_cast<int>(tensors_.size()) - 1;
  }

  void AddCustomNode(const char* name, const std::vector<int>& inputs, const std::vector<int>& outputs) {
    NodeSlot& slot = AddSlot(inputs, outputs);
    slot.registration.builtin_code = tflite::kBuiltinCustom;
    slot.registration.custom_name = name;
    plan_ = MakeIntArray({static_cast<int>(nodes_.size()) - 1});
  }

  // Delegate, prepare, invoke; false at the first error, which `error` then names.
  bool Delegate(tflite::Delegate* delegate) { return delegate->Prepare(&context_, delegate) == tflite::kOk; }
  bool Prepare() { return Run(&tflite::Registration::prepare); }
  bool Invoke() { return Run(&tflite::Registration::invoke); }

  void SetThreads(int threads) { context_.recommended_num_threads = threads; }
  tflite::Tensor* tensor(int index) { return &tensors_[index]; }
  bool delegated() const { return nodes_.size() > 1; }
  const std::string& error() const { return error_; }

 private:
  struct NodeSlot {
    tflite::Node node{};
    tflite::Registration registration{};
    IntArrayPointer inputs{nullptr, std::free}, outputs{nullptr, std::free};
  };

  static FakeRuntime* From(tflite::Context* context) { return static_cast<FakeRuntime*>(context->impl_); }

  NodeSlot& AddSlot(const std::vector<int>& inputs, const std::vector<int>& outputs) {
    nodes_.emplace_back();
    NodeSlot& slot = nodes_.back();
    slot.inputs = MakeIntArray(inputs);
    slot.outputs = MakeIntArray(outputs);
    slot.node.inputs = slot.inputs.get();
    slot.node.outputs = slot.outputs.get();
    return slot;
  }

  // All tensors of the nodes' inputs or outputs: this runtime lets a graph show everything.
  IntArrayPointer Tensors(const tflite::IntArray& nodes, tflite::IntArray* tflite::Node::*side) {
    std::vector<int> tensors;
    for (int i = 0; i < nodes.size; ++i) {
      const tflite::IntArray* array = nodes_[nodes.data[i]].node.*side;
      tensors.insert(tensors.end(), array->data, array->data + array->size);
    }
    return MakeIntArray(tensors);
  }

  static tflite::Status Replace(tflite::Context* context, tflite::Registration registration,
                                const tflite::IntArray* nodes, tflite::Delegate* delegate) {
    FakeRuntime* self = From(context);
    const IntArrayPointer read = self->Tensors(*nodes, &tflite::Node::inputs);
    const IntArrayPointer written = self->Tensors(*nodes, &tflite::Node::outputs);
    tflite::DelegateParams params{delegate, const_cast<tflite::IntArray*>(nodes), read.get(), written.get()};
    NodeSlot& slot = self->AddSlot({}, {});
    slot.registration = registration;
    slot.node.user_data = registration.init(context, reinterpret_cast<const char*>(&params), 0);
    self->plan_ = MakeIntArray({static_cast<int>(self->nodes_.size()) - 1});
    return tflite::kOk;
  }

  static tflite::Status Resize(tflite::Context* context, tflite::Tensor* tensor, tflite::IntArray* shape) {
    FakeRuntime* self = From(context);
    std::free(tensor->dims);
    tensor->dims = shape;
    size_t bytes = 1;
    for (int i = 0; i < shape->size; ++i) bytes *= static_cast<size_t>(shape->data[i]);
    // A real runtime reserves memory here; a test of damaged sizes must not.
    if (bytes > (size_t{1} << 24)) return tflite::kError;
    self->output_.assign(bytes, 0x55);
    tensor->bytes = bytes;
    tensor->data = self->output_.data();
    return tflite::kOk;
  }

  static void Report(tflite::Context* context, const char* format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    From(context)->error_ += text;
  }

  bool Run(tflite::Status (*tflite::Registration::*step)(tflite::Context*, tflite::Node*)) {
    NodeSlot& slot = nodes_[plan_->data[0]];
    return (slot.registration.*step)(&context_, &slot.node) == tflite::kOk;
  }

  tflite::Context context_{};
  std::vector<tflite::Tensor> tensors_;
  std::deque<NodeSlot> nodes_;  // addresses stay
  IntArrayPointer plan_ = MakeIntArray({});
  std::vector<int8_t> output_;
  std::string error_;
};

}  // namespace testing
}  // namespace dbq

#endif  // DBQ_TESTS_FAKE_RUNTIME_H_
