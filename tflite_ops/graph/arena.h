// Memory of values that do not live at the same time is shared.
#ifndef DBQ_GRAPH_ARENA_H_
#define DBQ_GRAPH_ARENA_H_

#include <cstdint>
#include <vector>

namespace dbq {

struct Lifetime {
  int first = -1, last = -1;  // nodes, both included
  int64_t bytes = 0;
  int64_t offset = 0;  // the result
};

// Writes the offsets, on cache lines, and returns the bytes in all. Large values first, each at the lowest place that
// is free for as long as it lives.
int64_t PlaceInArena(std::vector<Lifetime>* lifetimes);

}  // namespace dbq

#endif  // DBQ_GRAPH_ARENA_H_
