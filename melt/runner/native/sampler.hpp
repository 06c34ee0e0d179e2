// Reads the probes of a spec once a period and writes their raw text, stamped, as JSON lines.
//
// On stdin a line "pid N" starts the probes whose path holds "{pid}"; the end of stdin ends the sampler, and so does
// its silence for ``watch_stdin_ms``; an empty line breaks it.
#pragma once

#include <cstdint>

#include "sample_spec.hpp"

namespace melt {

// When within period k a probe is read, as a fraction of 2^32: mixed as xxHash ends, so that it keeps step with nothing.
constexpr uint32_t moment_in_period(uint32_t k) {
    k *= 2654435761u;
    k = (k ^ (k >> 15)) * 2246822519u;
    k = (k ^ (k >> 13)) * 3266489917u;
    return k ^ (k >> 16); // 0 of the first period
}

constexpr int64_t deadline_in(int64_t start_ns, int64_t period_ns, int64_t k) {
    const int64_t within = moment_in_period(static_cast<uint32_t>(k));
    return start_ns + k * period_ns + (((within >> 16) * period_ns) >> 16);
}

// The first deadline after now. One lies in each period, so that there is no drift; missed ones are not made up for.
constexpr int64_t deadline_after(int64_t start_ns, int64_t period_ns, int64_t now_ns) {
    const int64_t k = (now_ns - start_ns) / period_ns;
    const int64_t due_ns = deadline_in(start_ns, period_ns, k);
    return due_ns > now_ns ? due_ns : deadline_in(start_ns, period_ns, k + 1);
}

int sample(const char *spec_path, int stdin_fd); // the exit status

} // namespace melt
