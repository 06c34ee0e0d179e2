#include "json_writer.hpp"

#include <cmath>
#include <cstdio>

namespace melt {
namespace {

// Length of the UTF-8 sequence that starts here, 0 where it is none.
size_t utf8_length(std::string_view text) {
    const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
    const auto follows = [&](size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
    const unsigned b = byte(0);
    if (b < 0x80) {
        return 1;
    }
    if (b >= 0xC2 && b <= 0xDF && follows(1)) {
        return 2;
    }
    if (b >= 0xE0 && b <= 0xEF && follows(1) && follows(2)) {
        const unsigned second = byte(1);
        const bool overlong = b == 0xE0 && second < 0xA0;
        const bool surrogate = b == 0xED && second >= 0xA0;
        return overlong || surrogate ? 0 : 3;
    }
    if (b >= 0xF0 && b <= 0xF4 && follows(1) && follows(2) && follows(3)) {
        const unsigned second = byte(1);
        const bool outside = (b == 0xF0 && second < 0x90) || (b == 0xF4 && second >= 0x90);
        return outside ? 0 : 4;
    }
    return 0;
}

} // namespace

void append_escaped(std::string &out, std::string_view text) {
    out += '"';
    for (size_t i = 0; i < text.size();) {
        const size_t length = utf8_length(text.substr(i));
        const char c = text[i];
        if (length == 0) {
            out += "\\ufffd";
            i += 1;
            continue;
        }
        if (length > 1) {
            out += text.substr(i, length);
        } else if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (c == '\n') {
            out += "\\n";
        } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
            char code[8];
            std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
            out += code;
        } else {
            out += c;
        }
        i += length;
    }
    out += '"';
}

void JsonLine::name(std::string_view name) {
    if (!first_) {
        out_ += ',';
    }
    first_ = false;
    if (!name.empty()) {
        append_escaped(out_, name);
        out_ += ':';
    }
}

JsonLine &JsonLine::begin_object(std::string_view key) {
    name(key);
    out_ += '{';
    first_ = true;
    return *this;
}

JsonLine &JsonLine::begin_array(std::string_view key) {
    name(key);
    out_ += '[';
    first_ = true;
    return *this;
}

JsonLine &JsonLine::end_object() {
    out_ += '}';
    first_ = false;
    return *this;
}

JsonLine &JsonLine::end_array() {
    out_ += ']';
    first_ = false;
    return *this;
}

JsonLine &JsonLine::add(std::string_view key, std::string_view value) {
    name(key);
    append_escaped(out_, value);
    return *this;
}

JsonLine &JsonLine::add(std::string_view key, int64_t value) {
    name(key);
    out_ += std::to_string(value);
    return *this;
}

JsonLine &JsonLine::add(std::string_view key, uint64_t value) {
    name(key);
    out_ += std::to_string(value);
    return *this;
}

JsonLine &JsonLine::add(std::string_view key, bool value) {
    name(key);
    out_ += value ? "true" : "false";
    return *this;
}

JsonLine &JsonLine::add_number(std::string_view key, double value) {
    if (std::isfinite(value)) {
        char text[40];
        std::snprintf(text, sizeof text, "%.9g", value);
        name(key);
        out_ += text;
    }
    return *this;
}

} // namespace melt
