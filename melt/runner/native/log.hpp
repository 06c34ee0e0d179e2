// llama.cpp's log: silenced, kept, and read for what the public API does not tell.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace melt {

struct Buffer {
    std::string device, kind; // kind: weights, kv, state, compute or output
    uint64_t bytes;
};

using LogLines = std::vector<std::pair<int, std::string>>; // level and text

// Buffers by device and kind, in the order logged: the log tells them to 0.01 MiB, as in
// "llama_kv_cache:        CPU KV buffer size =    16.88 MiB". A compute buffer logged again replaces the earlier.
std::vector<Buffer> buffers(const LogLines &log);

bool is_cpu(const std::string &device); // whether a buffer's device name means the host processor's memory

std::string last_error(const LogLines &log); // the engine's own last words; empty where there are none

} // namespace melt
