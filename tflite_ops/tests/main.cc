#include "tests/testing.h"

int main(int argc, char** argv) { return dbq::testing::Main(argc, argv); }
