// Every documented error of the parameter and constant tensors, and the clamps of the activations.
#include <cmath>
#include <limits>

#include "core/geometry.h"
#include "core/layer.h"
#include "tests/random_layer.h"
#include "tests/testing.h"

namespace dbq {
namespace {

using testing::FileLayer;
using testing::LayerShape;

LayerShape Conv() {
  LayerShape s;
  s.branches = 2;
  s.kernel_h = 3, s.kernel_w = 2;
  s.in_channels = 4, s.out_channels = 5;
  return s;
}

FileLayer Valid(const LayerShape& s) {
  testing::Random random(1);
  return testing::MakeLayer(s, &random);
}

// Decodes the layer after `damage` has changed it.
template <typename Damage>
Status Decode(const LayerShape& s, Damage damage) {
  FileLayer file = Valid(s);
  damage(&file);
  Layer layer;
  return DecodeLayer(s.kind, file.View(), &layer);
}

Status DecodeParam(const LayerShape& s, int index, int value) {
  return Decode(s, [&](FileLayer* f) { f->params[index] = value; });
}

DBQ_TEST(ValidLayerDecodes) {
  DBQ_EXPECT_OK(Decode(Conv(), [](FileLayer*) {}));
}

DBQ_TEST(ParamsRanges) {
  constexpr int kHuge = 2147483647;
  DBQ_EXPECT_ERROR(DecodeParam(Conv(), 0, 3), "packed format version 3 is not supported, expected 1 or 2");
  DBQ_EXPECT_ERROR(DecodeParam(Conv(), 1, 3), "params[1] (branches) must be in 1..2, got 3");
  DBQ_EXPECT_ERROR(DecodeParam(Conv(), 2, 0), "params[2] (kernel height)");
  DBQ_EXPECT_ERROR(DecodeParam(Conv(), 3, -1), "params[3] (kernel width)");
  DBQ_EXPECT_ERROR(DecodeParam(Conv(), 4, kHuge), "overflows int32");
  DBQ_EXPECT_ERROR(DecodeParam(Conv(), 5, kHuge), "branch_scales must have shape [2, 2147483647]");
  for (int index : {6, 7, 8, 9}) DBQ_EXPECT_ERROR(DecodeParam(Conv(), index, 0), "must be in 1..2147483647, got 0");
  DBQ_EXPECT_ERROR(DecodeParam(Conv(), 10, 2), "params[10] (padding)");
  DBQ_EXPECT_ERROR(DecodeParam(Conv(), 11, 4), "params[11] (activation)");
  DBQ_EXPECT_ERROR(DecodeParam(Conv(), 12, 1), "params[12] (depth multiplier) must be in 0..0");
  DBQ_EXPECT_ERROR(DecodeParam(Conv(), 13, 128), "params[13] (input zero point)");
  DBQ_EXPECT_ERROR(DecodeParam(Conv(), 14, -129), "params[14] (output zero point)");
  DBQ_EXPECT_ERROR(DecodeParam(Conv(), 15, 1), "params[15] (keep_num_dims) must be in 0..0");
  DBQ_EXPECT_ERROR(Decode(Conv(), [](FileLayer* f) { f->params.pop_back(); }),
                   "params must hold 16 int32 values, got 15");
}

LayerShape Counted() {
  LayerShape s = Conv();
  s.levels = 3;
  return s;
}

DBQ_TEST(ThresholdsDecode) {
  testing::Random random(1);
  const FileLayer file = testing::MakeLayer(Counted(), &random);
  Layer layer;
  DBQ_EXPECT_OK(DecodeLayer(OpKind::kConv2D, file.View(), &layer));
  DBQ_EXPECT_EQ(layer.levels, 3);
  DBQ_EXPECT(layer.thresholds == file.thresholds);
  DBQ_EXPECT_EQ(layer.stage.zero_point, file.params[16]);
}

DBQ_TEST(ThresholdErrors) {
  DBQ_EXPECT_ERROR(DecodeParam(Conv(), 0, 2), "params must hold 17 int32 values, got 16");
  DBQ_EXPECT_ERROR(DecodeParam(Counted(), 0, 1), "params must hold 16 int32 values, got 17");
  DBQ_EXPECT_ERROR(DecodeParam(Counted(), 16, 125), "params[16] (lowest code) must be at most 124, got 125");
  DBQ_EXPECT_ERROR(DecodeParam(Counted(), 16, -129), "params[16] (lowest code) must be in -128..126");
  DBQ_EXPECT_ERROR(Decode(Counted(), [](FileLayer* f) { f->levels = 0; }), "thresholds must be there in packed format");
  DBQ_EXPECT_ERROR(Decode(Counted(), [](FileLayer* f) { f->params[0] = 1, f->params.pop_back(); }),
                   "thresholds must be there in packed format version 2 and nowhere else");
  DBQ_EXPECT_ERROR(Decode(Counted(), [](FileLayer* f) { f->levels = 16, f->thresholds.resize(16 * f->columns); }),
                   "thresholds must have shape [1..15, ");
  DBQ_EXPECT_ERROR(Decode(Counted(), [](FileLayer* f) { f->thresholds[0] = 7, f->thresholds[f->columns] = 6; }),
                   "thresholds of a channel must not fall, got 6 after 7");
  DBQ_EXPECT_ERROR(Decode(Counted(),
                          [](FileLayer* f) {
                            const int64_t depth = f->params[2] * f->params[3] * f->params[4];
                            f->bias[0] = static_cast<int32_t>(2147483647 - depth * 127 * 255);
                          }),
                   "overflows the int32 sum");
  LayerShape depthwise;
  depthwise.kind = OpKind::kDepthwiseConv2D;
  depthwise.levels = 3;
  DBQ_EXPECT_ERROR(Decode(depthwise, [](FileLayer*) {}), "packed format version 2 has no DbqDepthwiseConv2D");
}

DBQ_TEST(DotProductThatOverflowsIsRefused) {
  LayerShape s;
  s.in_channels = static_cast<int>(kMaxDepth);
  DBQ_EXPECT_OK(Decode(s, [](FileLayer* f) { f->bias[0] = 0; }));
  s.in_channels += 1;
  DBQ_EXPECT_ERROR(Decode(s, [](FileLayer* f) { f->bias[0] = 0; }), "overflows int32");
}

DBQ_TEST(BiasThatOverflowsIsRefused) {
  const int64_t limit = INT64_C(2147483647) - 24 * 127 * 255;
  DBQ_EXPECT_OK(Decode(Conv(), [&](FileLayer* f) { f->bias[3] = static_cast<int>(limit); }));
  DBQ_EXPECT_ERROR(Decode(Conv(), [&](FileLayer* f) { f->bias[3] = static_cast<int>(limit + 1); }), "bias[3]");
  DBQ_EXPECT_ERROR(Decode(Conv(), [&](FileLayer* f) { f->bias[3] = -2147483647 - 1; }), "bias[3] = -2147483648");
}

DBQ_TEST(DepthwiseParams) {
  LayerShape s;
  s.kind = OpKind::kDepthwiseConv2D;
  s.kernel_h = 3, s.in_channels = 4, s.out_channels = 8, s.depth_multiplier = 2;
  DBQ_EXPECT_OK(Decode(s, [](FileLayer*) {}));
  DBQ_EXPECT_ERROR(DecodeParam(s, 12, 0), "params[12] (depth multiplier) must be in 1..");
  DBQ_EXPECT_ERROR(DecodeParam(s, 12, 3), "must be input channels * depth multiplier = 12, got 8");
  DBQ_EXPECT_ERROR(DecodeParam(s, 12, 2147483647), "must be input channels * depth multiplier = 8589934588");
}

DBQ_TEST(FullyConnectedParams) {
  LayerShape s;
  s.kind = OpKind::kFullyConnected;
  s.in_channels = 4, s.out_channels = 8, s.padding = Padding::kValid;
  DBQ_EXPECT_OK(Decode(s, [](FileLayer*) {}));
  DBQ_EXPECT_OK(DecodeParam(s, 15, 1));
  for (int index : {2, 3, 6, 7, 8, 9}) DBQ_EXPECT_ERROR(DecodeParam(s, index, 2), "must be in 1..1, got 2");
  DBQ_EXPECT_ERROR(DecodeParam(s, 10, 0), "params[10] (padding) must be in 1..1");
  DBQ_EXPECT_ERROR(DecodeParam(s, 12, 1), "params[12] (depth multiplier)");
}

DBQ_TEST(WrongCounts) {
  DBQ_EXPECT_ERROR(Decode(Conv(), [](FileLayer* f) { f->codes.pop_back(); }), "codes must hold 48 bytes");
  DBQ_EXPECT_ERROR(Decode(Conv(), [](FileLayer* f) { f->rows = 1; }),
                   "branch_scales must have shape [2, 5], got [1, 5]");
  DBQ_EXPECT_ERROR(Decode(Conv(), [](FileLayer* f) { f->columns = 4; }), "branch_scales must have shape");
  DBQ_EXPECT_ERROR(Decode(Conv(), [](FileLayer* f) { f->scales.pop_back(); }), "scales must hold 7 values, got 6");
  DBQ_EXPECT_ERROR(Decode(Conv(), [](FileLayer* f) { f->bias.push_back(0); }), "bias must hold 5 values, got 6");
}

DBQ_TEST(BranchScales) {
  auto with = [](int p, int q) {
    return Decode(Conv(), [=](FileLayer* f) { f->branch_scales[4] = p, f->branch_scales[9] = q; });
  };
  DBQ_EXPECT_OK(with(1, 0));
  DBQ_EXPECT_OK(with(64, 63));
  DBQ_EXPECT_ERROR(with(0, 0), "branch_scales of channel 4");
  DBQ_EXPECT_ERROR(with(63, 63), "p > q");
  DBQ_EXPECT_ERROR(with(65, 63), "p + q <= 127");
  DBQ_EXPECT_ERROR(with(255, 0), "got p = 255, q = 0");
}

DBQ_TEST(ScalesMustBeFiniteAndPositive) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  for (int index : {0, 1, 2, 6}) {
    for (float bad : {nan, infinity, -infinity, 0.0f, -0.0f, -1.0f}) {
      DBQ_EXPECT_ERROR(Decode(Conv(), [&](FileLayer* f) { f->scales[index] = bad; }), "must be finite and > 0");
    }
  }
}

// Each scale is legal alone.
DBQ_TEST(MultiplierMustBeFiniteAndPositive) {
  auto with = [](float input, float output) {
    return Decode(Conv(), [=](FileLayer* f) { f->scales[0] = input, f->scales[1] = output; });
  };
  DBQ_EXPECT_ERROR(with(1e38f, 1e-38f), "give the multiplier inf");
  DBQ_EXPECT_ERROR(with(1e-38f, 1e38f), "give the multiplier 0");
}

OutputStage StageOf(Activation activation, float output_scale, int zero_point) {
  LayerShape s = Conv();
  s.activation = activation;
  s.output_zero_point = zero_point;
  FileLayer file = Valid(s);
  file.scales[1] = output_scale;
  Layer layer;
  DBQ_EXPECT_OK(DecodeLayer(s.kind, file.View(), &layer));
  return layer.stage;
}

void ExpectCodes(const OutputStage& stage, int low, int high) {
  DBQ_EXPECT_EQ(static_cast<int>(stage.low) + stage.zero_point, low);
  DBQ_EXPECT_EQ(static_cast<int>(stage.high) + stage.zero_point, high);
}

DBQ_TEST(ActivationClamps) {
  ExpectCodes(StageOf(Activation::kNone, 0.1f, -7), -128, 127);
  ExpectCodes(StageOf(Activation::kRelu, 0.1f, -7), -7, 127);
  ExpectCodes(StageOf(Activation::kReluN1To1, 0.1f, -7), -17, 3);
  ExpectCodes(StageOf(Activation::kRelu6, 0.1f, -7), -7, 53);
  ExpectCodes(StageOf(Activation::kRelu6, 0.01f, -7), -7, 127);
  ExpectCodes(StageOf(Activation::kRelu6, 4.0f, 0), 0, 2);  // 6 / 4 = 1.5 ties to 2
  ExpectCodes(StageOf(Activation::kRelu6, 4.0f, 1), 1, 2);  // 6 / 4 + 1 = 2.5 ties to 2
  ExpectCodes(StageOf(Activation::kReluN1To1, 1e-30f, 3), -128, 127);
}

DBQ_TEST(GeometryErrors) {
  LayerParams p;
  p.kernel_h = p.kernel_w = 3;
  p.in_channels = 2, p.out_channels = 1;
  p.stride_h = p.stride_w = p.dilation_h = p.dilation_w = 1;
  p.padding = Padding::kValid;
  ConvGeometry geometry;
  DBQ_EXPECT_OK(MakeConvGeometry(p, {1, 3, 3, 2}, &geometry));
  DBQ_EXPECT_OK(MakeConvGeometry(p, {0, 3, 3, 2}, &geometry));
  DBQ_EXPECT_ERROR(MakeConvGeometry(p, {1, 2, 3, 2}, &geometry), "is larger than the 2 x 3 image");
  DBQ_EXPECT_ERROR(MakeConvGeometry(p, {1, 3, 3, 3}, &geometry), "input must have shape [N, H, W, 2]");
  DBQ_EXPECT_ERROR(MakeConvGeometry(p, {1, 0, 3, 2}, &geometry), "input must have shape [N, H, W, 2]");
  DBQ_EXPECT_ERROR(MakeConvGeometry(p, {2147483647, 2147483647, 2147483647, 2}, &geometry), "more than 2^31 - 1");
  p.dilation_h = 2147483647;
  DBQ_EXPECT_ERROR(MakeConvGeometry(p, {1, 9, 9, 2}, &geometry), "is larger than the 9 x 9 image");
  p.padding = Padding::kSame;
  DBQ_EXPECT_OK(MakeConvGeometry(p, {1, 9, 9, 2}, &geometry));
  p.out_channels = 2147483647;
  DBQ_EXPECT_ERROR(MakeConvGeometry(p, {1, 9, 9, 2}, &geometry), "output [1, 9, 9, 2147483647]");
}

}  // namespace
}  // namespace dbq
