// The native methods of DbqDelegate.java.
#include <jni.h>

#include <string>
#include <vector>

#include "delegate/delegate.h"

namespace {

// The delegate's callback has no argument of the caller's.
thread_local std::string error_text;

void KeepError(const char* message) { error_text = message; }

std::vector<std::string> Strings(JNIEnv* env, jobjectArray array) {
  std::vector<std::string> strings;
  for (jsize i = 0; i < env->GetArrayLength(array); ++i) {
    const auto string = static_cast<jstring>(env->GetObjectArrayElement(array, i));
    const char* characters = env->GetStringUTFChars(string, nullptr);
    strings.emplace_back(characters == nullptr ? "" : characters);
    if (characters != nullptr) env->ReleaseStringUTFChars(string, characters);
    env->DeleteLocalRef(string);
  }
  return strings;
}

std::vector<const char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<const char*> pointers;
  for (const std::string& string : strings) pointers.push_back(string.c_str());
  return pointers;
}

}  // namespace

extern "C" JNIEXPORT jlong JNICALL Java_org_kerasdbq_DbqDelegate_create(JNIEnv* env, jclass, jobjectArray keys,
                                                                        jobjectArray values) {
  const std::vector<std::string> names = Strings(env, keys), texts = Strings(env, values);
  error_text.clear();
  auto* delegate =
      tflite_plugin_create_delegate(Pointers(names).data(), Pointers(texts).data(), names.size(), KeepError);
  if (delegate == nullptr) env->ThrowNew(env->FindClass("java/lang/IllegalArgumentException"), error_text.c_str());
  return reinterpret_cast<jlong>(delegate);
}

extern "C" JNIEXPORT void JNICALL Java_org_kerasdbq_DbqDelegate_destroy(JNIEnv*, jclass, jlong handle) {
  tflite_plugin_destroy_delegate(reinterpret_cast<dbq::tflite::Delegate*>(handle));
}
