#include "isa/features.h"

#include <cstring>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace dbq {
namespace {

struct Named {
  const char* name;
  Features needed, allowed;
};

// What a name needs, and what it allows.
constexpr Features kAvx512 = kAvx2 | kAvx512Vnni | kAvx512Vbmi, kEverything = kAvx512 | kAmxInt8;
constexpr Named kNames[] = {{"auto", kScalar, kEverything},
                            {"scalar", kScalar, kScalar},
                            {"avx2", kAvx2, kAvx2},
                            {"avx512vnni", kAvx2 | kAvx512Vnni, kAvx512},
                            {"amx", kAvx2 | kAvx512Vnni | kAmxInt8, kEverything}};

#if defined(__x86_64__)
bool HasAvx512Vnni() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}

// A process has to ask Linux for the tile registers; the answer holds for its threads and children.
bool HasAmxInt8() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25;
  if ((d & kTile) == 0 || (d & kInt8) == 0) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

Features Detect() {
  Features found = kScalar;
  if (__builtin_cpu_supports("avx2")) found |= kAvx2;
  if (HasAvx512Vnni()) found |= kAvx512Vnni;
  if (Has(found, kAvx512Vnni) && __builtin_cpu_supports("avx512vbmi")) found |= kAvx512Vbmi;
  if (Has(found, kAvx512Vnni) && HasAmxInt8()) found |= kAmxInt8;
  return found;
}
#else
Features Detect() { return kScalar; }
#endif

}  // namespace

Features DetectFeatures() {
  static const Features features = Detect();
  return features;
}

bool ParseIsa(const char* name, Features* needed, Features* allowed) {
  for (const Named& candidate : kNames) {
    if (std::strcmp(name, candidate.name) != 0) continue;
    *needed = candidate.needed, *allowed = candidate.allowed;
    return true;
  }
  return false;
}

const char* IsaNames() { return "auto, scalar, avx2, avx512vnni or amx"; }

}  // namespace dbq
