#include "core/params.h"

namespace dbq {
namespace {

// Position of each field in the tensor, with the range that it may take in every operator.
struct Field {
  const char* name;
  int64_t low, high;
};

constexpr int64_t kInt32Max = INT64_C(2147483647);
constexpr Field kFields[kParamCount] = {
    {"format version", kFormatVersion, kThresholdVersion},
    {"branches", 1, 2},
    {"kernel height", 1, kMaxDepth},
    {"kernel width", 1, kMaxDepth},
    {"input channels", 1, kInt32Max},
    {"output channels", 1, kInt32Max},
    {"stride height", 1, kInt32Max},
    {"stride width", 1, kInt32Max},
    {"dilation height", 1, kInt32Max},
    {"dilation width", 1, kInt32Max},
    {"padding", 0, 1},
    {"activation", 0, 3},
    {"depth multiplier", 0, kInt32Max},
    {"input zero point", -128, 127},
    {"output zero point", -128, 127},
    {"keep_num_dims", 0, 1},
    {"lowest code", -128, 126},
};

Status CheckRange(int index, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return Status::Ok();
  return Status::Error("params[%d] (%s) must be in %lld..%lld, got %lld; export the file again", index,
                       kFields[index].name, static_cast<long long>(low), static_cast<long long>(high),
                       static_cast<long long>(value));
}

// A fully connected layer is a 1x1 convolution; fields that it does not use have one legal value.
Status CheckFullyConnected(const int32_t* values) {
  for (int index : {2, 3, 6, 7, 8, 9, 10}) DBQ_RETURN_IF_ERROR(CheckRange(index, values[index], 1, 1));
  return CheckRange(12, values[12], 0, 0);
}

Status CheckDepthwise(const int32_t* values) {
  DBQ_RETURN_IF_ERROR(CheckRange(12, values[12], 1, kFields[12].high));
  const int64_t channels = static_cast<int64_t>(values[4]) * values[12];
  if (channels == values[5]) return Status::Ok();
  return Status::Error("params[5] (output channels) must be input channels * depth multiplier = %lld, got %d",
                       static_cast<long long>(channels), values[5]);
}

Status CheckVersion(const int32_t* values, int64_t count) {
  const int32_t version = count > 0 ? values[0] : kFormatVersion;
  if (version != kFormatVersion && version != kThresholdVersion) {
    return Status::Error(
        "packed format version %d is not supported, expected %d or %d; install the keras_dbq that wrote it", version,
        kFormatVersion, kThresholdVersion);
  }
  const int expected = kParamCount - (version == kFormatVersion ? 1 : 0);
  if (count == expected) return Status::Ok();
  return Status::Error("params must hold %d int32 values, got %lld; export the file again", expected,
                       static_cast<long long>(count));
}

Status CheckKind(OpKind kind, const int32_t* values) {
  if (kind == OpKind::kFullyConnected) return CheckFullyConnected(values);
  DBQ_RETURN_IF_ERROR(CheckRange(15, values[15], 0, 0));
  if (kind == OpKind::kDepthwiseConv2D) return CheckDepthwise(values);
  return CheckRange(12, values[12], 0, 0);
}

}  // namespace

const char* OpName(OpKind kind) {
  switch (kind) {
    case OpKind::kConv2D:
      return "DbqConv2D";
    case OpKind::kDepthwiseConv2D:
      return "DbqDepthwiseConv2D";
    case OpKind::kFullyConnected:
      return "DbqFullyConnected";
  }
  return "Dbq";
}

Status ParseParams(OpKind kind, const int32_t* values, int64_t count, LayerParams* params) {
  DBQ_RETURN_IF_ERROR(CheckVersion(values, count));
  for (int i = 0; i < count; ++i) {
    DBQ_RETURN_IF_ERROR(CheckRange(i, values[i], kFields[i].low, kFields[i].high));
  }
  DBQ_RETURN_IF_ERROR(CheckKind(kind, values));

  LayerParams p;
  p.branches = values[1];
  p.kernel_h = values[2], p.kernel_w = values[3];
  p.in_channels = values[4], p.out_channels = values[5];
  p.stride_h = values[6], p.stride_w = values[7];
  p.dilation_h = values[8], p.dilation_w = values[9];
  p.padding = static_cast<Padding>(values[10]);
  p.activation = static_cast<Activation>(values[11]);
  p.depth_multiplier = values[12];
  p.input_zero_point = values[13], p.output_zero_point = values[14];
  p.keep_num_dims = values[15] != 0;
  p.has_thresholds = values[0] == kThresholdVersion;
  if (p.has_thresholds) p.lowest_code = values[16];
  if (p.has_thresholds && kind == OpKind::kDepthwiseConv2D) {
    return Status::Error("packed format version 2 has no %s; export the file again", OpName(kind));
  }

  // kernel_h * kernel_w fits int64 and is checked before it is multiplied by the channels.
  const int64_t taps = static_cast<int64_t>(p.kernel_h) * p.kernel_w;
  if (taps > kMaxDepth || p.Depth(kind) > kMaxDepth) {
    return Status::Error("a dot product of kernel %d x %d over %d channels overflows int32, the limit is %lld products",
                         p.kernel_h, p.kernel_w, p.in_channels, static_cast<long long>(kMaxDepth));
  }
  *params = p;
  return Status::Ok();
}

}  // namespace dbq
