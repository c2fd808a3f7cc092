#include "structure/node.h"

namespace dbq {
namespace structure {
namespace {

constexpr int kCustom = 32;  // source: BuiltinOperator of the schema

const Rule* FindIn(const Rule* rules, const Reader& reader, int code, const Span& custom_code) {
  for (const Rule* rule = rules; rule->shape != nullptr; ++rule) {
    const bool found = code == kCustom ? rule->name != nullptr && reader.TextIs(custom_code, rule->name)
                                       : rule->name == nullptr && rule->builtin == code;
    if (found) return rule;
  }
  return nullptr;
}

}  // namespace

const Rule* FindRule(const Reader& reader, int code, const Span& custom_code) {
  for (const Rule* rules : {kWindowRules, kElementwiseRules, kMovingRules}) {
    const Rule* found = FindIn(rules, reader, code, custom_code);
    if (found != nullptr) return found;
  }
  return nullptr;
}

bool Node::KeepsType(size_t i) const {
  return std::all_of(outputs.begin(), outputs.end(), [&](const Tensor* y) { return y->type == inputs[i]->type; });
}

bool Node::ReadNumbers(size_t i, Numbers* numbers) const {
  if (!Has(i) || !inputs[i]->constant) return true;
  const Tensor& tensor = *inputs[i];
  if (tensor.type != kInt32 && tensor.type != kInt64) return false;
  numbers->are_constant = true;
  numbers->count = tensor.shape.Total();
  if (numbers->count > Numbers::kMost) return false;
  for (int64_t k = 0; k < numbers->count; ++k) {
    numbers->values[k] =
        tensor.type == kInt32 ? reader->Element<int32_t>(tensor.place, k) : reader->Element<int64_t>(tensor.place, k);
  }
  return true;
}

bool Node::ReadScale(const Tensor& tensor, double* scale) const {
  if (tensor.scales.count != 1) return false;
  *scale = static_cast<double>(reader->Element<float>(tensor.scales, 0));
  return true;
}

bool FindAxis(int64_t value, int rank, int* axis) {
  if (value < -rank || value >= rank) return false;
  *axis = static_cast<int>(value < 0 ? value + rank : value);
  return true;
}

bool Broadcast(const Shape& a, const Shape& b, Shape* common) {
  common->rank = std::max(a.rank, b.rank);
  for (int i = 1; i <= common->rank; ++i) {
    const int64_t x = i <= a.rank ? a.size[a.rank - i] : 1, y = i <= b.rank ? b.size[b.rank - i] : 1;
    const bool fixed_x = x == 0 || x > 1, fixed_y = y == 0 || y > 1;
    if (fixed_x && fixed_y && x != y) return false;
    common->size[common->rank - i] = fixed_x ? x : fixed_y ? y : std::min(x, y);
  }
  return true;
}

}  // namespace structure
}  // namespace dbq
