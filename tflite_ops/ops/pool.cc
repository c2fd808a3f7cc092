// AVERAGE_POOL_2D (the builtin kernel's: half away from zero, padding not counted) and MAX_POOL_2D (exact).
#include <algorithm>

#include "core/geometry.h"
#include "ops/elementwise.h"
#include "ops/op.h"

namespace dbq {
namespace {

// The pixels of the image under the kernel, for one axis.
struct Span {
  int64_t begin, end;
  int64_t Size() const { return end - begin; }
};

Span Clip(int64_t start, int64_t kernel, int64_t size) {
  return {std::max<int64_t>(start, 0), std::min<int64_t>(start + kernel, size)};
}

struct Pool {
  Options options;
  Image x, y;
  int64_t top, left;
  StoredBounds bounds;
  const CodeKernels* codes;

  Span Rows(int64_t row) const { return Clip(row % y.height * options.stride_h - top, options.kernel_h, x.height); }
  Span Columns(int64_t column) const { return Clip(column * options.stride_w - left, options.kernel_w, x.width); }
  const uint8_t* Pixel(int64_t row, int64_t i, int64_t j) const {
    return x.Row(row / y.height * x.height + i) + j * x.channels;
  }
  double Cost() const { return static_cast<double>(y.Bytes()) * options.kernel_h * options.kernel_w / 16; }
};

LayerParams AsParams(const Options& o, int channels) {
  LayerParams p;
  p.kernel_h = o.kernel_h, p.kernel_w = o.kernel_w, p.stride_h = o.stride_h, p.stride_w = o.stride_w;
  p.dilation_h = p.dilation_w = 1;
  p.padding = o.padding;
  p.in_channels = p.out_channels = channels;
  return p;
}

Status MakeGeometry(const Graph& graph, const Node& node, ConvGeometry* geometry) {
  const std::vector<int>& x = graph.values[node.inputs[0]].shape;
  if (x.size() != 4) return Status::Error("input must have rank 4 (NHWC), got rank %zu", x.size());
  return MakeConvGeometry(AsParams(node.options, x[3]), {x[0], x[1], x[2], x[3]}, geometry);
}

Status InferPool(const Graph& graph, const Node& node, std::vector<int>* shape) {
  ConvGeometry g;
  DBQ_RETURN_IF_ERROR(MakeGeometry(graph, node, &g));
  *shape = {g.output.batch, g.output.height, g.output.width, g.output.channels};
  return Status::Ok();
}

Status MakePool(const Lowering& lowering, const Node& node, Pool* pool) {
  ConvGeometry g;
  DBQ_RETURN_IF_ERROR(MakeGeometry(*lowering.graph, node, &g));
  *pool = {node.options,
           lowering.image(node.inputs[0]),
           lowering.image(node.output),
           g.pad_top,
           g.pad_left,
           MakeStoredBounds(node, lowering.value(node.output)),
           lowering.codes};
  return Status::Ok();
}

void RunMaximum(const Pool& p, int64_t row) {
  const Span rows = p.Rows(row);
  uint8_t* y = p.y.Row(row);
  for (int64_t column = 0; column < p.y.width; ++column, y += p.y.channels) {
    const Span columns = p.Columns(column);
    std::fill_n(y, p.y.channels, uint8_t{0});
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      for (int64_t j = columns.begin; j < columns.end; ++j) p.codes->maximum(p.Pixel(row, i, j), y, p.y.channels);
    }
  }
  p.codes->clamp(p.y.Row(row), p.bounds.low, p.bounds.high, p.y.Row(row), p.y.UsedRowBytes());
}

Status LowerMaximum(const Lowering& lowering, Node* node) {
  Pool pool;
  DBQ_RETURN_IF_ERROR(MakePool(lowering, *node, &pool));
  lowering.Add(*node, MakeRowStep(pool.y.Rows(), pool.Cost(), [pool](int64_t row) { RunMaximum(pool, row); }));
  return Status::Ok();
}

uint8_t Average(const Pool& p, int64_t stored_sum, int64_t count) {
  const int64_t sum = stored_sum - 128 * count;
  const int64_t code = (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
  return std::min(std::max(static_cast<uint8_t>(code + 128), p.bounds.low), p.bounds.high);
}

class AverageStep : public Step {
 public:
  explicit AverageStep(const Pool& pool) : Step(pool.y.Rows(), pool.Cost()), pool_(pool) {}

  int64_t ScratchBytes() const override { return pool_.x.channels * static_cast<int64_t>(sizeof(int32_t)); }

  void Run(const RunContext& context, int64_t begin, int64_t end) const override {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t column = 0; column < pool_.y.width; ++column) {
        RunPixel(row, column, reinterpret_cast<int32_t*>(context.scratch));
      }
    }
  }

 private:
  void RunPixel(int64_t row, int64_t column, int32_t* sums) const {
    const Span rows = pool_.Rows(row), columns = pool_.Columns(column);
    std::fill_n(sums, pool_.x.channels, 0);
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      pool_.codes->sum(pool_.Pixel(row, i, columns.begin), columns.Size(), sums, pool_.x.channels);
    }
    uint8_t* y = pool_.y.Row(row) + column * pool_.y.channels;
    const int64_t count = rows.Size() * columns.Size();
    for (int64_t c = 0; c < pool_.x.channels; ++c) y[c] = Average(pool_, sums[c], count);
  }

  Pool pool_;
};

Status LowerAverage(const Lowering& lowering, Node* node) {
  Pool pool;
  DBQ_RETURN_IF_ERROR(MakePool(lowering, *node, &pool));
  lowering.Add(*node, std::make_unique<AverageStep>(pool));
  return Status::Ok();
}

}  // namespace

const Operator kMaxPool = {"max pool", CheckSameScales, InferPool, nullptr, LowerMaximum};
const Operator kAveragePool = {"average pool", CheckSameScales, InferPool, nullptr, LowerAverage};

}  // namespace dbq
