// Runs one kernel once, between two marks, for arm_cycles.py to trace: one_product <kernel> <pixels> <K> <channels>
// [branches]
//                                                                       one_product <kernel> <width> <size> <channels>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "isa/select.h"

extern "C" {
__attribute__((noinline)) void BeginKernel() { asm volatile("nop"); }
__attribute__((noinline)) void EndKernel() { asm volatile("nop\n\tnop"); }
}

namespace dbq {
namespace {

// The same numbers at every run.
int Random(int count) {
  static uint32_t state = 1;
  state = state * 1664525u + 1013904223u;
  return static_cast<int>((state >> 16) % static_cast<uint32_t>(count));
}

constexpr OutputStage kStage = {-128, 127, 128};

void RunGemm(const GemmKernel& kernel, int64_t pixels, int64_t depth, int64_t channels, int branches) {
  GemmShape shape{pixels, 1, depth, channels};
  shape.planes = branches;
  const int64_t count = depth * channels;
  std::vector<int8_t> trits(branches * count), weights(count, 0);
  std::vector<uint8_t> scales(branches * channels);
  for (int branch = 0; branch < branches; ++branch) {
    const int scale = branches == 1 ? 127 : branch == 0 ? 84 : 43;
    std::fill_n(scales.begin() + branch * channels, channels, static_cast<uint8_t>(scale));
    for (int64_t i = 0; i < count; ++i) {
      const int trit = Random(3) - 1;
      trits[branch * count + i] = static_cast<int8_t>(trit);
      weights[i] = static_cast<int8_t>(weights[i] + trit * scale);
    }
  }
  const std::vector<int32_t> bias(channels, 0), segment(16, 0);
  const std::vector<float> multiplier(channels, 1e-4f);
  PackedGemm packed;
  kernel.pack({shape, weights.data(), bias.data(), multiplier.data(), kStage, trits.data(), scales.data()}, &packed);
  Buffer<uint8_t> x(pixels * depth), y(pixels * channels), scratch(kernel.scratch_bytes(shape));
  for (int64_t i = 0; i < x.count(); ++i) x[i] = static_cast<uint8_t>(Random(256));
  Buffer<int32_t> from(pixels), to(pixels);
  for (int64_t i = 0; i < pixels; ++i)
    from[i] = static_cast<int32_t>(i * depth), to[i] = static_cast<int32_t>(i * channels);
  const GemmTask task{&packed,        x.data(), from.data(),
                      segment.data(), y.data(), to.data(),
                      pixels,         0,        static_cast<int64_t>(packed.panels.size()),
                      scratch.data()};
  BeginKernel();
  kernel.run(task);
  EndKernel();
}

// One row of output pixels, stride 1.
void RunDepthwise(const DepthwiseKernel& kernel, int64_t width, int size, int64_t channels) {
  const DepthwiseShape shape{size, size, 1, 1, 1, 1, channels};
  const std::vector<int8_t> weights(shape.Taps() * channels, 1);
  const std::vector<int32_t> bias(channels, 0);
  const std::vector<float> multiplier(channels, 1e-2f);
  PackedDepthwise packed;
  kernel.pack({shape, weights.data(), bias.data(), multiplier.data(), kStage}, &packed);
  const int64_t row = (width + size) * channels;
  Buffer<uint8_t> x(row * size), y(width * channels);
  const DepthwiseTask task{&packed, x.data(), row, y.data(), width * channels, 1, width};
  BeginKernel();
  kernel.run(task);
  EndKernel();
}

int Main(int argc, char** argv) {
  if (argc < 5) return std::fprintf(stderr, "one_product: expected a kernel and three numbers\n"), 2;
  const int64_t numbers[] = {std::atoll(argv[2]), std::atoll(argv[3]), std::atoll(argv[4])};
  const int branches = argc > 5 ? std::atoi(argv[5]) : 1;
  for (const GemmKernel* kernel : GemmKernels()) {
    if (std::strcmp(kernel->name, argv[1]) == 0) {
      return RunGemm(*kernel, numbers[0], numbers[1], numbers[2], branches), 0;
    }
  }
  for (const DepthwiseKernel* kernel : DepthwiseKernels()) {
    if (std::strcmp(kernel->name, argv[1]) == 0) {
      return RunDepthwise(*kernel, numbers[0], static_cast<int>(numbers[1]), numbers[2]), 0;
    }
  }
  return std::fprintf(stderr, "one_product: this build has no kernel %s\n", argv[1]), 2;
}

}  // namespace
}  // namespace dbq

int main(int argc, char** argv) { return dbq::Main(argc, argv); }
