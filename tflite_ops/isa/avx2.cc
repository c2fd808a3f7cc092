// Operators on neighbouring codes with AVX2; the compiler makes vectors of the other loops.
#if defined(__x86_64__)

#include "isa/avx2.h"

#include "isa/blend_vector.h"
#include "isa/codes.h"
#include "isa/codes_vector.h"

namespace dbq {
namespace {

// vpshufb looks up 16 bytes by four bits of an index, and gives 0 where the index is negative. Sixteen look-ups with
// indices x, x - 16, x - 32, ... are joined by xor: those that are not negative are the last eight up to the right part
// T_j of the table, so part i is stored as V_i = T_i ^ T_(i-1) ^ V_(i-8), and all but T_j cancels out.
struct Parts {
  static constexpr int kParts = 16;
  Int v[kParts];

  explicit Parts(const uint8_t* table) {
    Int before = _mm256_setzero_si256();
    for (int i = 0; i < kParts; ++i) {
      const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table + i * 16));
      const Int part = _mm256_broadcastsi128_si256(sixteen);
      v[i] = _mm256_xor_si256(part, before);
      if (i >= 8) v[i] = _mm256_xor_si256(v[i], v[i - 8]);
      before = part;
    }
  }

  // Up to x - 128 the difference wraps around; from there on it stays below 0.
  inline __attribute__((always_inline)) Int operator()(Int x, Int) const {
    const Int sixteen = _mm256_set1_epi8(16);
    Int y = _mm256_shuffle_epi8(v[0], x);
    DBQ_UNROLL for (int i = 1; i < kParts; ++i) {
      x = i <= 8 ? _mm256_sub_epi8(x, sixteen) : _mm256_subs_epi8(x, sixteen);
      y = _mm256_xor_si256(y, _mm256_shuffle_epi8(v[i], x));
    }
    return y;
  }
};

void LookUpBytes(const uint8_t* x, const uint8_t* table, uint8_t* y, int64_t count) {
  RunVectors(Parts(table), x, x, y, count);
}

}  // namespace

const CodeKernels codes_avx2 = {"codes_avx2", kAvx2,        AddVectorCodes, MulVectorCodes,
                                SumCodes,     MaximumCodes, FlipCodes,      ClampCodes,
                                LookUpBytes,  BlendBytes,   QuantizeCodes,  DequantizeCodes};

}  // namespace dbq

#endif  // defined(__x86_64__)
