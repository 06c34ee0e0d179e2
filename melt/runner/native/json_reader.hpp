// A small JSON reader: what job and spec need, and safe on hostile text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "job_error.hpp"

namespace melt {

// A decoded value. Numbers keep their text, so that a 64-bit seed loses no digit.
class Json {
  public:
    enum class Kind { null, boolean, number, string, array, object };

    Kind kind = Kind::null;
    bool boolean = false;
    std::string text;                                  // of a string, or a number as written
    std::vector<Json> items;                           // of an array
    std::vector<std::pair<std::string, Json>> fields;  // of an object, each name once

    const Json *find(std::string_view name) const;
    bool is_integer() const;             // a number without point or exponent
    bool to_u64(uint64_t &value) const;  // false where it is no integer from 0 to 2^64 - 1
    bool to_double(double &value) const; // false where it is no finite number
};

// Decodes one document. False with a reason for anything that is not JSON in UTF-8, gives a name twice, or is nested
// deeper than 64.
bool parse_json(std::string_view text, Json &value, std::string &problem);

// The same of a document that must be an object; ``what`` it is, "job" say. Throws JobError of the given kind.
Json parse_object(std::string_view text, const std::string &what, const std::string &error_kind);

} // namespace melt
