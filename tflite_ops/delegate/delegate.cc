#include "delegate/delegate.h"

#include <cstring>
#include <exception>
#include <memory>
#include <vector>

#include "core/status.h"
#include "kernels/op.h"
#include "kernels/registration.h"

namespace dbq {
namespace {

struct Match {
  int node;
  OpKind kind;
};

// The execution plan is copied first: replacing a node invalidates it, other nodes keep their numbers.
tflite::Status FindNodes(tflite::Context* context, std::vector<Match>* matches) {
  tflite::IntArray* plan = nullptr;
  if (context->GetExecutionPlan(context, &plan) != tflite::kOk) return tflite::kError;
  const std::vector<int> nodes(plan->data, plan->data + plan->size);
  for (int index : nodes) {
    tflite::Node* node = nullptr;
    tflite::Registration* registration = nullptr;
    if (context->GetNodeAndRegistration(context, index, &node, &registration) != tflite::kOk) return tflite::kError;
    OpKind kind;
    const bool custom = registration->builtin_code == tflite::kBuiltinCustom && registration->custom_name != nullptr;
    if (custom && ParseOpName(registration->custom_name, &kind)) matches->push_back({index, kind});
  }
  return tflite::kOk;
}

// One delegate node per operator: every activation stays a tensor of the interpreter and can be read by name.
tflite::Status ReplaceNodes(tflite::Context* context, tflite::Delegate* delegate) {
  std::vector<Match> matches;
  if (FindNodes(context, &matches) != tflite::kOk) return tflite::kError;
  for (const Match& match : matches) {
    const tflite::IntArray node{1, {match.node}};
    const tflite::Status status =
        context->ReplaceNodeSubsetsWithDelegateKernels(context, MakeRegistration(match.kind), &node, delegate);
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

struct DbqDelegate {
  tflite::Delegate base{};  // first, so that a pointer to it is a pointer to the whole
  Shared shared;
};

Status ParseIsaOption(const char* value, Isa* isa) {
  if (std::strcmp(value, "auto") == 0) return Status::Ok();
  if (!ParseIsa(value, isa)) return Status::Error("option isa must be auto, scalar or avx2, got '%s'", value);
  if (IsaSupported(*isa)) return Status::Ok();
  return Status::Error("option isa: this processor has no %s; use isa=auto", value);
}

Status ParseOptions(const char* const* keys, const char* const* values, int count, Shared* shared) {
  for (int i = 0; i < count; ++i) {
    if (std::strcmp(keys[i], "isa") != 0) return Status::Error("unknown option '%s', expected isa", keys[i]);
    DBQ_RETURN_IF_ERROR(ParseIsaOption(values[i], &shared->isa));
  }
  return Status::Ok();
}

tflite::Delegate* Create(const char* const* keys, const char* const* values, int count,
                         void (*report_error)(const char*)) {
  auto delegate = std::make_unique<DbqDelegate>();
  const Status status = ParseOptions(keys, values, count, &delegate->shared);
  if (!status.ok()) {
    if (report_error != nullptr) report_error(status.message());
    return nullptr;
  }
  delegate->base.data_ = &delegate->shared;
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
