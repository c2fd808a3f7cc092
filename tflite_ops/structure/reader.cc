#include "structure/reader.h"

#include <algorithm>

namespace dbq {
namespace structure {
namespace {

constexpr int64_t kMostEntries = 1 << 20;
constexpr int64_t kLong = 64;  // longer vectors of scales and zero points are not lists

bool IsNumber(char kind) {
  switch (kind) {
    case 'b':
    case 'B':
    case 'i':
    case 'I':
    case 'f':
    case 'Q':
      return true;
    default:
      return false;
  }
}

// Bytes of a field inside of its table: a number, or an offset of four.
int64_t FieldBytes(char kind) {
  if (kind == 'b' || kind == 'B') return 1;
  return kind == 'Q' ? 8 : 4;
}

int64_t ElementBytes(char kind) {
  if (kind == '[' || kind == 'U') return 1;
  return kind == 'L' ? 8 : 4;
}

}  // namespace

Reader::Reader(const uint8_t* data, int64_t size) : data_(data), size_(size), left_(std::max(kMostEntries, size)) {}

bool Reader::Count(int64_t elements) {
  left_ -= elements;
  return left_ >= 0;
}

// The four bytes at `at` are inside of the file.
bool Reader::Target(int64_t at, int64_t* found) const {
  const int64_t offset = Load<uint32_t>(at);
  *found = at + offset;
  return offset != 0 && *found + 4 <= size_ && (*found & 3) == 0;
}

bool Reader::ReadVector(int64_t place, int64_t width, Span* vector) const {
  int64_t start;
  if (!Target(place, &start)) return false;
  vector->start = start + 4, vector->count = Load<uint32_t>(start);
  return start + 4 + vector->count * width <= size_ && ((start + 4) & (width - 1)) == 0;
}

bool Reader::ReadText(int64_t place, Span* text) const {
  if (!ReadVector(place, 1, text)) return false;
  const int64_t end = text->start + text->count;
  if (end >= size_ || data_[end] != 0) return false;
  uint8_t all = 0;  // in a loop that the compiler makes vectors of
  for (int64_t i = text->start; i < end; ++i) all |= data_[i];
  return all < 0x80;
}

bool Reader::ReadField(int64_t place, char kind, Span* field) {
  if (IsNumber(kind)) {
    *field = {place, 1};
    return true;
  }
  if (kind == 't') return ReadText(place, field);
  if (kind == 'o') {
    field->count = 1;
    return Target(place, &field->start);
  }
  if (!ReadVector(place, ElementBytes(kind), field)) return false;
  if (kind == '[' || (field->count > kLong && (kind == 'F' || kind == 'L'))) return true;
  return Count(field->count);
}

bool Reader::Read(int64_t at, const char* kinds, Table* table) {
  const int64_t vtable = at - Load<int32_t>(at);
  if (vtable < 0 || (vtable & 1) != 0 || vtable + 4 > size_) return false;
  const int64_t length = Load<uint16_t>(vtable), bytes = Load<uint16_t>(vtable + 2);
  if (length < 4 || length % 2 != 0 || vtable + length > size_ || bytes < 4 || at + bytes > size_) return false;
  const int64_t slots = length / 2 - 2;
  for (int64_t slot = 0; kinds[slot] != 0; ++slot) {
    table->fields[slot] = Span{};
    const char kind = kinds[slot];
    if (slot >= slots || kind == '-') continue;
    const int64_t offset = Load<uint16_t>(vtable + 4 + 2 * slot), width = FieldBytes(kind);
    if (offset == 0) continue;
    if (kind == 'x' || offset < 4 || offset + width > bytes || ((at + offset) & (width - 1)) != 0) return false;
    if (!ReadField(at + offset, kind, &table->fields[slot])) return false;
  }
  return true;
}

bool Reader::Follow(int64_t at, const char* kinds, Table* table) {
  int64_t start;
  return Target(at, &start) && Read(start, kinds, table);
}

bool Reader::TextIs(const Span& text, const char* expected) const {
  const int64_t length = static_cast<int64_t>(std::strlen(expected));
  return text.start >= 0 && text.count == length && std::memcmp(data_ + text.start, expected, length) == 0;
}

bool Reader::Contains(const Span& bytes, const char* text) const {
  if (bytes.start < 0) return false;
  const uint8_t *begin = data_ + bytes.start, *end = begin + bytes.count;
  return std::search(begin, end, text, text + std::strlen(text)) != end;
}

}  // namespace structure
}  // namespace dbq
