// Operators on neighbouring codes for aarch64, whose compilers make NEON of most loops.
#if defined(__aarch64__)

#include "isa/neon.h"

#include "isa/codes.h"

namespace dbq {
namespace {

// The exact product (a - zero_a) * (b - zero_b) * scale, ties up. The scale is mantissa * 2^(-31 - shift); a shift to
// the left comes before the multiplication, whose result is rounded down, one to the right, which rounds, behind it.
struct MulVectors {
  int16x8_t zero_a, zero_b;
  Int mantissa, left, right;
  Clamp clamp;

  explicit MulVectors(const MulParams& p)
      : zero_a(vdupq_n_s16(static_cast<int16_t>(p.zero_a))),
        zero_b(vdupq_n_s16(static_cast<int16_t>(p.zero_b))),
        clamp(p.stage) {
    const MulFactor factor(p.scale);
    const int shift = factor.shift - 24;  // of a mantissa of 31 bits
    mantissa = vdupq_n_s32(factor.mantissa << 7);
    left = vdupq_n_s32(shift < 1 ? 1 - shift : 0);
    right = vdupq_n_s32(shift < 1 ? -1 : -shift);
  }

  DBQ_INLINE Int Scale(const MulVectors& m, Int product) {
    return vrshlq_s32(vqdmulhq_s32(vshlq_s32(product, m.left), m.mantissa), m.right);
  }

  DBQ_INLINE uint8x8_t Multiply(const MulVectors& m, uint8x8_t a, uint8x8_t b) {
    const int16x8_t x = vsubq_s16(vreinterpretq_s16_u16(vmovl_u8(a)), m.zero_a);
    const int16x8_t z = vsubq_s16(vreinterpretq_s16_u16(vmovl_u8(b)), m.zero_b);
    const Int low = vmull_s16(vget_low_s16(x), vget_low_s16(z)), high = vmull_high_s16(x, z);
    return PackHalf(Scale(m, low), Scale(m, high), m.clamp);
  }
};

void MulVectorCodes(const MulParams& params, const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t count) {
  const MulVectors m(params);
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) vst1_u8(y + i, MulVectors::Multiply(m, vld1_u8(a + i), vld1_u8(b + i)));
  MulCodes(params, a + i, b + i, y + i, count - i);
}

// TBX leaves a byte alone whose index lies outside of its 64: four of them look up all 256.
void LookUpVectorCodes(const uint8_t* x, const uint8_t* table, uint8_t* y, int64_t count) {
  uint8x16x4_t part[4];
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) part[i].val[j] = vld1q_u8(table + 64 * i + 16 * j);
  }
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const uint8x16_t index = vld1q_u8(x + i);
    uint8x16_t found = vqtbl4q_u8(part[0], index);
    found = vqtbx4q_u8(found, part[1], vsubq_u8(index, vdupq_n_u8(64)));
    found = vqtbx4q_u8(found, part[2], vsubq_u8(index, vdupq_n_u8(128)));
    found = vqtbx4q_u8(found, part[3], vsubq_u8(index, vdupq_n_u8(192)));
    vst1q_u8(y + i, found);
  }
  LookUpCodes(x + i, table, y + i, count - i);
}

}  // namespace

const CodeKernels codes_neon = {"codes_neon",      kNeon,        AddCodes,      MulVectorCodes,
                                SumCodes,          MaximumCodes, FlipCodes,     ClampCodes,
                                LookUpVectorCodes, BlendCodes,   QuantizeCodes, DequantizeCodes};

}  // namespace dbq

#endif  // defined(__aarch64__)
