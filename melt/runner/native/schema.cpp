#include "schema.hpp"

#include <algorithm>

namespace melt {
namespace {

using Kind = Json::Kind;

[[noreturn]] void bad(const std::string &what) { throw JobError("bad_job", what); }

const std::string &text_of(const Json &schema, const char *keyword) {
    static const std::string none;
    const Json *found = schema.find(keyword);
    return found == nullptr ? none : found->text;
}

std::vector<std::string> types_of(const Json &schema) {
    const Json *found = schema.find("type");
    std::vector<std::string> types;
    if (found != nullptr && found->kind == Kind::string) {
        types.push_back(found->text);
    } else if (found != nullptr) {
        for (const Json &item : found->items) {
            types.push_back(item.text);
        }
    }
    return types;
}

bool is_of(const std::string &type, const Json &value) {
    switch (value.kind) {
    case Kind::null: return type == "null";
    case Kind::boolean: return type == "boolean";
    case Kind::string: return type == "string";
    case Kind::object: return type == "object";
    case Kind::number: return type == "number" || (type == "integer" && value.is_integer());
    default: return false;
    }
}

bool in_range(const Json &schema, const Json &value) {
    uint64_t number = 0, low = 0, high = 0;
    const Json *minimum = schema.find("minimum"), *maximum = schema.find("maximum");
    if (minimum != nullptr && maximum != nullptr) { // whole numbers, which need all their digits
        return minimum->to_u64(low) && maximum->to_u64(high) && value.to_u64(number) && number >= low && number <= high;
    }
    const Json *above = schema.find("exclusiveMinimum");
    double real = 0, floor = 0, ceiling = 0;
    if (above != nullptr && maximum != nullptr) {
        return above->to_double(floor) && maximum->to_double(ceiling) && value.to_double(real) && real > floor &&
               real <= ceiling;
    }
    return true;
}

bool same(const Json &a, const Json &b) { return a.kind == b.kind && a.boolean == b.boolean && a.text == b.text; }

bool allows(const Json &schema, const Json &value) {
    if (const Json *only = schema.find("const")) {
        return same(*only, value);
    }
    const std::vector<std::string> types = types_of(schema);
    if (std::none_of(types.begin(), types.end(), [&](const std::string &t) { return is_of(t, value); })) {
        return false;
    }
    if (value.kind == Kind::string) {
        const Json *words = schema.find("enum");
        return value.text.find('\0') == std::string::npos &&
               (words == nullptr || std::any_of(words->items.begin(), words->items.end(),
                                                [&](const Json &word) { return same(word, value); }));
    }
    return value.kind != Kind::number || in_range(schema, value);
}

std::string range_of(const Json &schema) {
    const std::string &high = text_of(schema, "maximum");
    if (schema.find("minimum") != nullptr) {
        return " from " + text_of(schema, "minimum") + " to " + high;
    }
    return high.empty() ? "" : " above " + text_of(schema, "exclusiveMinimum") + " and up to " + high;
}

std::string words_of(const std::string &type, const Json &schema) {
    const Json *words = schema.find("enum");
    if (type == "string" && words != nullptr) {
        std::string all;
        for (const Json &word : words->items) {
            all += (all.empty() ? "one of " : ", ") + word.text;
        }
        return all;
    }
    return type == "integer"   ? "an integer" + range_of(schema)
           : type == "number"  ? "a number" + range_of(schema)
           : type == "boolean" ? "true or false"
           : type == "object"  ? "an object"
           : type == "string"  ? "a string"
                               : type;
}

// What a value must be, in words.
std::string wanted(const Json &schema) {
    if (const Json *only = schema.find("const")) {
        return only->kind != Kind::boolean ? only->text : only->boolean ? "true" : "false";
    }
    std::string all;
    for (const std::string &type : types_of(schema)) {
        all += (all.empty() ? "" : " or ") + words_of(type, schema);
    }
    return all;
}

const Json &part(const Json &schema, const char *keyword) {
    static const Json none;
    const Json *found = schema.find(keyword);
    return found == nullptr ? none : *found;
}

void check_then(const Json &schema, const Json &whole, const std::string &prefix) {
    for (const auto &[name, condition] : part(part(schema, "if"), "properties").fields) {
        if (!same(part(whole, name.c_str()), part(condition, "const"))) {
            return;
        }
    }
    for (const auto &[name, then] : part(part(schema, "then"), "properties").fields) {
        check(then, part(whole, name.c_str()), prefix + name);
    }
}

Json check_object(const Json &schema, const Json &given, const std::string &prefix) {
    const Json &known = part(schema, "properties");
    for (const auto &[name, value] : given.fields) {
        if (known.find(name) == nullptr) {
            bad(prefix + name + ": unknown key");
        }
    }
    for (const Json &name : part(schema, "required").items) {
        if (given.find(name.text) == nullptr) {
            bad(prefix + name.text + ": missing");
        }
    }
    Json whole;
    whole.kind = Kind::object;
    for (const auto &[name, property] : known.fields) {
        const Json *value = given.find(name);
        whole.fields.emplace_back(name, value == nullptr ? part(property, "default") : check(property, *value, prefix + name));
    }
    check_then(schema, whole, prefix);
    return whole;
}

} // namespace

Json check(const Json &schema, const Json &value, const std::string &field) {
    if (!allows(schema, value)) {
        bad(field + ": must be " + wanted(schema));
    }
    return value.kind == Kind::object ? check_object(schema, value, field.empty() ? "" : field + ".") : value;
}

} // namespace melt
