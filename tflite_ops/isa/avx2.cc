// Operators on neighbouring codes with AVX2; the compiler makes vectors of the loops.
#if defined(__x86_64__)

#include "isa/codes.h"

namespace dbq {

const CodeKernels codes_avx2 = {"codes_avx2", kAvx2,     AddCodes,   MulCodes,   SumCodes,
                                MaximumCodes, FlipCodes, ClampCodes, LookUpCodes};

}  // namespace dbq

#endif  // defined(__x86_64__)
