// Depthwise convolutions with multiplier 1: Simplify has put a Repeat before the others.
#include <algorithm>
#include <cstring>

#include "ops/op.h"
#include "ops/packed_layer.h"
#include "ops/window.h"

namespace dbq {
namespace {

// Output rows of all images are the units.
class DepthwiseStep : public Step {
 public:
  DepthwiseStep(std::shared_ptr<PackedLayer> layer, const WindowGeometry& geometry, const Image& x, const Image& y)
      : Step(y.Rows(), layer->depthwise_kernel->cost(layer->depthwise.shape) * static_cast<double>(y.Rows() * y.width)),
        layer_(std::move(layer)),
        geometry_(geometry),
        x_(x),
        y_(y) {}

  const char* Kernel() const override { return layer_->depthwise_kernel->name; }
  int64_t WeightBytes() const override { return layer_->depthwise.Bytes(); }

  void Run(const RunContext&, int64_t begin, int64_t end) const override {
    for (int64_t row = begin; row < end;) {
      const int64_t n = row / y_.height, last = std::min(end, (n + 1) * y_.height);
      const uint8_t* x = x_.data + n * x_.ImageBytes() + geometry_.Top(row % y_.height) * x_.RowBytes();
      layer_->depthwise_kernel->run({&layer_->depthwise, x - geometry_.left * x_.channels, x_.RowBytes(), y_.Row(row),
                                     y_.RowBytes(), last - row, y_.width});
      row = last;
    }
  }

 private:
  std::shared_ptr<PackedLayer> layer_;
  WindowGeometry geometry_;
  Image x_, y_;
};

DepthwiseShape MakeShape(const LayerParams& p) {
  return {p.kernel_h, p.kernel_w, p.stride_h, p.stride_w, p.dilation_h, p.dilation_w, p.out_channels};
}

void PackLayer(const Lowering& lowering, Node* node) {
  if (node->packed == nullptr) node->packed = std::make_shared<PackedLayer>();
  PackedLayer& packed = *node->packed;
  if (packed.depthwise.bias.count() > 0) return;
  StoredLayer stored;
  LoadStored(*node, &stored);
  const DepthwiseShape shape = MakeShape(node->layer.params);
  if (packed.depthwise_kernel == nullptr) {
    packed.depthwise_kernel = &SelectDepthwise(shape, stored.bounded, lowering.features);
  }
  packed.depthwise_kernel->pack(
      {shape, stored.integers.data(), stored.bias.data(), node->layer.multiplier.data(), stored.stage},
      &packed.depthwise);
}

Status LowerDepthwise(const Lowering& lowering, Node* node) {
  const Image &x = lowering.image(node->inputs[0]), &y = lowering.image(node->output);
  PackLayer(lowering, node);
  WindowGeometry geometry;
  DBQ_RETURN_IF_ERROR(MakeWindowGeometry(lowering.value(node->inputs[0]).shape, *node, &geometry));
  lowering.Add(*node, std::make_unique<DepthwiseStep>(node->packed, geometry, x, y));
  return Status::Ok();
}

// The new number of channels is the only option of a Repeat.
Status InferRepeat(const Graph& graph, const Node& node, std::vector<int>* shape) {
  const std::vector<int>& x = graph.values[node.inputs[0]].shape;
  const int multiplier = node.options.numbers[0];
  if (x.size() != 4) return Status::Error("input must have rank 4 (NHWC), got rank %zu", x.size());
  *shape = x;
  shape->back() = static_cast<int>(std::min<int64_t>(int64_t{x[3]} * multiplier, INT64_C(2147483647)));
  return Status::Ok();
}

Status LowerRepeat(const Lowering& lowering, Node* node) {
  const Image x = lowering.image(node->inputs[0]), y = lowering.image(node->output);
  const int64_t multiplier = node->options.numbers[0];
  lowering.Add(*node, MakeRowStep(y.Rows(), static_cast<double>(y.Bytes()), [=](int64_t row) {
    const uint8_t* from = x.Row(row);
    uint8_t* to = y.Row(row);
    for (int64_t i = 0; i < x.UsedRowBytes(); ++i, to += multiplier) std::memset(to, from[i], multiplier);
  }));
  return Status::Ok();
}

Status CheckNothing(const Graph&, const Node&) { return Status::Ok(); }

}  // namespace

const Operator kRepeat = {"repeat", CheckNothing, InferRepeat, nullptr, LowerRepeat};
const Operator kDepthwise = {"depthwise convolution", CheckLayer, InferWindow, WindowBorder, LowerDepthwise};

}  // namespace dbq
