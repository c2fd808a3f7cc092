// Operators on neighbouring codes with AVX-512; the compiler makes vectors of the loops.
#if defined(__x86_64__)

#include "isa/codes.h"

namespace dbq {

const CodeKernels codes_avx512 = {"codes_avx512", kAvx512Vnni, AddCodes,   MulCodes,   SumCodes,
                                  MaximumCodes,   FlipCodes,   ClampCodes, LookUpCodes};

}  // namespace dbq

#endif  // defined(__x86_64__)
