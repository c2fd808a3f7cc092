#include "graph/plan.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace dbq {
namespace {

// Less work than this, in cycles, does not pay for a second thread: the lines that one core wrote have to come to the
// other. Measured (tools/runtime_speed --two-threads): with half of it EfficientNetB0 at 96 gets slower.
constexpr double kCyclesPerSlot = 20000;
// Less than this in the whole plan does not pay for waking threads up.
constexpr double kCyclesPerPlan = 300000;
// Where less than this share of the work is cut, the steps between read what two cores wrote: that costs more than is
// won.
constexpr double kLeastShare = 0.5;

int SlotsFor(const Step& step, int threads) {
  const double worth = std::min(step.cost() / kCyclesPerSlot, static_cast<double>(step.units()));
  return std::max(1, static_cast<int>(std::min<double>(threads, worth)));
}

int64_t Nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Chunk `chunk` of a step.
void RunChunk(const Step& step, const RunContext& context, int64_t chunk) {
  const int64_t begin = step.units() * chunk / step.chunks, end = step.units() * (chunk + 1) / step.chunks;
  if (chunk == 0) step.output.FillBorder(step.border_zero_point);
  if (begin < end) step.Run(context, begin, end);
}

}  // namespace

void Plan::Finish(int threads) {
  double parallel = 0, total = 0;
  for (const auto& step : steps_) {
    step->slots = SlotsFor(*step, threads);
    total += step->cost();
    if (step->slots > 1) parallel += step->cost();
    scratch_stride_ = std::max(scratch_stride_, RoundUp(step->ScratchBytes(), kCacheLine) + kSlackBytes);
  }
  for (const auto& step : steps_) {
    if (parallel < kCyclesPerPlan || parallel < kLeastShare * total) step->slots = 1;
    slots_ = std::max(slots_, step->slots);
    // Two chunks a thread, so that one that comes late leaves less to wait for.
    step->chunks = step->slots == 1 ? 1 : std::min<int64_t>(step->units(), 2 * step->slots);
  }
  if (slots_ > 1) progress_ = std::vector<Progress>(steps_.size());
  scratch_ = Buffer<uint8_t>(scratch_stride_ * slots_);
}

void Plan::RunAlone() {
  RunContext context = context_;
  context.scratch = scratch_.data();
  for (size_t i = 0; i < steps_.size(); ++i) {
    const int64_t start = profile_ != nullptr ? Nanoseconds() : 0;
    RunChunk(*steps_[i], context, 0);
    if (profile_ != nullptr) profile_->nanoseconds[i] = std::min(profile_->nanoseconds[i], Nanoseconds() - start);
  }
}

// False when nothing is left to take, or the run is another one: then `next` has its number.
bool Plan::TakeChunk(size_t step, uint32_t run, int64_t* chunk) {
  std::atomic<uint64_t>& next = progress_[step].next;
  uint64_t seen = next.load(std::memory_order_acquire);
  while (static_cast<uint32_t>(seen >> 32) == run) {
    *chunk = static_cast<int64_t>(seen & 0xFFFFFFFF);
    if (*chunk >= steps_[step]->chunks) return false;
    if (next.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) return true;
  }
  return false;
}

bool Plan::IsOver(size_t step, uint32_t run) const {
  return static_cast<uint32_t>(progress_[step].next.load(std::memory_order_acquire) >> 32) != run;
}

// The caller's pointers are read behind a chunk that was taken, so they are those of this run.
void Plan::RunChunks(size_t step, int slot, uint32_t run) {
  for (int64_t chunk; TakeChunk(step, run, &chunk);) {
    RunChunk(*steps_[step], {context_.inputs, context_.outputs, scratch_.data() + slot * scratch_stride_}, chunk);
    progress_[step].done.fetch_add(1, std::memory_order_acq_rel);
  }
}

// Every thread goes through all steps, and takes what chunks are left: one that sleeps, or whose core something else
// has, is not waited for unless it has taken a chunk.
void Plan::RunSlot(int slot, uint32_t run) {
  const bool profiled = profile_ != nullptr && slot == 0;
  for (size_t i = 0; i < steps_.size(); ++i) {
    const int64_t start = profiled ? Nanoseconds() : 0;
    RunChunks(i, slot, run);
    for (int turn = 0; progress_[i].done.load(std::memory_order_acquire) < steps_[i]->chunks; WaitALittle(turn++)) {
      if (IsOver(i, run)) return;
    }
    if (profiled) profile_->nanoseconds[i] = std::min(profile_->nanoseconds[i], Nanoseconds() - start);
  }
}

int64_t Plan::weight_bytes() const {
  int64_t bytes = 0;
  for (const auto& step : steps_) bytes += step->WeightBytes();
  return bytes;
}

std::string Plan::ProfileText() const {
  if (profile_ == nullptr) return "";
  std::string text = "memory\t" + std::to_string(arena_bytes()) + "\t" + std::to_string(scratch_bytes()) + "\t" +
                     std::to_string(weight_bytes()) + "\n";
  for (size_t i = 0; i < steps_.size(); ++i) {
    if (profile_->nanoseconds[i] == INT64_MAX) continue;  // never run
    const double nanoseconds = static_cast<double>(profile_->nanoseconds[i]);
    char line[256];
    std::snprintf(line, sizeof(line), "%.3f\t%d\t%s\t%s\n", nanoseconds / 1000, steps_[i]->slots, steps_[i]->Kernel(),
                  steps_[i]->label.c_str());
    text += line;
  }
  return text;
}

void Plan::Run(const void* const* inputs, void* const* outputs, Team* team) {
  context_.inputs = inputs, context_.outputs = outputs;
  if (slots_ == 1) return RunAlone();
  const uint32_t run = ++run_;
  for (Progress& progress : progress_) {
    progress.done.store(0, std::memory_order_relaxed);
    progress.next.store(uint64_t{run} << 32, std::memory_order_release);
  }
  const auto help = [](void* plan, int slot, uint32_t) {
    Plan* self = static_cast<Plan*>(plan);
    self->RunSlot(slot, self->run_.load(std::memory_order_acquire));
  };
  team->Start(slots_ - 1, help, this);
  RunSlot(0, run);
}

}  // namespace dbq
