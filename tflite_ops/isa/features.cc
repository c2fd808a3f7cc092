#include "isa/features.h"

#include <cstring>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace dbq {
namespace {

struct Named {
  const char* name;
  Features needed, allowed;
};

// What a name needs, and what it allows: those of this architecture.
#if defined(__aarch64__)
constexpr Features kEverything = kNeon | kDotProd | kI8mm;
constexpr Named kNames[] = {{"auto", kScalar, kEverything},
                            {"scalar", kScalar, kScalar},
                            {"neon", kNeon, kNeon},
                            {"dotprod", kNeon | kDotProd, kNeon | kDotProd},
                            {"i8mm", kEverything, kEverything}};
#else
constexpr Features kAvx512 = kAvx2 | kAvx512Vnni | kAvx512Vbmi, kEverything = kAvx512 | kAvxVnni | kAmxInt8;
constexpr Named kNames[] = {{"auto", kScalar, kEverything},
                            {"scalar", kScalar, kScalar},
                            {"avx2", kAvx2, kAvx2},
                            {"avxvnni", kAvx2 | kAvxVnni, kAvx2 | kAvxVnni},
                            {"avx512vnni", kAvx2 | kAvx512Vnni, kAvx512},
                            {"amx", kAvx2 | kAvx512Vnni | kAmxInt8, kEverything}};
#endif

#if defined(__x86_64__)
// Not __builtin_cpu_supports: it answers no where clang's own runtime library is linked, as zig links it.
struct Cpuid {
  unsigned a = 0, b = 0, c = 0, d = 0;
  explicit Cpuid(unsigned leaf, unsigned part = 0) { __get_cpuid_count(leaf, part, &a, &b, &c, &d); }
};

constexpr bool AllOf(unsigned bits, unsigned needed) { return (bits & needed) == needed; }
constexpr unsigned Bit(int index) { return 1u << index; }

// Whether the operating system saves these registers.
bool AreSaved(unsigned state) {
  if (!AllOf(Cpuid(1).c, Bit(27))) return false;  // OSXSAVE: XGETBV may be used
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return AllOf(low, state);
}

constexpr unsigned kYmmState = 0x6, kZmmState = 0xE6;

bool HasAvx2() { return AreSaved(kYmmState) && AllOf(Cpuid(7).b, Bit(5)); }

bool HasAvx512Vnni() {
  constexpr unsigned kF = Bit(16), kDq = Bit(17), kBw = Bit(30), kVl = Bit(31), kVnni = Bit(11);
  const Cpuid seven(7);
  return AreSaved(kZmmState) && AllOf(seven.b, kF | kDq | kBw | kVl) && AllOf(seven.c, kVnni);
}

bool HasAvx512Vbmi() { return AllOf(Cpuid(7).c, Bit(1)); }

bool HasAvxVnni() { return AllOf(Cpuid(7, 1).a, Bit(4)); }

// A process has to ask Linux for the tile registers; the answer holds for its threads and children.
bool HasAmxInt8() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  if (!AllOf(Cpuid(7).d, Bit(24) | Bit(25))) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

Features Detect() {
  Features found = kScalar;
  if (HasAvx2()) found |= kAvx2;
  if (Has(found, kAvx2) && HasAvxVnni()) found |= kAvxVnni;
  if (HasAvx512Vnni()) found |= kAvx512Vnni;
  if (Has(found, kAvx512Vnni) && HasAvx512Vbmi()) found |= kAvx512Vbmi;
  if (Has(found, kAvx512Vnni) && HasAmxInt8()) found |= kAmxInt8;
  return found;
}
#elif defined(__aarch64__)
// Bits of the kernel's answer, by number: older headers have no names for them.
Features Detect() {
  Features found = kNeon;
#if defined(__linux__)
  constexpr unsigned long kHasDotProd = 1ul << 20, kHasI8mm = 1ul << 13;
  if ((getauxval(AT_HWCAP) & kHasDotProd) != 0) found |= kDotProd;
  if (Has(found, kDotProd) && (getauxval(AT_HWCAP2) & kHasI8mm) != 0) found |= kI8mm;
#endif
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

#if defined(__aarch64__)
const char* IsaNames() { return "auto, scalar, neon, dotprod or i8mm"; }
#else
const char* IsaNames() { return "auto, scalar, avx2, avxvnni, avx512vnni or amx"; }
#endif

}  // namespace dbq
