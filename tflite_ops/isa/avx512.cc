// Operators on neighbouring codes with AVX-512; the compiler makes vectors of the other loops.
#if defined(__x86_64__)

#include "isa/avx512.h"

#include "isa/blend_vector.h"
#include "isa/codes.h"
#include "isa/codes_vector.h"

namespace dbq {

const CodeKernels codes_avx512 = {"codes_avx512", kAvx512Vnni,  AddVectorCodes, MulVectorCodes,
                                  SumCodes,       MaximumCodes, FlipCodes,      ClampCodes,
                                  LookUpCodes,    BlendBytes,   QuantizeCodes,  DequantizeCodes};

}  // namespace dbq

#endif  // defined(__x86_64__)
