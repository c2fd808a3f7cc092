// Operators on neighbouring codes with AVX2; the compiler makes vectors of the other loops.
#if defined(__x86_64__)

#include "isa/avx2.h"

#include "isa/codes.h"
#include "isa/codes_vector.h"

namespace dbq {
namespace {

// vpshufb looks up 16 bytes by four bits of an index, and gives 0 where the index is negative. Sixteen look-ups with
// indices x, x - 16, x - 32, ... are joined by xor: those that are not negative are the last eight up to the right part
// T_j of the table, so part i is stored as V_i = T_i ^ T_(i-1) ^ V_(i-8), and all but T_j cancels out.
struct Parts {
  static constexpr int kParts = 16;
  alignas(32) uint8_t bytes[kParts][32];

  explicit Parts(const uint8_t* table) {
    for (int i = 0; i < kParts; ++i) {
      for (int k = 0; k < 32; ++k) {
        int byte = table[i * 16 + k % 16];
        if (i >= 1) byte ^= table[(i - 1) * 16 + k % 16];
        if (i >= 8) byte ^= bytes[i - 8][k];
        bytes[i][k] = static_cast<uint8_t>(byte);
      }
    }
  }

  // Up to x - 128 the difference wraps around; from there on it stays below 0.
  inline __attribute__((always_inline)) Int operator()(Int x, Int) const {
    const Int sixteen = _mm256_set1_epi8(16);
    Int y = _mm256_shuffle_epi8(Load(bytes[0]), x);
    DBQ_UNROLL for (int i = 1; i < kParts; ++i) {
      x = i <= 8 ? _mm256_sub_epi8(x, sixteen) : _mm256_subs_epi8(x, sixteen);
      y = _mm256_xor_si256(y, _mm256_shuffle_epi8(Load(bytes[i]), x));
    }
    return y;
  }
};

void LookUpBytes(const uint8_t* x, const uint8_t* table, uint8_t* y, int64_t count) {
  RunVectors(Parts(table), x, x, y, count);
}

}  // namespace

const CodeKernels codes_avx2 = {"codes_avx2", kAvx2,     AddVectorCodes, MulVectorCodes, SumCodes,
                                MaximumCodes, FlipCodes, ClampCodes,     LookUpBytes};

}  // namespace dbq

#endif  // defined(__x86_64__)
