#include "graph/team.h"

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dbq {
namespace {

// Looks before a thread goes to sleep: about as long as waking it up would take.
constexpr int kLooks = 1000;

}  // namespace

void WaitALittle(int turn) {
  // More threads than cores: the one that is waited for may need this core.
  if (turn > kLooks) return std::this_thread::yield();
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

struct Team::Shared {
  std::mutex mutex;
  std::condition_variable start;
  std::atomic<uint32_t> run{0};
  std::atomic<int> working{0};  // helpers inside of `work`
  std::atomic<bool> stop{false};
  std::atomic<int> helpers{0};  // that this run asks for
  std::atomic<Work> work{nullptr};
  std::atomic<void*> argument{nullptr};

  void Helper(int slot, uint32_t seen);
  void WaitForRun(uint32_t seen);
};

void Team::Shared::WaitForRun(uint32_t seen) {
  for (int i = 0; i < kLooks; WaitALittle(i++)) {
    if (run.load(std::memory_order_acquire) != seen) return;
  }
  std::unique_lock<std::mutex> lock(mutex);
  start.wait(lock, [&] { return run.load() != seen; });
}

void Team::Shared::Helper(int slot, uint32_t seen) {
  while (true) {
    WaitForRun(seen);
    // Announced before the look at what to do: Wait may not miss a helper that has seen the last run.
    working.fetch_add(1);
    seen = run.load();
    if (stop) return;
    if (slot <= helpers) work.load()(argument, slot, seen);
    working.fetch_sub(1);
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
    ++shared_->run;
  }
  shared_->start.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

// In the child of a fork the helpers do not exist, and their locks may be held for ever: both are left behind.
void Team::Forget() {
  for (std::thread& helper : helpers_) new std::thread(std::move(helper));
  helpers_.clear();
  shared_.release();
}

void Team::Hire(int helpers) {
  if (process_ != getpid()) {
    Forget();
    shared_ = std::make_unique<Shared>();
    process_ = getpid();
  }
  while (static_cast<int>(helpers_.size()) < helpers) {
    // What has run before is none of a new helper's business.
    const int slot = static_cast<int>(helpers_.size()) + 1;
    helpers_.emplace_back(&Shared::Helper, shared_.get(), slot, shared_->run.load());
  }
}

uint32_t Team::Start(int helpers, Work work, void* argument) {
  Hire(helpers);
  Shared& s = *shared_;
  s.work = work, s.argument = argument, s.helpers = helpers;
  uint32_t run;
  {
    std::lock_guard<std::mutex> lock(s.mutex);  // a helper may be between its look and its sleep
    run = ++s.run;
  }
  s.start.notify_all();
  return run;
}

void Team::Wait() {
  if (shared_ == nullptr || process_ != getpid()) return;
  shared_->helpers = 0;
  for (int i = 0; shared_->working.load() != 0; ++i) WaitALittle(i);
}

}  // namespace dbq
