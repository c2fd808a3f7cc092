#include "graph/arena.h"

#include <algorithm>
#include <numeric>

#include "core/buffer.h"

namespace dbq {
namespace {

bool Meet(const Lifetime& a, const Lifetime& b) { return a.first <= b.last && b.first <= a.last; }

// Lowest offset beside `placed`, which are in order of their offsets.
int64_t LowestOffset(const Lifetime& value, const std::vector<const Lifetime*>& placed) {
  int64_t offset = 0;
  for (const Lifetime* other : placed) {
    if (!Meet(value, *other)) continue;
    if (other->offset >= offset + value.bytes) break;
    offset = std::max(offset, RoundUp(other->offset + other->bytes, kCacheLine));
  }
  return offset;
}

}  // namespace

int64_t PlaceInArena(std::vector<Lifetime>* lifetimes) {
  std::vector<size_t> order(lifetimes->size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return (*lifetimes)[a].bytes > (*lifetimes)[b].bytes; });
  std::vector<const Lifetime*> placed;
  int64_t total = 0;
  for (size_t index : order) {
    Lifetime& value = (*lifetimes)[index];
    value.offset = LowestOffset(value, placed);
    total = std::max(total, value.offset + value.bytes);
    const auto behind = [&](const Lifetime* a, const Lifetime* b) { return a->offset < b->offset; };
    placed.insert(std::upper_bound(placed.begin(), placed.end(), &value, behind), &value);
  }
  return total;
}

}  // namespace dbq
