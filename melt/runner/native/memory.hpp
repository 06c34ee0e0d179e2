// This process's memory, read between timed regions. What cannot be read is absent.
#pragma once

#include <cstdint>
#include <optional>

#include "json_writer.hpp"

namespace melt {

struct ProcessMemory {
    std::optional<uint64_t> rss_bytes, peak_rss_bytes, anonymous_bytes, pss_bytes;
};

// Reading PSS walks the page tables (milliseconds for a large model), so it is asked for outside the timed region only.
ProcessMemory process_memory(bool pss);

void add_memory(JsonLine &line, const ProcessMemory &memory); // as the field ``memory``

} // namespace melt
