/* Makes this process believe that its processor has fewer instruction sets, to time what a runtime does without them.
 *
 * Linux can let cpuid trap (arch_prctl ARCH_SET_CPUID, where the processor and the hypervisor can); the handler asks
 * the processor and takes bits away. Threads that are started later trap as well. No code is changed. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define BIT(n) (1u << (n))

enum { kSetCpuid = 0x1012 }; /* ARCH_SET_CPUID of asm/prctl.h */

/* Leaf 7, subleaf 0 (ebx, ecx, edx) and 1 (eax, edx). */
static const uint32_t kAmx = BIT(22) | BIT(24) | BIT(25);
static const uint32_t kAvx512b = BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31);
static const uint32_t kAvx512c = BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14);
static const uint32_t kAvx512d = BIT(2) | BIT(3) | BIT(8) | BIT(23);
static const uint32_t kVnni1a = BIT(4) | BIT(5) | BIT(21) | BIT(23);
static const uint32_t kVnni1d = BIT(4) | BIT(5) | BIT(10) | BIT(19);

static int hide_avx512;

static long set_cpuid(int allowed) { return syscall(SYS_arch_prctl, kSetCpuid, allowed); }

static void answer(uint32_t leaf, uint32_t subleaf, uint32_t r[4]) {
  __cpuid_count(leaf, subleaf, r[0], r[1], r[2], r[3]);
  if (leaf != 7) return;
  if (subleaf == 0) r[3] &= ~kAmx;
  if (subleaf == 1) r[0] &= ~BIT(21);
  if (!hide_avx512) return;
  if (subleaf == 0) r[1] &= ~kAvx512b, r[2] &= ~kAvx512c, r[3] &= ~kAvx512d;
  if (subleaf == 1) r[0] &= ~kVnni1a, r[3] &= ~kVnni1d;
}

static void trapped(int number, siginfo_t* info, void* context) {
  greg_t* g = ((ucontext_t*)context)->uc_mcontext.gregs;
  const unsigned char* code = (const unsigned char*)g[REG_RIP];
  uint32_t r[4];
  (void)info;
  /* A fault of another kind: the next one ends the process. (si_code SI_KERNEL: not an address's fault.) */
  if (info->si_code != SI_KERNEL || code[0] != 0x0f || code[1] != 0xa2) {
    signal(number, SIG_DFL);
    return;
  }
  set_cpuid(1);
  answer((uint32_t)g[REG_RAX], (uint32_t)g[REG_RCX], r);
  set_cpuid(0);
  g[REG_RAX] = r[0], g[REG_RBX] = r[1], g[REG_RCX] = r[2], g[REG_RDX] = r[3];
  g[REG_RIP] += 2;
}

/* Hides AMX, and AVX-512 and VNNI as well where `avx512` is not 0. 0, or an errno. */
int hide_isa(int avx512) {
  struct sigaction action = {0};
  hide_avx512 = avx512;
  action.sa_sigaction = trapped;
  action.sa_flags = SA_SIGINFO;
  if (sigaction(SIGSEGV, &action, 0) != 0) return errno;
  return set_cpuid(0) == 0 ? 0 : errno;
}
