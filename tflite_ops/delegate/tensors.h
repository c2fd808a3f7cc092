// Checked access to an operator's TFLite tensors. Nothing in a file is trusted: indices, types, ranks and byte counts
// are compared before anything is read.
#ifndef DBQ_DELEGATE_TENSORS_H_
#define DBQ_DELEGATE_TENSORS_H_

#include <cstdint>
#include <vector>

#include "core/layer.h"
#include "core/status.h"
#include "delegate/tflite_abi.h"
#include "delegate/tflite_options.h"

namespace dbq {

// Inputs of an operator in the order of docs/packing.md.
enum InputIndex { kInput, kCodes, kBranchScales, kScales, kBias, kParams, kThresholds, kMostInputs };
constexpr int kInputCount = kThresholds;  // of format version 1

// Null when the index is out of range.
tflite::Tensor* GetTensor(const tflite::Context* context, int index);

// Number of elements, or -1 when a dimension is negative or the product passes 2^31 - 1.
int64_t ElementCount(const tflite::Tensor& tensor);

bool IsConstant(const tflite::Tensor& tensor);

// Scales and zero points that are there, as many of one as of the other or one zero point for all; else null.
const tflite::AffineQuantization* Quantization(const tflite::Tensor& tensor);

// The constant tensors in the form that ReadLayer takes: bytes where they lie, numbers copied (a damaged file may
// misalign them).
class ConstantCopies {
 public:
  // inputs: `count` tensor indices, kInputCount or kMostInputs.
  Status Read(const tflite::Context* context, const int* inputs, int count);
  const ConstantTensors& view() const { return view_; }

 private:
  std::vector<float> scales_;
  std::vector<int32_t> bias_, params_, thresholds_;
  ConstantTensors view_;
};

// An int8 activation.
Status CheckCodes(const char* name, const tflite::Tensor& tensor);
// One whose quantization equals what the kernel was built for.
Status CheckActivation(const char* name, const tflite::Tensor& tensor, float scale, int32_t zero_point);

}  // namespace dbq

#endif  // DBQ_DELEGATE_TENSORS_H_
