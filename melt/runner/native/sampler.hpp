// Reads the probes of a spec on a fixed schedule and writes their raw text, stamped, as JSON lines.
//
// On stdin a line "pid N" starts the probes whose path holds "{pid}"; the end of stdin ends the sampler, and so does
// its silence for ``watch_stdin_ms``; an empty line breaks it.
#pragma once

#include <cstdint>

#include "sample_spec.hpp"

namespace melt {

// The first deadline after now on a grid of ``period_ns`` from the start: no drift, and a missed tick is skipped.
constexpr int64_t deadline_after(int64_t start_ns, int64_t period_ns, int64_t now_ns) {
    return start_ns + ((now_ns - start_ns) / period_ns + 1) * period_ns;
}

int sample(const char *spec_path, int stdin_fd); // the exit status

} // namespace melt
