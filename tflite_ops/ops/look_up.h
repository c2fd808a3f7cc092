// Operators that are a function of one code: a table of 256, made at the plan.
#ifndef DBQ_OPS_LOOK_UP_H_
#define DBQ_OPS_LOOK_UP_H_

#include <functional>

#include "ops/op.h"

namespace dbq {

// Adds the step that writes code(x) for every code x, both -128 .. 127; what `code` gives is clamped to that.
void AddLookUp(const Lowering& lowering, const Node& node, const std::function<double(int x)>& code);

}  // namespace dbq

#endif  // DBQ_OPS_LOOK_UP_H_
