// A graph of one layer, compiled and run.
#ifndef DBQ_TESTS_ONE_NODE_H_
#define DBQ_TESTS_ONE_NODE_H_

#include <memory>
#include <vector>

#include "core/reference.h"
#include "graph/plan.h"
#include "ops/op.h"
#include "ops/packed_layer.h"
#include "tests/random_layer.h"
#include "tests/testing.h"

namespace dbq {
namespace testing {

inline std::vector<int> ShapeOf(const ImageShape& s) { return {s.batch, s.height, s.width, s.channels}; }

inline Layer DecodedLayer(const LayerShape& s, const FileLayer& file) {
  Layer layer;
  DBQ_EXPECT_OK(DecodeLayer(s.kind, file.View(), &layer));
  return layer;
}

// The layer as a node between two values.
inline Graph MakeGraph(const LayerShape& s, const FileLayer& file) {
  Graph graph;
  Node node;
  node.layer = DecodedLayer(s, file);
  node.load = [s, file, params = node.layer.params] {
    return DecodeIntegers(s.kind, params, file.codes.data(), file.branch_scales.data());
  };
  node.load_branches = [s, file] {
    Branches branches;
    const int64_t weights = DecodedLayer(s, file).params.WeightCount(s.kind);
    branches.planes = s.branches, branches.scales = file.branch_scales;
    branches.trits.resize(weights * s.branches);
    for (int plane = 0; plane < s.branches; ++plane) {
      DecodePlane(file.codes.data() + plane * PlaneBytes(weights), weights, branches.trits.data() + plane * weights);
    }
    return branches;
  };
  node.op = s.kind == OpKind::kConv2D ? &kConvolution : &kDepthwise;
  if (s.kind == OpKind::kFullyConnected) node.op = &kFullyConnected;
  node.label = s.Describe();
  Value x, y;
  x.shape = ShapeOf(s.image);
  x.scale = node.layer.input_scale, y.scale = node.layer.output_scale;
  x.zero_point = node.layer.params.input_zero_point, y.zero_point = node.layer.params.output_zero_point;
  node.inputs = {graph.AddValue(x)};
  node.output = graph.AddValue(y);
  graph.inputs = {node.inputs[0]}, graph.outputs = {node.output};
  graph.nodes.push_back(std::move(node));
  Simplify(&graph);
  return graph;
}

// Runs twice: a result may not depend on what an earlier run left behind.
inline std::vector<int8_t> RunGraph(Graph* graph, Features features, int threads, const std::vector<int8_t>& x,
                                    size_t outputs) {
  std::unique_ptr<Plan> plan;
  DBQ_EXPECT_OK(Compile(graph, features, threads, &plan));
  std::vector<int8_t> y(outputs, 0x55);
  if (Failed()) return y;
  const void* inputs[] = {x.data()};
  void* results[] = {y.data()};
  Team team;
  plan->Run(inputs, results, &team);
  y.assign(outputs, 0x55);
  plan->Run(inputs, results, &team);
  return y;
}

inline std::vector<int8_t> RunReference(const LayerShape& s, const FileLayer& file, const ImageShape& out,
                                        const std::vector<int8_t>& x) {
  std::vector<int8_t> y(out.Pixels() * out.channels);
  const ConstantTensors t = file.View();
  if (s.kind == OpKind::kConv2D) reference::Conv2D(t, s.image, x.data(), out, y.data());
  if (s.kind == OpKind::kDepthwiseConv2D) reference::DepthwiseConv2D(t, s.image, x.data(), out, y.data());
  if (s.kind == OpKind::kFullyConnected) reference::FullyConnected(t, s.image.batch, x.data(), y.data());
  return y;
}

}  // namespace testing
}  // namespace dbq

#endif  // DBQ_TESTS_ONE_NODE_H_
