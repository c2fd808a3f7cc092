// Node of a packed operator: docs/packing.md, every tensor checked.
#ifndef DBQ_DELEGATE_IMPORT_PACKED_H_
#define DBQ_DELEGATE_IMPORT_PACKED_H_

#include "delegate/tflite_abi.h"
#include "graph/graph.h"

namespace dbq {

// Layer and operator; the caller adds input and output.
Status ImportPacked(OpKind kind, const tflite::Context* context, const tflite::Node& node, Node* imported);

}  // namespace dbq

#endif  // DBQ_DELEGATE_IMPORT_PACKED_H_
