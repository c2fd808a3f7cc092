// Tensors of a file: types, shapes, sizes, quantization. The twin of keras_dbq/structure/tensors.py.
#ifndef DBQ_STRUCTURE_TENSORS_H_
#define DBQ_STRUCTURE_TENSORS_H_

#include <vector>

#include "structure/reader.h"
#include "structure/shape.h"

namespace dbq {
namespace structure {

// source: TensorType of TensorFlow Lite's schema. Files with others are left to the check in Python.
enum Type : int8_t {
  kFloat32 = 0,
  kInt32 = 2,
  kUint8 = 3,
  kInt64 = 4,
  kBool = 6,
  kInt16 = 7,
  kInt8 = 9,
  kInt4 = 17,
  kInt2 = 19,
};

struct Tensor {
  Type type = kFloat32;
  Shape shape;
  Shape known;     // as the operators say it
  Span signature;  // int32, as many as the shape has, or none
  bool constant = false, variable = false;
  Span place;  // bytes of a constant
  Span scales;
  int64_t axis = 0;  // of the scales

  bool IsCode() const { return type == kInt8 || type == kUint8; }
  int64_t Bytes() const;
};

// The bytes of every buffer; start -1: it has none.
bool ReadBuffers(Reader* reader, const Span& buffers, std::vector<Span>* places);

bool ReadTensor(Reader* reader, const Table& table, const std::vector<Span>& buffers, Tensor* tensor);

}  // namespace structure
}  // namespace dbq

#endif  // DBQ_STRUCTURE_TENSORS_H_
