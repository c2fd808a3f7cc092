// The operators as TFLite registrations: plain functions that let no C++ exception out.
#ifndef DBQ_KERNELS_REGISTRATION_H_
#define DBQ_KERNELS_REGISTRATION_H_

#include "core/params.h"
#include "delegate/tflite_abi.h"

namespace dbq {

// False when the custom operator is none of ours.
bool ParseOpName(const char* custom_name, OpKind* kind);

// For a delegate node that stands for exactly one node of the file. The delegate's data_ must be a Shared.
tflite::Registration MakeRegistration(OpKind kind);

}  // namespace dbq

#endif  // DBQ_KERNELS_REGISTRATION_H_
