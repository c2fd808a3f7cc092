// Base-3 packed codes -> trits and integer weights (docs/packing.md, "Codes").
#ifndef DBQ_CORE_PACKING_H_
#define DBQ_CORE_PACKING_H_

#include <cstdint>

#include "core/status.h"

namespace dbq {

constexpr int kTritsPerByte = 5;
constexpr int kMaxCodeByte = 242;  // 3^5 - 1

// Bytes of one branch plane of `weights` trits: ceil(weights / 5).
constexpr int64_t PlaneBytes(int64_t weights) { return weights / kTritsPerByte + (weights % kTritsPerByte != 0); }

// Checks the byte count and that every byte is a legal code with trit 0 behind the last weight of a plane.
Status CheckCodes(const uint8_t* codes, int64_t code_bytes, int branches, int64_t weights);

// Writes the `weights` trits (-1, 0, 1) of one plane. The codes must have passed CheckCodes.
void DecodePlane(const uint8_t* plane, int64_t weights, int8_t* trits);

}  // namespace dbq

#endif  // DBQ_CORE_PACKING_H_
