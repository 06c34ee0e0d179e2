#include "probe.hpp"

#include <algorithm>

#include "json_writer.hpp"

namespace melt {
namespace {

constexpr int64_t retry_ns = 5'000'000'000;
constexpr int64_t tell_ns = 5'000'000'000; // so seldom that the device does not notice

} // namespace

Probe::Probe(const ProbeSpec &spec, int64_t start_ns) : due_ns(start_ns), spec_(spec), head_(",\"probe\":") {
    append_escaped(head_, spec.name);
    head_ += ",\"raw\":";
}

void Probe::succeeded(SampleWriter &writer, int64_t start_ns, int64_t end_ns, std::string_view raw) {
    failing_ = false;
    writer.sample(head_, start_ns, end_ns, raw);
    if (spec_.tell && start_ns >= tell_at_ns_) {
        tell_at_ns_ = start_ns + tell_ns;
        writer.tell();
    }
}

void Probe::failed(SampleWriter &writer, int64_t start_ns, const std::string &error, const std::string &message) {
    retry_at_ns_ = start_ns + retry_ns;
    if (!failing_) {
        writer.failure(spec_.name, start_ns, error, message);
    }
    failing_ = true;
}

std::string_view Probe::only_lines(std::string_view text) {
    kept_.clear();
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find('\n', at), text.size());
        const std::string_view line = text.substr(at, end - at);
        const auto starts = [&](const std::string &with) { return line.substr(0, with.size()) == with; };
        if (std::any_of(spec_.lines.begin(), spec_.lines.end(), starts)) {
            kept_ += kept_.empty() ? "" : "\n";
            kept_ += line;
        }
        at = end + 1;
    }
    return kept_;
}

std::string_view without_last_newlines(std::string_view text) {
    while (!text.empty() && text.back() == '\n') {
        text.remove_suffix(1);
    }
    return text;
}

} // namespace melt
