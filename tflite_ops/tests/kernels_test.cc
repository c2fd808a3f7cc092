// Every kernel of kernels.inc against the reference, on many shapes, with zero tolerance.
#include <vector>

#include "core/reference.h"
#include "isa/select.h"
#include "tests/one_node.h"
#include "tests/random_layer.h"
#include "tests/testing.h"

namespace dbq {
namespace {

using testing::FileLayer;
using testing::LayerShape;
using testing::Random;

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

struct Example {
  FileLayer file;
  ImageShape output;
  std::vector<int8_t> x, expected;
};

Example MakeExample(const LayerShape& s, FileLayer file, std::vector<int8_t> x) {
  Example e;
  e.file = std::move(file), e.x = std::move(x);
  Layer layer;
  ConvGeometry geometry;
  DBQ_EXPECT_OK(DecodeLayer(s.kind, e.file.View(), &layer));
  DBQ_EXPECT_OK(MakeConvGeometry(layer.params, s.image, &geometry));
  e.output = geometry.output;
  e.expected = testing::RunReference(s, e.file, e.output, e.x);
  return e;
}

// The layer's plan with a kernel chosen by the test.
void CompareGemm(const LayerShape& s, const Example& e, const GemmKernel& kernel) {
  Graph graph = testing::MakeGraph(s, e.file);
  graph.nodes[0].packed = std::make_shared<PackedLayer>();
  graph.nodes[0].packed->gemm_kernel = &kernel;
  ExpectSame(s, kernel.name, e.output, e.expected,
             testing::RunGraph(&graph, DetectFeatures(), 1, e.x, e.expected.size()));
}

void CompareDepthwise(const LayerShape& s, const Example& e, const DepthwiseKernel& kernel) {
  const DepthwiseShape shape{s.kernel_h,   s.kernel_w,   s.stride_h,    s.stride_w,
                             s.dilation_h, s.dilation_w, s.out_channels};
  if (kernel.cost(shape) <= 0) return;
  Graph graph = testing::MakeGraph(s, e.file);
  graph.nodes.back().packed = std::make_shared<PackedLayer>();
  graph.nodes.back().packed->depthwise_kernel = &kernel;
  ExpectSame(s, kernel.name, e.output, e.expected,
             testing::RunGraph(&graph, DetectFeatures(), 1, e.x, e.expected.size()));
}

// Every kernel that this processor has.
void CompareAll(const LayerShape& s, const Example& e) {
  if (testing::Failed()) return;
  if (s.kind == OpKind::kDepthwiseConv2D) {
    for (const DepthwiseKernel* kernel : DepthwiseKernels()) {
      if (Has(DetectFeatures(), kernel->needs)) CompareDepthwise(s, e, *kernel);
    }
    return;
  }
  // Large enough for every kernel that can do such weights and patches.
  GemmShape any{1, s.kernel_h * s.kernel_w == 1 ? 1 : 2, 1 << 11, 1 << 11};
  any.planes = s.branches;
  for (const GemmKernel* kernel : GemmKernels()) {
    if (Has(DetectFeatures(), kernel->needs) && kernel->cost(any) > 0) CompareGemm(s, e, *kernel);
  }
}

void Compare(const LayerShape& s, uint64_t stream) {
  Random random(stream);
  const FileLayer file = testing::MakeLayer(s, &random);
  CompareAll(s, MakeExample(s, file, testing::MakeInput(s.image.Pixels() * s.image.channels, &random)));
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
    if (i % 3 == 0) s.levels = random.Int(1, kMostThresholds);
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
    if (i % 3 == 0) s.levels = random.Int(1, kMostThresholds);
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

// Shapes that the fast paths are made for, and their neighbours.
DBQ_TEST(SquareDepthwise) {
  uint64_t stream = 5000;
  for (int size : {3, 5}) {
    for (int stride : {1, 2}) {
      for (int channels : {1, 7, 8, 16, 19, 24, 32, 40, 48, 63, 64, 65, 96, 128, 130}) {
        for (int width : {1, 2, 7, 12}) {
          LayerShape s;
          s.kind = OpKind::kDepthwiseConv2D;
          s.branches = 2;
          s.kernel_h = s.kernel_w = size, s.stride_h = s.stride_w = stride;
          s.in_channels = s.out_channels = channels;
          s.padding = width > size && stream % 2 == 0 ? Padding::kValid : Padding::kSame;
          s.input_zero_point = stream % 3 == 0 ? -128 : stream % 3 == 1 ? 127 : 3;
          s.image = {1 + static_cast<int>(stream % 2), width + static_cast<int>(stream % 3), width, channels};
          if (s.image.height < size) s.padding = Padding::kSame;
          Compare(s, stream++);
        }
      }
    }
  }
}

// Tails in pixels, depth and channels around the sizes of tiles and panels.
DBQ_TEST(TilesAndTails) {
  uint64_t stream = 9000;
  for (int pixels : {1, 5, 6, 7, 12, 15, 16, 17, 33, 64, 70}) {
    for (int channels : {1, 15, 16, 17, 31, 32, 33, 48, 49, 64, 65, 96, 130}) {
      LayerShape s;
      const int depths[] = {1, 3, 4, 63, 64, 65, 130};
      s.in_channels = s.image.channels = depths[stream % 7];
      s.out_channels = channels;
      s.kernel_w = stream % 5 == 0 ? 3 : 1;
      s.input_zero_point = stream % 2 == 0 ? -128 : 127, s.output_zero_point = stream % 4 < 2 ? -128 : 127;
      s.image.width = pixels;
      s.levels = stream % 3 == 0 ? 3 : 0;
      Compare(s, stream++);
    }
  }
}

// Weights of two bits: one row, and several where the plan was made for one.
DBQ_TEST(TwoBitDense) {
  for (int branches : {1, 2}) {
    for (int depth : {1, 15, 16, 17, 63, 64, 100, 300}) {
      for (int channels : {1, 63, 64, 65, 130}) {
        LayerShape s;
        s.kind = OpKind::kFullyConnected;
        s.padding = Padding::kValid;
        s.branches = branches;
        s.in_channels = s.image.channels = depth;
        s.out_channels = channels;
        s.image.batch = 1 + depth % 3;
        s.input_zero_point = depth % 2 == 0 ? -128 : 127;
        Compare(s, static_cast<uint64_t>(depth * 1000 + channels * 2 + branches));
      }
    }
  }
}

// Extreme codes everywhere: the largest accumulators that a layer of this depth can reach.
DBQ_TEST(ExtremeValues) {
  for (int depth : {255, 256, 2000, 2050}) {
    for (int sign : {0, 242}) {
      for (int zero_point : {-128, 127}) {
        LayerShape s;
        s.in_channels = s.image.channels = depth;
        s.out_channels = 16;
        s.input_zero_point = zero_point;
        Random random(1);
        FileLayer file = testing::MakeLayer(s, &random);
        // The last byte keeps its filling.
        for (size_t i = 0; i + 1 < file.codes.size(); ++i) file.codes[i] = static_cast<uint8_t>(sign);
        const std::vector<int8_t> x(depth, static_cast<int8_t>(zero_point == 127 ? -128 : 127));
        CompareAll(s, MakeExample(s, file, x));
      }
    }
  }
}

DBQ_TEST(ExtremeDepthwiseValues) {
  for (int size : {1, 3, 4, 5}) {
    for (int sign : {0, 242}) {
      for (int zero_point : {-128, 127}) {
        LayerShape s;
        s.kind = OpKind::kDepthwiseConv2D;
        s.kernel_h = s.kernel_w = size;
        s.in_channels = s.out_channels = 40;
        s.input_zero_point = zero_point;
        s.image = {1, 6, 6, 40};
        Random random(1);
        FileLayer file = testing::MakeLayer(s, &random);
        for (uint8_t& code : file.codes) code = static_cast<uint8_t>(sign);
        const std::vector<int8_t> x(6 * 6 * 40, static_cast<int8_t>(zero_point == 127 ? -128 : 127));
        CompareAll(s, MakeExample(s, file, x));
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

// Every set of features runs every kind of layer; scalar code is what is left without any.
DBQ_TEST(SelectionFollowsTheFeatures) {
  const GemmShape gemm{100, 1, 64, 64};
  const DepthwiseShape depthwise{3, 3, 1, 1, 1, 1, 64};
  for (Features features : {kScalar, kAvx2, kAvx2 | kAvx512Vnni, kAvx2 | kAvx512Vnni | kAvx512Vbmi | kAmxInt8, kNeon,
                            kNeon | kDotProd, kNeon | kDotProd | kI8mm}) {
    for (bool bounded : {false, true}) {
      const GemmKernel& kernel = SelectGemm(gemm, bounded, features);
      DBQ_EXPECT(Has(features, kernel.needs) && (bounded || !kernel.bounded));
      DBQ_EXPECT(Has(features, SelectDepthwise(depthwise, bounded, features).needs));
    }
  }
  DBQ_EXPECT_EQ(SelectGemm(gemm, true, kScalar).needs, kScalar);
}

// Every weight and every code the same. Exactly the integers that a file of int8 may have and a packed one has not:
// two products of -128 and -128 pass int16; and 127 and -120, whose halves of four bits are the largest.
void CompareEqualWeights(const LayerShape& s, int8_t weight, int8_t code) {
  Random random(4);
  const FileLayer file = testing::MakeLayer(s, &random);
  const std::vector<int8_t> x(s.image.Pixels() * s.image.channels, code);
  const ImageShape output{1, s.image.height, s.image.width, s.out_channels};
  const auto run = [&](const GemmKernel* gemm, const DepthwiseKernel* depthwise) {
    Graph graph = testing::MakeGraph(s, file);
    Node& node = graph.nodes.back();
    node.load = [count = node.layer.integers.size(), weight] {
      return Integers{std::vector<int8_t>(count, weight), {}};
    };
    node.packed = std::make_shared<PackedLayer>();
    node.packed->gemm_kernel = gemm, node.packed->depthwise_kernel = depthwise;
    return testing::RunGraph(&graph, DetectFeatures(), 1, x, output.Pixels() * output.channels);
  };
  const std::vector<int8_t> expected = run(&gemm_scalar_1x16c1, &depthwise_scalar);
  const GemmShape gemm{output.Pixels(), s.kernel_h, s.kernel_w * s.in_channels, s.out_channels};
  const DepthwiseShape depthwise{s.kernel_h, s.kernel_w, 1, 1, 1, 1, s.out_channels};
  for (const GemmKernel* kernel : GemmKernels()) {
    if (s.kind != OpKind::kConv2D || kernel->wants_trits || !Has(DetectFeatures(), kernel->needs)) continue;
    if (kernel->cost(gemm) > 0) ExpectSame(s, kernel->name, output, expected, run(kernel, nullptr));
  }
  for (const DepthwiseKernel* kernel : DepthwiseKernels()) {
    if (s.kind == OpKind::kConv2D || !Has(DetectFeatures(), kernel->needs)) continue;
    if (kernel->cost(depthwise) > 0) ExpectSame(s, kernel->name, output, expected, run(nullptr, kernel));
  }
}

DBQ_TEST(LowestAndLargestWeights) {
  for (int size : {1, 3, 5}) {
    for (int weight : {-128, -120, 119, 127}) {
      for (int code : {-128, 127}) {
        LayerShape s;
        s.kernel_h = s.kernel_w = size;
        const auto compare = [&](OpKind kind, int in_channels, int out_channels) {
          s.kind = kind;
          s.in_channels = in_channels, s.out_channels = out_channels;
          s.image = {1, 6, 6, in_channels};
          CompareEqualWeights(s, static_cast<int8_t>(weight), static_cast<int8_t>(code));
        };
        compare(OpKind::kDepthwiseConv2D, 20, 20);
        for (int channels : {1, 3, 20, 32}) compare(OpKind::kConv2D, channels, channels == 20 ? 20 : 8);
      }
    }
  }
}

// A multiplier for which an accumulator times it may pass int32 goes to a kernel that clamps before it converts.
DBQ_TEST(LargeMultipliers) {
  LayerShape s;
  s.in_channels = s.image.channels = 64;
  s.out_channels = 64;
  s.image.width = 40;
  Random random(3);
  FileLayer file = testing::MakeLayer(s, &random);
  for (size_t i = 2; i < file.scales.size(); ++i) file.scales[i] = 1e30f;
  const Example e = MakeExample(s, file, testing::MakeInput(s.image.Pixels() * 64, &random));
  Graph graph = testing::MakeGraph(s, e.file);
  ExpectSame(s, "any", e.output, e.expected, testing::RunGraph(&graph, DetectFeatures(), 1, e.x, e.expected.size()));
}

}  // namespace
}  // namespace dbq
