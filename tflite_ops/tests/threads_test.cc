#include <atomic>
#include <thread>
#include <vector>

#include "core/executor.h"
#include "core/thread_pool.h"
#include "tests/random_layer.h"
#include "tests/testing.h"

namespace dbq {
namespace {

DBQ_TEST(EveryItemOnce) {
  ThreadPool pool;
  for (int round = 0; round < 200; ++round) {
    const int slots = 1 + round % 5, items = round % 13;
    std::vector<std::atomic<int>> seen(items);
    pool.Run(slots, items, [&](int64_t begin, int64_t end, int slot) {
      DBQ_EXPECT(slot >= 0 && slot < slots);
      for (int64_t i = begin; i < end; ++i) ++seen[i];
    });
    for (int i = 0; i < items; ++i) DBQ_EXPECT_EQ(seen[i], 1);
  }
}

DBQ_TEST(TwoCallersShareAPool) {
  ThreadPool pool;
  std::atomic<int> sum{0};
  auto call = [&] {
    for (int i = 0; i < 100; ++i) {
      pool.Run(3, 9, [&](int64_t begin, int64_t end, int) { sum += static_cast<int>(end - begin); });
    }
  };
  std::thread other(call);
  call();
  other.join();
  DBQ_EXPECT_EQ(sum, 1800);
}

DBQ_TEST(SmallWorkStaysOnOneThread) {
  DBQ_EXPECT_EQ(UsefulSlots(8, 100, 10), 1);
  DBQ_EXPECT_EQ(UsefulSlots(8, 0, 1000000), 1);
  DBQ_EXPECT_EQ(UsefulSlots(8, 3, 10000000), 3);
  DBQ_EXPECT_EQ(UsefulSlots(4, 1000, 1000000), 4);
}

// The same bytes for any number of threads.
void CompareThreads(testing::LayerShape s) {
  testing::Random random(5);
  const testing::FileLayer file = testing::MakeLayer(s, &random);
  Layer layer;
  ConvGeometry geometry;
  DBQ_EXPECT_OK(DecodeLayer(s.kind, file.View(), &layer));
  DBQ_EXPECT_OK(MakeConvGeometry(layer.params, s.image, &geometry));
  const std::vector<int8_t> x = testing::MakeInput(s.image.Pixels() * s.image.channels, &random);
  const size_t size = geometry.output.Pixels() * geometry.output.channels;
  std::vector<int8_t> expected(size), actual(size);
  ThreadPool pool;
  const auto executor = MakeExecutor(layer, BestIsa());
  executor->Prepare(geometry, 1);
  executor->Run(x.data(), expected.data(), &pool);
  for (int threads : {2, 3, 7}) {
    executor->Prepare(geometry, threads);
    actual.assign(size, 0x55);
    executor->Run(x.data(), actual.data(), &pool);
    DBQ_EXPECT(actual == expected);
  }
}

DBQ_TEST(ThreadsDoNotChangeTheResult) {
  testing::LayerShape s;
  s.kernel_h = s.kernel_w = 3;
  s.in_channels = s.out_channels = 32;
  s.image = {2, 15, 15, 32};
  CompareThreads(s);
  s.kind = OpKind::kDepthwiseConv2D;
  s.in_channels = s.out_channels = s.image.channels = 300;
  CompareThreads(s);
}

}  // namespace
}  // namespace dbq
