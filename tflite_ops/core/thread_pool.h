// A few worker threads that wait between calls.
#ifndef DBQ_CORE_THREAD_POOL_H_
#define DBQ_CORE_THREAD_POOL_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace dbq {

class ThreadPool {
 public:
  ThreadPool() = default;
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Calls work(begin, end, slot) over [0, items) cut into at most `slots` ranges, one per thread; the caller runs the
  // first. Slots are 0 .. slots - 1. Returns when all are done. Workers start on first use. `work` must not throw.
  void Run(int slots, int64_t items, const std::function<void(int64_t, int64_t, int)>& work);

 private:
  void Worker(int slot);

  std::mutex run_mutex_;  // one Run at a time: interpreters on several threads may share a delegate
  std::mutex mutex_;
  std::condition_variable start_, done_;
  std::vector<std::thread> workers_;
  std::function<void(int)> job_;  // job_(slot)
  int job_slots_ = 0, pending_ = 0;
  uint64_t generation_ = 0;
  bool stop_ = false;
};

// Slots worth using for `items` of `cost` multiply-adds each: waking a thread costs more than a small layer.
int UsefulSlots(int threads, int64_t items, int64_t cost);

}  // namespace dbq

#endif  // DBQ_CORE_THREAD_POOL_H_
