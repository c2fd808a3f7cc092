#include "graph/image.h"

#include <algorithm>
#include <cstring>

namespace dbq {

void Border::Include(const Border& other) {
  top = std::max(top, other.top), left = std::max(left, other.left);
  bottom = std::max(bottom, other.bottom), right = std::max(right, other.right);
}

// The right border of a row and the left one of the next are neighbours: one call fills both.
void Image::FillBorder(uint8_t zero_point) const {
  if (IsDense()) return;
  const int64_t row = RowBytes(), sides = (border.left + border.right) * channels;
  for (int64_t n = 0; n < batch; ++n) {
    uint8_t* image = data - Origin() + n * ImageBytes();
    std::memset(image, zero_point, border.top * row + border.left * channels);
    uint8_t* right = image + (border.top + 1) * row - border.right * channels;
    for (int64_t y = 0; y + 1 < height && sides > 0; ++y) std::memset(right + y * row, zero_point, sides);
    std::memset(right + (height - 1) * row, zero_point, border.right * channels + border.bottom * row);
  }
}

Image MakeImage(const std::vector<int>& shape, const Border& border) {
  Image image;
  image.border = border;
  if (shape.size() == 4) {
    image.batch = shape[0], image.height = shape[1], image.width = shape[2], image.channels = shape[3];
    return image;
  }
  image.batch = image.height = image.width = image.channels = 1;
  for (size_t i = 0; i < shape.size(); ++i) (i + 1 == shape.size() ? image.channels : image.batch) *= shape[i];
  return image;
}

}  // namespace dbq
