#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "structure/check.h"
#include "structure/node.h"
#include "tests/testing.h"

// What files are whole is held against keras_dbq/structure by tests/runtime/test_library.py. Here: the files of the
// corpus are, and damaged ones are looked at without a step outside of them (the sanitizers see it).
namespace dbq {
namespace structure {
namespace {

std::vector<uint8_t> ReadFile(const std::string& name) {
  std::vector<uint8_t> bytes;
  std::FILE* file = std::fopen((std::string(DBQ_CORPUS) + "/" + name).c_str(), "rb");
  if (file == nullptr) return bytes;
  for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) bytes.push_back(static_cast<uint8_t>(c));
  std::fclose(file);
  return bytes;
}

bool IsWhole(const std::vector<uint8_t>& bytes) {
  return LookAt(bytes.data(), static_cast<int64_t>(bytes.size())).is_whole;
}

const char* const kFiles[] = {"joins_int8.tflite", "joins_packed_1.tflite", "joins_packed_2.tflite",
                              "joins_stock.tflite"};

DBQ_TEST(WholeFiles) {
  for (const char* name : kFiles) {
    DBQ_EXPECT(!ReadFile(name).empty());
    DBQ_EXPECT(IsWhole(ReadFile(name)));
  }
}

DBQ_TEST(ShorterFilesAreInDoubt) {
  const std::vector<uint8_t> whole = ReadFile(kFiles[1]);
  for (size_t length = 0; length + 4 < whole.size(); ++length) {
    DBQ_EXPECT(!IsWhole(std::vector<uint8_t>(whole.begin(), whole.begin() + static_cast<int64_t>(length))));
  }
}

DBQ_TEST(DamagedFilesAreReadInsideOnly) {
  testing::Random random(1);
  for (const char* name : kFiles) {
    const std::vector<uint8_t> whole = ReadFile(name);
    int taken = 0;
    for (int turn = 0; turn < 20000; ++turn) {
      std::vector<uint8_t> damaged = whole;
      for (int i = random.Int(1, 3); i > 0; --i) {
        damaged[random.Int(0, static_cast<int>(damaged.size()) - 1)] = static_cast<uint8_t>(random.Int(0, 255));
      }
      taken += IsWhole(damaged);
    }
    DBQ_EXPECT(taken > 0 && taken < 20000);
  }
}

DBQ_TEST(MetadataThatNamesOutputs) {
  std::vector<uint8_t> bytes = ReadFile(kFiles[0]);
  const std::string key = "\"rounding\"", other = "\"outputs\" ";
  const auto at = std::search(bytes.begin(), bytes.end(), key.begin(), key.end());
  DBQ_EXPECT(at != bytes.end());
  DBQ_EXPECT(!LookAt(bytes.data(), static_cast<int64_t>(bytes.size())).names_outputs);
  std::copy(other.begin(), other.end(), at);
  DBQ_EXPECT(LookAt(bytes.data(), static_cast<int64_t>(bytes.size())).names_outputs);
}

Shape MakeShape(const std::vector<int64_t>& sizes) {
  Shape shape;
  for (int64_t size : sizes) shape.Append(size);
  return shape;
}

DBQ_TEST(ShapesKeepProductsSmall) {
  DBQ_EXPECT_EQ(MakeShape({2, 3, 4}).Total(), 24);
  DBQ_EXPECT_EQ(MakeShape({2, 3, 4}).Total(1), 12);
  DBQ_EXPECT_EQ(MakeShape({2, kOpen}).Total(), kAny);
  DBQ_EXPECT_EQ(MakeShape({}).Total(), 1);
  DBQ_EXPECT(MakeShape({1 << 20, 1 << 20}).IsModest());
  DBQ_EXPECT(!MakeShape({1 << 20, 1 << 20, 2}).IsModest());
  DBQ_EXPECT(!MakeShape({INT64_C(1) << 32}).IsModest());
  DBQ_EXPECT(!MakeShape({0, INT64_C(1) << 31, INT64_C(1) << 31}).IsModest());
  Shape full = MakeShape({1, 1, 1, 1, 1, 1});
  DBQ_EXPECT(!full.Append(1));
}

DBQ_TEST(ShapesBroadcastAsNumpysDo) {
  Shape common;
  DBQ_EXPECT(Broadcast(MakeShape({4, 1, 3}), MakeShape({5, 1}), &common));
  DBQ_EXPECT_EQ(common.rank, 3);
  DBQ_EXPECT_EQ(common.size[0] * 100 + common.size[1] * 10 + common.size[2], 453);
  DBQ_EXPECT(!Broadcast(MakeShape({2}), MakeShape({3}), &common));
  DBQ_EXPECT(Broadcast(MakeShape({0}), MakeShape({1}), &common));
  DBQ_EXPECT_EQ(common.size[0], 0);
  DBQ_EXPECT(Broadcast(MakeShape({kOpen, 1}), MakeShape({1, 7}), &common));
  DBQ_EXPECT_EQ(common.size[0], kOpen);
}

}  // namespace
}  // namespace structure
}  // namespace dbq
