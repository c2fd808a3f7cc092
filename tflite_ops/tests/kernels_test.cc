// Every kernel of kernels.inc against the reference, on many shapes, with zero tolerance.
#include <vector>

#include "core/executor.h"
#include "core/reference.h"
#include "core/select.h"
#include "tests/random_layer.h"
#include "tests/testing.h"

namespace dbq {
namespace {

using testing::FileLayer;
using testing::LayerShape;
using testing::Random;

void Reference(const LayerShape& s, const ConstantTensors& t, const ConvGeometry& g, const int8_t* x, int8_t* y) {
  switch (s.kind) {
    case OpKind::kConv2D:
      return reference::Conv2D(t, g.input, x, g.output, y);
    case OpKind::kDepthwiseConv2D:
      return reference::DepthwiseConv2D(t, g.input, x, g.output, y);
    case OpKind::kFullyConnected:
      return reference::FullyConnected(t, g.input.batch, x, y);
  }
}

void ExpectSame(const LayerShape& s, const char* kernel, const ImageShape& shape, const std::vector<int8_t>& expected,
                const std::vector<int8_t>& actual) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i] == actual[i]) continue;
    const size_t m = i % shape.channels, pixel = i / shape.channels;
    testing::Fail(__FILE__, __LINE__, "%s: %s: output [%zu, %zu, %zu, %zu]: expected %d, got %d", kernel,
                  s.Describe().c_str(), pixel / shape.width / shape.height, pixel / shape.width % shape.height,
                  pixel % shape.width, m, expected[i], actual[i]);
    return;
  }
}

// Runs `make(kernel)` for every kernel of the list that this processor has.
template <typename Kernel, typename Make>
void CompareKernels(const LayerShape& s, uint64_t stream, const std::vector<const Kernel*>& kernels, Make make) {
  Random random(stream);
  const FileLayer file = testing::MakeLayer(s, &random);
  Layer layer;
  ConvGeometry geometry;
  DBQ_EXPECT_OK(DecodeLayer(s.kind, file.View(), &layer));
  DBQ_EXPECT_OK(MakeConvGeometry(layer.params, s.image, &geometry));
  if (testing::Failed()) return;
  const std::vector<int8_t> x = testing::MakeInput(s.image.Pixels() * s.image.channels, &random);
  std::vector<int8_t> expected(geometry.output.Pixels() * geometry.output.channels);
  Reference(s, file.View(), geometry, x.data(), expected.data());
  ThreadPool pool;
  for (const Kernel* kernel : kernels) {
    if (!IsaSupported(kernel->isa)) continue;
    const auto executor = make(layer, *kernel);
    // Twice: a result may not depend on what an earlier run left behind.
    for (int run = 0; run < 2; ++run) {
      std::vector<int8_t> actual(expected.size(), 0x55);
      executor->Prepare(geometry, 1);
      executor->Run(x.data(), actual.data(), &pool);
      ExpectSame(s, kernel->name, geometry.output, expected, actual);
    }
  }
}

void Compare(const LayerShape& s, uint64_t stream) {
  if (s.kind == OpKind::kDepthwiseConv2D) return CompareKernels(s, stream, DepthwiseKernels(), MakeDepthwiseExecutor);
  CompareKernels(s, stream, GemmKernels(), MakeConvExecutor);
}

LayerShape RandomSpatial(OpKind kind, Random* random) {
  LayerShape s;
  s.kind = kind;
  s.branches = random->Int(1, 2);
  s.kernel_h = random->Int(1, 5), s.kernel_w = random->Int(1, 5);
  s.stride_h = random->Int(1, 3), s.stride_w = random->Int(1, 3);
  s.dilation_h = random->Int(1, 3), s.dilation_w = random->Int(1, 3);
  s.padding = random->Int(0, 1) == 0 ? Padding::kSame : Padding::kValid;
  s.activation = static_cast<Activation>(random->Int(0, 3));
  s.input_zero_point = random->Int(-128, 127), s.output_zero_point = random->Int(-128, 127);
  // VALID needs the kernel inside the image; SAME may see a kernel larger than the image.
  const bool valid = s.padding == Padding::kValid;
  s.image.batch = random->Int(1, 3);
  s.image.height = (valid ? (s.kernel_h - 1) * s.dilation_h : 0) + random->Int(1, 8);
  s.image.width = (valid ? (s.kernel_w - 1) * s.dilation_w : 0) + random->Int(1, 8);
  return s;
}

DBQ_TEST(Conv2D) {
  for (uint64_t i = 0; i < 300; ++i) {
    Random random(i);
    LayerShape s = RandomSpatial(OpKind::kConv2D, &random);
    s.in_channels = s.image.channels = random.Int(1, 20);
    s.out_channels = random.Int(1, 40);
    Compare(s, i);
  }
}

DBQ_TEST(DepthwiseConv2D) {
  for (uint64_t i = 0; i < 300; ++i) {
    Random random(i + 1000);
    LayerShape s = RandomSpatial(OpKind::kDepthwiseConv2D, &random);
    s.in_channels = s.image.channels = random.Int(1, 40);
    s.depth_multiplier = random.Int(0, 2) == 0 ? random.Int(2, 4) : 1;
    s.out_channels = s.in_channels * s.depth_multiplier;
    Compare(s, i);
  }
}

DBQ_TEST(FullyConnected) {
  for (uint64_t i = 0; i < 200; ++i) {
    Random random(i + 2000);
    LayerShape s;
    s.kind = OpKind::kFullyConnected;
    s.padding = Padding::kValid;
    s.branches = random.Int(1, 2);
    s.in_channels = s.image.channels = random.Int(1, 200);
    s.out_channels = random.Int(1, 70);
    s.activation = static_cast<Activation>(random.Int(0, 3));
    s.input_zero_point = random.Int(-128, 127), s.output_zero_point = random.Int(-128, 127);
    s.image.batch = random.Int(1, 20);
    Compare(s, i);
  }
}

// More rows than one block, and a depth that spans several blocks' worth of scratch memory.
DBQ_TEST(ManyPixelsAndDeepPatches) {
  for (int depth : {1, 2, 3, 16, 511, 2048}) {
    LayerShape s;
    s.in_channels = s.image.channels = depth;
    s.out_channels = 17;
    s.image.height = 1, s.image.width = depth > 500 ? 30 : 700;
    Compare(s, depth);
  }
}

// Extreme codes everywhere: the largest accumulators that a layer of this depth can reach.
DBQ_TEST(ExtremeValues) {
  for (int sign : {0, 242}) {
    for (int zero_point : {-128, 127}) {
      LayerShape s;
      s.in_channels = s.image.channels = 2000;
      s.out_channels = 16;
      s.input_zero_point = zero_point;
      Random random(1);
      FileLayer file = testing::MakeLayer(s, &random);
      for (uint8_t& code : file.codes) code = static_cast<uint8_t>(sign);
      Layer layer;
      ConvGeometry geometry;
      DBQ_EXPECT_OK(DecodeLayer(s.kind, file.View(), &layer));
      DBQ_EXPECT_OK(MakeConvGeometry(layer.params, s.image, &geometry));
      const std::vector<int8_t> x(2000, static_cast<int8_t>(zero_point == 127 ? -128 : 127));
      std::vector<int8_t> expected(16), actual(16);
      reference::Conv2D(file.View(), geometry.input, x.data(), geometry.output, expected.data());
      ThreadPool pool;
      for (const GemmKernel* kernel : GemmKernels()) {
        if (!IsaSupported(kernel->isa)) continue;
        const auto executor = MakeConvExecutor(layer, *kernel);
        executor->Prepare(geometry, 1);
        executor->Run(x.data(), actual.data(), &pool);
        ExpectSame(s, kernel->name, geometry.output, expected, actual);
      }
    }
  }
}

// The reference itself, by hand: x = [1, 2, 3] on a line, weights 127 * [1, 0, -1], SAME padding.
DBQ_TEST(ReferenceByHand) {
  LayerShape s;
  s.kernel_w = 3;
  s.image = {1, 1, 3, 1};
  FileLayer file;
  file.params = testing::MakeParams(s);
  file.codes = {2 * 1 + 1 * 3 + 0 * 9 + 27 + 81};
  file.branch_scales = {127};
  file.scales = {1.0f, 127.0f, 1.0f};
  file.bias = {127 * 10};
  const int8_t x[] = {1, 2, 3};
  int8_t y[3];
  reference::Conv2D(file.View(), s.image, x, s.image, y);
  const int expected[] = {10 + 0 - 2, 10 + 1 - 3, 10 + 2 - 0};
  for (int i = 0; i < 3; ++i) DBQ_EXPECT_EQ(y[i], expected[i]);
}

DBQ_TEST(SelectionFollowsTheInstructionSet) {
  DBQ_EXPECT(SelectGemm(Isa::kScalar).isa == Isa::kScalar);
  DBQ_EXPECT(SelectDepthwise(Isa::kScalar).isa == Isa::kScalar);
  DBQ_EXPECT(SelectGemm(BestIsa()).isa == BestIsa());
  DBQ_EXPECT(SelectDepthwise(BestIsa()).isa == BestIsa());
}

}  // namespace
}  // namespace dbq
