#include "ops/look_up.h"

#include <algorithm>

namespace dbq {
namespace {

class LookUpStep : public Step {
 public:
  LookUpStep(const Image& x, const Image& y, Buffer<uint8_t> table, const CodeKernels& codes)
      : Step(y.Rows(), static_cast<double>(y.Bytes()) / 4), x_(x), y_(y), table_(std::move(table)), codes_(codes) {}
  void Run(const RunContext&, int64_t begin, int64_t end) const override {
    for (int64_t row = begin; row < end; ++row) {
      codes_.look_up(x_.Row(row), table_.data(), y_.Row(row), y_.UsedRowBytes());
    }
  }

 private:
  Image x_, y_;
  Buffer<uint8_t> table_;  // [256], stored code to stored code
  const CodeKernels& codes_;
};

}  // namespace

void AddLookUp(const Lowering& lowering, const Node& node, const std::function<double(int x)>& code) {
  Buffer<uint8_t> table(256);
  for (int stored = 0; stored < 256; ++stored) {
    table[stored] = static_cast<uint8_t>(std::min(std::max(code(stored - 128), -128.0), 127.0) + 128.0);
  }
  lowering.Add(node, std::make_unique<LookUpStep>(lowering.image(node.inputs[0]), lowering.image(node.output),
                                                  std::move(table), *lowering.codes));
}

}  // namespace dbq
