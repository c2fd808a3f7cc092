// A graph compiled for one set of shapes, one processor and a number of threads: steps in order, and one arena.
#ifndef DBQ_GRAPH_PLAN_H_
#define DBQ_GRAPH_PLAN_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "core/status.h"
#include "graph/graph.h"
#include "graph/image.h"
#include "graph/team.h"
#include "isa/features.h"

namespace dbq {

// What changes from run to run, and from thread to thread.
struct RunContext {
  const void* const* inputs;  // int8, one for every input of the graph
  void* const* outputs;
  uint8_t* scratch;  // of this thread
};

// Work that is cut into units; threads take ranges of them.
class Step {
 public:
  Step(int64_t units, double cost) : units_(units), cost_(cost) {}
  virtual ~Step() = default;
  virtual void Run(const RunContext& context, int64_t begin, int64_t end) const = 0;
  virtual int64_t ScratchBytes() const { return 0; }
  virtual const char* Kernel() const { return ""; }
  virtual int64_t WeightBytes() const { return 0; }  // in the layout of the kernel

  int64_t units() const { return units_; }
  double cost() const { return cost_; }  // estimated cycles
  int slots = 1;                         // threads that it is worth
  int64_t chunks = 1;                    // pieces that threads take, one after the other
  std::string label;                     // operator and output, for reports
  // The output's border is filled before the first unit.
  Image output;
  uint8_t border_zero_point = 0;

 private:
  int64_t units_;
  double cost_;
};

class Plan {
 public:
  // Pointers to int8 tensors in the order of the graph's inputs and outputs. Allocates nothing.
  void Run(const void* const* inputs, void* const* outputs, Team* team);

  // From now on the shortest time of each step is kept, by the first thread's clock.
  void StartProfile() { profile_ = std::make_unique<Profile>(steps_.size()); }
  // "memory", bytes of arena, scratch and weights; then a line for every step: microseconds, threads, kernel, operator
  // and output; tabs in between. Empty without a profile.
  std::string ProfileText() const;

  int64_t arena_bytes() const { return arena_.bytes(); }      // activations
  int64_t scratch_bytes() const { return scratch_.bytes(); }  // of all threads
  int64_t weight_bytes() const;
  int slots() const { return slots_; }  // the most threads that a step uses

 private:
  friend Status Compile(Graph* graph, Features features, int threads, std::unique_ptr<Plan>* plan);
  friend struct Lowering;
  struct Profile {
    explicit Profile(size_t steps) : nanoseconds(steps, INT64_MAX) {}
    std::vector<int64_t> nanoseconds;
  };

  // What is left of a step in a run: threads take its chunks in turn.
  struct alignas(kCacheLine) Progress {
    std::atomic<uint64_t> next{0};  // number of the run, and the chunk that comes next
    std::atomic<int64_t> done{0};   // chunks
  };

  void Finish(int threads);
  void RunAlone();
  void RunSlot(int slot, uint32_t run);
  void RunChunks(size_t step, int slot, uint32_t run);
  bool TakeChunk(size_t step, uint32_t run, int64_t* chunk);
  bool IsOver(size_t step, uint32_t run) const;

  Buffer<uint8_t> arena_, scratch_;
  std::vector<Buffer<uint8_t>> constants_;
  int64_t scratch_stride_ = 0;
  std::vector<std::unique_ptr<Step>> steps_;
  int slots_ = 1;  // the most that a step uses
  RunContext context_{};
  std::atomic<uint32_t> run_{0};    // number of the last run
  std::vector<Progress> progress_;  // one for every step; only where threads share steps
  std::unique_ptr<Profile> profile_;
};

// Writes the shapes of all values that follow from those of the graph's inputs.
Status InferShapes(Graph* graph);

// The graph's inputs have their shapes.
Status Compile(Graph* graph, Features features, int threads, std::unique_ptr<Plan>* plan);

}  // namespace dbq

#endif  // DBQ_GRAPH_PLAN_H_
