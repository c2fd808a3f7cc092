// Layers of a network as a text file, a line each: kind, height and width of the input, channels in, channels out, size
// of the kernel, stride. Kinds are conv, depthwise and dense; padding is SAME; # begins a comment.
#ifndef DBQ_BENCH_SHAPES_H_
#define DBQ_BENCH_SHAPES_H_

#include <string>
#include <vector>

#include "core/status.h"
#include "tests/random_layer.h"

namespace dbq {

struct NamedShape {
  std::string text;  // the line
  testing::LayerShape shape;
  int64_t MultiplyAdds() const;
};

// One line; an error says what is wrong with it. An empty line or a comment gives no shape.
Status ParseShape(const std::string& line, int branches, std::vector<NamedShape>* shapes);

Status ReadShapes(const char* path, int branches, std::vector<NamedShape>* shapes);

}  // namespace dbq

#endif  // DBQ_BENCH_SHAPES_H_
