// Init / Prepare / Eval of the three custom operators on TFLite tensors.
#ifndef DBQ_KERNELS_OP_H_
#define DBQ_KERNELS_OP_H_

#include <memory>

#include "core/executor.h"
#include "core/isa.h"
#include "core/thread_pool.h"
#include "delegate/tflite_abi.h"
#include "kernels/shapes.h"
#include "kernels/tensors.h"

namespace dbq {

// What the operators of one delegate share.
struct Shared {
  Isa isa = BestIsa();
  ThreadPool pool;
};

// One operator: created when the graph is changed, prepared for every input shape, run.
class Op {
 public:
  // `node`: the operator as it stands in the file; only its tensor indices are kept.
  Op(OpKind kind, const tflite::Node& node, Shared* shared);

  // Decodes the weights at the first call, plans shapes and resizes the output.
  Status Prepare(tflite::Context* context);
  Status Eval(tflite::Context* context);

  OpKind kind() const { return kind_; }
  // Name of the output tensor, to tell operators apart in messages.
  const char* Name(const tflite::Context* context) const;

 private:
  Status CheckNode() const;
  Status Decode(const tflite::Context* context);
  Status Resize(tflite::Context* context);

  OpKind kind_;
  Shared* shared_;
  int input_count_ = 0, output_count_ = 0;
  int inputs_[kInputCount];
  int output_ = -1;
  LayerParams params_;
  float input_scale_ = 0, output_scale_ = 0;
  int64_t input_bytes_ = 0, output_bytes_ = 0;  // of the shape that the executor is prepared for
  std::unique_ptr<Executor> executor_;
};

}  // namespace dbq

#endif  // DBQ_KERNELS_OP_H_
