#include "delegate/tensors.h"

#include <cstring>

namespace dbq {
namespace {

struct Expected {
  const char* name;
  tflite::Type type;
  const char* type_name;
  int rank;
};

constexpr Expected kConstants[kMostInputs] = {
    {"input", tflite::kInt8, "int8", 0},           {"codes", tflite::kUInt8, "uint8", 1},
    {"branch_scales", tflite::kUInt8, "uint8", 2}, {"scales", tflite::kFloat32, "float32", 1},
    {"bias", tflite::kInt32, "int32", 1},          {"params", tflite::kInt32, "int32", 1},
    {"thresholds", tflite::kInt32, "int32", 2},
};

Status CheckConstant(const tflite::Tensor* tensor, const Expected& expected, size_t element_bytes) {
  if (tensor == nullptr) return Status::Error("%s is missing; export the file again", expected.name);
  if (tensor->type != expected.type) {
    return Status::Error("%s must be %s, got tensor type %d; export the file again", expected.name, expected.type_name,
                         static_cast<int>(tensor->type));
  }
  if (!IsConstant(*tensor)) {
    return Status::Error("%s must be constant data in the file, got a computed or empty tensor; export the file again",
                         expected.name);
  }
  if (tensor->dims == nullptr || tensor->dims->size != expected.rank) {
    return Status::Error("%s must have rank %d, got %d; export the file again", expected.name, expected.rank,
                         tensor->dims == nullptr ? 0 : tensor->dims->size);
  }
  const int64_t count = ElementCount(*tensor);
  if (count < 0 || static_cast<uint64_t>(count) * element_bytes != tensor->bytes) {
    return Status::Error("%s has a shape of %lld elements but %zu bytes of data; the file is damaged", expected.name,
                         static_cast<long long>(count), tensor->bytes);
  }
  return Status::Ok();
}

Status CheckBytes(const tflite::Context* context, const int* inputs, InputIndex index) {
  return CheckConstant(GetTensor(context, inputs[index]), kConstants[index], 1);
}

template <typename T>
Status Copy(const tflite::Context* context, const int* inputs, InputIndex index, std::vector<T>* values) {
  const tflite::Tensor* tensor = GetTensor(context, inputs[index]);
  DBQ_RETURN_IF_ERROR(CheckConstant(tensor, kConstants[index], sizeof(T)));
  values->resize(tensor->bytes / sizeof(T));
  if (!values->empty()) std::memcpy(values->data(), tensor->data, tensor->bytes);
  return Status::Ok();
}

}  // namespace

tflite::Tensor* GetTensor(const tflite::Context* context, int index) {
  if (index < 0 || static_cast<size_t>(index) >= context->tensors_size) return nullptr;
  return context->tensors != nullptr ? &context->tensors[index] : context->GetTensor(context, index);
}

bool IsConstant(const tflite::Tensor& tensor) {
  const auto type = tensor.allocation_type;
  return (type == tflite::kMmapRo || type == tflite::kPersistentRo) && tensor.data != nullptr;
}

const tflite::AffineQuantization* Quantization(const tflite::Tensor& tensor) {
  if (tensor.quantization.type != tflite::kAffineQuantization) return nullptr;
  const auto* q = static_cast<const tflite::AffineQuantization*>(tensor.quantization.params);
  if (q == nullptr || q->scale == nullptr || q->zero_point == nullptr || q->scale->size < 1) return nullptr;
  const bool matching = q->zero_point->size == 1 || q->zero_point->size == q->scale->size;
  return matching ? q : nullptr;
}

int64_t ElementCount(const tflite::Tensor& tensor) {
  int64_t count = 1;
  for (int i = 0; i < tensor.dims->size; ++i) {
    if (tensor.dims->data[i] < 0) return -1;
    count *= tensor.dims->data[i];  // both factors are below 2^31
    if (count > INT64_C(2147483647)) return -1;
  }
  return count;
}

Status ConstantCopies::Read(const tflite::Context* context, const int* inputs, int count) {
  DBQ_RETURN_IF_ERROR(CheckBytes(context, inputs, kCodes));
  DBQ_RETURN_IF_ERROR(CheckBytes(context, inputs, kBranchScales));
  DBQ_RETURN_IF_ERROR(Copy(context, inputs, kScales, &scales_));
  DBQ_RETURN_IF_ERROR(Copy(context, inputs, kBias, &bias_));
  DBQ_RETURN_IF_ERROR(Copy(context, inputs, kParams, &params_));
  const tflite::Tensor& codes = *GetTensor(context, inputs[kCodes]);
  const tflite::Tensor& branch_scales = *GetTensor(context, inputs[kBranchScales]);
  const tflite::IntArray& shape = *branch_scales.dims;
  view_ = {static_cast<const uint8_t*>(codes.data),
           static_cast<int64_t>(codes.bytes),
           static_cast<const uint8_t*>(branch_scales.data),
           shape.data[0],
           shape.data[1],
           scales_.data(),
           static_cast<int64_t>(scales_.size()),
           bias_.data(),
           static_cast<int64_t>(bias_.size()),
           params_.data(),
           static_cast<int64_t>(params_.size())};
  if (count == kInputCount) return Status::Ok();
  DBQ_RETURN_IF_ERROR(Copy(context, inputs, kThresholds, &thresholds_));
  const tflite::IntArray& rows = *GetTensor(context, inputs[kThresholds])->dims;
  view_.thresholds = thresholds_.data();
  view_.thresholds_rows = rows.data[0], view_.thresholds_columns = rows.data[1];
  return Status::Ok();
}

Status CheckCodes(const char* name, const tflite::Tensor& tensor) {
  if (tensor.type == tflite::kInt8) return Status::Ok();
  return Status::Error("%s must be int8, got tensor type %d; export the file again", name,
                       static_cast<int>(tensor.type));
}

Status CheckActivation(const char* name, const tflite::Tensor& tensor, float scale, int32_t zero_point) {
  DBQ_RETURN_IF_ERROR(CheckCodes(name, tensor));
  if (tensor.params.scale != scale || tensor.params.zero_point != zero_point) {
    return Status::Error("%s tensor has scale %.9g, zero point %d but the packed layer has %.9g, %d; export it again",
                         name, static_cast<double>(tensor.params.scale), tensor.params.zero_point,
                         static_cast<double>(scale), zero_point);
  }
  return Status::Ok();
}

}  // namespace dbq
