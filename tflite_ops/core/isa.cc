#include "core/isa.h"

#include <cstring>

namespace dbq {
namespace {

constexpr Isa kAll[] = {Isa::kScalar, Isa::kAvx2};

}  // namespace

const char* IsaName(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
  }
  return "unknown";
}

bool IsaSupported(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return true;
    case Isa::kAvx2:
#if defined(__x86_64__)
      return __builtin_cpu_supports("avx2");
#else
      return false;
#endif
  }
  return false;
}

bool ParseIsa(const char* name, Isa* isa) {
  for (Isa candidate : kAll) {
    if (std::strcmp(name, IsaName(candidate)) != 0) continue;
    *isa = candidate;
    return true;
  }
  return false;
}

Isa BestIsa() {
  Isa best = Isa::kScalar;
  for (Isa candidate : kAll) {
    if (IsaSupported(candidate)) best = candidate;
  }
  return best;
}

}  // namespace dbq
