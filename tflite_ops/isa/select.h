// Run-time choice among the kernels of kernels.inc.
#ifndef DBQ_ISA_SELECT_H_
#define DBQ_ISA_SELECT_H_

#include <vector>

#include "isa/kernel.h"

namespace dbq {

// All kernels of this build, supported here or not, in the order of kernels.inc.
const std::vector<const GemmKernel*>& GemmKernels();
const std::vector<const DepthwiseKernel*>& DepthwiseKernels();
const std::vector<const CodeKernels*>& AllCodeKernels();

// The cheapest for the shape; `bounded` says whether |acc * multiplier| < 2^31 is known.
const GemmKernel& SelectGemm(const GemmShape& shape, bool bounded, Features features);
const DepthwiseKernel& SelectDepthwise(const DepthwiseShape& shape, bool bounded, Features features);
const CodeKernels& SelectCodes(Features features);

}  // namespace dbq

#endif  // DBQ_ISA_SELECT_H_
