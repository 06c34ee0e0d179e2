// The device's own clock: monotonic, and counting through sleep.
#pragma once

#include <cstdint>
#include <ctime>

#if defined(__APPLE__)
#include <mach/mach_time.h>
#endif

namespace melt {

#if defined(__APPLE__)
constexpr const char *clock_name = "mach_continuous_time";

inline int64_t now_ns() {
    static const mach_timebase_info_data_t base = [] {
        mach_timebase_info_data_t found;
        mach_timebase_info(&found);
        return found;
    }();
    return static_cast<int64_t>(static_cast<__uint128_t>(mach_continuous_time()) * base.numer / base.denom);
}
// How long the device has been suspended since it booted.
inline int64_t suspended_ns() {
    static const mach_timebase_info_data_t base = [] {
        mach_timebase_info_data_t found;
        mach_timebase_info(&found);
        return found;
    }();
    const uint64_t running = mach_absolute_time();
    return static_cast<int64_t>(static_cast<__uint128_t>(mach_continuous_time() - running) * base.numer / base.denom);
}
#else
constexpr const char *clock_name = "CLOCK_BOOTTIME";

inline int64_t now_ns() {
    timespec t{};
    clock_gettime(CLOCK_BOOTTIME, &t);
    return static_cast<int64_t>(t.tv_sec) * 1000000000 + t.tv_nsec;
}

// How long the device has been suspended since it booted.
inline int64_t suspended_ns() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    const int64_t running_ns = static_cast<int64_t>(t.tv_sec) * 1000000000 + t.tv_nsec;
    return now_ns() - running_ns;
}
#endif

inline int64_t realtime_ns() {
    timespec t{};
    clock_gettime(CLOCK_REALTIME, &t);
    return static_cast<int64_t>(t.tv_sec) * 1000000000 + t.tv_nsec;
}

} // namespace melt
