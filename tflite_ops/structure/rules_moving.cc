// Operators that move, pad and join values. The twin of keras_dbq/structure/rules_moving.py.
#include "structure/node.h"

namespace dbq {
namespace structure {
namespace {

constexpr int64_t kLargestPadding = 1 << 20;

// The wanted shape of RESHAPE: a tensor, or the options of old files.
bool ReadWanted(const Node& node, Numbers* wanted) {
  if (node.Has(1)) return node.ReadNumbers(1, wanted);
  const Span& sizes = node.op->options.fields[0];
  wanted->are_constant = true, wanted->count = node.op->has_options ? sizes.count : 0;
  if (wanted->count > Shape::kMostAxes) return false;
  for (int64_t i = 0; i < wanted->count; ++i) wanted->values[i] = node.reader->Element<int32_t>(sizes, i);
  return true;
}

// Sizes of at least 0, and at most one -1, whose axis is found: `rank` where there is none.
bool ToShape(const Numbers& wanted, Shape* shape, int* inferred) {
  *shape = Shape{};
  *inferred = -1;
  for (int64_t i = 0; i < wanted.count; ++i) {
    if (wanted.values[i] < -1 || !shape->Append(wanted.values[i])) return false;
    if (wanted.values[i] != -1) continue;
    if (*inferred >= 0) return false;
    *inferred = static_cast<int>(i);
  }
  if (*inferred < 0) *inferred = shape->rank;
  return shape->IsModest();
}

bool Reshape(const Node& node, Shape* y) {
  Numbers wanted;
  if (!node.KeepsType() || !ReadWanted(node, &wanted)) return false;
  if (!wanted.are_constant) return true;
  int inferred;
  if (!ToShape(wanted, y, &inferred)) return false;
  const Shape& x = node.KnownShape(0);
  const bool infers = inferred < y->rank;
  if (infers) y->size[inferred] = 1;
  const int64_t count = x.Total(), rest = y->Total();
  if (count >= 0 && !infers) return count == rest;
  if (count >= 0 && (rest == 0 || count % rest != 0)) return false;
  // What is open is the batch: then it is the batch that -1 stands for.
  const bool batch = count < 0 && x.size[0] == kOpen && x.Total(1) == rest;
  if (infers) y->size[inferred] = count >= 0 ? count / rest : batch ? kOpen : kAny;
  return true;
}

bool Join(const Shape& shape, int axis, Shape* y) {
  if (shape.rank != y->rank) return false;
  for (int i = 0; i < y->rank; ++i) {
    const int64_t size = shape.size[i], before = y->size[i], least = std::min(size, before);
    if (i != axis && least >= 0 && size != before) return false;
    y->size[i] = i != axis ? std::max(size, before) : least < 0 ? kAny : size + before;
  }
  return true;
}

bool Concatenation(const Node& node, Shape* y) {
  int axis;
  if (!node.KeepsType() || !FindAxis(node.Option<int32_t>(0, 0), node.KnownShape(0).rank, &axis)) return false;
  *y = node.KnownShape(0);
  for (size_t i = 1; i < node.inputs.size(); ++i) {
    if (!node.Has(i) || !node.KeepsType(i) || !Join(node.KnownShape(i), axis, y) || !y->IsModest()) return false;
  }
  return true;
}

bool Pad(const Node& node, Shape* y) {
  Numbers pairs;
  if (!node.KeepsType() || !node.ReadNumbers(1, &pairs)) return false;
  if (!pairs.are_constant) return true;
  *y = node.KnownShape(0);
  if (pairs.count != 2 * y->rank) return false;
  for (int64_t i = 0; i < pairs.count; ++i) {
    if (pairs.values[i] < 0 || pairs.values[i] > kLargestPadding) return false;
  }
  for (int i = 0; i < y->rank; ++i) {
    const int64_t more = pairs.values[2 * i] + pairs.values[2 * i + 1];
    if (y->size[i] >= 0) {
      y->size[i] += more;
    } else if (more != 0) {
      y->size[i] = kAny;
    }
  }
  return true;
}

bool Resize(const Node& node, Shape* y) {
  Numbers size;
  const Shape& x = node.KnownShape(0);
  if (!node.KeepsType() || x.rank != 4 || !node.ReadNumbers(1, &size)) return false;
  *y = x;
  y->size[1] = y->size[2] = kAny;
  if (!size.are_constant) return true;
  if (size.count != 2 || size.values[0] < 1 || size.values[1] < 1 || x.size[1] == 0 || x.size[2] == 0) return false;
  y->size[1] = size.values[0], y->size[2] = size.values[1];
  return true;
}

bool Gather(const Node& node, Shape* y) {
  const Shape &x = node.KnownShape(0), &indices = node.KnownShape(1);
  int axis;
  Numbers numbers;
  if (!node.KeepsType() || !FindAxis(node.Option<int32_t>(0, 0), x.rank, &axis)) return false;
  const int batch = node.Option<int32_t>(1, 0);
  if (batch < 0 || batch > std::min(axis, indices.rank) || !node.ReadNumbers(1, &numbers)) return false;
  for (int64_t i = 0; i < numbers.count; ++i) {
    const int64_t index = numbers.values[i];
    if (index < 0 || (x.size[axis] >= 0 && index >= x.size[axis])) return false;
  }
  *y = Shape{};
  bool fits = true;
  for (int i = 0; i < axis; ++i) fits = fits && y->Append(x.size[i]);
  for (int i = batch; i < indices.rank; ++i) fits = fits && y->Append(indices.size[i]);
  for (int i = axis + 1; i < x.rank; ++i) fits = fits && y->Append(x.size[i]);
  return fits;
}

}  // namespace

// source: the numbers of BuiltinOperator and BuiltinOptions of the schema.
const Rule kMovingRules[] = {
    {22, nullptr, 17, "V", false, 1, 2, Reshape},           // RESHAPE
    {2, nullptr, 10, "ib", true, 1, kMany, Concatenation},  // CONCATENATION
    {34, nullptr, 22, "", false, 2, 3, Pad},                // PAD
    {23, nullptr, 15, "--BB", true, 2, 2, Resize},          // RESIZE_BILINEAR
    {97, nullptr, 74, "BB", true, 2, 2, Resize},            // RESIZE_NEAREST_NEIGHBOR
    {36, nullptr, 23, "ii", true, 2, 2, Gather},            // GATHER
    {},
};

}  // namespace structure
}  // namespace dbq
