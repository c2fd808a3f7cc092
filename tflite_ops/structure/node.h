// One operator as the rules see it, and the rules. The twin of keras_dbq/structure/node.py.
#ifndef DBQ_STRUCTURE_NODE_H_
#define DBQ_STRUCTURE_NODE_H_

#include <vector>

#include "structure/tensors.h"

namespace dbq {
namespace structure {

struct Rule;

struct Operator {
  const Rule* rule = nullptr;
  Span inputs, outputs;  // int32
  bool has_options = false;
  Table options;
};

// The integers of a constant tensor.
struct Numbers {
  static constexpr int64_t kMost = 64;  // longer lists are left to the check in Python
  bool are_constant = false;            // else the graph computes them
  int64_t count = 0;
  int64_t values[kMost] = {};
};

struct Node {
  const Reader* reader;
  const Operator* op;
  std::vector<const Tensor*> inputs;  // null: left out
  std::vector<Tensor*> outputs;

  bool Has(size_t i) const { return i < inputs.size() && inputs[i] != nullptr; }
  const Shape& KnownShape(size_t i) const { return inputs[i]->known; }
  template <typename T>
  T Option(int slot, T absent) const {
    return reader->Number<T>(op->options, slot, absent);
  }
  // All outputs have the type of input i.
  bool KeepsType(size_t i = 0) const;
  bool ReadNumbers(size_t i, Numbers* numbers) const;
  // A tensor with one scale.
  bool ReadScale(const Tensor& tensor, double* scale) const;
};

// The axis counted from the front; false where there is no such.
bool FindAxis(int64_t value, int rank, int* axis);

// The common shape, by numpy's rule; a size that is open stays so unless another is over 1.
bool Broadcast(const Shape& a, const Shape& b, Shape* common);

// What is known of one kind of operator. `shape` gives what the one output's shape is, and leaves it as it is given,
// kAny on every axis, where that follows from nothing. Any rule may return false for what its twin in Python takes,
// never true for what that refuses.
struct Rule {
  int builtin;        // operator code, -1 for ours
  const char* name;   // of a custom operator
  int options_type;   // of the schema; 0: none
  const char* kinds;  // of the fields of the options, as in Reader::Read
  bool needs_options;
  int least_inputs, most_inputs;
  bool (*shape)(const Node& node, Shape* output);
};

constexpr int kMany = 1 << 16;

// Null where there is none: then the file is left to the check in Python.
const Rule* FindRule(const Reader& reader, int code, const Span& custom_code);

// One list for every file of rules; the last entry has no function.
extern const Rule kWindowRules[], kElementwiseRules[], kMovingRules[];

}  // namespace structure
}  // namespace dbq

#endif  // DBQ_STRUCTURE_NODE_H_
