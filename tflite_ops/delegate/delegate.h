// The external delegate's two entry points (TFLite's external_delegate_interface.h), and one for files.
#ifndef DBQ_DELEGATE_DELEGATE_H_
#define DBQ_DELEGATE_DELEGATE_H_

#include <cstddef>
#include <cstdint>

#include "delegate/tflite_abi.h"

#define DBQ_EXPORT __attribute__((visibility("default")))

extern "C" {

// Options:
//   "isa" = "auto" (default), "scalar", "avx2", "avxvnni", "avx512vnni", "amx"; on Arm "neon", "dotprod", "i8mm": the
//     most that kernels may use; the environment variable KERAS_DBQ_ISA lowers it further.
//   "partition" = "graph" (default), or "op": packed operators only, each on its own, so that the runtime sees every
//     activation.
//   "builtins" = "faster" (default: builtin int8 operators where we have kernels for the processor), "all" that
//     are known to give the runtime's own bytes, or "none".
//   "profile" = a file, to which every partition adds its memory and the time of its steps when its interpreter ends.
// Returns null after calling report_error (may be null) for an option that is unknown or an instruction set that this
// processor lacks.
DBQ_EXPORT dbq::tflite::Delegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values,
                                                                size_t count, void (*report_error)(const char*));

DBQ_EXPORT void tflite_plugin_destroy_delegate(dbq::tflite::Delegate* delegate);

// 0 where it is not sure that the file is whole (structure/check.h): ask keras_dbq.structure.check_file. Else 1, plus 2
// where its metadata has the key "outputs".
DBQ_EXPORT int dbq_look_at_file(const uint8_t* data, size_t size);

}  // extern "C"

#endif  // DBQ_DELEGATE_DELEGATE_H_
