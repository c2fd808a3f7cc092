#include "isa/select.h"

namespace dbq {
namespace {

template <typename Kernel, typename Shape>
const Kernel& Cheapest(const std::vector<const Kernel*>& kernels, const Shape& shape, bool bounded, Features features) {
  const Kernel* chosen = nullptr;
  double least = 0;
  for (const Kernel* kernel : kernels) {
    if (!Has(features, kernel->needs) || (kernel->bounded && !bounded)) continue;
    const double cost = kernel->cost(shape);
    if (cost <= 0 || (chosen != nullptr && cost >= least)) continue;
    chosen = kernel, least = cost;
  }
  return *chosen;  // the scalar kernels do every shape
}

}  // namespace

#define DBQ_NOTHING(name)
#define DBQ_POINTER(name) &name,

const std::vector<const GemmKernel*>& GemmKernels() {
  static const std::vector<const GemmKernel*> kernels = {
#define DBQ_GEMM_KERNEL DBQ_POINTER
#define DBQ_DEPTHWISE_KERNEL DBQ_NOTHING
#define DBQ_CODE_KERNELS DBQ_NOTHING
#include "isa/kernels.inc"
#undef DBQ_GEMM_KERNEL
#undef DBQ_DEPTHWISE_KERNEL
  };
  return kernels;
}

const std::vector<const DepthwiseKernel*>& DepthwiseKernels() {
  static const std::vector<const DepthwiseKernel*> kernels = {
#define DBQ_GEMM_KERNEL DBQ_NOTHING
#define DBQ_DEPTHWISE_KERNEL DBQ_POINTER
#include "isa/kernels.inc"
#undef DBQ_DEPTHWISE_KERNEL
#undef DBQ_CODE_KERNELS
  };
  return kernels;
}

const std::vector<const CodeKernels*>& AllCodeKernels() {
  static const std::vector<const CodeKernels*> kernels = {
#define DBQ_DEPTHWISE_KERNEL DBQ_NOTHING
#define DBQ_CODE_KERNELS DBQ_POINTER
#include "isa/kernels.inc"
  };
  return kernels;
}

const GemmKernel& SelectGemm(const GemmShape& shape, bool bounded, Features features) {
  return Cheapest(GemmKernels(), shape, bounded, features);
}

const DepthwiseKernel& SelectDepthwise(const DepthwiseShape& shape, bool bounded, Features features) {
  return Cheapest(DepthwiseKernels(), shape, bounded, features);
}

const CodeKernels& SelectCodes(Features features) {
  const CodeKernels* chosen = nullptr;
  for (const CodeKernels* kernels : AllCodeKernels()) {
    if (Has(features, kernels->needs)) chosen = kernels;
  }
  return *chosen;
}

}  // namespace dbq
