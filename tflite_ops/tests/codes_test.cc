// Operators on neighbouring codes: every instruction set against plain loops in int64 and double, tolerance 0.
#include <cmath>
#include <vector>

#include "isa/select.h"
#include "tests/testing.h"

namespace dbq {
namespace {

using testing::Random;

std::vector<uint8_t> MakeCodes(int64_t count, Random* random) {
  std::vector<uint8_t> codes(count);
  for (uint8_t& code : codes)
    code = static_cast<uint8_t>(random->Int(0, 3) == 0 ? random->Int(0, 1) * 255 : random->Int(0, 255));
  return codes;
}

// Calls test(kernels, count, random) for every instruction set of this processor and many lengths.
template <typename Test>
void ForEach(Test test) {
  for (const CodeKernels* kernels : AllCodeKernels()) {
    if (!Has(DetectFeatures(), kernels->needs)) continue;
    for (int64_t count : {1, 3, 15, 16, 31, 32, 33, 63, 64, 65, 127, 128, 200}) {
      Random random(static_cast<uint64_t>(count));
      for (int i = 0; i < 20; ++i) test(*kernels, count, &random);
    }
  }
}

// What lies behind the last code must stay.
void ExpectCodes(const CodeKernels& kernels, const std::vector<uint8_t>& expected, const std::vector<uint8_t>& actual) {
  for (size_t i = 0; i < actual.size(); ++i) {
    const int code = i < expected.size() ? expected[i] : 0x55;
    if (actual[i] == code) continue;
    testing::Fail(__FILE__, __LINE__, "%s: code %zu of %zu: expected %d, got %d", kernels.name, i, expected.size(),
                  code, actual[i]);
    return;
  }
}

DBQ_TEST(Add) {
  ForEach([](const CodeKernels& kernels, int64_t count, Random* random) {
    AddParams p;
    p.shift = static_cast<uint32_t>(random->Int(12, 30));
    p.multiplier_a = random->Int(1 << 20, 1 << 21), p.multiplier_b = random->Int(1, 1 << 21);
    p.bias = -random->Int(0, 1 << 29);
    p.zero_point = random->Int(0, 255), p.low = random->Int(0, 100), p.high = random->Int(101, 255);
    const std::vector<uint8_t> a = MakeCodes(count, random), b = MakeCodes(count, random);
    std::vector<uint8_t> y(count + 64, 0x55), expected;
    kernels.add(p, a.data(), b.data(), y.data(), count);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t sum = int64_t{a[i]} * p.multiplier_a + int64_t{b[i]} * p.multiplier_b + p.bias;
      const int64_t code = (sum >> p.shift) + p.zero_point;
      expected.push_back(static_cast<uint8_t>(code < p.low ? p.low : code > p.high ? p.high : code));
    }
    ExpectCodes(kernels, expected, y);
  });
}

DBQ_TEST(Mul) {
  ForEach([](const CodeKernels& kernels, int64_t count, Random* random) {
    MulParams p;
    p.zero_a = random->Int(0, 255), p.zero_b = random->Int(0, 255);
    p.scale = random->Float(1e-5f, 0.02f);
    p.stage.zero_point = random->Int(0, 255);
    const int low = random->Int(0, 100), high = random->Int(101, 255);
    p.stage.low = static_cast<float>(low - p.stage.zero_point);
    p.stage.high = static_cast<float>(high - p.stage.zero_point);
    const std::vector<uint8_t> a = MakeCodes(count, random), b = MakeCodes(count, random);
    std::vector<uint8_t> y(count + 64, 0x55), expected;
    kernels.mul(p, a.data(), b.data(), y.data(), count);
    for (int64_t i = 0; i < count; ++i) {
      const float scaled = static_cast<float>((a[i] - p.zero_a) * (b[i] - p.zero_b)) * p.scale;
      const double code = std::nearbyint(static_cast<double>(scaled)) + p.stage.zero_point;
      expected.push_back(static_cast<uint8_t>(std::fmin(std::fmax(code, low), high)));
    }
    ExpectCodes(kernels, expected, y);
  });
}

DBQ_TEST(SimpleOnes) {
  ForEach([](const CodeKernels& kernels, int64_t count, Random* random) {
    const std::vector<uint8_t> x = MakeCodes(count, random), table = MakeCodes(256, random);
    std::vector<uint8_t> flipped(count + 64, 0x55), found(count + 64, 0x55), clamped(count + 64, 0x55);
    std::vector<uint8_t> largest = MakeCodes(count, random), before = largest;
    std::vector<int32_t> sums(count, 7);
    kernels.flip(x.data(), flipped.data(), count);
    kernels.look_up(x.data(), table.data(), found.data(), count);
    kernels.clamp(x.data(), 40, 200, clamped.data(), count);
    kernels.maximum(x.data(), largest.data(), count);
    kernels.sum(x.data(), sums.data(), count);
    std::vector<uint8_t> e[4];
    for (int64_t i = 0; i < count; ++i) {
      e[0].push_back(static_cast<uint8_t>(x[i] ^ 128));
      e[1].push_back(table[x[i]]);
      e[2].push_back(x[i] < 40 ? 40 : x[i] > 200 ? 200 : x[i]);
      e[3].push_back(x[i] > before[i] ? x[i] : before[i]);
      DBQ_EXPECT_EQ(sums[i], 7 + x[i]);
    }
    ExpectCodes(kernels, e[0], flipped);
    ExpectCodes(kernels, e[1], found);
    ExpectCodes(kernels, e[2], clamped);
    ExpectCodes(kernels, e[3], largest);
  });
}

DBQ_TEST(Blend) {
  ForEach([](const CodeKernels& kernels, int64_t count, Random* random) {
    const BlendWeights w{random->Int(0, 2048), random->Int(0, 2048)};
    std::vector<uint8_t> x[4], y(count + 64, 0x55), expected;
    for (std::vector<uint8_t>& corner : x) corner = MakeCodes(count, random);
    const uint8_t* corners[] = {x[0].data(), x[1].data(), x[2].data(), x[3].data()};
    kernels.blend(w, corners, y.data(), count);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t top = int64_t{x[0][i]} * (2048 - w.across) + int64_t{x[1][i]} * w.across;
      const int64_t bottom = int64_t{x[2][i]} * (2048 - w.across) + int64_t{x[3][i]} * w.across;
      const double between = static_cast<double>(top * (2048 - w.down) + bottom * w.down) / (2048.0 * 2048.0);
      expected.push_back(static_cast<uint8_t>(std::floor(between + 0.5)));
    }
    ExpectCodes(kernels, expected, y);
  });
}

}  // namespace
}  // namespace dbq
