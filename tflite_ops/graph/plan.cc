#include "graph/plan.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace dbq {
namespace {

// Less work than this, in cycles, does not pay for a second thread: a barrier costs hundreds of them.
constexpr double kCyclesPerSlot = 4000;
// Less than this in the whole plan does not pay for waking threads up.
constexpr double kCyclesPerPlan = 60000;

int SlotsFor(const Step& step, int threads) {
  const double worth = std::min(step.cost() / kCyclesPerSlot, static_cast<double>(step.units()));
  return std::max(1, static_cast<int>(std::min<double>(threads, worth)));
}

int64_t Nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// The slot's share of the units.
void RunStep(const Step& step, const RunContext& context, int slot) {
  if (slot >= step.slots) return;
  const int64_t begin = step.units() * slot / step.slots, end = step.units() * (slot + 1) / step.slots;
  if (slot == 0) step.output.FillBorder(step.border_zero_point);
  if (begin < end) step.Run(context, begin, end);
}

}  // namespace

void Plan::Finish(int threads) {
  double parallel = 0;
  for (const auto& step : steps_) {
    step->slots = SlotsFor(*step, threads);
    if (step->slots > 1) parallel += step->cost();
    scratch_stride_ = std::max(scratch_stride_, RoundUp(step->ScratchBytes(), kCacheLine) + kSlackBytes);
  }
  for (const auto& step : steps_) {
    if (parallel < kCyclesPerPlan) step->slots = 1;
    slots_ = std::max(slots_, step->slots);
  }
  for (size_t i = 0; i + 1 < steps_.size(); ++i) steps_[i]->wait = steps_[i]->slots > 1 || steps_[i + 1]->slots > 1;
  scratch_ = Buffer<uint8_t>(scratch_stride_ * slots_);
}

// Every slot goes through all steps. They meet where a shared step begins or ends; the others are the first slot's.
void Plan::RunSlot(int slot) {
  RunContext context = context_;
  context.scratch = scratch_.data() + slot * scratch_stride_;
  const bool profiled = profile_ != nullptr && slot == 0;
  for (size_t i = 0; i < steps_.size(); ++i) {
    const int64_t start = profiled ? Nanoseconds() : 0;
    RunStep(*steps_[i], context, slot);
    if (steps_[i]->wait) team_->Barrier();
    if (profiled) profile_->nanoseconds[i] = std::min(profile_->nanoseconds[i], Nanoseconds() - start);
  }
}

std::string Plan::ProfileText() const {
  std::string text;
  for (size_t i = 0; profile_ != nullptr && i < steps_.size(); ++i) {
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
  team_ = team;
  team->Run(
      slots_, [](void* plan, int slot) { static_cast<Plan*>(plan)->RunSlot(slot); }, this);
}

}  // namespace dbq
