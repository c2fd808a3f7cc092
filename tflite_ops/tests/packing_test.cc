#include "core/packing.h"

#include <vector>

#include "tests/testing.h"

namespace dbq {
namespace {

DBQ_TEST(PlaneBytesRoundsUp) {
  DBQ_EXPECT_EQ(PlaneBytes(0), 0);
  DBQ_EXPECT_EQ(PlaneBytes(1), 1);
  DBQ_EXPECT_EQ(PlaneBytes(5), 1);
  DBQ_EXPECT_EQ(PlaneBytes(6), 2);
  DBQ_EXPECT_EQ(PlaneBytes(INT64_C(9223372036854775807)), INT64_C(1844674407370955162));
}

// Worked by hand: trits -1 0 1 0 -1 are digits 0 1 2 1 0 = 3 + 18 + 27 = 48.
DBQ_TEST(GoldenBytes) {
  const uint8_t codes[] = {48, 242, 0, 121};
  const int8_t expected[] = {-1, 0, 1, 0, -1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0};
  int8_t trits[20];
  DecodePlane(codes, 20, trits);
  for (int i = 0; i < 20; ++i) DBQ_EXPECT_EQ(trits[i], expected[i]);
}

DBQ_TEST(EveryByteDecodesToItsDigits) {
  for (int byte = 0; byte <= kMaxCodeByte; ++byte) {
    const uint8_t code = static_cast<uint8_t>(byte);
    int8_t trits[5];
    DecodePlane(&code, 5, trits);
    int sum = 0;
    for (int i = 4; i >= 0; --i) sum = 3 * sum + trits[i] + 1;
    DBQ_EXPECT_EQ(sum, byte);
  }
}

DBQ_TEST(DecodeStopsAtTheLastWeight) {
  const uint8_t codes[] = {242, 242};
  int8_t trits[8] = {7, 7, 7, 7, 7, 7, 7, 7};
  DecodePlane(codes, 7, trits);
  DBQ_EXPECT_EQ(trits[6], 1);
  DBQ_EXPECT_EQ(trits[7], 7);
}

DBQ_TEST(CheckRefusesIllegalBytes) {
  for (int byte = 243; byte <= 255; ++byte) {
    const uint8_t codes[] = {0, static_cast<uint8_t>(byte)};
    DBQ_EXPECT_ERROR(CheckCodes(codes, 2, 1, 10), "codes[1] must be at most 242");
  }
}

DBQ_TEST(CheckRefusesWrongCounts) {
  const std::vector<uint8_t> codes(4, 121);
  DBQ_EXPECT_OK(CheckCodes(codes.data(), 4, 2, 10));
  DBQ_EXPECT_ERROR(CheckCodes(codes.data(), 3, 2, 10), "codes must hold 4 bytes");
  DBQ_EXPECT_ERROR(CheckCodes(codes.data(), 4, 1, 10), "codes must hold 2 bytes");
}

// The fill of both planes, not only of the last, is checked.
DBQ_TEST(CheckRefusesNonZeroFill) {
  std::vector<uint8_t> codes = {121, 121, 121, 121};
  DBQ_EXPECT_OK(CheckCodes(codes.data(), 4, 2, 9));
  codes[1] = 121 + 81;
  DBQ_EXPECT_ERROR(CheckCodes(codes.data(), 4, 2, 9), "codes[1] must be filled with trit 0");
  DBQ_EXPECT_OK(CheckCodes(codes.data(), 4, 2, 10));
}

}  // namespace
}  // namespace dbq
