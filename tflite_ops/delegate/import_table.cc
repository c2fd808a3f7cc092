#include "delegate/import_table.h"

#include <algorithm>
#include <iterator>
#include <map>

#include "delegate/tensors.h"
#include "delegate/tflite_options.h"
#include "ops/op.h"

namespace dbq {
namespace {

constexpr int64_t kTableCodes = 256;

struct Found {
  int index;  // of the node
  const tflite::Node* node;
  int32_t code;
};

// The nodes, by what they write, and how often every tensor is read.
struct Readers {
  std::map<int, Found> writer;
  std::map<int, int> reads;

  // The CAST behind a tensor that nothing else reads; null where there is none.
  const Found* HiddenCast(const tflite::Context* context, int tensor, tflite::Type from, tflite::Type to) const {
    const auto found = writer.find(tensor);
    if (found == writer.end() || found->second.code != tflite::kCast || reads.at(tensor) != 1) return nullptr;
    const tflite::Tensor* x = GetTensor(context, found->second.node->inputs->data[0]);
    const bool fits = x != nullptr && x->type == from && GetTensor(context, tensor)->type == to;
    return fits ? &found->second : nullptr;
  }
};

Readers FindReaders(tflite::Context* context, const std::vector<int>& nodes) {
  Readers found;
  for (int index : nodes) {
    tflite::Node* node = nullptr;
    tflite::Registration* registration = nullptr;
    if (context->GetNodeAndRegistration(context, index, &node, &registration) != tflite::kOk) continue;
    for (int i = 0; node->inputs != nullptr && i < node->inputs->size; ++i) ++found.reads[node->inputs->data[i]];
    const bool plain = node->inputs != nullptr && node->outputs != nullptr && node->outputs->size == 1;
    if (plain && node->inputs->size >= 1) {
      found.writer[node->outputs->data[0]] = {index, node, registration->builtin_code};
    }
  }
  return found;
}

}  // namespace

std::vector<TableChain> FindTables(tflite::Context* context, const std::vector<int>& nodes) {
  const Readers readers = FindReaders(context, nodes);
  std::vector<TableChain> chains;
  for (const auto& [tensor, gather] : readers.writer) {
    if (gather.code != tflite::kGather || gather.node->inputs->size != 2) continue;
    const int index = gather.node->inputs->data[1];
    const Found* second = readers.HiddenCast(context, index, tflite::kUInt8, tflite::kInt32);
    if (second == nullptr) continue;
    const int code = second->node->inputs->data[0];
    const Found* first = readers.HiddenCast(context, code, tflite::kInt8, tflite::kUInt8);
    if (first == nullptr) continue;
    chains.push_back({{first->index, second->index, gather.index}, first->node->inputs->data[0], {code, index}});
  }
  return chains;
}

std::vector<TableChain> KeepHidden(tflite::Context* context, const std::vector<int>& nodes,
                                   const std::vector<TableChain>& chains) {
  if (chains.empty() || context->PreviewDelegatePartitioning == nullptr) return {};
  std::vector<int> array(1, static_cast<int>(nodes.size()));  // an IntArray: the size, then the numbers
  array.insert(array.end(), nodes.begin(), nodes.end());
  tflite::DelegateParams* partitions = nullptr;
  int count = 0;
  if (context->PreviewDelegatePartitioning(context, reinterpret_cast<const tflite::IntArray*>(array.data()),
                                           &partitions, &count) != tflite::kOk) {
    return {};
  }
  std::vector<int> written;
  for (int i = 0; i < count; ++i) {
    const tflite::IntArray& outputs = *partitions[i].output_tensors;
    written.insert(written.end(), outputs.data, outputs.data + outputs.size);
  }
  std::vector<TableChain> hidden;
  std::copy_if(chains.begin(), chains.end(), std::back_inserter(hidden), [&](const TableChain& chain) {
    return std::none_of(chain.between, chain.between + 2,
                        [&](int tensor) { return std::find(written.begin(), written.end(), tensor) != written.end(); });
  });
  return hidden;
}

Status ImportTable(const tflite::Context* context, const tflite::Node& gather, Node* imported) {
  const tflite::Tensor* table = GetTensor(context, gather.inputs->data[0]);
  const auto* options = static_cast<const tflite::GatherParams*>(gather.builtin_data);
  if (options == nullptr || options->axis != 0 || options->batch_dims != 0) {
    return Status::Error("only the first axis is looked up");
  }
  if (table == nullptr || table->type != tflite::kInt8 || !IsConstant(*table) || table->dims == nullptr ||
      table->dims->size != 1 || table->dims->data[0] != kTableCodes || table->bytes != kTableCodes) {
    return Status::Error("the table must be 256 constant codes");
  }
  const auto* codes = static_cast<const int8_t*>(table->data);
  imported->options.numbers.assign(codes, codes + kTableCodes);
  imported->op = &kTable;
  return Status::Ok();
}

}  // namespace dbq
