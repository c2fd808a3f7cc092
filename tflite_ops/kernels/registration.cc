#include "kernels/registration.h"

#include <cstring>
#include <exception>

#include "kernels/op.h"

namespace dbq {
namespace {

constexpr OpKind kKinds[] = {OpKind::kConv2D, OpKind::kDepthwiseConv2D, OpKind::kFullyConnected};

tflite::Status Report(tflite::Context* context, const Op* op, const char* message) {
  if (op == nullptr) {
    context->ReportError(context, "keras_dbq: %s\n", message);
  } else {
    context->ReportError(context, "%s '%s': %s\n", OpName(op->kind()), op->Name(context), message);
  }
  return tflite::kError;
}

// Runs `call` on the operator; a failed status or an exception (out of memory) becomes one reported line.
template <typename Call>
tflite::Status Guard(tflite::Context* context, Op* op, Call call) {
  if (op == nullptr) return Report(context, nullptr, "the operator could not be created");
  try {
    const Status status = call();
    return status.ok() ? tflite::kOk : Report(context, op, status.message());
  } catch (const std::exception& error) {
    return Report(context, op, error.what());
  }
}

template <OpKind kind>
void* Init(tflite::Context* context, const char* buffer, size_t) {
  const auto* params = reinterpret_cast<const tflite::DelegateParams*>(buffer);
  tflite::Node* node = nullptr;
  tflite::Registration* registration = nullptr;
  const int index = params->nodes_to_replace->data[0];
  if (context->GetNodeAndRegistration(context, index, &node, &registration) != tflite::kOk) return nullptr;
  try {
    return new Op(kind, *node, static_cast<Shared*>(params->delegate->data_));
  } catch (const std::exception&) {
    return nullptr;  // reported by Prepare
  }
}

void Free(tflite::Context*, void* op) { delete static_cast<Op*>(op); }

tflite::Status Prepare(tflite::Context* context, tflite::Node* node) {
  Op* op = static_cast<Op*>(node->user_data);
  return Guard(context, op, [&] { return op->Prepare(context); });
}

tflite::Status Eval(tflite::Context* context, tflite::Node* node) {
  Op* op = static_cast<Op*>(node->user_data);
  return Guard(context, op, [&] { return op->Eval(context); });
}

template <OpKind kind>
tflite::Registration Make() {
  tflite::Registration registration{};
  registration.init = Init<kind>;
  registration.free = Free;
  registration.prepare = Prepare;
  registration.invoke = Eval;
  registration.builtin_code = tflite::kBuiltinDelegate;
  registration.custom_name = OpName(kind);
  registration.version = kFormatVersion;
  return registration;
}

}  // namespace

bool ParseOpName(const char* custom_name, OpKind* kind) {
  for (OpKind candidate : kKinds) {
    if (std::strcmp(custom_name, OpName(candidate)) != 0) continue;
    *kind = candidate;
    return true;
  }
  return false;
}

tflite::Registration MakeRegistration(OpKind kind) {
  switch (kind) {
    case OpKind::kConv2D:
      return Make<OpKind::kConv2D>();
    case OpKind::kDepthwiseConv2D:
      return Make<OpKind::kDepthwiseConv2D>();
    case OpKind::kFullyConnected:
      return Make<OpKind::kFullyConnected>();
  }
  return {};
}

}  // namespace dbq
