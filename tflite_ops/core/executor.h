// Runs one decoded operator: chooses kernels, owns their operands and scratch memory.
#ifndef DBQ_CORE_EXECUTOR_H_
#define DBQ_CORE_EXECUTOR_H_

#include <cstdint>
#include <memory>

#include "core/geometry.h"
#include "core/isa.h"
#include "core/layer.h"
#include "core/thread_pool.h"

namespace dbq {

class Executor {
 public:
  virtual ~Executor() = default;
  // Scratch memory for a shape; call before Run and whenever the shape or the number of threads changes.
  virtual void Prepare(const ConvGeometry& geometry, int threads) = 0;
  // x: geometry.input, y: geometry.output, both int8 NHWC. A fully connected layer is a 1x1 image per row.
  virtual void Run(const int8_t* x, int8_t* y, ThreadPool* pool) = 0;
};

// Kernels that need at most `isa` (and that this processor has).
std::unique_ptr<Executor> MakeExecutor(const Layer& layer, Isa isa);

// The two executors behind MakeExecutor, each for one given kernel.
struct GemmKernel;
struct DepthwiseKernel;
std::unique_ptr<Executor> MakeConvExecutor(const Layer& layer, const GemmKernel& kernel);
std::unique_ptr<Executor> MakeDepthwiseExecutor(const Layer& layer, const DepthwiseKernel& kernel);

}  // namespace dbq

#endif  // DBQ_CORE_EXECUTOR_H_
