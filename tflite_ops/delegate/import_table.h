// Tables of 256 codes as keras_dbq.export writes them: CAST int8 to uint8, CAST to int32, GATHER of a constant. The
// three become one node; what stands between them does not exist in the plan.
#ifndef DBQ_DELEGATE_IMPORT_TABLE_H_
#define DBQ_DELEGATE_IMPORT_TABLE_H_

#include <vector>

#include "core/status.h"
#include "delegate/tflite_abi.h"
#include "graph/graph.h"

namespace dbq {

struct TableChain {
  int nodes[3];  // CAST, CAST, GATHER
  int source;    // tensor of the codes
  int between[2];
};

// Among `nodes`, those whose tensors in between nothing else reads.
std::vector<TableChain> FindTables(tflite::Context* context, const std::vector<int>& nodes);

// Those of `chains` whose tensors in between would have to be written: outputs of the network, or of a partition.
std::vector<TableChain> KeepHidden(tflite::Context* context, const std::vector<int>& nodes,
                                   const std::vector<TableChain>& chains);

// The table of a GATHER; the caller adds input and output, both of which it has checked.
Status ImportTable(const tflite::Context* context, const tflite::Node& gather, Node* imported);

}  // namespace dbq

#endif  // DBQ_DELEGATE_IMPORT_TABLE_H_
