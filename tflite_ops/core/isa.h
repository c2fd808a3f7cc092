// Instruction sets that kernels are written for, and which of them this processor has.
#ifndef DBQ_CORE_ISA_H_
#define DBQ_CORE_ISA_H_

namespace dbq {

enum class Isa { kScalar, kAvx2 };  // slowest first

const char* IsaName(Isa isa);
bool IsaSupported(Isa isa);
// False when no instruction set has that name.
bool ParseIsa(const char* name, Isa* isa);
// The fastest that this processor has.
Isa BestIsa();

}  // namespace dbq

#endif  // DBQ_CORE_ISA_H_
