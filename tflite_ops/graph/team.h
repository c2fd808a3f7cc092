// Threads that help with a plan: woken once for a run, asleep soon after it.
#ifndef DBQ_GRAPH_TEAM_H_
#define DBQ_GRAPH_TEAM_H_

#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace dbq {

class Team {
 public:
  Team();
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // Helpers 1 .. helpers call work(argument, slot, run), in which `run` is a number that grows; the caller does not
  // wait for them, nor need they come in time: `work` finds out what is left to do for this run. One caller at a time.
  // After fork() the child starts helpers of its own. Returns `run`.
  using Work = void (*)(void* argument, int slot, uint32_t run);
  uint32_t Start(int helpers, Work work, void* argument);

  // Until no helper is at work: before `argument` ends.
  void Wait();

 private:
  struct Shared;
  void Hire(int helpers);
  void Forget();

  std::unique_ptr<Shared> shared_;
  std::vector<std::thread> helpers_;
  int process_ = 0;
};

// Lets the processor breathe in a loop that waits; yields the core when `turn` says that it takes long.
void WaitALittle(int turn);

}  // namespace dbq

#endif  // DBQ_GRAPH_TEAM_H_
