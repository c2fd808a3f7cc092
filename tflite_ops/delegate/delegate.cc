#include "delegate/delegate.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iterator>
#include <memory>
#include <vector>

#include "core/status.h"
#include "delegate/import.h"
#include "delegate/import_table.h"
#include "delegate/partition.h"
#include "delegate/tflite_options.h"
#include "structure/check.h"

namespace dbq {
namespace {

// Without vectors the runtime's own kernels are faster than ours.
bool TakesBuiltins(const Settings& settings) {
  if (settings.single_operators || settings.builtins == Settings::Builtins::kNone) return false;
  return settings.builtins == Settings::Builtins::kAll || (settings.features & (kAvx2 | kNeon)) != 0;
}

// On Arm the runtime has faster kernels for some: average pools, and depthwise convolutions of so few channels that
// ours have no vectors for them.
bool IsFaster(const Settings& settings, int32_t code, const Node& node) {
  if (settings.builtins == Settings::Builtins::kAll || !Has(settings.features, kNeon)) return true;
  constexpr int kFewChannels = 8;
  if (code == tflite::kDepthwiseConv2d) return node.layer.params.out_channels >= kFewChannels;
  return code != tflite::kAveragePool2d;
}

struct NodeView {
  tflite::Node* node = nullptr;
  tflite::Registration* registration = nullptr;
};

// An error for a node that does not exist; never in a runtime that works.
tflite::Status GetNode(tflite::Context* context, int index, NodeView* view) {
  return context->GetNodeAndRegistration(context, index, &view->node, &view->registration);
}

// A builtin node that is ours becomes the last one of the importer's graph.
bool IsOurs(const NodeView& view, const Settings& settings, Importer* importer, Graph* graph) {
  OpKind kind;
  // A damaged packed operator is ours, too: nobody else could say what is wrong with it.
  if (IsPacked(*view.registration, &kind)) return true;
  const int32_t code = view.registration->builtin_code;
  if (!TakesBuiltins(settings) || code == tflite::kCast || code == tflite::kGather) return false;
  if (!importer->Add(*view.node, *view.registration).ok()) return false;
  if (IsFaster(settings, code, graph->nodes.back())) return true;
  graph->nodes.pop_back();
  return false;
}

bool IsOurs(tflite::Context* context, const TableChain& chain) {
  Graph graph;
  Importer importer(context, &graph);
  for (int index : chain.nodes) {
    NodeView view;
    if (GetNode(context, index, &view) != tflite::kOk) return false;
    if (!importer.Add(*view.node, *view.registration).ok()) return false;
  }
  return true;
}

// `found`, in the order of `plan`, and the nodes of the chains.
std::vector<int> WithTables(const std::vector<int>& plan, std::vector<int> found,
                            const std::vector<TableChain>& chains) {
  if (chains.empty()) return found;
  for (const TableChain& chain : chains) found.insert(found.end(), chain.nodes, chain.nodes + 3);
  std::sort(found.begin(), found.end());
  std::vector<int> ordered;
  std::copy_if(plan.begin(), plan.end(), std::back_inserter(ordered),
               [&](int node) { return std::binary_search(found.begin(), found.end(), node); });
  return ordered;
}

std::vector<TableChain> FindOurTables(tflite::Context* context, const std::vector<int>& plan,
                                      const std::vector<int>& found, const Settings& settings) {
  if (!TakesBuiltins(settings)) return {};
  std::vector<TableChain> chains;
  for (const TableChain& chain : FindTables(context, plan)) {
    if (IsOurs(context, chain)) chains.push_back(chain);
  }
  return KeepHidden(context, WithTables(plan, found, chains), chains);
}

// Tensors that a claimed node, a conversion from or to float left aside, writes or reads.
struct Neighbours {
  std::vector<int> written, read;
};

bool Contains(const std::vector<int>& tensors, int tensor) {
  return std::find(tensors.begin(), tensors.end(), tensor) != tensors.end();
}

// A conversion pays as the end of a partition of ours, and nowhere else: its other side is in the runtime's memory.
bool IsEnd(const tflite::Node& conversion, const Neighbours& neighbours) {
  return Contains(neighbours.written, conversion.inputs->data[0]) ||
         Contains(neighbours.read, conversion.outputs->data[0]);
}

// `nodes` without conversions that are no ends.
tflite::Status KeepEnds(tflite::Context* context, std::vector<int>* nodes) {
  Neighbours neighbours;
  std::vector<NodeView> views(nodes->size());
  std::vector<bool> converts(nodes->size());
  for (size_t i = 0; i < nodes->size(); ++i) {
    if (GetNode(context, (*nodes)[i], &views[i]) != tflite::kOk) return tflite::kError;
    const tflite::Node& node = *views[i].node;
    converts[i] = IsConversion(*context, node, views[i].registration->builtin_code);
    if (converts[i] || node.inputs == nullptr || node.outputs == nullptr) continue;
    const tflite::IntArray &x = *node.inputs, &y = *node.outputs;
    neighbours.read.insert(neighbours.read.end(), x.data, x.data + x.size);
    neighbours.written.insert(neighbours.written.end(), y.data, y.data + y.size);
  }
  std::vector<int> kept, real;  // and what kept conversions write to the runtime's memory: not ours to read there
  for (size_t i = 0; i < nodes->size(); ++i) {
    const tflite::Node& node = *views[i].node;
    if (converts[i] && (!IsEnd(node, neighbours) || Contains(real, node.inputs->data[0]))) continue;
    kept.push_back((*nodes)[i]);
    if (converts[i] && views[i].registration->builtin_code == tflite::kDequantize) {
      real.push_back(node.outputs->data[0]);
    }
  }
  *nodes = std::move(kept);
  return tflite::kOk;
}

// The execution plan is copied first: replacing nodes invalidates it.
tflite::Status FindNodes(tflite::Context* context, const Settings& settings, std::vector<int>* found,
                         ReadyNodes* ready) {
  tflite::IntArray* array = nullptr;
  if (context->GetExecutionPlan(context, &array) != tflite::kOk) return tflite::kError;
  const std::vector<int> plan(array->data, array->data + array->size);
  Graph graph;
  Importer importer(context, &graph);
  bool has_tables = false, has_conversions = false;
  for (int index : plan) {
    NodeView view;
    if (GetNode(context, index, &view) != tflite::kOk) return tflite::kError;
    const int32_t code = view.registration->builtin_code;
    has_tables = has_tables || code == tflite::kGather;
    has_conversions = has_conversions || code == tflite::kQuantize || code == tflite::kDequantize;
    if (!IsOurs(view, settings, &importer, &graph)) continue;
    found->push_back(index);
    if (!graph.nodes.empty()) ready->Keep(index, std::move(graph.nodes.back())), graph.nodes.pop_back();
  }
  if (has_tables) *found = WithTables(plan, *found, FindOurTables(context, plan, *found, settings));
  return has_conversions ? KeepEnds(context, found) : tflite::kOk;
}

tflite::Status Replace(tflite::Context* context, tflite::Delegate* delegate, const int* nodes, size_t count) {
  std::vector<int> array(1, static_cast<int>(count));  // an IntArray: the size, then the numbers
  array.insert(array.end(), nodes, nodes + count);
  return context->ReplaceNodeSubsetsWithDelegateKernels(
      context, MakeRegistration(), reinterpret_cast<const tflite::IntArray*>(array.data()), delegate);
}

tflite::Status ReplaceNodes(tflite::Context* context, tflite::Delegate* delegate) {
  const Settings& settings = *static_cast<const Settings*>(delegate->data_);
  std::vector<int> nodes;
  ReadyNodes ready;
  if (FindNodes(context, settings, &nodes, &ready) != tflite::kOk) return tflite::kError;
  if (nodes.empty()) return tflite::kOk;
  if (!settings.single_operators) return Replace(context, delegate, nodes.data(), nodes.size());
  for (const int& node : nodes) {
    const tflite::Status status = Replace(context, delegate, &node, 1);
    if (status != tflite::kOk) return status;
  }
  return tflite::kOk;
}

tflite::Status DelegatePrepare(tflite::Context* context, tflite::Delegate* delegate) {
  try {
    return ReplaceNodes(context, delegate);
  } catch (const std::exception& error) {
    context->ReportError(context, "keras_dbq: %s", error.what());
    return tflite::kError;
  }
}

// The delegate that the runtime holds, and what it was created with.
struct DbqDelegate {
  tflite::Delegate base{};
  Settings settings;
};

Status ApplyIsa(const char* name, Settings* settings) {
  Features needed, allowed;
  if (!ParseIsa(name, &needed, &allowed)) return Status::Error("isa must be %s, got '%s'", IsaNames(), name);
  if (!Has(DetectFeatures(), needed)) return Status::Error("isa: this processor has no %s; use isa=auto", name);
  settings->features &= allowed;
  return Status::Ok();
}

Status ApplyPartition(const char* value, Settings* settings) {
  settings->single_operators = std::strcmp(value, "op") == 0;
  if (settings->single_operators || std::strcmp(value, "graph") == 0) return Status::Ok();
  return Status::Error("partition must be graph or op, got '%s'", value);
}

Status ApplyBuiltins(const char* value, Settings* settings) {
  constexpr const char* kValues[] = {"none", "faster", "all"};
  for (int i = 0; i < 3; ++i) {
    if (std::strcmp(value, kValues[i]) != 0) continue;
    settings->builtins = static_cast<Settings::Builtins>(i);
    return Status::Ok();
  }
  return Status::Error("builtins must be none, faster or all, got '%s'", value);
}

Status ApplyOption(const char* key, const char* value, Settings* settings) {
  if (std::strcmp(key, "isa") == 0) return ApplyIsa(value, settings);
  if (std::strcmp(key, "partition") == 0) return ApplyPartition(value, settings);
  if (std::strcmp(key, "builtins") == 0) return ApplyBuiltins(value, settings);
  if (std::strcmp(key, "profile") != 0) {
    return Status::Error("unknown option '%s', expected isa, partition, builtins or profile", key);
  }
  settings->profile = value;
  return Status::Ok();
}

Status ParseOptions(const char* const* keys, const char* const* values, int count, Settings* settings) {
  settings->features = DetectFeatures();
  // For programs whose options nobody can change.
  const char* environment = std::getenv("KERAS_DBQ_ISA");
  if (environment != nullptr) DBQ_RETURN_IF_ERROR(ApplyIsa(environment, settings));
  for (int i = 0; i < count; ++i) DBQ_RETURN_IF_ERROR(ApplyOption(keys[i], values[i], settings));
  return Status::Ok();
}

tflite::Delegate* Create(const char* const* keys, const char* const* values, int count,
                         void (*report_error)(const char*)) {
  auto delegate = std::make_unique<DbqDelegate>();
  const Status status = ParseOptions(keys, values, count, &delegate->settings);
  if (!status.ok()) {
    if (report_error != nullptr) report_error(status.message());
    return nullptr;
  }
  delegate->base.data_ = &delegate->settings;
  delegate->base.Prepare = DelegatePrepare;
  // Without this flag the graph is prepared before it is handed over, and fails on the custom operators.
  delegate->base.flags = tflite::kDelegateAllowDynamicTensors;
  return &delegate.release()->base;
}

}  // namespace
}  // namespace dbq

dbq::tflite::Delegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values, size_t count,
                                                     void (*report_error)(const char*)) {
  try {
    // The Python interpreters pass the count as a 32-bit int: the upper half of the register means nothing.
    return dbq::Create(keys, values, static_cast<int>(count), report_error);
  } catch (const std::exception& error) {
    if (report_error != nullptr) report_error(error.what());
    return nullptr;
  }
}

void tflite_plugin_destroy_delegate(dbq::tflite::Delegate* delegate) {
  delete reinterpret_cast<dbq::DbqDelegate*>(delegate);
}

int dbq_look_at_file(const uint8_t* data, size_t size) {
  try {
    const dbq::structure::Answer answer = dbq::structure::LookAt(data, static_cast<int64_t>(size));
    return answer.is_whole ? 1 + 2 * answer.names_outputs : 0;
  } catch (const std::exception&) {  // no memory
    return 0;
  }
}
