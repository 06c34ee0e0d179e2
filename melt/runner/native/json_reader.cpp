#include "json_reader.hpp"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <set>

namespace melt {
namespace {

constexpr int max_depth = 64;

class Reader {
  public:
    explicit Reader(std::string_view text) : text_(text) {}

    bool document(Json &value) {
        if (!is_utf8() || !read(value, 0)) {
            return false;
        }
        space();
        return at_ == text_.size() || fail("something follows the value");
    }

    std::string problem;

  private:
    bool fail(const char *what) {
        if (problem.empty()) {
            problem = std::string(what) + " at byte " + std::to_string(at_);
        }
        return false;
    }

    // Without overlong forms, halves of surrogate pairs and what lies beyond the last code point.
    bool is_utf8() {
        for (at_ = 0; at_ < text_.size();) {
            const auto first = static_cast<unsigned char>(text_[at_]);
            const int more = first < 0x80 ? 0 : first >= 0xC2 && first < 0xE0 ? 1 : first >= 0xE0 && first < 0xF0 ? 2 : 3;
            uint32_t code = more == 0 ? first : first & (0x3F >> more);
            bool good = more < 3 || (first >= 0xF0 && first < 0xF5);
            for (int i = 1; i <= more && good; ++i) {
                const auto next = at_ + i < text_.size() ? static_cast<unsigned char>(text_[at_ + i]) : 0;
                good = (next & 0xC0) == 0x80;
                code = code << 6 | (next & 0x3F);
            }
            constexpr uint32_t least[] = {0, 0x80, 0x800, 0x10000};
            if (!good || code < least[more] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
                return fail("no UTF-8");
            }
            at_ += 1 + more;
        }
        at_ = 0;
        return true;
    }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

    void space() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) {
            ++at_;
        }
    }

    bool word(const char *expected) {
        const std::string_view wanted(expected);
        if (text_.substr(at_, wanted.size()) != wanted) {
            return fail("no JSON value");
        }
        at_ += wanted.size();
        return true;
    }

    bool read(Json &value, int depth) {
        if (depth > max_depth) {
            return fail("nested too deeply");
        }
        space();
        switch (peek()) {
        case '{': return object(value, depth);
        case '[': return array(value, depth);
        case '"': value.kind = Json::Kind::string; return string(value.text);
        case 't': value.kind = Json::Kind::boolean; value.boolean = true; return word("true");
        case 'f': value.kind = Json::Kind::boolean; value.boolean = false; return word("false");
        case 'n': value.kind = Json::Kind::null; return word("null");
        default: return number(value);
        }
    }

    // What stands between two brackets: nothing, or parts with commas between them.
    template <typename Part> bool parts(char end, const char *missing, Part part) {
        ++at_;
        space();
        if (peek() == end) {
            ++at_;
            return true;
        }
        while (part()) {
            space();
            const char c = peek();
            ++at_;
            if (c == end) {
                return true;
            }
            if (c != ',') {
                return fail(missing);
            }
        }
        return false;
    }

    bool object(Json &value, int depth) {
        value.kind = Json::Kind::object;
        std::set<std::string> names;
        return parts('}', "a comma or brace is missing", [&] {
            space();
            std::string name;
            if (peek() != '"') {
                return fail("a name in quotes is missing");
            }
            if (!string(name)) {
                return false;
            }
            if (!names.insert(name).second) {
                return fail("a name stands twice");
            }
            space();
            if (peek() != ':') {
                return fail("a colon is missing");
            }
            ++at_;
            value.fields.emplace_back(std::move(name), Json());
            return read(value.fields.back().second, depth + 1);
        });
    }

    bool array(Json &value, int depth) {
        value.kind = Json::Kind::array;
        return parts(']', "a comma or bracket is missing", [&] {
            value.items.emplace_back();
            return read(value.items.back(), depth + 1);
        });
    }

    bool digits() {
        const size_t start = at_;
        while (peek() >= '0' && peek() <= '9') {
            ++at_;
        }
        return at_ > start;
    }

    bool number(Json &value) {
        const size_t start = at_;
        if (peek() == '-') {
            ++at_;
        }
        const bool zero = peek() == '0';
        const size_t first = at_;
        if (!digits() || (zero && at_ - first > 1)) {
            return fail("no JSON value");
        }
        if (peek() == '.') {
            ++at_;
            if (!digits()) {
                return fail("a digit is missing");
            }
        }
        if (peek() == 'e' || peek() == 'E') {
            ++at_;
            if (peek() == '+' || peek() == '-') {
                ++at_;
            }
            if (!digits()) {
                return fail("a digit is missing");
            }
        }
        value.kind = Json::Kind::number;
        value.text = text_.substr(start, at_ - start);
        return true;
    }

    bool hex4(uint32_t &code) {
        if (at_ + 4 > text_.size()) {
            return fail("an escape is cut off");
        }
        const char *begin = text_.data() + at_;
        const auto [end, error] = std::from_chars(begin, begin + 4, code, 16);
        if (error != std::errc() || end != begin + 4) {
            return fail("a bad escape");
        }
        at_ += 4;
        return true;
    }

    bool escape(std::string &out) {
        const char c = peek();
        ++at_;
        switch (c) {
        case '"': case '\\': case '/': out += c; return true;
        case 'b': out += '\b'; return true;
        case 'f': out += '\f'; return true;
        case 'n': out += '\n'; return true;
        case 'r': out += '\r'; return true;
        case 't': out += '\t'; return true;
        case 'u': break;
        default: return fail("a bad escape");
        }
        uint32_t code = 0;
        if (!hex4(code)) {
            return false;
        }
        if (code >= 0xD800 && code < 0xDC00 && text_.substr(at_, 2) == "\\u") {
            at_ += 2;
            uint32_t low = 0;
            if (!hex4(low)) {
                return false;
            }
            if (low < 0xDC00 || low > 0xDFFF) {
                return fail("half a surrogate pair");
            }
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        }
        if (code >= 0xD800 && code < 0xE000) {
            return fail("half a surrogate pair");
        }
        append_utf8(out, code);
        return true;
    }

    static void append_utf8(std::string &out, uint32_t code) {
        if (code < 0x80) {
            out += static_cast<char>(code);
        } else if (code < 0x800) {
            out += static_cast<char>(0xC0 | code >> 6);
            out += static_cast<char>(0x80 | (code & 0x3F));
        } else if (code < 0x10000) {
            out += static_cast<char>(0xE0 | code >> 12);
            out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
            out += static_cast<char>(0x80 | (code & 0x3F));
        } else {
            out += static_cast<char>(0xF0 | code >> 18);
            out += static_cast<char>(0x80 | (code >> 12 & 0x3F));
            out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
            out += static_cast<char>(0x80 | (code & 0x3F));
        }
    }

    bool string(std::string &out) {
        ++at_;
        while (at_ < text_.size()) {
            const char c = text_[at_];
            ++at_;
            if (c == '"') {
                return true;
            }
            if (c == '\\') {
                if (!escape(out)) {
                    return false;
                }
            } else if (static_cast<unsigned char>(c) < 0x20) {
                return fail("a control character in a string");
            } else {
                out += c;
            }
        }
        return fail("a string has no end");
    }

    std::string_view text_;
    size_t at_ = 0;
};

} // namespace

const Json *Json::find(std::string_view name) const {
    for (const auto &[key, value] : fields) {
        if (key == name) {
            return &value;
        }
    }
    return nullptr;
}

bool Json::is_integer() const {
    return kind == Kind::number && text.find_first_of(".eE") == std::string::npos;
}

bool Json::to_u64(uint64_t &value) const {
    if (!is_integer()) {
        return false;
    }
    const char *end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    return error == std::errc() && stop == end;
}

bool Json::to_double(double &value) const {
    if (kind != Kind::number) {
        return false;
    }
    value = std::strtod(text.c_str(), nullptr);
    return std::isfinite(value);
}

bool parse_json(std::string_view text, Json &value, std::string &problem) {
    Reader reader(text);
    value = Json();
    const bool good = reader.document(value);
    problem = reader.problem;
    return good;
}

Json parse_object(std::string_view text, const std::string &what, const std::string &error_kind) {
    Json document;
    std::string problem;
    if (!parse_json(text, document, problem)) {
        throw JobError(error_kind, what + " is not JSON: " + problem);
    }
    if (document.kind != Json::Kind::object) {
        throw JobError(error_kind, what + " is not a JSON object");
    }
    return document;
}

} // namespace melt
