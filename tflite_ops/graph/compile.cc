// Shapes, borders, memory, steps: in this order.
#include <algorithm>

#include "graph/arena.h"
#include "graph/graph.h"
#include "graph/plan.h"
#include "isa/select.h"
#include "ops/ends.h"
#include "ops/op.h"

namespace dbq {
namespace {

Status Labelled(const Node& node, const Status& status) {
  return status.ok() ? status : Status::Error("%s: %s", node.label.c_str(), status.message());
}

Status CheckSize(const Value& value) {
  if (value.Elements() >= 0) return Status::Ok();
  return Status::Error("a tensor has more than 2^31 - 1 elements; use a smaller batch or image");
}

// One image for every value, without memory.
std::vector<Image> MakeImages(const Graph& graph) {
  std::vector<Border> borders(graph.values.size());
  for (const Node& node : graph.nodes) {
    if (node.op->border != nullptr) borders[node.inputs[0]].Include(node.op->border(graph, node));
  }
  std::vector<Image> images;
  for (size_t i = 0; i < graph.values.size(); ++i) images.push_back(MakeImage(graph.values[i].shape, borders[i]));
  return images;
}

// A value lives from the step that writes it to the last that reads it. Inputs are written by steps of their own,
// before the nodes; outputs are read by steps behind them.
std::vector<Lifetime> Lifetimes(const Graph& graph, const std::vector<Image>& images) {
  std::vector<Lifetime> lifetimes(graph.values.size());
  const int count = static_cast<int>(graph.nodes.size());
  for (int i = 0; i < count; ++i) {
    for (int input : graph.nodes[i].inputs) lifetimes[input].last = i;
    lifetimes[graph.nodes[i].output].first = i;
    lifetimes[graph.nodes[i].output].last = std::max(lifetimes[graph.nodes[i].output].last, i);
  }
  for (int output : graph.outputs) lifetimes[output].last = count;
  for (size_t i = 0; i < images.size(); ++i) {
    const bool used = lifetimes[i].last >= 0;
    if (used && graph.values[i].constant.empty() && !graph.values[i].is_float)
      lifetimes[i].bytes = images[i].Bytes() + kSlackBytes;
  }
  return lifetimes;
}

// Before anything is allocated: shapes and dilations of a damaged file may ask for any size. In double, because the
// product may pass int64.
Status CheckMemory(const std::vector<Image>& images) {
  constexpr double kMostBytes = 1 << 30;
  for (const Image& image : images) {
    const Border& b = image.border;
    const double height = static_cast<double>(b.top + image.height + b.bottom);
    const double width = static_cast<double>(b.left + image.width + b.right);
    const double bytes = height * width * static_cast<double>(image.batch) * static_cast<double>(image.channels);
    if (bytes <= kMostBytes) continue;
    return Status::Error(
        "an activation with its padding takes %.0f bytes, the limit is 2^30; use a smaller batch or image", bytes);
  }
  return Status::Ok();
}

// Constants have memory of their own, written once.
Buffer<uint8_t> StoreConstant(const Value& value) {
  Buffer<uint8_t> stored(static_cast<int64_t>(value.constant.size()));
  for (size_t i = 0; i < value.constant.size(); ++i) stored[i] = static_cast<uint8_t>(value.constant[i] + 128);
  return stored;
}

}  // namespace

Status InferShapes(Graph* graph) {
  for (int input : graph->inputs) DBQ_RETURN_IF_ERROR(CheckSize(graph->values[input]));
  for (Node& node : graph->nodes) {
    DBQ_RETURN_IF_ERROR(Labelled(node, node.op->infer(*graph, node, &graph->values[node.output].shape)));
    DBQ_RETURN_IF_ERROR(Labelled(node, CheckSize(graph->values[node.output])));
  }
  return Status::Ok();
}

void Lowering::Add(const Node& node, std::unique_ptr<Step> step) const {
  step->label = node.label;
  step->output = image(node.output);
  step->border_zero_point = value(node.output).StoredZeroPoint();
  plan->steps_.push_back(std::move(step));
}

void Lowering::AddEnd(std::unique_ptr<Step> step) const { plan->steps_.push_back(std::move(step)); }

Status Compile(Graph* graph, Features features, int threads, std::unique_ptr<Plan>* result) {
  DBQ_RETURN_IF_ERROR(InferShapes(graph));
  std::vector<Image> images = MakeImages(*graph);
  DBQ_RETURN_IF_ERROR(CheckMemory(images));
  auto plan = std::make_unique<Plan>();
  std::vector<Lifetime> lifetimes = Lifetimes(*graph, images);
  plan->arena_ = Buffer<uint8_t>(PlaceInArena(&lifetimes));
  for (size_t i = 0; i < images.size(); ++i) {
    images[i].data = plan->arena_.data() + lifetimes[i].offset + images[i].Origin();
    if (graph->values[i].constant.empty()) continue;
    plan->constants_.push_back(StoreConstant(graph->values[i]));
    images[i].data = plan->constants_.back().data();
  }

  const CodeKernels& codes = SelectCodes(features);
  const Lowering lowering{graph, &images, features, &codes, plan.get()};
  for (size_t i = 0; i < graph->inputs.size(); ++i) {
    const int value = graph->inputs[i];
    if (!graph->values[value].is_float) AddImport(lowering, value, static_cast<int>(i));
  }
  for (Node& node : graph->nodes) DBQ_RETURN_IF_ERROR(Labelled(node, node.op->lower(lowering, &node)));
  for (size_t i = 0; i < graph->outputs.size(); ++i) {
    const int value = graph->outputs[i];
    if (!graph->values[value].is_float) AddExport(lowering, value, static_cast<int>(i));
  }
  plan->Finish(threads);
  *result = std::move(plan);
  return Status::Ok();
}

}  // namespace dbq
