// What a processor can do beyond its baseline: a set of bits, because instruction sets are not in one line.
#ifndef DBQ_ISA_FEATURES_H_
#define DBQ_ISA_FEATURES_H_

#include <cstdint>

namespace dbq {

using Features = uint32_t;
constexpr Features kScalar = 0;
constexpr Features kAvx2 = 1 << 0;
constexpr Features kAvx512Vnni = 1 << 1;  // F, BW, DQ, VL and VNNI
constexpr Features kAvx512Vbmi = 1 << 2;  // looks up bytes in registers
constexpr Features kAmxInt8 = 1 << 3;     // granted by the operating system, too
constexpr Features kNeon = 1 << 4;        // every aarch64
constexpr Features kDotProd = 1 << 5;     // SDOT, Armv8.2
constexpr Features kI8mm = 1 << 6;        // USMMLA, Armv8.6
constexpr Features kAvxVnni = 1 << 7;     // of 256 bits, where AVX-512 need not be

// Of this processor.
Features DetectFeatures();

// The option "isa": what the processor needs for it, and the most that kernels may use. False when no instruction set
// has that name.
bool ParseIsa(const char* name, Features* needed, Features* allowed);
// "auto, scalar, ...", for messages.
const char* IsaNames();

constexpr bool Has(Features available, Features needed) { return (available & needed) == needed; }

}  // namespace dbq

#endif  // DBQ_ISA_FEATURES_H_
