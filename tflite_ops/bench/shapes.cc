#include "bench/shapes.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "core/buffer.h"

namespace dbq {
namespace {

using testing::LayerShape;

bool ReadKind(const std::string& kind, LayerShape* s) {
  s->kind = kind == "depthwise" ? OpKind::kDepthwiseConv2D
            : kind == "dense"   ? OpKind::kFullyConnected
                                : OpKind::kConv2D;
  if (s->kind == OpKind::kFullyConnected) s->padding = Padding::kValid;
  return kind == "depthwise" || kind == "dense" || kind == "conv";
}

bool IsSound(const LayerShape& s) {
  const int least = std::min({s.image.height, s.image.width, s.in_channels, s.out_channels, s.kernel_h, s.stride_h});
  if (least < 1) return false;
  if (s.kind == OpKind::kDepthwiseConv2D) return s.in_channels == s.out_channels;
  return s.kind == OpKind::kConv2D || s.image.height * s.image.width * s.kernel_h * s.stride_h == 1;
}

}  // namespace

int64_t NamedShape::MultiplyAdds() const {
  const auto out = [&](int size) { return CeilDiv(size, shape.stride_h); };
  const int64_t depth = shape.kind == OpKind::kDepthwiseConv2D ? 1 : shape.in_channels;
  return out(shape.image.height) * out(shape.image.width) * shape.out_channels * depth * shape.kernel_h *
         shape.kernel_w;
}

Status ParseShape(const std::string& line, int branches, std::vector<NamedShape>* shapes) {
  std::istringstream words(line.substr(0, line.find('#')));
  std::string kind, rest;
  if (!(words >> kind)) return Status::Ok();
  LayerShape s;
  const bool whole = static_cast<bool>(words >> s.image.height >> s.image.width >> s.in_channels >> s.out_channels >>
                                       s.kernel_h >> s.stride_h);
  s.kernel_w = s.kernel_h, s.stride_w = s.stride_h;
  s.image.channels = s.in_channels;
  s.branches = branches;
  s.input_zero_point = -128, s.output_zero_point = -128;
  s.activation = Activation::kRelu6;
  if (!ReadKind(kind, &s) || !whole || words >> rest || !IsSound(s)) {
    return Status::Error(
        "expected conv, depthwise or dense, then height, width, channels in and out, kernel and stride, "
        "got '%s'",
        line.c_str());
  }
  shapes->push_back({line.substr(0, line.find('#')), s});
  return Status::Ok();
}

Status ReadShapes(const char* path, int branches, std::vector<NamedShape>* shapes) {
  std::ifstream file(path);
  if (!file) return Status::Error("expected a file of shapes, got '%s', which cannot be read", path);
  int number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    const Status status = ParseShape(line, branches, shapes);
    if (!status.ok()) return Status::Error("%s, line %d: %s", path, number, status.message());
  }
  return shapes->empty() ? Status::Error("%s: expected a line for every layer, got none", path) : Status::Ok();
}

}  // namespace dbq
