// The part of TFLite's C interface that a delegate needs, declared by layout, without TensorFlow headers.
//
// Names follow TFLite's with the prefix left off; fields that are never read are only kept for their place. The layout
// is "semi ABI stable": fields are only ever added at the end. Sizes are asserted below for 64-bit targets, and
// delegate/abi_check.cc compares every field with the official headers where CMake is given them.
#ifndef DBQ_DELEGATE_TFLITE_ABI_H_
#define DBQ_DELEGATE_TFLITE_ABI_H_

#include <cstddef>
#include <cstdint>

namespace dbq {
namespace tflite {

enum Status : int { kOk = 0, kError = 1 };

enum Type : int { kFloat32 = 1, kInt32 = 2, kUInt8 = 3, kInt8 = 9 };

enum AllocationType : int { kMmapRo = 1, kDynamic = 4, kPersistentRo = 5 };

constexpr int32_t kBuiltinCustom = 32;
constexpr int32_t kBuiltinDelegate = 51;
constexpr int64_t kDelegateAllowDynamicTensors = 1;

struct Context;
struct Delegate;
struct Registration;

struct IntArray {
  int size;
  int data[1];  // [size]
};

struct QuantizationParams {
  float scale;
  int32_t zero_point;
};

struct Tensor {
  Type type;
  void* data;
  IntArray* dims;
  QuantizationParams params;
  AllocationType allocation_type;
  size_t bytes;
  const void* allocation;
  const char* name;
  Delegate* delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  struct {
    int type;
    void* params;
  } quantization;
  void* sparsity;
  const IntArray* dims_signature;
};

struct Node {
  IntArray* inputs;
  IntArray* outputs;
  IntArray* intermediates;
  IntArray* temporaries;
  void* user_data;
  void* builtin_data;
  const void* custom_initial_data;
  int custom_initial_data_size;
  Delegate* delegate;
  bool might_have_side_effect;
};

struct DelegateParams {
  Delegate* delegate;
  IntArray* nodes_to_replace;
  IntArray* input_tensors;
  IntArray* output_tensors;
};

struct Registration {
  void* (*init)(Context* context, const char* buffer, size_t length);
  void (*free)(Context* context, void* buffer);
  Status (*prepare)(Context* context, Node* node);
  Status (*invoke)(Context* context, Node* node);
  const char* (*profiling_string)(const Context* context, const Node* node);
  int32_t builtin_code;
  const char* custom_name;
  int version;
  void* registration_external;
  void* (*async_kernel)(Context* context, Node* node);
  uint64_t inplace_operator;
};

struct Context {
  size_t tensors_size;
  Status (*GetExecutionPlan)(Context* context, IntArray** execution_plan);
  Tensor* tensors;
  void* impl_;
  Status (*ResizeTensor)(Context* context, Tensor* tensor, IntArray* new_size);
  void (*ReportError)(Context* context, const char* format, ...);
  Status (*AddTensors)(Context* context, int tensors_to_add, int* first_new_tensor_index);
  Status (*GetNodeAndRegistration)(Context* context, int node_index, Node** node, Registration** registration);
  Status (*ReplaceNodeSubsetsWithDelegateKernels)(Context* context, Registration registration,
                                                  const IntArray* nodes_to_replace, Delegate* delegate);
  int recommended_num_threads;
  void* (*GetExternalContext)(Context* context, int type);
  void (*SetExternalContext)(Context* context, int type, void* external_context);
  bool allow_fp32_relax_to_fp16;
  void* profiler;
  void* (*AllocatePersistentBuffer)(Context* context, size_t bytes);
  Status (*AllocateBufferForEval)(Context* context, size_t bytes, void** buffer);
  Status (*RequestScratchBufferInArena)(Context* context, size_t bytes, int* buffer_index);
  void* (*GetScratchBuffer)(Context* context, int buffer_index);
  // Null in LiteRT 2.3: do not call.
  Status (*ResizeTensorExplicit)(Context* context, Tensor* tensor, int rank, const int* shape);
  Status (*PreviewDelegatePartitioning)(Context* context, const IntArray* nodes_to_replace,
                                        DelegateParams** partition_params, int* partition_count);
  Tensor* (*GetTensor)(const Context* context, int tensor_index);
  void* (*GetEvalTensor)(const Context* context, int tensor_index);
  Status (*GetModelMetadata)(const Context* context, const char* name, const char** data, size_t* bytes);
  Status (*AcquireSubgraphContext)(Context* context, int subgraph_index, Context** acquired_context);
  Status (*ReleaseSubgraphContext)(Context* context, int subgraph_index);
};

struct Delegate {
  void* data_;
  Status (*Prepare)(Context* context, Delegate* delegate);
  Status (*CopyFromBufferHandle)(Context* context, Delegate* delegate, int buffer_handle, Tensor* tensor);
  Status (*CopyToBufferHandle)(Context* context, Delegate* delegate, int buffer_handle, Tensor* tensor);
  void (*FreeBufferHandle)(Context* context, Delegate* delegate, int* handle);
  int64_t flags;
  void* opaque_delegate_builder;
};

#if defined(__LP64__)
static_assert(sizeof(Tensor) == 112, "TfLiteTensor");
static_assert(sizeof(Node) == 80, "TfLiteNode");
static_assert(sizeof(Registration) == 88, "TfLiteRegistration");
static_assert(sizeof(Context) == 200, "TfLiteContext");
static_assert(sizeof(Delegate) == 56, "TfLiteDelegate");
#endif

}  // namespace tflite
}  // namespace dbq

#endif  // DBQ_DELEGATE_TFLITE_ABI_H_
