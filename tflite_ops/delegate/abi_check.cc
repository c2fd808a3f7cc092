// Compares delegate/tflite_abi.h with the official headers at compile time; nothing to run.
// Built only with -DTFLITE_HEADERS=<folder that holds tflite/c/common.h or tensorflow/lite/c/common.h>.
#if __has_include("tflite/core/c/common.h")
#include "tflite/core/c/common.h"
#else
#include "tensorflow/lite/core/c/common.h"
#endif

#include <cstddef>

#include "delegate/tflite_abi.h"

namespace dbq {
namespace {

#define DBQ_SAME_SIZE(name) static_assert(sizeof(tflite::name) == sizeof(::TfLite##name), #name)
#define DBQ_SAME_FIELD(name, field)                                                 \
  static_assert(offsetof(tflite::name, field) == offsetof(::TfLite##name, field) && \
                    sizeof(tflite::name::field) == sizeof(::TfLite##name::field),   \
                #name "." #field)
#define DBQ_SAME_VALUE(ours, official) static_assert(static_cast<int>(ours) == static_cast<int>(official), #official)

DBQ_SAME_SIZE(Tensor);
DBQ_SAME_FIELD(Tensor, type);
DBQ_SAME_FIELD(Tensor, data);
DBQ_SAME_FIELD(Tensor, dims);
DBQ_SAME_FIELD(Tensor, params);
DBQ_SAME_FIELD(Tensor, allocation_type);
DBQ_SAME_FIELD(Tensor, bytes);
DBQ_SAME_FIELD(Tensor, name);

DBQ_SAME_SIZE(Node);
DBQ_SAME_FIELD(Node, inputs);
DBQ_SAME_FIELD(Node, outputs);
DBQ_SAME_FIELD(Node, user_data);

DBQ_SAME_SIZE(DelegateParams);
DBQ_SAME_FIELD(DelegateParams, delegate);
DBQ_SAME_FIELD(DelegateParams, nodes_to_replace);
DBQ_SAME_FIELD(DelegateParams, output_tensors);

DBQ_SAME_SIZE(Registration);
DBQ_SAME_FIELD(Registration, init);
DBQ_SAME_FIELD(Registration, free);
DBQ_SAME_FIELD(Registration, prepare);
DBQ_SAME_FIELD(Registration, invoke);
DBQ_SAME_FIELD(Registration, builtin_code);
DBQ_SAME_FIELD(Registration, custom_name);
DBQ_SAME_FIELD(Registration, version);

DBQ_SAME_SIZE(Context);
DBQ_SAME_FIELD(Context, tensors_size);
DBQ_SAME_FIELD(Context, GetExecutionPlan);
DBQ_SAME_FIELD(Context, tensors);
DBQ_SAME_FIELD(Context, ReportError);
DBQ_SAME_FIELD(Context, GetNodeAndRegistration);
DBQ_SAME_FIELD(Context, ReplaceNodeSubsetsWithDelegateKernels);
DBQ_SAME_FIELD(Context, recommended_num_threads);
DBQ_SAME_FIELD(Context, ResizeTensor);
DBQ_SAME_FIELD(Context, GetTensor);
DBQ_SAME_FIELD(Context, PreviewDelegatePartitioning);

DBQ_SAME_SIZE(Delegate);
DBQ_SAME_FIELD(Delegate, data_);
DBQ_SAME_FIELD(Delegate, Prepare);
DBQ_SAME_FIELD(Delegate, flags);

DBQ_SAME_VALUE(tflite::kOk, kTfLiteOk);
DBQ_SAME_VALUE(tflite::kError, kTfLiteError);
DBQ_SAME_VALUE(tflite::kFloat32, kTfLiteFloat32);
DBQ_SAME_VALUE(tflite::kInt32, kTfLiteInt32);
DBQ_SAME_VALUE(tflite::kUInt8, kTfLiteUInt8);
DBQ_SAME_VALUE(tflite::kInt8, kTfLiteInt8);
DBQ_SAME_VALUE(tflite::kMmapRo, kTfLiteMmapRo);
DBQ_SAME_VALUE(tflite::kDynamic, kTfLiteDynamic);
DBQ_SAME_VALUE(tflite::kPersistentRo, kTfLitePersistentRo);
DBQ_SAME_VALUE(tflite::kDelegateAllowDynamicTensors, kTfLiteDelegateFlagsAllowDynamicTensors);
static_assert(offsetof(::TfLiteIntArray, data) == offsetof(tflite::IntArray, data), "IntArray.data");

}  // namespace
}  // namespace dbq
