// Nodes of builtin operators with weights, where XNNPACK would take them: CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED.
#ifndef DBQ_DELEGATE_IMPORT_LAYER_H_
#define DBQ_DELEGATE_IMPORT_LAYER_H_

#include "delegate/tflite_abi.h"
#include "graph/graph.h"

namespace dbq {

// Layer and operator; the caller has checked the activations, and adds them.
Status ImportLayer(int32_t builtin, const tflite::Context* context, const tflite::Node& node, Node* imported);

}  // namespace dbq

#endif  // DBQ_DELEGATE_IMPORT_LAYER_H_
