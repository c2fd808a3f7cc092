// Operators on neighbouring codes: every instruction set against plain loops in int64 and double, tolerance 0.
#include <cmath>
#include <limits>
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

double Rounded(int product, float scale) {
#if defined(__aarch64__)
  return std::floor(static_cast<double>(product) * static_cast<double>(scale) + 0.5);
#else
  return std::nearbyint(static_cast<double>(static_cast<float>(product) * scale));
#endif
}

DBQ_TEST(Mul) {
  ForEach([](const CodeKernels& kernels, int64_t count, Random* random) {
    MulParams p;
    p.zero_a = random->Int(0, 255), p.zero_b = random->Int(0, 255);
    // Powers of two make ties; the largest and the smallest scale are rare in networks.
    p.scale = random->Int(0, 1) == 0 ? random->Float(2e-5f, 0.02f) : std::ldexp(1.0f, random->Int(-16, 7));
    p.stage.zero_point = random->Int(0, 255);
    const int low = random->Int(0, 100), high = random->Int(101, 255);
    p.stage.low = static_cast<float>(low - p.stage.zero_point);
    p.stage.high = static_cast<float>(high - p.stage.zero_point);
    const std::vector<uint8_t> a = MakeCodes(count, random), b = MakeCodes(count, random);
    std::vector<uint8_t> y(count + 64, 0x55), expected;
    kernels.mul(p, a.data(), b.data(), y.data(), count);
    for (int64_t i = 0; i < count; ++i) {
      const int product = (a[i] - p.zero_a) * (b[i] - p.zero_b);
      const double code = Rounded(product, p.scale) + p.stage.zero_point;
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
    const int64_t pixels = random->Int(0, 3) == 0 ? 600 : random->Int(1, 5);
    const std::vector<uint8_t> image = MakeCodes(pixels * count + kSlackBytes, random);
    std::vector<int32_t> sums(count, 7), expected(count, 7);
    kernels.flip(x.data(), flipped.data(), count);
    kernels.look_up(x.data(), table.data(), found.data(), count);
    kernels.clamp(x.data(), 40, 200, clamped.data(), count);
    kernels.maximum(x.data(), largest.data(), count);
    kernels.sum(image.data(), pixels, sums.data(), count);
    for (int64_t i = 0; i < pixels * count; ++i) expected[i % count] += image[i];
    std::vector<uint8_t> e[4];
    for (int64_t i = 0; i < count; ++i) {
      e[0].push_back(static_cast<uint8_t>(x[i] ^ 128));
      e[1].push_back(table[x[i]]);
      e[2].push_back(x[i] < 40 ? 40 : x[i] > 200 ? 200 : x[i]);
      e[3].push_back(x[i] > before[i] ? x[i] : before[i]);
      DBQ_EXPECT_EQ(sums[i], expected[i]);
    }
    ExpectCodes(kernels, e[0], flipped);
    ExpectCodes(kernels, e[1], found);
    ExpectCodes(kernels, e[2], clamped);
    ExpectCodes(kernels, e[3], largest);
  });
}

// Some of every kind that a float can be.
std::vector<float> MakeFloats(int64_t count, float scale, Random* random) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float special[] = {infinity, -infinity, std::nanf(""), 3e38f, -3e38f, -0.0f, 1e-45f};
  std::vector<float> values(count);
  for (float& value : values) {
    const int kind = random->Int(0, 9);
    value = kind == 0   ? special[random->Int(0, 6)]
            : kind == 1 ? static_cast<float>(random->Int(-600, 600)) / 2 * scale  // ties
                        : random->Float(-300, 300) * scale;
  }
  return values;
}

DBQ_TEST(Quantize) {
  ForEach([](const CodeKernels& kernels, int64_t count, Random* random) {
    const float scale = random->Int(0, 1) == 0 ? 0.25f : random->Float(0.001f, 3.0f);
    const int zero = random->Int(0, 255);
    const QuantizeParams p{1 / scale, {static_cast<float>(-zero), static_cast<float>(255 - zero), zero}};
    const std::vector<float> x = MakeFloats(count, scale, random);
    std::vector<uint8_t> y(count + 64, 0x55), expected;
    kernels.quantize(p, x.data(), y.data(), count);
    for (float value : x) {
      const float scaled = value * p.inverse;
      const double code = std::isnan(scaled) ? 255 : std::nearbyint(static_cast<double>(scaled)) + zero;
      expected.push_back(static_cast<uint8_t>(std::fmin(std::fmax(code, 0), 255)));
    }
    ExpectCodes(kernels, expected, y);
  });
}

DBQ_TEST(Dequantize) {
  ForEach([](const CodeKernels& kernels, int64_t count, Random* random) {
    const DequantizeParams p{random->Float(1e-4f, 3.0f), random->Int(0, 255)};
    const std::vector<uint8_t> x = MakeCodes(count, random);
    std::vector<float> y(count + 1, 7);
    kernels.dequantize(p, x.data(), y.data(), count);
    for (int64_t i = 0; i < count; ++i) DBQ_EXPECT(y[i] == static_cast<float>(x[i] - p.zero_point) * p.scale);
    DBQ_EXPECT(y[count] == 7);
  });
}

uint8_t Between(const BlendRow& row, int64_t pixel, int64_t c) {
  const auto sum_of = [&](const uint8_t* x) {
    const int64_t left = x[row.left[pixel] + c], right = x[row.right[pixel] + c];
    return left * (2048 - row.across[pixel]) + right * row.across[pixel];
  };
  const double sum = static_cast<double>(sum_of(row.top) * (2048 - row.down) + sum_of(row.bottom) * row.down);
  return static_cast<uint8_t>(std::floor(sum / (2048.0 * 2048.0) + 0.5));
}

DBQ_TEST(Blend) {
  ForEach([](const CodeKernels& kernels, int64_t channels, Random* random) {
    constexpr int64_t kPixels = 5;
    const int64_t count = kPixels * channels;
    const std::vector<uint8_t> top = MakeCodes(count + kSlackBytes, random);
    const std::vector<uint8_t> bottom = MakeCodes(count + kSlackBytes, random);
    int64_t left[kPixels], right[kPixels];
    int32_t across[kPixels];
    for (int64_t i = 0; i < kPixels; ++i) {
      left[i] = random->Int(0, kPixels - 1) * channels, right[i] = random->Int(0, kPixels - 1) * channels;
      across[i] = random->Int(0, 2048);
    }
    const BlendRow row{top.data(), bottom.data(), random->Int(0, 2048), kPixels, channels, left, right, across};
    std::vector<uint8_t> y(count + 64, 0x55), expected;
    kernels.blend(row, y.data());
    for (int64_t i = 0; i < count; ++i) expected.push_back(Between(row, i / channels, i % channels));
    ExpectCodes(kernels, expected, y);
  });
}

}  // namespace
}  // namespace dbq
