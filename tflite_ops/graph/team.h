// Threads that work through a plan together: woken once for a run, and waiting for each other between its steps.
#ifndef DBQ_GRAPH_TEAM_H_
#define DBQ_GRAPH_TEAM_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace dbq {

class Team {
 public:
  Team();
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // Calls work(argument, slot) for slots 0 .. slots - 1, each on its own thread, the caller's being 0. Returns when all
  // are done. One caller at a time. After fork() the child starts threads of its own.
  void Run(int slots, void (*work)(void* argument, int slot), void* argument);

  // Called by every slot of the running work: returns when all have arrived.
  void Barrier();

 private:
  struct Shared;
  void Start(int workers);
  void Forget();

  std::unique_ptr<Shared> shared_;
  std::vector<std::thread> workers_;
  int process_ = 0;
};

}  // namespace dbq

#endif  // DBQ_GRAPH_TEAM_H_
