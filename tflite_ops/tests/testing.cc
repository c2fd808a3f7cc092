#include "tests/testing.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace dbq {
namespace testing {
namespace {

struct Test {
  const char* name;
  void (*run)();
};

std::vector<Test>& Tests() {
  static std::vector<Test> tests;
  return tests;
}

uint64_t seed = 1;
const char* running = "";
int failures = 0;  // of the running test
constexpr int kShownFailures = 5;

}  // namespace

void Register(const char* name, void (*run)()) { Tests().push_back({name, run}); }

void Fail(const char* file, int line, const char* format, ...) {
  if (++failures > kShownFailures) return;
  std::fprintf(stderr, "%s:%d: %s (seed %llu): ", file, line, running, static_cast<unsigned long long>(seed));
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
}

bool Failed() { return failures > 0; }
uint64_t Seed() { return seed; }

int Main(int argc, char** argv) {
  const char* filter = "";
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--seed") == 0) seed = std::strtoull(argv[i + 1], nullptr, 10);
    if (std::strcmp(argv[i], "--filter") == 0) filter = argv[i + 1];
  }
  int run = 0, failed = 0;
  for (const Test& test : Tests()) {
    if (std::strstr(test.name, filter) == nullptr) continue;
    running = test.name;
    failures = 0;
    test.run();
    ++run;
    failed += failures > 0;
    std::printf("%s %s\n", failures > 0 ? "FAILED" : "ok    ", test.name);
  }
  std::printf("%d of %d tests failed\n", failed, run);
  return failed > 0 || run == 0;
}

}  // namespace testing
}  // namespace dbq
