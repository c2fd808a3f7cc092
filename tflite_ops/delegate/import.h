// From the runtime's nodes to the graph's: a node, or the reason why it is left to the runtime.
#ifndef DBQ_DELEGATE_IMPORT_H_
#define DBQ_DELEGATE_IMPORT_H_

#include <map>
#include <utility>

#include "core/status.h"
#include "delegate/tflite_abi.h"
#include "graph/graph.h"

namespace dbq {

// Builtin nodes as they were imported when it was asked whether they can be, by their index: for the partitions that
// the runtime makes of them in the same thread, as long as this object lives.
class ReadyNodes {
 public:
  ReadyNodes() : before_(current_) { current_ = this; }
  ~ReadyNodes() { current_ = before_; }
  ReadyNodes(const ReadyNodes&) = delete;
  ReadyNodes& operator=(const ReadyNodes&) = delete;

  void Keep(int index, Node node) { nodes_.emplace(index, std::move(node)); }
  // Once; false where there is none.
  static bool Take(int index, Node* node);

 private:
  std::map<int, Node> nodes_;
  ReadyNodes* before_;
  static thread_local ReadyNodes* current_;
};

class Importer {
 public:
  Importer(const tflite::Context* context, Graph* graph) : context_(context), graph_(graph) {}

  // Adds the node to the graph. Of a builtin operator an error is the reason why it is not ours; of a packed operator
  // the file is damaged. A CAST adds nothing by itself: it waits for the GATHER of its table.
  Status Add(const tflite::Node& node, const tflite::Registration& registration);

  // A node that Add has made for another graph.
  void Take(const tflite::Node& node, Node ready);

  // Value of a tensor that a node reads or writes, made on first sight.
  int ValueOf(int tensor);
  bool Knows(int tensor) const { return values_.count(tensor) > 0; }

 private:
  Status AddPacked(OpKind kind, const tflite::Node& node);
  Status AddBuiltin(const tflite::Node& node, int32_t code);
  Status AddConversion(const tflite::Node& node, const Operator* op);
  Status AddTable(const tflite::Node& gather);
  Status AddNode(const tflite::Node& node, const std::vector<int>& inputs, Node imported);

  const tflite::Context* context_;
  Graph* graph_;
  std::map<int, int> values_;  // tensor -> value
  std::map<int, int> casts_;   // tensor that a CAST of codes writes -> tensor of the codes
};

// QUANTIZE from float, or DEQUANTIZE.
bool IsConversion(const tflite::Context& context, const tflite::Node& node, int32_t code);

// False when the operator is none of ours.
bool IsPacked(const tflite::Registration& registration, OpKind* kind);

// Operator and output, for messages: "DbqConv2D 'y'".
std::string Label(const char* op, const tflite::Context* context, const tflite::Node& node);

}  // namespace dbq

#endif  // DBQ_DELEGATE_IMPORT_H_
