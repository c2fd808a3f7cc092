// Golden vectors of the requantization, worked out by hand, and run through every kernel of kernels.inc.
#include "core/requantize.h"

#include <cmath>
#include <cstdlib>
#include <vector>

#include "isa/select.h"
#include "tests/testing.h"

namespace dbq {
namespace {

struct Golden {
  int32_t accumulator;
  float multiplier;
  int zero_point;
  int low, high;  // output codes
  int expected;
};

constexpr Golden kGolden[] = {
    // Ties to even.
    {1, 0.5f, 0, -128, 127, 0},
    {3, 0.5f, 0, -128, 127, 2},
    {5, 0.5f, 0, -128, 127, 2},
    {-1, 0.5f, 0, -128, 127, 0},
    {-3, 0.5f, 0, -128, 127, -2},
    {-5, 0.5f, 0, -128, 127, -2},
    // The zero point is added after the rounding: 2.5 -> 2, then + 1 (2.5 + 1 would tie to 4).
    {5, 0.5f, 1, -128, 127, 3},
    {-5, 0.5f, -1, -128, 127, -3},
    // Either side of a tie.
    {49, 0.05f, 0, -128, 127, 2},
    {51, 0.05f, 0, -128, 127, 3},
    // Clamps, far and just outside.
    {2147483647, 1.0f, 0, -128, 127, 127},
    {-2147483647 - 1, 1.0f, 0, -128, 127, -128},
    {2147483647, 3.0e38f, 5, -128, 127, 127},
    {-2147483647, 3.0e38f, 5, -128, 127, -128},
    {255, 0.5f, 0, -128, 127, 127},
    {-257, 0.5f, 0, -128, 127, -128},
    {-100, 1.0f, -20, -20, 100, -20},
    {-100, 1.0f, -20, -128, 127, -120},
    {200, 1.0f, -20, -20, 100, 100},
    {7, 1.0f, 127, -128, 127, 127},
    {-7, 1.0f, 127, -128, 127, 120},
    // float32(accumulator) rounds first: 16777217 -> 16777216, so 0.5 + 2^-25 is seen as the tie 0.5.
    {16777217, 2.98023223876953125e-08f, 0, -128, 127, 0},
    {16777219, 2.98023223876953125e-08f, 0, -128, 127, 1},
    // A multiplier far below one ulp of the result.
    {2147483647, 1.0e-20f, 3, -128, 127, 3},
};

OutputStage Stage(const Golden& g) {
  return {static_cast<float>(g.low - g.zero_point), static_cast<float>(g.high - g.zero_point), g.zero_point};
}

DBQ_TEST(GoldenVectors) {
  for (const Golden& g : kGolden) DBQ_EXPECT_EQ(Requantize(g.accumulator, g.multiplier, Stage(g)), g.expected);
}

// What a kernel that clamps after the conversion may be given.
bool IsBounded(const Golden& g) {
  return std::fabs(static_cast<double>(g.accumulator) * static_cast<double>(g.multiplier)) < 2147483000.0;
}

OutputStage Stored(const Golden& g) {
  OutputStage stage = Stage(g);
  stage.zero_point += 128;
  return stage;
}

// Zero weights leave the bias as the accumulator.
DBQ_TEST(GoldenVectorsThroughGemmKernels) {
  constexpr int kMany = 37, kFew = 8;  // some kernels are for few channels alone
  const std::vector<int8_t> weights(4 * kMany, 0);
  const std::vector<uint8_t> x(512, 0);
  const std::vector<int32_t> offset(16, 0);
  for (const GemmKernel* kernel : GemmKernels()) {
    if (!Has(DetectFeatures(), kernel->needs)) continue;
    GemmShape ternary{1, 1, 4, kMany};
    ternary.planes = 1;
    if (kernel->cost(ternary) <= 0) ternary.channels = kFew;
    const size_t channels = static_cast<size_t>(ternary.channels);
    Buffer<uint8_t> scratch(kernel->scratch_bytes(ternary));
    for (const Golden& g : kGolden) {
      if (kernel->bounded && !IsBounded(g)) continue;
      const std::vector<int32_t> bias(channels, g.accumulator);
      const std::vector<float> multiplier(channels, g.multiplier);
      PackedGemm packed;
      const std::vector<uint8_t> scales(channels, 1);
      kernel->pack({ternary, weights.data(), bias.data(), multiplier.data(), Stored(g), weights.data(), scales.data()},
                   &packed);
      std::vector<uint8_t> y(channels, 99);
      kernel->run({&packed, x.data(), offset.data(), offset.data(), y.data(), offset.data(), 1, 0,
                   static_cast<int64_t>(packed.panels.size()), scratch.data()});
      for (uint8_t code : y) DBQ_EXPECT_EQ(code - 128, g.expected);
    }
  }
}

DBQ_TEST(GoldenVectorsThroughDepthwiseKernels) {
  for (const DepthwiseKernel* kernel : DepthwiseKernels()) {
    for (int size : {1, 3, 5}) {
      const DepthwiseShape shape{size, size, 1, 1, 1, 1, 37};
      if (!Has(DetectFeatures(), kernel->needs) || kernel->cost(shape) <= 0) continue;
      const std::vector<int8_t> weights(size * size * 37, 0);
      const std::vector<uint8_t> x(37 * 16 + 512, 0);
      for (const Golden& g : kGolden) {
        if (kernel->bounded && !IsBounded(g)) continue;
        const std::vector<int32_t> bias(37, g.accumulator);
        const std::vector<float> multiplier(37, g.multiplier);
        PackedDepthwise packed;
        kernel->pack({shape, weights.data(), bias.data(), multiplier.data(), Stored(g)}, &packed);
        std::vector<uint8_t> y(37, 99);
        kernel->run({&packed, x.data(), 37, y.data(), 37, 1, 1});
        for (uint8_t code : y) DBQ_EXPECT_EQ(code - 128, g.expected);
      }
    }
  }
}

// Against the definition in double, which holds every float32 product's rounding exactly.
DBQ_TEST(RandomAgainstDefinition) {
  testing::Random random(7);
  for (int i = 0; i < 200000; ++i) {
    const int32_t accumulator = random.Int(-2000000, 2000000);
    const float multiplier = random.Float(1e-5f, 1e-3f);
    const int zero_point = random.Int(-128, 127);
    const float scaled = static_cast<float>(accumulator) * multiplier;
    const double lower = std::floor(static_cast<double>(scaled)), fraction = scaled - lower;
    const bool up = fraction > 0.5 || (fraction == 0.5 && std::fmod(lower, 2.0) != 0);
    const double expected = std::fmin(std::fmax(lower + up + zero_point, -128.0), 127.0);
    const OutputStage stage{-128.0f - zero_point, 127.0f - zero_point, zero_point};
    DBQ_EXPECT_EQ(Requantize(accumulator, multiplier, stage), static_cast<int>(expected));
  }
}

}  // namespace
}  // namespace dbq
