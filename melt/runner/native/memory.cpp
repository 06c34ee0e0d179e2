#include "memory.hpp"

#include <cinttypes>
#include <cstdio>

#if defined(__APPLE__)
#include <mach/mach.h>
#endif

namespace melt {
namespace {

std::optional<uint64_t> kib_field(const char *path, const char *name) {
    std::FILE *file = std::fopen(path, "re");
    if (file == nullptr) {
        return {};
    }
    char line[256];
    const std::string format = std::string(name) + ": %" SCNu64 " kB";
    std::optional<uint64_t> found;
    while (!found && std::fgets(line, sizeof line, file) != nullptr) {
        uint64_t kib = 0;
        if (std::sscanf(line, format.c_str(), &kib) == 1) {
            found = kib * 1024;
        }
    }
    std::fclose(file);
    return found;
}

} // namespace

#if defined(__APPLE__)
// phys_footprint is what iOS holds a process to; there is no proportional share.
ProcessMemory process_memory(bool) {
    task_vm_info_data_t info{};
    mach_msg_type_number_t count = TASK_VM_INFO_COUNT;
    ProcessMemory memory;
    if (task_info(mach_task_self(), TASK_VM_INFO, reinterpret_cast<task_info_t>(&info), &count) == KERN_SUCCESS) {
        memory.rss_bytes = info.phys_footprint;
        memory.peak_rss_bytes = static_cast<uint64_t>(info.ledger_phys_footprint_peak);
    }
    return memory;
}
#else
ProcessMemory process_memory(bool pss) {
    constexpr const char *status = "/proc/self/status";
    ProcessMemory memory;
    memory.rss_bytes = kib_field(status, "VmRSS");
    memory.peak_rss_bytes = kib_field(status, "VmHWM");
    memory.anonymous_bytes = kib_field(status, "RssAnon");
    if (pss) {
        memory.pss_bytes = kib_field("/proc/self/smaps_rollup", "Pss");
    }
    return memory;
}
#endif

void add_memory(JsonLine &line, const ProcessMemory &memory) {
    line.begin_object("memory");
    const auto add = [&](const char *name, const std::optional<uint64_t> &bytes) {
        if (bytes) {
            line.add(name, *bytes);
        }
    };
    add("rss_bytes", memory.rss_bytes);
    add("peak_rss_bytes", memory.peak_rss_bytes);
    add("pss_bytes", memory.pss_bytes);
    line.end_object();
}

} // namespace melt
