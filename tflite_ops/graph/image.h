// Where the codes of a value lie in the arena: NHWC, with a border of zero points around every image.
#ifndef DBQ_GRAPH_IMAGE_H_
#define DBQ_GRAPH_IMAGE_H_

#include <cstdint>
#include <vector>

namespace dbq {

// Pixels around an image.
struct Border {
  int64_t top = 0, left = 0, bottom = 0, right = 0;
  void Include(const Border& other);
};

struct Image {
  uint8_t* data = nullptr;  // first pixel inside the border
  int64_t batch = 0, height = 0, width = 0, channels = 0;
  Border border;

  int64_t RowBytes() const { return (border.left + width + border.right) * channels; }
  int64_t ImageBytes() const { return (border.top + height + border.bottom) * RowBytes(); }
  int64_t Bytes() const { return batch * ImageBytes(); }
  // From the first byte to `data`.
  int64_t Origin() const { return border.top * RowBytes() + border.left * channels; }
  int64_t Rows() const { return batch * height; }
  int64_t UsedRowBytes() const { return width * channels; }
  bool IsDense() const { return border.top + border.left + border.bottom + border.right == 0; }
  // Row `row` of all images.
  uint8_t* Row(int64_t row) const { return data + row / height * ImageBytes() + row % height * RowBytes(); }
  void FillBorder(uint8_t zero_point) const;
};

// Four axes are NHWC; of any other number the last is the channels and the others are the batch.
Image MakeImage(const std::vector<int>& shape, const Border& border);

}  // namespace dbq

#endif  // DBQ_GRAPH_IMAGE_H_
