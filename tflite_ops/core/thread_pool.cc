#include "core/thread_pool.h"

#include <algorithm>

namespace dbq {

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Worker(int slot) {
  uint64_t seen = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    start_.wait(lock, [&] { return stop_ || (generation_ != seen && slot < job_slots_); });
    if (stop_) return;
    seen = generation_;
    lock.unlock();
    job_(slot);
    lock.lock();
    if (--pending_ == 0) done_.notify_one();
  }
}

void ThreadPool::Run(int slots, int64_t items, const std::function<void(int64_t, int64_t, int)>& work) {
  slots = static_cast<int>(std::min<int64_t>(slots, items));
  if (slots <= 1) {
    if (items > 0) work(0, items, 0);
    return;
  }
  std::lock_guard<std::mutex> run_lock(run_mutex_);
  auto job = [&](int slot) { work(items * slot / slots, items * (slot + 1) / slots, slot); };
  {
    std::lock_guard<std::mutex> lock(mutex_);
    while (static_cast<int>(workers_.size()) < slots - 1) {
      workers_.emplace_back(&ThreadPool::Worker, this, static_cast<int>(workers_.size()) + 1);
    }
    job_ = job;
    job_slots_ = slots;
    pending_ = slots - 1;
    ++generation_;
  }
  start_.notify_all();
  job(0);
  std::unique_lock<std::mutex> lock(mutex_);
  done_.wait(lock, [&] { return pending_ == 0; });
  job_slots_ = 0;
}

int UsefulSlots(int threads, int64_t items, int64_t cost) {
  constexpr int64_t kMinimumCost = 1 << 18;
  const int64_t slots = std::min<int64_t>(items, items * cost / kMinimumCost);
  return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, slots)));
}

}  // namespace dbq
