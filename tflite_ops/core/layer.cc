#include "core/layer.h"

#include <cmath>
#include <cstdlib>

#include "core/packing.h"

namespace dbq {
namespace {

Status CheckCount(const char* name, int64_t count, int64_t expected) {
  if (count == expected) return Status::Ok();
  return Status::Error("%s must hold %lld values, got %lld; the file is damaged", name,
                       static_cast<long long>(expected), static_cast<long long>(count));
}

Status CheckCounts(const ConstantTensors& t, const LayerParams& p) {
  if (t.branch_scales_rows != p.branches || t.branch_scales_columns != p.out_channels) {
    return Status::Error("branch_scales must have shape [%d, %d], got [%lld, %lld]; the file is damaged", p.branches,
                         p.out_channels, static_cast<long long>(t.branch_scales_rows),
                         static_cast<long long>(t.branch_scales_columns));
  }
  DBQ_RETURN_IF_ERROR(CheckCount("scales", t.scales_count, INT64_C(2) + p.out_channels));
  return CheckCount("bias", t.bias_count, p.out_channels);
}

Status CheckBranchScales(const ConstantTensors& t, const LayerParams& p) {
  for (int64_t m = 0; m < p.out_channels; ++m) {
    const int first = t.branch_scales[m];
    const int second = p.branches == 2 ? t.branch_scales[p.out_channels + m] : 0;
    if (first < 1 || second >= first || first + second > 127) {
      return Status::Error("branch_scales of channel %lld must have p >= 1, p > q, p + q <= 127, got p = %d, q = %d",
                           static_cast<long long>(m), first, second);
    }
  }
  return Status::Ok();
}

Status CheckScales(const ConstantTensors& t) {
  for (int64_t i = 0; i < t.scales_count; ++i) {
    const float scale = t.scales[i];
    // Written so that NaN fails.
    if (!(scale > 0) || !std::isfinite(scale)) {
      return Status::Error("scales[%lld] must be finite and > 0, got %g; the file is damaged",
                           static_cast<long long>(i), static_cast<double>(scale));
    }
  }
  return Status::Ok();
}

Status CheckBias(const ConstantTensors& t, int64_t depth) {
  const int64_t limit = INT64_C(2147483647) - depth * 127 * 255;
  for (int64_t m = 0; m < t.bias_count; ++m) {
    const int64_t bias = t.bias[m];
    if (std::llabs(bias) > limit) {
      return Status::Error("bias[%lld] = %lld overflows the int32 sum of %lld products, the limit is %lld",
                           static_cast<long long>(m), static_cast<long long>(bias), static_cast<long long>(depth),
                           static_cast<long long>(limit));
    }
  }
  return Status::Ok();
}

Status ComputeMultipliers(const ConstantTensors& t, Layer* layer) {
  layer->multiplier.resize(t.bias_count);
  for (int64_t m = 0; m < t.bias_count; ++m) {
    const float product = layer->input_scale * t.scales[2 + m];
    const float multiplier = product / layer->output_scale;
    if (!(multiplier > 0) || !std::isfinite(multiplier)) {
      return Status::Error("scales of channel %lld give the multiplier %g, expected finite and > 0",
                           static_cast<long long>(m), static_cast<double>(multiplier));
    }
    layer->multiplier[m] = multiplier;
  }
  return Status::Ok();
}

// clamp(rne(bound / output_scale + zero_point)) to int8, relative to the zero point.
float QuantizedBound(float bound, const Layer& layer) {
  const float zero_point = static_cast<float>(layer.params.output_zero_point);
  float code = bound / layer.output_scale + zero_point;
  code = code < -128.0f ? -128.0f : code;
  code = code > 127.0f ? 127.0f : code;
  return std::nearbyintf(code) - zero_point;
}

OutputStage MakeOutputStage(const Layer& layer) {
  const float zero_point = static_cast<float>(layer.params.output_zero_point);
  OutputStage stage{-128.0f - zero_point, 127.0f - zero_point, layer.params.output_zero_point};
  switch (layer.params.activation) {
    case Activation::kNone:
      break;
    case Activation::kRelu:
      stage.low = QuantizedBound(0.0f, layer);
      break;
    case Activation::kReluN1To1:
      stage.low = QuantizedBound(-1.0f, layer);
      stage.high = QuantizedBound(1.0f, layer);
      break;
    case Activation::kRelu6:
      stage.low = QuantizedBound(0.0f, layer);
      stage.high = QuantizedBound(6.0f, layer);
      break;
  }
  return stage;
}

// integers = p*b1 + q*b2. The output channel is the slowest axis of OHWI and the fastest of 1HWM.
void DecodeIntegers(const ConstantTensors& t, Layer* layer) {
  const int64_t channels = layer->params.out_channels;
  const int64_t weights = layer->params.WeightCount(layer->kind);
  const int64_t depth = weights / channels;
  const bool channel_last = layer->kind == OpKind::kDepthwiseConv2D;
  std::vector<int8_t> trits(weights);
  layer->integers.assign(weights, 0);
  for (int branch = 0; branch < layer->params.branches; ++branch) {
    DecodePlane(t.codes + branch * PlaneBytes(weights), weights, trits.data());
    const uint8_t* scale = t.branch_scales + branch * channels;
    for (int64_t i = 0; i < weights; ++i) {
      const int64_t m = channel_last ? i % channels : i / depth;
      layer->integers[i] = static_cast<int8_t>(layer->integers[i] + trits[i] * scale[m]);
    }
  }
}

}  // namespace

Status DecodeLayer(OpKind kind, const ConstantTensors& t, Layer* layer) {
  layer->kind = kind;
  DBQ_RETURN_IF_ERROR(ParseParams(kind, t.params, t.params_count, &layer->params));
  const LayerParams& p = layer->params;
  DBQ_RETURN_IF_ERROR(CheckCounts(t, p));
  DBQ_RETURN_IF_ERROR(CheckCodes(t.codes, t.codes_count, p.branches, p.WeightCount(kind)));
  DBQ_RETURN_IF_ERROR(CheckBranchScales(t, p));
  DBQ_RETURN_IF_ERROR(CheckScales(t));
  DBQ_RETURN_IF_ERROR(CheckBias(t, p.Depth(kind)));
  layer->input_scale = t.scales[0];
  layer->output_scale = t.scales[1];
  DBQ_RETURN_IF_ERROR(ComputeMultipliers(t, layer));
  layer->stage = MakeOutputStage(*layer);
  layer->bias.assign(t.bias, t.bias + t.bias_count);
  DecodeIntegers(t, layer);
  return Status::Ok();
}

}  // namespace dbq
