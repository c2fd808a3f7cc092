#include "graph/team.h"

#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dbq {
namespace {

// Looks before a thread goes to sleep: about as long as a wake-up costs.
constexpr int kSpins = 1000;

void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

struct Team::Shared {
  std::mutex mutex;
  std::condition_variable start, done;
  std::atomic<uint64_t> generation{0};
  std::atomic<int> running{0};  // slots that have not finished the job
  std::atomic<int> slots{0};
  std::atomic<bool> stop{false};
  void (*work)(void*, int) = nullptr;
  void* argument = nullptr;

  std::atomic<int> arrived{0};
  std::atomic<uint32_t> phase{0};

  void Worker(int slot, uint64_t seen);
  bool WaitForWork(uint64_t seen);
  void Finish();
};

// False when the team ends.
bool Team::Shared::WaitForWork(uint64_t seen) {
  for (int i = 0; i < kSpins; ++i, Pause()) {
    if (generation.load(std::memory_order_acquire) != seen) return !stop;
  }
  std::unique_lock<std::mutex> lock(mutex);
  start.wait(lock, [&] { return stop || generation != seen; });
  return !stop;
}

void Team::Shared::Finish() {
  if (running.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  std::lock_guard<std::mutex> lock(mutex);  // the caller may be between its look and its sleep
  done.notify_one();
}

void Team::Shared::Worker(int slot, uint64_t seen) {
  while (WaitForWork(seen)) {
    seen = generation;
    if (slot < slots) work(argument, slot);
    Finish();
  }
}

Team::Team() = default;

Team::~Team() {
  if (process_ != getpid()) {
    Forget();
    return;
  }
  {
    std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->stop = true;
    ++shared_->generation;
  }
  shared_->start.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

// In the child of a fork the workers do not exist, and their locks may be held for ever: both are left behind.
void Team::Forget() {
  for (std::thread& worker : workers_) new std::thread(std::move(worker));
  workers_.clear();
  shared_.release();
}

void Team::Start(int workers) {
  if (process_ != getpid()) {
    Forget();
    shared_ = std::make_unique<Shared>();
    process_ = getpid();
  }
  while (static_cast<int>(workers_.size()) < workers) {
    // What has run before is none of a new worker's business.
    const int slot = static_cast<int>(workers_.size()) + 1;
    workers_.emplace_back(&Shared::Worker, shared_.get(), slot, shared_->generation.load());
  }
}

void Team::Run(int slots, void (*work)(void*, int), void* argument) {
  if (slots <= 1) return work(argument, 0);
  Start(slots - 1);
  Shared& s = *shared_;
  {
    std::lock_guard<std::mutex> lock(s.mutex);
    s.work = work, s.argument = argument;
    s.slots = slots;
    s.running = static_cast<int>(workers_.size());
    s.arrived = 0;
    ++s.generation;
  }
  s.start.notify_all();
  work(argument, 0);
  for (int i = 0; i < kSpins; ++i, Pause()) {
    if (s.running.load(std::memory_order_acquire) == 0) return;
  }
  std::unique_lock<std::mutex> lock(s.mutex);
  s.done.wait(lock, [&] { return s.running == 0; });
}

void Team::Barrier() {
  Shared& s = *shared_;
  const uint32_t phase = s.phase.load(std::memory_order_acquire);
  if (s.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == s.slots) {
    s.arrived.store(0, std::memory_order_relaxed);
    s.phase.store(phase + 1, std::memory_order_release);
    return;
  }
  for (int i = 0; s.phase.load(std::memory_order_acquire) == phase; ++i) {
    // More threads than cores: the one that is waited for may need this core.
    i < kSpins ? Pause() : std::this_thread::yield();
  }
}

}  // namespace dbq
