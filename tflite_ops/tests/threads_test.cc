// Threads: helpers that come, or come late; results that do not depend on their number; fork.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "graph/team.h"
#include "tests/one_node.h"
#include "tests/testing.h"

namespace dbq {
namespace {

struct Job {
  std::atomic<int> calls{0};
  std::atomic<uint32_t> last{0};
};

void Count(void* argument, int slot, uint32_t run) {
  Job& job = *static_cast<Job*>(argument);
  DBQ_EXPECT(slot >= 1);
  ++job.calls;
  job.last = run;
}

// Helpers may miss a run, but never come twice to one, and none is at work after Wait.
void RunJobs(Team* team, int rounds) {
  Job job;
  int most = 0;
  uint32_t run = 0;
  for (int round = 0; round < rounds; ++round) {
    const int helpers = 1 + round % 4;
    most += helpers;
    const uint32_t next = team->Start(helpers, Count, &job);
    DBQ_EXPECT(next > run);
    run = next;
  }
  for (int turn = 0; job.last != run && turn < 1000000; ++turn) WaitALittle(turn);
  DBQ_EXPECT_EQ(job.last, run);
  team->Wait();
  DBQ_EXPECT(job.calls >= 1 && job.calls <= most);
}

DBQ_TEST(HelpersComeForTheLastRun) {
  Team team;
  for (int i = 0; i < 20; ++i) RunJobs(&team, 30);
}

DBQ_TEST(TeamsDoNotBlockEachOther) {
  Team first, second;
  std::thread other([&] { RunJobs(&first, 100); });
  RunJobs(&second, 100);
  other.join();
}

// The child has none of the parent's threads; it starts its own. The thread sanitizer and qemu cannot follow there.
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
DBQ_TEST(ForkIsSurvived) {
  Team team;
  RunJobs(&team, 10);
  const pid_t child = fork();
  if (child == 0) {
    RunJobs(&team, 10);
    _exit(testing::Failed() ? 1 : 0);
  }
  int status = -1;
  waitpid(child, &status, 0);
  DBQ_EXPECT_EQ(status, 0);
  RunJobs(&team, 10);
}
#endif

// The same bytes for any number of threads.
void CompareThreads(const testing::LayerShape& s) {
  testing::Random random(5);
  const testing::FileLayer file = testing::MakeLayer(s, &random);
  const std::vector<int8_t> x = testing::MakeInput(s.image.Pixels() * s.image.channels, &random);
  const size_t size = s.image.Pixels() * s.out_channels;
  Graph graph = testing::MakeGraph(s, file);
  const std::vector<int8_t> expected = testing::RunGraph(&graph, DetectFeatures(), 1, x, size);
  for (int threads : {2, 3, 7}) {
    for (int i = 0; i < 5; ++i) {
      DBQ_EXPECT(testing::RunGraph(&graph, DetectFeatures(), threads, x, size) == expected);
    }
  }
}

DBQ_TEST(ThreadsDoNotChangeTheResult) {
  testing::LayerShape s;
  s.kernel_h = s.kernel_w = 3;
  s.in_channels = s.out_channels = 96;
  s.image = {2, 45, 45, 96};
  CompareThreads(s);
  s.kind = OpKind::kDepthwiseConv2D;
  s.in_channels = s.out_channels = s.image.channels = 300;
  CompareThreads(s);
  // One pixel: the channels are shared.
  testing::LayerShape dense;
  dense.kind = OpKind::kFullyConnected;
  dense.padding = Padding::kValid;
  dense.in_channels = dense.image.channels = 1024;
  dense.out_channels = 1000;
  CompareThreads(dense);
}

// One plan, run after run with other tensors, as an interpreter does it: a helper that comes late must not see the next
// run's tensors, nor write into the last one's. Mostly for the thread sanitizer. Scalar kernels are slow enough that a
// small layer is worth several threads.
void RunOften(const testing::LayerShape& s, uint64_t stream, int threads) {
  constexpr int kInputs = 3, kRuns = 40;
  testing::Random random(stream);
  const testing::FileLayer file = testing::MakeLayer(s, &random);
  const int64_t count = s.image.Pixels() * s.image.channels;
  const size_t size = s.image.Pixels() * s.out_channels;
  Graph graph = testing::MakeGraph(s, file);
  std::vector<std::vector<int8_t>> x, expected, y(kInputs, std::vector<int8_t>(size));
  for (int i = 0; i < kInputs; ++i) {
    x.push_back(testing::MakeInput(count, &random));
    expected.push_back(testing::RunGraph(&graph, kScalar, 1, x[i], size));
  }
  std::unique_ptr<Plan> plan;
  DBQ_EXPECT_OK(Compile(&graph, kScalar, threads, &plan));
  DBQ_EXPECT(plan->slots() == threads);
  Team team;
  for (int run = 0; run < kRuns; ++run) {
    const int i = run % kInputs;
    const void* inputs[] = {x[i].data()};
    void* outputs[] = {y[i].data()};
    plan->Run(inputs, outputs, &team);
    DBQ_EXPECT(y[i] == expected[i]);
    y[i].assign(size, 0x55);  // a late helper that still writes here would be a race
  }
  team.Wait();
}

testing::LayerShape Shared() {
  testing::LayerShape s;
  s.kernel_h = s.kernel_w = 3;
  s.in_channels = s.out_channels = s.image.channels = 64;
  s.image = {1, 20, 20, 64};
  return s;
}

DBQ_TEST(RunsFollowEachOther) {
  for (int threads : {2, 3, 7}) RunOften(Shared(), 11, threads);
}

DBQ_TEST(PlansInTwoThreadsDoNotMeet) {
  std::thread other([] { RunOften(Shared(), 12, 2); });
  RunOften(Shared(), 13, 2);
  other.join();
}

}  // namespace
}  // namespace dbq
