// Sizes of tensors as far as they are known; the twin of what keras_dbq/structure/node.py says of shapes.
#ifndef DBQ_STRUCTURE_SHAPE_H_
#define DBQ_STRUCTURE_SHAPE_H_

#include <algorithm>
#include <cstdint>

namespace dbq {
namespace structure {

// Sizes are numbers, or one of these. kOpen follows from an input that the file leaves open; kAny is not looked at.
constexpr int64_t kOpen = -1, kAny = -2;

struct Shape {
  static constexpr int kMostAxes = 6;
  // So that products of sizes fit, with room for what is multiplied with them.
  static constexpr int64_t kLargestSize = INT64_C(1) << 31, kMostElements = INT64_C(1) << 40;

  int rank = 0;
  int64_t size[kMostAxes] = {};

  bool Append(int64_t value) {
    if (rank == kMostAxes) return false;
    size[rank++] = value;
    return true;
  }
  int64_t Smallest() const { return rank == 0 ? 0 : *std::min_element(size, size + rank); }
  bool IsKnown() const { return Smallest() >= 0; }
  bool Holds(int64_t value) const { return std::find(size, size + rank, value) != size + rank; }
  // False for sizes that are left to the check in Python; sizes of 0 count as 1.
  bool IsModest() const {
    int64_t product = 1;
    for (int i = 0; i < rank; ++i) {
      if (size[i] > kLargestSize) return false;
      product *= std::max<int64_t>(size[i], 1);
      if (product > kMostElements) return false;
    }
    return true;
  }
  // Elements of axes `first` and behind; kAny where not all sizes are known.
  int64_t Total(int first = 0) const {
    int64_t product = 1;
    for (int i = first; i < rank; ++i) {
      if (size[i] < 0) return kAny;
      product *= size[i];
    }
    return product;
  }
};

}  // namespace structure
}  // namespace dbq

#endif  // DBQ_STRUCTURE_SHAPE_H_
