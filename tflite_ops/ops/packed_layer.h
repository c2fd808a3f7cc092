// A layer's weights in the layout of the kernels that were chosen for it: made once, kept from plan to plan.
#ifndef DBQ_OPS_PACKED_LAYER_H_
#define DBQ_OPS_PACKED_LAYER_H_

#include <vector>

#include "graph/graph.h"
#include "isa/kernel.h"

namespace dbq {

// A kernel that is there before the weights are packed stays; tests choose it so.
struct PackedLayer {
  const GemmKernel* gemm_kernel = nullptr;
  std::vector<PackedGemm> gemms;  // one for every group
  const DepthwiseKernel* depthwise_kernel = nullptr;
  PackedDepthwise depthwise;
};

// What kernels multiply: uint8 codes, with the zero point's share in the bias.
struct StoredLayer {
  std::vector<int8_t> integers;
  std::vector<int32_t> bias;
  OutputStage stage;
  int planes = 0;        // branches of trits that the weights are known to have
  bool bounded = false;  // |acc * multiplier| < 2^31 for every input
};

void LoadStored(const Node& node, StoredLayer* stored);

// The branches behind stored.planes.
Branches LoadBranches(const Node& node, const StoredLayer& stored);

}  // namespace dbq

#endif  // DBQ_OPS_PACKED_LAYER_H_
