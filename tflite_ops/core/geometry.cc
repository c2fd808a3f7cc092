#include "core/geometry.h"

namespace dbq {
namespace {

constexpr int64_t kMaxElements = INT64_C(2147483647);

struct Axis {
  int64_t output, pad_before;
};

// All arguments are below 2^31 and kernel <= kMaxDepth, so nothing overflows int64.
Axis MakeAxis(int64_t input, int64_t kernel, int64_t stride, int64_t dilation, Padding padding) {
  const int64_t extent = (kernel - 1) * dilation + 1;
  if (padding == Padding::kValid) return {input < extent ? 0 : (input - extent) / stride + 1, 0};
  const int64_t output = (input + stride - 1) / stride;
  const int64_t missing = (output - 1) * stride + extent - input;
  return {output, missing > 0 ? missing / 2 : 0};
}

Status CheckElements(const char* name, const ImageShape& shape) {
  const __int128 elements = static_cast<__int128>(shape.batch) * shape.height * shape.width * shape.channels;
  if (elements <= kMaxElements) return Status::Ok();
  return Status::Error("%s [%d, %d, %d, %d] has more than 2^31 - 1 elements; use a smaller batch or image", name,
                       shape.batch, shape.height, shape.width, shape.channels);
}

}  // namespace

Status MakeConvGeometry(const LayerParams& p, const ImageShape& input, ConvGeometry* geometry) {
  if (input.batch < 0 || input.height < 1 || input.width < 1 || input.channels != p.in_channels) {
    return Status::Error("input must have shape [N, H, W, %d], got [%d, %d, %d, %d]", p.in_channels, input.batch,
                         input.height, input.width, input.channels);
  }
  DBQ_RETURN_IF_ERROR(CheckElements("input", input));
  const Axis rows = MakeAxis(input.height, p.kernel_h, p.stride_h, p.dilation_h, p.padding);
  const Axis columns = MakeAxis(input.width, p.kernel_w, p.stride_w, p.dilation_w, p.padding);
  if (rows.output < 1 || columns.output < 1) {
    return Status::Error("kernel %d x %d (dilation %d, %d) is larger than the %d x %d image and padding is VALID",
                         p.kernel_h, p.kernel_w, p.dilation_h, p.dilation_w, input.height, input.width);
  }
  const ImageShape output{input.batch, static_cast<int>(rows.output), static_cast<int>(columns.output), p.out_channels};
  DBQ_RETURN_IF_ERROR(CheckElements("output", output));
  *geometry = {input, output, rows.pad_before, columns.pad_before};
  return Status::Ok();
}

}  // namespace dbq
