// The nodes of a network that the delegate runs as one: imported once, compiled for every input shape.
#ifndef DBQ_DELEGATE_PARTITION_H_
#define DBQ_DELEGATE_PARTITION_H_

#include <memory>
#include <string>
#include <vector>

#include "core/status.h"
#include "delegate/tflite_abi.h"
#include "graph/graph.h"
#include "graph/plan.h"
#include "graph/team.h"
#include "isa/features.h"

namespace dbq {

// What a delegate was created with.
struct Settings {
  enum class Builtins { kNone, kFaster, kAll };  // which builtin operators are taken
  Features features = kScalar;
  Builtins builtins = Builtins::kFaster;
  std::string profile;            // a file that gets the time of every step when an interpreter ends; empty: none
  bool single_operators = false;  // one partition for every packed operator, so that every activation stays visible
};

class Partition {
 public:
  // An error is kept for Prepare, which can report it.
  Partition(tflite::Context* context, const tflite::DelegateParams& params, const Settings& settings);
  ~Partition();

  // Plans, and resizes the outputs.
  Status Prepare(tflite::Context* context);
  Status Eval(tflite::Context* context);

 private:
  Status Import(tflite::Context* context, const tflite::DelegateParams& params);
  bool InputsAreDynamic(const tflite::Context* context) const;
  bool IsPlanned(const tflite::Context* context) const;
  Status PlanShapes(tflite::Context* context);
  bool FindBatch();
  Status ResizeOutputs(tflite::Context* context) const;
  Status CollectPointers(const tflite::Context* context);
  Status CheckMemory(const tflite::Tensor& tensor, int value) const;

  const Settings settings_;
  Status status_ = Status::Ok();
  Graph graph_;
  std::unique_ptr<Plan> plan_;
  Team team_;
  int threads_ = 0;
  std::vector<std::vector<int>> input_shapes_, output_shapes_;  // that the plan is for
  int64_t batch_ = 1;                                           // runs of the plan, one for every example
  std::vector<const void*> inputs_;
  std::vector<void*> outputs_;
};

// For a delegate node; the delegate's data_ must be a Settings.
tflite::Registration MakeRegistration();

}  // namespace dbq

#endif  // DBQ_DELEGATE_PARTITION_H_
