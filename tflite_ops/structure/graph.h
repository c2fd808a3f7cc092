// The one subgraph of a file: indices, the order of its operators, the shapes that follow, the memory that it needs.
// The twin of keras_dbq/structure/graph.py.
#ifndef DBQ_STRUCTURE_GRAPH_H_
#define DBQ_STRUCTURE_GRAPH_H_

#include <vector>

#include "structure/node.h"

namespace dbq {
namespace structure {

class FileGraph {
 public:
  explicit FileGraph(Reader* reader) : reader_(reader) {}

  // `rules`: of every operator code of the file.
  bool Read(const Table& graph, const std::vector<Span>& buffers, const std::vector<const Rule*>& rules);
  // Order, shapes and memory of what was read.
  bool Check();
  int64_t tensors() const { return static_cast<int64_t>(tensors_.size()); }

 private:
  bool ReadTensors(const Span& tables, const std::vector<Span>& buffers);
  bool ReadOperator(const Table& table, const std::vector<const Rule*>& rules);
  bool ReadOptions(const Table& table, Operator* op);
  bool HasTensors(const Span& indices, int64_t lowest) const;
  int Index(const Span& indices, int64_t i) const { return reader_->Element<int32_t>(indices, i); }

  bool CheckOrder() const;
  Shape SaidShape(const Tensor& tensor) const;
  bool OpenShapes();
  bool CheckShapes();
  bool CheckMemory() const;
  Node MakeNode(const Operator& op);
  bool Agree(const Node& node, const Shape& found, Tensor* tensor) const;

  Reader* reader_;
  std::vector<Tensor> tensors_;
  std::vector<Operator> operators_;
  Span inputs_, outputs_;
};

}  // namespace structure
}  // namespace dbq

#endif  // DBQ_STRUCTURE_GRAPH_H_
