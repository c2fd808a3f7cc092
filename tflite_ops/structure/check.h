// Whether a `.tflite` file is whole: yes, or not sure.
//
// keras_dbq/structure says what a whole file is, and names what is wrong with another. Most files are whole, and to say
// so in Python takes longer than everything else of a load. Here is said, in a few microseconds, that Python would take
// a file: each rule is the twin of one there, operators and encodings that exported networks do not have are left out,
// and whatever is in doubt is left to Python, too. So a fault here can cost time, or take a file that Python refuses;
// tests hold the second (tests/runtime/test_file_check.py, tools/fuzz_files.py).
#ifndef DBQ_STRUCTURE_CHECK_H_
#define DBQ_STRUCTURE_CHECK_H_

#include <cstdint>

namespace dbq {
namespace structure {

struct Answer {
  bool is_whole = false;
  bool names_outputs = false;  // metadata may say what the outputs form (keras_dbq/tflite/signature.py)
};

Answer LookAt(const uint8_t* data, int64_t size);

}  // namespace structure
}  // namespace dbq

#endif  // DBQ_STRUCTURE_CHECK_H_
