// A test main without dependencies: DBQ_TEST(name) { DBQ_EXPECT(...); }, one executable per file.
//
//   kernels_test [--seed N] [--filter text]
//
// Random cases derive from the seed (default 1), which every failure names: run again with it to see the same case.
#ifndef DBQ_TESTS_TESTING_H_
#define DBQ_TESTS_TESTING_H_

#include <cstdint>
#include <random>
#include <string>

namespace dbq {
namespace testing {

void Register(const char* name, void (*run)());
// Reports one failure of the running test, printf style.
__attribute__((format(printf, 3, 4))) void Fail(const char* file, int line, const char* format, ...);
bool Failed();  // has the running test failed?
uint64_t Seed();
int Main(int argc, char** argv);  // runs the registered tests; the exit status

struct Registrar {
  Registrar(const char* name, void (*run)()) { Register(name, run); }
};

// Uniform integer in [low, high].
class Random {
 public:
  explicit Random(uint64_t stream) : engine_(Seed() * 1000003 + stream) {}
  int Int(int low, int high) { return low + static_cast<int>(engine_() % (static_cast<uint64_t>(high) - low + 1)); }
  float Float(float low, float high) { return low + (high - low) * static_cast<float>(engine_() % 65536) / 65535.0f; }

 private:
  std::mt19937_64 engine_;
};

}  // namespace testing
}  // namespace dbq

#define DBQ_TEST(name)                                                        \
  static void Test##name();                                                   \
  static const ::dbq::testing::Registrar registrar_##name(#name, Test##name); \
  static void Test##name()

#define DBQ_EXPECT(condition)                                                              \
  do {                                                                                     \
    if (!(condition)) ::dbq::testing::Fail(__FILE__, __LINE__, "expected %s", #condition); \
  } while (false)

#define DBQ_EXPECT_EQ(actual, expected)                                                                           \
  do {                                                                                                            \
    const long long dbq_actual = (actual), dbq_expected = (expected);                                             \
    if (dbq_actual != dbq_expected)                                                                               \
      ::dbq::testing::Fail(__FILE__, __LINE__, "%s: expected %lld, got %lld", #actual, dbq_expected, dbq_actual); \
  } while (false)

// The status must be an error whose message contains `part`.
#define DBQ_EXPECT_ERROR(expression, part)                                                                           \
  do {                                                                                                               \
    const ::dbq::Status dbq_status = (expression);                                                                   \
    if (dbq_status.ok() || std::string(dbq_status.message()).find(part) == std::string::npos)                        \
      ::dbq::testing::Fail(__FILE__, __LINE__, "expected an error with '%s', got '%s'", part, dbq_status.message()); \
  } while (false)

#define DBQ_EXPECT_OK(expression)                                                               \
  do {                                                                                          \
    const ::dbq::Status dbq_status = (expression);                                              \
    if (!dbq_status.ok()) ::dbq::testing::Fail(__FILE__, __LINE__, "%s", dbq_status.message()); \
  } while (false)

#endif  // DBQ_TESTS_TESTING_H_
