// Steps between the runtime's tensors, whose rows lie one behind the other, and images in the arena.
#ifndef DBQ_OPS_ENDS_H_
#define DBQ_OPS_ENDS_H_

#include "ops/op.h"

namespace dbq {

// int8 of the runtime's input number `input` -> the value's image, and back to output number `output`.
void AddImport(const Lowering& lowering, int value, int input);
void AddExport(const Lowering& lowering, int value, int output);

}  // namespace dbq

#endif  // DBQ_OPS_ENDS_H_
