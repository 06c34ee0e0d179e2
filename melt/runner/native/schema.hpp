// JSON checked against a schema: the part of JSON Schema that job.json uses, with its defaults filled in. The Python
// runner's schema.py does the same, in the same words.
#pragma once

#include <string>

#include "json_reader.hpp"

namespace melt {

// The value as its schema allows it: of an object every property of the schema. Throws JobError "bad_job", naming the
// field that is wrong and what it must be.
Json check(const Json &schema, const Json &value, const std::string &field = {});

} // namespace melt
