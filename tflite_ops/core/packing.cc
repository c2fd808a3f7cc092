#include "core/packing.h"

#include <algorithm>
#include <cstring>

namespace dbq {
namespace {

constexpr int kPowersOfThree[kTritsPerByte] = {1, 3, 9, 27, 81};

constexpr int8_t Trit(int byte, int position) { return static_cast<int8_t>(byte / kPowersOfThree[position] % 3 - 1); }

// In a loop that the compiler makes vectors of.
uint8_t Largest(const uint8_t* codes, int64_t count) {
  uint8_t largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = codes[i] > largest ? codes[i] : largest;
  return largest;
}

}  // namespace

Status CheckCodes(const uint8_t* codes, int64_t code_bytes, int branches, int64_t weights) {
  const int64_t plane_bytes = PlaneBytes(weights);
  if (code_bytes != branches * plane_bytes) {
    return Status::Error("codes must hold %lld bytes (%d branches of %lld weights), got %lld; the file is damaged",
                         static_cast<long long>(branches * plane_bytes), branches, static_cast<long long>(weights),
                         static_cast<long long>(code_bytes));
  }
  if (Largest(codes, code_bytes) > kMaxCodeByte) {
    const int64_t i = std::find_if(codes, codes + code_bytes, [](uint8_t c) { return c > kMaxCodeByte; }) - codes;
    return Status::Error("codes[%lld] must be at most %d, got %d; the file is damaged", static_cast<long long>(i),
                         kMaxCodeByte, codes[i]);
  }
  for (int branch = 0; branch < branches; ++branch) {
    const int64_t last = (branch + 1) * plane_bytes - 1;
    for (int64_t i = weights; i < plane_bytes * kTritsPerByte; ++i) {
      if (Trit(codes[last], static_cast<int>(i % kTritsPerByte)) == 0) continue;
      return Status::Error("codes[%lld] must be filled with trit 0 behind the last weight, got byte %d",
                           static_cast<long long>(last), codes[last]);
    }
  }
  return Status::Ok();
}

namespace {

// The five trits of every code byte, and three that nobody needs: eight bytes are copied at once. A division for each
// would take most of the time that a file takes to load.
struct TritTable {
  static constexpr int kBytes = 8;
  int8_t trits[kMaxCodeByte + 1][kBytes];
  constexpr TritTable() : trits() {
    for (int byte = 0; byte <= kMaxCodeByte; ++byte) {
      for (int i = 0; i < kTritsPerByte; ++i) trits[byte][i] = Trit(byte, i);
    }
  }
};
constexpr TritTable kTable;

}  // namespace

void DecodePlane(const uint8_t* plane, int64_t weights, int8_t* trits) {
  int64_t i = 0;
  for (; i + TritTable::kBytes <= weights; i += kTritsPerByte) {
    std::memcpy(trits + i, kTable.trits[*plane++], TritTable::kBytes);  // the next copy writes over the last three
  }
  for (; i < weights; i += kTritsPerByte) {
    const int8_t* five = kTable.trits[*plane++];
    const int64_t count = weights - i < kTritsPerByte ? weights - i : kTritsPerByte;
    for (int64_t j = 0; j < count; ++j) trits[i + j] = five[j];
  }
}

}  // namespace dbq
