// A small JSON reader and writer: what job, spec and events need, and safe on hostile text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace melt {

// A decoded value. Numbers keep their text, so that a 64-bit seed loses no digit.
class Json {
  public:
    enum class Kind { null, boolean, number, string, array, object };

    Kind kind = Kind::null;
    bool boolean = false;
    std::string text;                                  // of a string, or a number as written
    std::vector<Json> items;                           // of an array
    std::vector<std::pair<std::string, Json>> fields;  // of an object; of equal names the last one counts

    const Json *find(std::string_view name) const;
    bool is_integer() const;             // a number without point or exponent
    bool to_u64(uint64_t &value) const;  // false where it is no integer from 0 to 2^64 - 1
    bool to_double(double &value) const; // false where it is no finite number
};

// Decodes one document. False with a reason for anything that is not JSON, or nested deeper than 64.
bool parse_json(std::string_view text, Json &value, std::string &problem);

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
    std::string &str() { return out_; }

  private:
    void name(std::string_view name);
    std::string out_;
    bool first_ = true;
};

void append_escaped(std::string &out, std::string_view text); // with its quotes

} // namespace melt
