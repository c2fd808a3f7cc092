// Result of a check: success, or one line that says what was expected, what was found and what to do.
#ifndef DBQ_CORE_STATUS_H_
#define DBQ_CORE_STATUS_H_

#include <cstdarg>
#include <cstdio>
#include <string>

namespace dbq {

class [[nodiscard]] Status {
 public:
  static Status Ok() { return Status(); }

  __attribute__((format(printf, 1, 2))) static Status Error(const char* format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    Status status;
    status.message_ = text;
    return status;
  }

  bool ok() const { return message_.empty(); }
  const char* message() const { return message_.c_str(); }

 private:
  std::string message_;
};

#define DBQ_RETURN_IF_ERROR(expression)      \
  do {                                       \
    ::dbq::Status dbq_status = (expression); \
    if (!dbq_status.ok()) return dbq_status; \
  } while (false)

}  // namespace dbq

#endif  // DBQ_CORE_STATUS_H_
