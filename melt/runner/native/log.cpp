#include "log.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string_view>

namespace melt {
namespace {

constexpr int level_warn = 3, level_error = 4; // ggml_log_level
constexpr size_t max_words = 500;

const char *kind_of(const char *what) {
    constexpr std::pair<const char *, const char *> kinds[] = {
        {"model", "weights"}, {"KV", "kv"}, {"RS", "state"}, {"compute", "compute"}, {"output", "output"}};
    for (const auto &[logged, kind] : kinds) {
        if (std::strcmp(what, logged) == 0) {
            return kind;
        }
    }
    return nullptr;
}

std::string stripped(const std::string &text) {
    const size_t first = text.find_first_not_of(" \t\r\n");
    const size_t last = text.find_last_not_of(" \t\r\n");
    return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

bool ends_with(std::string_view text, std::string_view end) {
    return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

} // namespace

std::vector<Buffer> buffers(const LogLines &log) {
    std::vector<Buffer> found;
    for (const auto &[level, text] : log) {
        char device[64], what[16];
        double mib = 0;
        if (std::sscanf(text.c_str(), " %*[^: ]: %63s %15s buffer size = %lf MiB", device, what, &mib) != 3) {
            continue;
        }
        const char *kind = kind_of(what);
        if (kind == nullptr) {
            continue;
        }
        const Buffer buffer{device, kind, static_cast<uint64_t>(std::llround(mib * 1024 * 1024))};
        const auto earlier = std::find_if(found.begin(), found.end(), [&](const Buffer &b) {
            return b.kind == "compute" && b.kind == buffer.kind && b.device == buffer.device;
        });
        if (earlier != found.end()) {
            earlier->bytes = buffer.bytes;
        } else {
            found.push_back(buffer);
        }
    }
    return found;
}

bool is_cpu(const std::string &device) {
    constexpr const char *allocators[] = {"CPU", "CPU_Mapped", "CPU_REPACK", "CPU_AARCH64", "AMX"};
    const bool named = std::any_of(std::begin(allocators), std::end(allocators), [&](auto a) { return device == a; });
    return named || ends_with(device, "_Host") || ends_with(device, "_Mapped");
}

std::string last_error(const LogLines &log) {
    for (const int wanted : {level_error, level_warn}) {
        std::vector<std::string> words;
        for (const auto &[level, text] : log) {
            if (level == wanted && !stripped(text).empty()) {
                words.push_back(stripped(text));
            }
        }
        if (!words.empty()) {
            const std::string before = words.size() > 1 ? words[words.size() - 2] + "; " : "";
            return (before + words.back()).substr(0, max_words);
        }
    }
    return "";
}

} // namespace melt
