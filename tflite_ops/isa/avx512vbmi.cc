// Operators on neighbouring codes with AVX-512 and its permutations of bytes: tables are looked up in registers.
#if defined(__x86_64__)

#include "isa/avx512.h"
#include "isa/blend_vector.h"
#include "isa/codes.h"
#include "isa/codes_vector.h"

namespace dbq {
namespace {

// The low seven bits choose among 128 bytes in two registers, the highest one between the halves of the table.
void LookUpBytes(const uint8_t* x, const uint8_t* table, uint8_t* y, int64_t count) {
  const Int t0 = Load(table), t1 = Load(table + 64), t2 = Load(table + 128), t3 = Load(table + 192);
  for (int64_t i = 0; i < count; i += 64) {
    const __mmask64 mask = FirstBytes(count - i);
    const Int codes = _mm512_maskz_loadu_epi8(mask, x + i);
    const Int low = _mm512_permutex2var_epi8(t0, codes, t1), high = _mm512_permutex2var_epi8(t2, codes, t3);
    _mm512_mask_storeu_epi8(y + i, mask, _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), low, high));
  }
}

}  // namespace

const CodeKernels codes_avx512vbmi = {"codes_avx512vbmi", kAvx512Vnni | kAvx512Vbmi,
                                      AddVectorCodes,     MulVectorCodes,
                                      SumCodes,           MaximumCodes,
                                      FlipCodes,          ClampCodes,
                                      LookUpBytes,        BlendBytes,
                                      QuantizeCodes,      DequantizeCodes};

}  // namespace dbq

#endif  // defined(__x86_64__)
