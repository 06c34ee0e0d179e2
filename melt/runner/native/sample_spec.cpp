#include "sample_spec.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

#include "files.hpp"
#include "json_reader.hpp"

namespace melt {
namespace {

constexpr int64_t ms = 1'000'000;
constexpr size_t max_spec_bytes = 1024 * 1024;
constexpr uint64_t max_period_ms = 86'400'000;

[[noreturn]] void bad(const std::string &what) { throw JobError("bad_spec", what); }

std::vector<std::string> strings(const Json *found, const std::string &field) {
    std::vector<std::string> texts;
    if (found == nullptr || found->kind == Json::Kind::null) {
        return texts;
    }
    if (found->kind != Json::Kind::array) {
        bad(field + ": must be a list of strings");
    }
    for (const Json &item : found->items) {
        if (item.kind != Json::Kind::string || item.text.find('\0') != std::string::npos) {
            bad(field + ": must be a list of strings");
        }
        texts.push_back(item.text);
    }
    return texts;
}

std::string string(const Json *found, const std::string &field) {
    if (found == nullptr || found->kind == Json::Kind::null) {
        return "";
    }
    if (found->kind != Json::Kind::string || found->text.find('\0') != std::string::npos) {
        bad(field + ": must be a string");
    }
    return found->text;
}

int64_t period(const Json *found, int64_t otherwise_ns, const std::string &field) {
    if (found == nullptr || found->kind == Json::Kind::null) {
        return otherwise_ns;
    }
    uint64_t number = 0;
    if (!found->to_u64(number) || number < 1 || number > max_period_ms) {
        bad(field + ": must be milliseconds from 1 to a day");
    }
    return static_cast<int64_t>(number) * ms;
}

ProbeSpec parse_probe(const Json &item, int64_t period_ns, const std::string &field) {
    if (item.kind != Json::Kind::object) {
        bad(field + ": must be an object");
    }
    ProbeSpec probe;
    probe.name = string(item.find("name"), field + ".name");
    probe.read = string(item.find("read"), field + ".read");
    probe.exec = strings(item.find("exec"), field + ".exec");
    probe.stream = strings(item.find("stream"), field + ".stream");
    probe.lines = strings(item.find("lines"), field + ".lines");
    const Json *tell = item.find("tell");
    probe.tell = tell != nullptr && tell->boolean;
    probe.period_ns = period(item.find("period_ms"), period_ns, field + ".period_ms");
    const int ways = !probe.read.empty() + !probe.exec.empty() + !probe.stream.empty();
    if (probe.name.empty() || ways != 1) {
        bad(field + ": needs a name, and one of read, a file, exec and stream, a program");
    }
    return probe;
}

} // namespace

SampleSpec parse_spec(std::string_view text) {
    const Json document = parse_object(text, "spec", "bad_spec");
    SampleSpec spec;
    spec.out = string(document.find("out"), "out");
    spec.root = string(document.find("root"), "root");
    const int64_t period_ns = period(document.find("period_ms"), 100 * ms, "period_ms");
    spec.watch_stdin_ns = period(document.find("watch_stdin_ms"), 0, "watch_stdin_ms");
    const Json *probes = document.find("probes");
    if (spec.out.empty() || probes == nullptr || probes->kind != Json::Kind::array) {
        bad("needs out, a path, and probes, a list");
    }
    for (size_t i = 0; i < probes->items.size(); ++i) {
        spec.probes.push_back(parse_probe(probes->items[i], period_ns, "probes[" + std::to_string(i) + "]"));
    }
    return spec;
}

SampleSpec read_spec(const char *path) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    std::string text;
    const bool read = fd >= 0 && read_whole(fd, max_spec_bytes, text);
    const int error = errno;
    if (fd >= 0) {
        close(fd);
    }
    if (!read) {
        throw JobError("bad_spec", std::string(path) + ": " + std::strerror(error));
    }
    return parse_spec(text);
}

} // namespace melt
