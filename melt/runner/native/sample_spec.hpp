// What the sampler is to read: {out, period_ms, root, watch_stdin_ms, probes: [{name, read | exec | stream, period_ms,
// lines, tell}]}: a file, a program run each time for its output, or one that goes on and whose every line is a sample.
// What a probe that is to tell says goes to stdout too, every few seconds.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace melt {

struct ProbeSpec {
    std::string name, read;
    std::vector<std::string> exec, stream, lines;
    int64_t period_ns = 0;
    bool tell = false;
};

struct SampleSpec {
    std::string out, root;
    int64_t watch_stdin_ns = 0; // 0: for ever
    std::vector<ProbeSpec> probes;
};

SampleSpec read_spec(const char *path);       // throws JobError: unreadable, or see parse_spec
SampleSpec parse_spec(std::string_view text); // throws JobError, kind "bad_spec", naming the field

} // namespace melt
