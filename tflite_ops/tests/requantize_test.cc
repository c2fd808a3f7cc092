// Golden vectors of the requantization, worked out by hand, and run through every kernel of kernels.inc.
#include "core/requantize.h"

#include <cmath>
#include <cstdlib>
#include <vector>

#include "core/select.h"
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

// Zero weights leave the bias as the accumulator.
DBQ_TEST(GoldenVectorsThroughGemmKernels) {
  for (const GemmKernel* kernel : GemmKernels()) {
    if (!IsaSupported(kernel->isa)) continue;
    const std::vector<char> row(64 * kernel->element_bytes, 0);
    const std::vector<int8_t> weights(kernel->channels * kernel->depth_step, 0);
    for (const Golden& g : kGolden) {
      const std::vector<int32_t> bias(kernel->channels, g.accumulator);
      const std::vector<float> multiplier(kernel->channels, g.multiplier);
      std::vector<int8_t> out(kernel->channels, 99);
      kernel->run({row.data(), 0, 1, 1, weights.data(), bias.data(), multiplier.data(), Stage(g), out.data(),
                   kernel->channels, kernel->channels});
      for (int8_t code : out) DBQ_EXPECT_EQ(code, g.expected);
    }
  }
}

DBQ_TEST(GoldenVectorsThroughDepthwiseKernels) {
  constexpr int kChannels = 37;
  const std::vector<int8_t> x(kChannels, 0), weights(kChannels, 0);
  const int8_t* taps[] = {x.data()};
  for (const DepthwiseKernel* kernel : DepthwiseKernels()) {
    if (!IsaSupported(kernel->isa)) continue;
    for (const Golden& g : kGolden) {
      const std::vector<int32_t> bias(kChannels, g.accumulator);
      const std::vector<float> multiplier(kChannels, g.multiplier);
      std::vector<int8_t> out(kChannels, 99);
      kernel->run(
          {taps, 1, weights.data(), kChannels, 0, kChannels, bias.data(), multiplier.data(), 0, Stage(g), out.data()});
      for (int8_t code : out) DBQ_EXPECT_EQ(code, g.expected);
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
