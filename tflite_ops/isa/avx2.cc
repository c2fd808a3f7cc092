// Operators on neighbouring codes with AVX2; the compiler makes vectors of the other loops.
#if defined(__x86_64__)

#include "isa/avx2.h"

#include "isa/codes.h"
#include "isa/codes_vector.h"

namespace dbq {

const CodeKernels codes_avx2 = {"codes_avx2", kAvx2,     AddVectorCodes, MulVectorCodes, SumCodes,
                                MaximumCodes, FlipCodes, ClampCodes,     LookUpCodes};

}  // namespace dbq

#endif  // defined(__x86_64__)
