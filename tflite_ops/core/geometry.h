// Output size and padding of one spatial axis.
#ifndef DBQ_CORE_GEOMETRY_H_
#define DBQ_CORE_GEOMETRY_H_

#include <cstdint>

#include "core/params.h"
#include "core/status.h"

namespace dbq {

struct ImageShape {  // NHWC
  int batch = 0, height = 0, width = 0, channels = 0;
  int64_t Pixels() const { return static_cast<int64_t>(batch) * height * width; }
};

// What the kernels need besides the layer: shapes and the rows and columns of zeros before the image.
struct ConvGeometry {
  ImageShape input, output;
  int64_t pad_top = 0, pad_left = 0;
};

// The kernel must fit the image when padding is VALID, and no tensor may pass 2^31 - 1 elements.
Status MakeConvGeometry(const LayerParams& params, const ImageShape& input, ConvGeometry* geometry);

}  // namespace dbq

#endif  // DBQ_CORE_GEOMETRY_H_
