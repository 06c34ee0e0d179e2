// Reads the probes of a spec on a fixed schedule and writes their raw text, stamped, as JSON lines.
//
// Spec: {out, period_ms, root, probes: [{name, read | exec, period_ms, lines}]}. On stdin a line "pid N" starts the
// probes whose path holds "{pid}"; the end of stdin ends the sampler.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace melt {

struct ProbeSpec {
    std::string name, read;
    std::vector<std::string> exec, lines;
    int64_t period_ns = 0;
};

struct SampleSpec {
    std::string out, root;
    std::vector<ProbeSpec> probes;
};

SampleSpec parse_spec(std::string_view text); // throws JobError, kind "bad_spec", naming the field

// The first deadline after now on a grid of ``period_ns`` from the start: no drift, and a missed tick is skipped.
constexpr int64_t deadline_after(int64_t start_ns, int64_t period_ns, int64_t now_ns) {
    return start_ns + ((now_ns - start_ns) / period_ns + 1) * period_ns;
}

int sample(const char *spec_path, int stdin_fd); // the exit status

} // namespace melt
