#include "structure/tensors.h"

namespace dbq {
namespace structure {
namespace {

// Bits of one element; 0 for types that are left to the check in Python.
int64_t Bits(Type type) {
  switch (type) {
    case kFloat32:
    case kInt32:
      return 32;
    case kInt64:
      return 64;
    case kInt16:
      return 16;
    case kUint8:
    case kBool:
    case kInt8:
      return 8;
    case kInt4:
      return 4;
    case kInt2:
      return 2;
  }
  return 0;
}

// XNNPACK ends the process over a scale below the smallest normal float32.
constexpr float kSmallestScale = 0x1p-126f, kLargestScale = 0x1.fffffep127f;

struct Bounds {
  int64_t low, high;
};

// Codes that a zero point may be.
Bounds Codes(Type type) {
  if (type == kInt8) return {-128, 127};
  if (type == kUint8) return {0, 255};
  if (type == kInt16) return {INT16_MIN, INT16_MAX};
  if (type == kInt32) return {INT32_MIN, INT32_MAX};
  return {INT64_MIN, INT64_MAX};
}

bool ReadShape(const Reader& reader, const Span& sizes, Shape* shape) {
  for (int64_t i = 0; i < sizes.count; ++i) {
    if (!shape->Append(reader.Element<int32_t>(sizes, i))) return false;
  }
  return true;
}

// The shape signature says of every size what it is, or -1 where it is open.
bool CheckSignature(const Reader& reader, const Tensor& tensor) {
  if (tensor.signature.count == 0) return true;
  if (tensor.signature.count != tensor.shape.rank) return false;
  for (int i = 0; i < tensor.shape.rank; ++i) {
    const int32_t said = reader.Element<int32_t>(tensor.signature, i);
    if (said != kOpen && said != tensor.shape.size[i]) return false;
  }
  return true;
}

// A constant's bytes fill its shape.
bool ReadPlace(const Span& place, Tensor* tensor) {
  const bool empty = tensor->shape.Holds(0) && !tensor->variable;
  tensor->constant = place.start >= 0 || empty, tensor->place = place;
  return place.start < 0 || place.count == tensor->Bytes();
}

// Loops that the compiler makes vectors of: a file has thousands of scales.
bool CheckScales(const Reader& reader, const Span& scales) {
  bool normal = true;  // NaN is not
  for (int64_t i = 0; i < scales.count; ++i) {
    const float scale = reader.Element<float>(scales, i);
    normal &= (scale >= kSmallestScale) & (scale <= kLargestScale);
  }
  return normal;
}

bool CheckZeroPoints(const Reader& reader, const Span& zero_points, const Bounds& codes) {
  int64_t any = 0;
  for (int64_t i = 0; i < zero_points.count; ++i) any |= reader.Element<int64_t>(zero_points, i);
  if (any == 0) return true;  // all are codes of every type
  for (int64_t i = 0; i < zero_points.count; ++i) {
    const int64_t zero_point = reader.Element<int64_t>(zero_points, i);
    if (zero_point < codes.low || zero_point > codes.high) return false;
  }
  return true;
}

// Scales finite and > 0: one, or one per channel along an axis of the shape, with a zero point for each.
bool ReadQuantization(Reader* reader, int64_t at, Tensor* tensor) {
  Table table;  // min, max, scale, zero point, type of details, details, axis
  if (!reader->Read(at, "FFFLBxi", &table) || reader->Number<uint8_t>(table, 4, 0) != 0) return false;
  const Span &scales = table.fields[2], &zero_points = table.fields[3];
  if (scales.count == 0) return true;
  const int64_t axis = reader->Number<int32_t>(table, 6, 0);
  if (axis < 0 || axis >= std::max(tensor->shape.rank, 1)) return false;
  const int64_t channels = tensor->shape.rank == 0 ? 1 : tensor->shape.size[axis];
  if ((scales.count != 1 && scales.count != channels) || zero_points.count != scales.count) return false;
  tensor->scales = scales, tensor->axis = axis;
  return CheckScales(*reader, scales) && CheckZeroPoints(*reader, zero_points, Codes(tensor->type));
}

}  // namespace

int64_t Tensor::Bytes() const { return (shape.Total() * Bits(type) + 7) / 8; }

bool ReadBuffers(Reader* reader, const Span& buffers, std::vector<Span>* places) {
  places->resize(buffers.count);
  for (int64_t i = 0; i < buffers.count; ++i) {
    Table table;  // data; offset and size of bytes behind the tables
    if (!reader->Follow(buffers, i, "[QQ", &table) || reader->Number<uint64_t>(table, 1, 0) > 1) return false;
    if (table.fields[0].count > 0) (*places)[i] = table.fields[0];
  }
  return true;
}

bool ReadTensor(Reader* reader, const Table& table, const std::vector<Span>& buffers, Tensor* tensor) {
  tensor->type = static_cast<Type>(reader->Number<int8_t>(table, 1, 0));
  tensor->variable = reader->Number<uint8_t>(table, 5, 0) != 0;
  const int64_t buffer = reader->Number<uint32_t>(table, 2, 0);
  const bool external = reader->Number<uint32_t>(table, 10, 0) != 0;
  if (Bits(tensor->type) == 0 || external || buffer >= static_cast<int64_t>(buffers.size())) return false;
  if (!ReadShape(*reader, table.fields[0], &tensor->shape)) return false;
  if (tensor->shape.Smallest() < 0 || !tensor->shape.IsModest()) return false;
  tensor->signature = table.fields[7];
  if (!CheckSignature(*reader, *tensor)) return false;
  if (!ReadPlace(buffer == 0 ? Span{} : buffers[buffer], tensor)) return false;
  const Span& quantization = table.fields[4];
  return quantization.start < 0 || ReadQuantization(reader, quantization.start, tensor);
}

}  // namespace structure
}  // namespace dbq
