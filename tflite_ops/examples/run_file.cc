// Runs a packed or int8 file with TFLite's C API and the delegate:
//   run_file model.tflite libdbq_delegate.so < input codes > output codes      ("-" instead of the delegate: without)
#include <dlfcn.h>
#include <tensorflow/lite/c/c_api.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

// The two functions of a delegate's library.
using Create = TfLiteDelegate* (*)(const char* const* keys, const char* const* values, size_t count,
                                   void (*report_error)(const char*));
using Destroy = void (*)(TfLiteDelegate*);

void Fail(const char* message) {
  std::fprintf(stderr, "run_file: %s\n", message);
  std::exit(1);
}

template <typename Type>
Type Require(Type value, const char* message) {
  if (!value) Fail(message);
  return value;
}

void Check(TfLiteStatus status, const char* message) { Require(status == kTfLiteOk, message); }

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) Fail("expected a file and the delegate's library, or -");
  TfLiteModel* model = Require(TfLiteModelCreateFromFile(arguments[1]), "the file is no model");
  TfLiteInterpreterOptions* options = TfLiteInterpreterOptionsCreate();
  TfLiteInterpreterOptionsSetNumThreads(options, 1);

  void* library = arguments[2][0] == '-' ? nullptr : Require(dlopen(arguments[2], RTLD_NOW), "no such delegate");
  TfLiteDelegate* delegate = nullptr;
  if (library != nullptr) {
    const auto create =
        reinterpret_cast<Create>(Require(dlsym(library, "tflite_plugin_create_delegate"), "no delegate"));
    delegate = Require(create(nullptr, nullptr, 0, Fail), "the delegate was not created");
    TfLiteInterpreterOptionsAddDelegate(options, delegate);
  }
  TfLiteInterpreter* interpreter = Require(TfLiteInterpreterCreate(model, options), "the file was refused");
  Check(TfLiteInterpreterAllocateTensors(interpreter), "the tensors could not be allocated");

  TfLiteTensor* input = TfLiteInterpreterGetInputTensor(interpreter, 0);
  std::vector<char> codes(TfLiteTensorByteSize(input));
  while (std::fread(codes.data(), codes.size(), 1, stdin) == 1) {
    Check(TfLiteTensorCopyFromBuffer(input, codes.data(), codes.size()), "the input was refused");
    Check(TfLiteInterpreterInvoke(interpreter), "the run failed");
    const TfLiteTensor* output = TfLiteInterpreterGetOutputTensor(interpreter, 0);
    std::fwrite(TfLiteTensorData(output), TfLiteTensorByteSize(output), 1, stdout);
  }

  TfLiteInterpreterDelete(interpreter);  // before its delegate
  if (library != nullptr) reinterpret_cast<Destroy>(dlsym(library, "tflite_plugin_destroy_delegate"))(delegate);
  TfLiteInterpreterOptionsDelete(options);
  TfLiteModelDelete(model);
  return 0;
}
