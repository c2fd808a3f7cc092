// Text files of layers for the benchmark: what a line means, and what is wrong with one. `layers --check` reads them
// all.
#include "bench/shapes.h"

#include "tests/testing.h"

namespace dbq {
namespace {

DBQ_TEST(LinesAreLayers) {
  std::vector<NamedShape> shapes;
  DBQ_EXPECT_OK(ParseShape("# a comment", 1, &shapes));
  DBQ_EXPECT_OK(ParseShape("", 1, &shapes));
  DBQ_EXPECT(shapes.empty());
  DBQ_EXPECT_OK(ParseShape("conv 7 9 3 16 5 2  # first", 2, &shapes));
  DBQ_EXPECT_OK(ParseShape("depthwise 6 5 8 8 3 1", 1, &shapes));
  DBQ_EXPECT_OK(ParseShape("dense 1 1 1024 1000 1 1", 1, &shapes));
  DBQ_EXPECT_EQ(shapes.size(), 3);
  if (testing::Failed()) return;
  const testing::LayerShape& s = shapes[0].shape;
  DBQ_EXPECT(s.kind == OpKind::kConv2D && s.padding == Padding::kSame && s.branches == 2);
  DBQ_EXPECT(s.image.height == 7 && s.image.width == 9 && s.in_channels == 3 && s.out_channels == 16);
  DBQ_EXPECT(s.kernel_h == 5 && s.kernel_w == 5 && s.stride_h == 2 && s.stride_w == 2);
  DBQ_EXPECT_EQ(shapes[0].MultiplyAdds(), 4 * 5 * 16 * 3 * 25);
  DBQ_EXPECT_EQ(shapes[1].MultiplyAdds(), 6 * 5 * 8 * 9);
  DBQ_EXPECT_EQ(shapes[2].MultiplyAdds(), 1024 * 1000);
}

DBQ_TEST(WrongLinesAreNamed) {
  std::vector<NamedShape> shapes;
  for (const char* line : {"pool 7 7 3 3 2 2", "conv 7 7 3 16 3", "conv 7 7 3 16 3 1 1", "conv 7 7 x 16 3 1",
                           "conv 0 7 3 16 3 1", "depthwise 7 7 3 16 3 1", "dense 2 1 8 8 1 1"}) {
    DBQ_EXPECT_ERROR(ParseShape(line, 1, &shapes), line);
  }
  DBQ_EXPECT(shapes.empty());
  DBQ_EXPECT_ERROR(ReadShapes("/no/such/file", 1, &shapes), "cannot be read");
}

}  // namespace
}  // namespace dbq
