// The job file as the runner reads it: checked field by field, refused with a clear error.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace melt {

constexpr int protocol = 1;

// Seeded random prompt tokens, then greedy decoding with the end of sequence ignored.
struct Workload {
    std::string kind = "fixed"; // or "sustained": back to back for ``seconds``
    int64_t prompt_tokens = 0;
    int64_t gen_tokens = 0;
    uint64_t seed = 0;
    double seconds = 0;
};

struct Job {
    std::string job_id, engine, model; // model: its path
    int threads = 1;
    Workload workload;
    std::string accelerator = "cpu";
    std::optional<std::string> device; // the engine's own name of one
    std::optional<uint64_t> cpu_mask;
    int batch = 2048;
    int ubatch = 512;
    std::string flash_attn = "auto";
    std::string type_k = "f16", type_v = "f16";
    bool mmap = true;
    bool extra_buffers = true;
    int warmups = 1;
    int iterations = 3;
    bool profile_ops = false;
};

Job read_job(const char *path);       // throws JobError: unreadable, or see parse_job
Job parse_job(std::string_view text); // throws JobError: of another protocol, or naming the field that is wrong

} // namespace melt
