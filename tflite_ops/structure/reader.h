// The flatbuffer of a `.tflite` file: every offset, vtable and length is looked at before it is followed.
//
// The twin of keras_dbq/structure/reader.py. What that refuses is refused here; of what it takes some is refused, too
// (texts that are not ASCII).
#ifndef DBQ_STRUCTURE_READER_H_
#define DBQ_STRUCTURE_READER_H_

#include <cstdint>
#include <cstring>

namespace dbq {
namespace structure {

// Neighbouring elements inside of the file.
struct Span {
  int64_t start = -1;  // byte of the first; -1: absent
  int64_t count = 0;
};

// A table whose fields were looked at: numbers are spans of one, offsets to a table lead to its first byte.
struct Table {
  static constexpr int kMostFields = 14;
  Span fields[kMostFields];
};

class Reader {
 public:
  Reader(const uint8_t* data, int64_t size);

  int64_t size() const { return size_; }

  template <typename T>
  T Load(int64_t at) const {
    T value;
    std::memcpy(&value, data_ + at, sizeof(T));
    return value;
  }
  template <typename T>
  T Element(const Span& span, int64_t i) const {
    return Load<T>(span.start + i * static_cast<int64_t>(sizeof(T)));
  }
  template <typename T>
  T Number(const Table& table, int slot, T absent) const {
    const Span& field = table.fields[slot];
    return field.start < 0 ? absent : Load<T>(field.start);
  }
  bool TextIs(const Span& text, const char* expected) const;
  bool Contains(const Span& bytes, const char* text) const;

  // The table at byte `at`; one character of `kinds` for every field:
  //   b B i I f Q  a number, as in Python's struct
  //   t            a text
  //   [            bytes
  //   V U F L      a vector of int32, uint8, float32, int64
  //   *            a vector of tables, o a table: neither is followed
  //   x            a field that must be absent
  //   -            a field that nobody reads
  // False: something is not inside of the file.
  bool Read(int64_t at, const char* kinds, Table* table);
  // The table that the offset at byte `at` leads to; that at(i) of a vector of tables.
  bool Follow(int64_t at, const char* kinds, Table* table);
  bool Follow(const Span& tables, int64_t i, const char* kinds, Table* table) {
    return Follow(tables.start + 4 * i, kinds, table);
  }

 private:
  bool Target(int64_t at, int64_t* found) const;
  bool ReadField(int64_t place, char kind, Span* field);
  bool ReadVector(int64_t place, int64_t width, Span* vector) const;
  bool ReadText(int64_t place, Span* text) const;
  bool Count(int64_t elements);

  const uint8_t* data_;
  int64_t size_;
  int64_t left_;  // entries of lists: vectors that share their bytes can make more than the file has
};

}  // namespace structure
}  // namespace dbq

#endif  // DBQ_STRUCTURE_READER_H_
