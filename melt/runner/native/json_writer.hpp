// A small JSON writer: what events and samples need, and readable whatever text is put in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace melt {

// Builds one line of JSON. Text that is no UTF-8 is mended with U+FFFD, so a line can always be read.
class JsonLine {
  public:
    JsonLine &begin_object(std::string_view name = {});
    JsonLine &begin_array(std::string_view name = {});
    JsonLine &end_object();
    JsonLine &end_array();
    JsonLine &add(std::string_view name, std::string_view value);
    JsonLine &add(std::string_view name, const char *value) { return add(name, std::string_view(value)); }
    JsonLine &add(std::string_view name, int64_t value);
    JsonLine &add(std::string_view name, uint64_t value);
    JsonLine &add(std::string_view name, int value) { return add(name, static_cast<int64_t>(value)); }
    JsonLine &add(std::string_view name, bool value);
    JsonLine &add_number(std::string_view name, double value); // left out where it is not finite
    const std::string &str() const { return out_; }

  private:
    void name(std::string_view name);
    std::string out_;
    bool first_ = true;
};

void append_escaped(std::string &out, std::string_view text); // with its quotes

} // namespace melt
