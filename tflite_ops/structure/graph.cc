#include "structure/graph.h"

namespace dbq {
namespace structure {
namespace {

// What activations that live at one time may take, and one tensor whose shape follows from nothing.
constexpr int64_t kLeastRoom = 1 << 30, kRoomPerByte = 16;
constexpr int64_t kLeastRoomUnknown = 1 << 20, kRoomPerByteUnknown = 1 << 10;

// Whether one size of the file is what follows from the inputs.
bool Fits(int64_t found, int64_t said, int64_t size) {
  if (found >= 0) return said == found || said == kOpen;
  return found == kAny || size == 1;
}

}  // namespace

bool FileGraph::HasTensors(const Span& indices, int64_t lowest) const {
  for (int64_t i = 0; i < indices.count; ++i) {
    if (Index(indices, i) < lowest || Index(indices, i) >= tensors()) return false;
  }
  return true;
}

bool FileGraph::ReadTensors(const Span& tables, const std::vector<Span>& buffers) {
  tensors_.resize(tables.count);
  for (int64_t i = 0; i < tables.count; ++i) {
    Table table;
    // shape, type, buffer, name, quantization, is variable, sparsity, signature, has rank, variants, external buffer
    if (!reader_->Follow(tables, i, "VbItoBxVBxI", &table)) return false;
    if (!ReadTensor(reader_, table, buffers, &tensors_[i])) return false;
  }
  return true;
}

// Options of the operator's own kind, or none where it can do without.
bool FileGraph::ReadOptions(const Table& table, Operator* op) {
  const int type = reader_->Number<uint8_t>(table, 3, 0);
  const Span& options = table.fields[4];
  op->has_options = options.start >= 0;
  if (type == 0) return !op->has_options && !op->rule->needs_options;
  if (type != op->rule->options_type || (!op->has_options && op->rule->needs_options)) return false;
  return !op->has_options || reader_->Read(options.start, op->rule->kinds, &op->options);
}

bool FileGraph::ReadOperator(const Table& table, const std::vector<const Rule*>& rules) {
  const int64_t code = reader_->Number<uint32_t>(table, 0, 0);
  if (code >= static_cast<int64_t>(rules.size())) return false;
  Operator op;
  op.rule = rules[code], op.inputs = table.fields[1], op.outputs = table.fields[2];
  if (op.inputs.count < op.rule->least_inputs || op.inputs.count > op.rule->most_inputs || op.outputs.count != 1) {
    return false;
  }
  if (!HasTensors(op.inputs, -1) || !HasTensors(op.outputs, 0) || table.fields[7].count > op.inputs.count) return false;
  for (int i = 0; i < op.rule->least_inputs; ++i) {
    if (Index(op.inputs, i) < 0) return false;
  }
  if (!ReadOptions(table, &op)) return false;
  operators_.push_back(op);
  return true;
}

bool FileGraph::Read(const Table& graph, const std::vector<Span>& buffers, const std::vector<const Rule*>& rules) {
  inputs_ = graph.fields[1], outputs_ = graph.fields[2];
  if (inputs_.count < 1 || outputs_.count < 1 || !ReadTensors(graph.fields[0], buffers)) return false;
  if (!HasTensors(inputs_, 0) || !HasTensors(outputs_, 0)) return false;
  operators_.reserve(graph.fields[3].count);
  for (int64_t i = 0; i < graph.fields[3].count; ++i) {
    Table table;
    // code, inputs, outputs, type of options, options, custom options, their format, mutating inputs, intermediates,
    // offset and size of large options, a second kind of options, debug index
    if (!reader_->Follow(graph.fields[3], i, "IVVBo[bUxxxxxi", &table) || !ReadOperator(table, rules)) return false;
  }
  return true;
}

// A tensor is written once, before it is read; constants and the graph's inputs are not written.
bool FileGraph::CheckOrder() const {
  std::vector<bool> known(tensors_.size());
  for (size_t i = 0; i < tensors_.size(); ++i) known[i] = tensors_[i].constant || tensors_[i].variable;
  for (int64_t i = 0; i < inputs_.count; ++i) known[Index(inputs_, i)] = true;
  for (const Operator& op : operators_) {
    for (int64_t i = 0; i < op.inputs.count; ++i) {
      if (Index(op.inputs, i) >= 0 && !known[Index(op.inputs, i)]) return false;
    }
    if (known[Index(op.outputs, 0)]) return false;
    known[Index(op.outputs, 0)] = true;
  }
  for (int64_t i = 0; i < outputs_.count; ++i) {
    if (!known[Index(outputs_, i)]) return false;
  }
  return true;
}

// As the signature says it, where there is one.
Shape FileGraph::SaidShape(const Tensor& tensor) const {
  Shape said = tensor.shape;
  for (int64_t i = 0; i < tensor.signature.count; ++i) said.size[i] = Index(tensor.signature, i);
  return said;
}

// `known` as signatures say it. A file with other numbers than 1 where its inputs are open is taken by them.
bool FileGraph::OpenShapes() {
  const auto is_open = [](const Shape& said, const Shape& shape) {
    for (int i = 0; i < shape.rank; ++i) {
      if (said.size[i] == kOpen && shape.size[i] != 1) return true;
    }
    return false;
  };
  bool taken = false;
  for (int64_t i = 0; i < inputs_.count; ++i) {
    const Tensor& input = tensors_[Index(inputs_, i)];
    taken = taken || is_open(SaidShape(input), input.shape);
  }
  for (Tensor& tensor : tensors_) {
    tensor.known = taken || tensor.constant ? tensor.shape : SaidShape(tensor);
    if (is_open(tensor.known, tensor.shape)) return false;
  }
  return true;
}

Node FileGraph::MakeNode(const Operator& op) {
  Node node{reader_, &op, {}, {&tensors_[Index(op.outputs, 0)]}};
  for (int64_t i = 0; i < op.inputs.count; ++i) {
    const int index = Index(op.inputs, i);
    node.inputs.push_back(index < 0 ? nullptr : &tensors_[index]);
  }
  return node;
}

// Gives the output its known shape: what follows from the inputs, where the file says the same.
bool FileGraph::Agree(const Node& node, const Shape& found, Tensor* tensor) const {
  const Shape said = tensor->known;
  if (found.rank != said.rank || !found.IsModest()) return false;
  for (int i = 0; i < found.rank; ++i) {
    if (!Fits(found.size[i], said.size[i], tensor->shape.size[i])) return false;
  }
  tensor->known = found;
  if (!found.Holds(kAny)) return true;
  if (tensor->Bytes() > kLeastRoomUnknown + kRoomPerByteUnknown * reader_->size()) return false;
  // A slimmed file has no signatures inside: any 1 may be an open size.
  const bool is_open =
      tensor->signature.count == 0 && std::any_of(node.inputs.begin(), node.inputs.end(),
                                                  [](const Tensor* x) { return x != nullptr && !x->known.IsKnown(); });
  for (int i = 0; i < found.rank; ++i) {
    if (found.size[i] == kAny) tensor->known.size[i] = said.size[i] == 1 && is_open ? kAny : said.size[i];
  }
  return true;
}

// Every shape in the file is the one that follows from the inputs.
bool FileGraph::CheckShapes() {
  if (!OpenShapes()) return false;
  for (const Operator& op : operators_) {
    const Node node = MakeNode(op);
    Shape found;
    found.rank = node.outputs[0]->shape.rank;
    std::fill_n(found.size, found.rank, kAny);
    if (!op.rule->shape(node, &found) || !Agree(node, found, node.outputs[0])) return false;
  }
  return true;
}

// Activations that live at one time fit into the room that a file of this size may take.
bool FileGraph::CheckMemory() const {
  const auto bytes = [&](int i) { return tensors_[i].constant ? 0 : tensors_[i].Bytes(); };
  std::vector<int> last(tensors_.size(), -1);
  for (size_t n = 0; n < operators_.size(); ++n) {
    const Span& inputs = operators_[n].inputs;
    for (int64_t i = 0; i < inputs.count; ++i) {
      if (Index(inputs, i) >= 0) last[Index(inputs, i)] = static_cast<int>(n);
    }
  }
  for (int64_t i = 0; i < outputs_.count; ++i) last[Index(outputs_, i)] = -1;  // they stay
  int64_t live = 0, most = 0, variables = 0;
  for (int64_t i = 0; i < inputs_.count; ++i) live += bytes(Index(inputs_, i));
  for (size_t i = 0; i < tensors_.size(); ++i) variables += tensors_[i].variable ? bytes(static_cast<int>(i)) : 0;
  most = live + variables;
  for (size_t n = 0; n < operators_.size(); ++n) {
    const Operator& op = operators_[n];
    live += bytes(Index(op.outputs, 0));
    most = std::max(most, live);
    for (int64_t i = 0; i < op.inputs.count; ++i) {
      const int index = Index(op.inputs, i);
      if (index < 0 || last[index] != static_cast<int>(n)) continue;
      live -= bytes(index);
      last[index] = -1;  // it may stand there twice
    }
  }
  return most <= std::max(kLeastRoom, kRoomPerByte * reader_->size());
}

bool FileGraph::Check() { return CheckOrder() && CheckShapes() && CheckMemory(); }

}  // namespace structure
}  // namespace dbq
