#include "core/select.h"

namespace dbq {
namespace {

template <typename Kernel>
const Kernel& Select(const std::vector<const Kernel*>& kernels, Isa isa) {
  const Kernel* chosen = kernels.front();  // scalar
  for (const Kernel* kernel : kernels) {
    if (kernel->isa <= isa && IsaSupported(kernel->isa)) chosen = kernel;
  }
  return *chosen;
}

}  // namespace

const std::vector<const GemmKernel*>& GemmKernels() {
  static const std::vector<const GemmKernel*> kernels = {
#define DBQ_GEMM_KERNEL(name) &name,
#define DBQ_DEPTHWISE_KERNEL(name)
#include "core/kernels.inc"
#undef DBQ_GEMM_KERNEL
#undef DBQ_DEPTHWISE_KERNEL
  };
  return kernels;
}

const std::vector<const DepthwiseKernel*>& DepthwiseKernels() {
  static const std::vector<const DepthwiseKernel*> kernels = {
#define DBQ_GEMM_KERNEL(name)
#define DBQ_DEPTHWISE_KERNEL(name) &name,
#include "core/kernels.inc"
#undef DBQ_GEMM_KERNEL
#undef DBQ_DEPTHWISE_KERNEL
  };
  return kernels;
}

const GemmKernel& SelectGemm(Isa isa) { return Select(GemmKernels(), isa); }
const DepthwiseKernel& SelectDepthwise(Isa isa) { return Select(DepthwiseKernels(), isa); }

}  // namespace dbq
