// Memory on a cache line, with room behind the end that a vector may read past the last element.
#ifndef DBQ_CORE_BUFFER_H_
#define DBQ_CORE_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace dbq {

constexpr int64_t kCacheLine = 64;
// Kernels read, and never write, up to this far behind what they need.
constexpr int64_t kSlackBytes = 4 * kCacheLine;

constexpr int64_t RoundUp(int64_t value, int64_t step) { return (value + step - 1) / step * step; }
constexpr int64_t CeilDiv(int64_t value, int64_t step) { return (value + step - 1) / step; }

template <typename T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t count) : count_(count) {
    const size_t bytes =
        static_cast<size_t>(RoundUp(count * static_cast<int64_t>(sizeof(T)), kCacheLine) + kSlackBytes);
    data_.reset(static_cast<T*>(std::aligned_alloc(kCacheLine, bytes)));
    if (data_ == nullptr) throw std::bad_alloc();
    std::memset(static_cast<void*>(data_.get()), 0, bytes);
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  T& operator[](int64_t i) { return data_.get()[i]; }
  const T& operator[](int64_t i) const { return data_.get()[i]; }
  int64_t count() const { return count_; }
  int64_t bytes() const { return count_ * static_cast<int64_t>(sizeof(T)); }

 private:
  struct Free {
    void operator()(T* data) const { std::free(data); }
  };
  std::unique_ptr<T, Free> data_;
  int64_t count_ = 0;
};

}  // namespace dbq

#endif  // DBQ_CORE_BUFFER_H_
