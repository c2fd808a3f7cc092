// Operators on neighbouring codes for aarch64, whose compilers make NEON of the loops.
#if defined(__aarch64__)

#include "isa/codes.h"

namespace dbq {

const CodeKernels codes_neon = {"codes_neon", kNeon,      AddCodes,    MulCodes,   SumCodes,      MaximumCodes,
                                FlipCodes,    ClampCodes, LookUpCodes, BlendCodes, QuantizeCodes, DequantizeCodes};

}  // namespace dbq

#endif  // defined(__aarch64__)
