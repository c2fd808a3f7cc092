// Run-time choice among the kernels of kernels.inc.
#ifndef DBQ_CORE_SELECT_H_
#define DBQ_CORE_SELECT_H_

#include <vector>

#include "core/kernel.h"

namespace dbq {

// All kernels of this build, supported here or not, in the order of kernels.inc.
const std::vector<const GemmKernel*>& GemmKernels();
const std::vector<const DepthwiseKernel*>& DepthwiseKernels();

// The last kernel of the list that needs at most `isa` and runs on this processor.
const GemmKernel& SelectGemm(Isa isa);
const DepthwiseKernel& SelectDepthwise(Isa isa);

}  // namespace dbq

#endif  // DBQ_CORE_SELECT_H_
