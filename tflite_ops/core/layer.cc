#include "core/layer.h"

#include <algorithm>
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

// With thresholds no sum may be 2^31 - 1, which as a threshold means "never".
Status CheckBias(const ConstantTensors& t, int64_t depth, bool has_thresholds) {
  const int64_t limit = INT64_C(2147483647) - depth * 127 * 255 - (has_thresholds ? 1 : 0);
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

Status CheckThresholds(const ConstantTensors& t, const LayerParams& p) {
  if (p.has_thresholds != (t.thresholds != nullptr)) {
    return Status::Error("thresholds must be there in packed format version 2 and nowhere else; the file is damaged");
  }
  if (!p.has_thresholds) return Status::Ok();
  if (t.thresholds_rows < 1 || t.thresholds_rows > kMostThresholds || t.thresholds_columns != p.out_channels) {
    return Status::Error("thresholds must have shape [1..%d, %d], got [%lld, %lld]; the file is damaged",
                         kMostThresholds, p.out_channels, static_cast<long long>(t.thresholds_rows),
                         static_cast<long long>(t.thresholds_columns));
  }
  const int64_t last_row = (t.thresholds_rows - 1) * t.thresholds_columns;
  for (int64_t i = 0; i < last_row; ++i) {
    if (t.thresholds[i] <= t.thresholds[i + t.thresholds_columns]) continue;
    return Status::Error("thresholds of a channel must not fall, got %d after %d; the file is damaged",
                         t.thresholds[i + t.thresholds_columns], t.thresholds[i]);
  }
  if (p.lowest_code + t.thresholds_rows <= 127) return Status::Ok();
  return Status::Error("params[16] (lowest code) must be at most %lld, got %d; export the file again",
                       static_cast<long long>(127 - t.thresholds_rows), p.lowest_code);
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

// clamp(rne(bound / scale + zero_point)) to int8, relative to the zero point.
float QuantizedBound(float bound, float scale, int32_t zero_point) {
  float code = bound / scale + static_cast<float>(zero_point);
  code = code < -128.0f ? -128.0f : code;
  code = code > 127.0f ? 127.0f : code;
  return std::nearbyintf(code) - static_cast<float>(zero_point);
}

}  // namespace

OutputStage MakeOutputStage(Activation activation, float scale, int32_t zero_point) {
  const float zero = static_cast<float>(zero_point);
  OutputStage stage{-128.0f - zero, 127.0f - zero, zero_point};
  if (activation == Activation::kRelu || activation == Activation::kRelu6) {
    stage.low = QuantizedBound(0.0f, scale, zero_point);
  }
  if (activation == Activation::kRelu6) stage.high = QuantizedBound(6.0f, scale, zero_point);
  if (activation == Activation::kReluN1To1) {
    stage.low = QuantizedBound(-1.0f, scale, zero_point);
    stage.high = QuantizedBound(1.0f, scale, zero_point);
  }
  return stage;
}

namespace {

// A trit times a scale of at most 127.
int8_t Scaled(int8_t trit, int8_t scale) {
  return static_cast<int8_t>((trit > 0 ? scale : 0) | (trit < 0 ? -scale : 0));
}

// All loops here are such that the compiler makes vectors of them.
int32_t SumTrits(const int8_t* trits, int64_t count) {
  constexpr int64_t kBlock = 112;  // so many fit int8, and are whole vectors
  int32_t total = 0;
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t last = std::min(count, first + kBlock);
    int8_t sum = 0;
    for (int64_t i = first; i < last; ++i) sum = static_cast<int8_t>(sum + trits[i]);
    total += sum;
  }
  return total;
}

// Trits become integers in their place.
void ScaleRow(int8_t* row, uint8_t scale, int64_t count) {
  for (int64_t i = 0; i < count; ++i) row[i] = Scaled(row[i], static_cast<int8_t>(scale));
}

void ScaleRowByEach(int8_t* row, const uint8_t* __restrict scale, int64_t count) {
  for (int64_t i = 0; i < count; ++i) row[i] = static_cast<int8_t>(row[i] * scale[i]);
}

template <typename Sum, typename T>
void AddTo(Sum* __restrict sums, const T* __restrict values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sums[i] = static_cast<Sum>(sums[i] + values[i]);
}

// One branch. The output channel is the slowest axis of OHWI and the fastest of 1HWM.
Integers DecodeBranch(const uint8_t* codes, const uint8_t* scale, int64_t weights, int64_t channels,
                      bool channel_last) {
  Integers decoded{std::vector<int8_t>(weights), std::vector<int32_t>(channels)};
  DecodePlane(codes, weights, decoded.values.data());
  const int64_t columns = channel_last ? channels : weights / channels;
  for (int64_t first = 0, row = 0; first < weights; first += columns, ++row) {
    int8_t* w = decoded.values.data() + first;
    if (channel_last) {
      ScaleRowByEach(w, scale, columns);
      AddTo(decoded.sums.data(), w, columns);
    } else {
      decoded.sums[row] = SumTrits(w, columns) * scale[row];
      ScaleRow(w, scale[row], columns);
    }
  }
  return decoded;
}

}  // namespace

Integers DecodeIntegers(OpKind kind, const LayerParams& params, const uint8_t* codes, const uint8_t* branch_scales) {
  const int64_t channels = params.out_channels, weights = params.WeightCount(kind);
  const bool channel_last = kind == OpKind::kDepthwiseConv2D;
  Integers decoded = DecodeBranch(codes, branch_scales, weights, channels, channel_last);
  if (params.branches == 2) {
    const uint8_t* second = codes + PlaneBytes(weights);
    const Integers more = DecodeBranch(second, branch_scales + channels, weights, channels, channel_last);
    AddTo(decoded.values.data(), more.values.data(), weights);
    AddTo(decoded.sums.data(), more.sums.data(), channels);
  }
  return decoded;
}

Status ReadLayer(OpKind kind, const ConstantTensors& t, Layer* layer) {
  layer->kind = kind;
  DBQ_RETURN_IF_ERROR(ParseParams(kind, t.params, t.params_count, &layer->params));
  const LayerParams p = layer->params;
  DBQ_RETURN_IF_ERROR(CheckCounts(t, p));
  DBQ_RETURN_IF_ERROR(CheckCodes(t.codes, t.codes_count, p.branches, p.WeightCount(kind)));
  DBQ_RETURN_IF_ERROR(CheckBranchScales(t, p));
  DBQ_RETURN_IF_ERROR(CheckScales(t));
  DBQ_RETURN_IF_ERROR(CheckBias(t, p.Depth(kind), p.has_thresholds));
  DBQ_RETURN_IF_ERROR(CheckThresholds(t, p));
  layer->input_scale = t.scales[0];
  layer->output_scale = t.scales[1];
  DBQ_RETURN_IF_ERROR(ComputeMultipliers(t, layer));
  layer->stage = MakeOutputStage(p.activation, layer->output_scale, p.output_zero_point);
  layer->bias.assign(t.bias, t.bias + t.bias_count);
  if (p.has_thresholds) {
    layer->levels = static_cast<int>(t.thresholds_rows);
    layer->thresholds.assign(t.thresholds, t.thresholds + t.thresholds_rows * t.thresholds_columns);
    layer->stage = {0, static_cast<float>(layer->levels), p.lowest_code};
  }
  return Status::Ok();
}

Status DecodeLayer(OpKind kind, const ConstantTensors& t, Layer* layer) {
  DBQ_RETURN_IF_ERROR(ReadLayer(kind, t, layer));
  layer->integers = DecodeIntegers(kind, layer->params, t.codes, t.branch_scales).values;
  return Status::Ok();
}

}  // namespace dbq
