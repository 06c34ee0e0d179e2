// The job file as the runner reads it: checked field by field against job.json, refused with a clear error.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "json_reader.hpp"

namespace melt {

// An object that was checked: every property of its schema, by name and as what the schema says it is.
class Values {
  public:
    explicit Values(Json whole) : whole_(std::move(whole)) {}

    const std::string &text(const char *name) const { return get(name).text; }
    bool flag(const char *name) const { return get(name).boolean; }
    int64_t count(const char *name) const { return static_cast<int64_t>(bits(name)); }
    int number(const char *name) const { return static_cast<int>(bits(name)); }
    uint64_t bits(const char *name) const; // of a whole number, all 64
    double real(const char *name) const;
    bool is_null(const char *name) const { return get(name).kind == Json::Kind::null; }
    Values values(const char *name) const { return Values(get(name)); }

  private:
    const Json &get(const char *name) const; // throws std::logic_error where job.json has no such field

    Json whole_;
};

using Job = Values;

uint64_t protocol();                  // the one that job.json describes
Job read_job(const char *path);       // throws JobError: unreadable, or see parse_job
Job parse_job(std::string_view text); // throws JobError: of another protocol, or naming the field that is wrong

} // namespace melt
