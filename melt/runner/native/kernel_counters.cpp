#include "kernel_counters.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "clock.hpp"

namespace melt {
namespace {

struct CpuTicks {
    uint64_t busy = 0, stolen = 0; // user, nice, system, irq and softirq; steal
    bool known = false;
};

// The first line of /proc/stat, of all processors together.
CpuTicks cpu_ticks(std::string_view text) {
    uint64_t user = 0, nice = 0, system = 0, irq = 0, softirq = 0;
    CpuTicks ticks;
    const std::string line(text.substr(0, text.find('\n')));
    constexpr const char *format = "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %*u %*u %" SCNu64 " %" SCNu64 " %" SCNu64;
    ticks.known = std::sscanf(line.c_str(), format, &user, &nice, &system, &irq, &softirq, &ticks.stolen) == 6;
    ticks.busy = user + nice + system + irq + softirq;
    return ticks;
}

struct Schedstat {
    uint64_t delay_ns = 0, slices = 0;
    bool known = false;
};

Schedstat schedstat(std::string_view text) {
    Schedstat found;
    constexpr const char *format = "%*u %" SCNu64 " %" SCNu64;
    found.known = std::sscanf(std::string(text).c_str(), format, &found.delay_ns, &found.slices) == 2 && found.slices > 0;
    return found;
}

int64_t ns(const timeval &t) { return int64_t{t.tv_sec} * 1'000'000'000 + int64_t{t.tv_usec} * 1000; }

int64_t cpu_ns(const rusage &usage) { return ns(usage.ru_utime) + ns(usage.ru_stime); }

uint64_t grown(uint64_t first, uint64_t last) { return last > first ? last - first : 0; }

std::vector<std::string> schedstats() {
    std::vector<std::string> paths;
    DIR *folder = opendir("/proc/self/task");
    if (folder == nullptr) {
        return paths;
    }
    while (const dirent *entry = readdir(folder)) {
        if (entry->d_name[0] != '.') {
            paths.push_back(std::string("/proc/self/task/") + entry->d_name + "/schedstat");
        }
    }
    closedir(folder);
    return paths;
}

} // namespace

KernelCounters::Kept::Kept(const std::string &path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    for (auto &text : text_) {
        text.fill(0); // its pages are there before they are read into
    }
}

KernelCounters::Kept::~Kept() {
    if (fd_ >= 0) {
        close(fd_);
    }
}

void KernelCounters::Kept::read(Mark mark) {
    const ssize_t got = pread(fd_, text_[mark].data(), text_[mark].size(), 0);
    sizes_[mark] = got > 0 ? static_cast<size_t>(got) : 0; // none of a thread that has ended
}

KernelCounters::KernelCounters() : stat_("/proc/stat"), status_("/proc/self/status") {
    for (const std::string &path : schedstats()) {
        threads_.push_back(std::make_unique<Kept>(path));
    }
}

void KernelCounters::read(Mark mark) {
    getrusage(RUSAGE_SELF, &usage_[mark]);
    for (const auto &thread : threads_) {
        thread->read(mark);
    }
    suspended_ns_[mark] = suspended_ns();
    if (mark != between) {
        stat_.read(mark);
        status_.read(mark);
    }
}

void KernelCounters::add_counts(JsonLine &line) const {
    line.begin_object("kernel").begin_object("prefill");
    add_between(line, before, between);
    line.end_object().begin_object("decode");
    add_between(line, between, after);
    line.end_object().begin_object("pass");
    add_between(line, before, after);
    add_machine(line);
    add_swapped(line);
    line.end_object().end_object();
}

void KernelCounters::add_between(JsonLine &line, Mark first, Mark last) const {
    const rusage &a = usage_[first], &b = usage_[last];
    add_waited(line, first, last);
    line.add("involuntary_switches", int64_t{b.ru_nivcsw - a.ru_nivcsw});
    line.add("major_faults", int64_t{b.ru_majflt - a.ru_majflt}).add("cpu_ns", std::max(int64_t{0}, cpu_ns(b) - cpu_ns(a)));
    // Counted from two clocks that are read one after the other.
    line.add("suspended_ns", std::max(int64_t{0}, suspended_ns_[last] - suspended_ns_[first]));
}

void KernelCounters::add_waited(JsonLine &line, Mark first, Mark last) const {
    uint64_t delay_ns = 0, n_threads = 0;
    for (const auto &thread : threads_) {
        const Schedstat a = schedstat(thread->text(first)), b = schedstat(thread->text(last));
        if (b.known) {
            delay_ns += grown(a.delay_ns, b.delay_ns);
            ++n_threads;
        }
    }
    if (n_threads > 0) {
        line.add("run_delay_ns", delay_ns).add("threads", n_threads);
    }
}

// Time of all processors together that something ran, and that the host of a virtual machine kept.
void KernelCounters::add_machine(JsonLine &line) const {
    const CpuTicks a = cpu_ticks(stat_.text(before)), b = cpu_ticks(stat_.text(after));
    const long ticks_per_s = sysconf(_SC_CLK_TCK);
    if (a.known && b.known && ticks_per_s > 0) {
        const uint64_t ns_per_tick = 1'000'000'000 / static_cast<uint64_t>(ticks_per_s);
        line.add("busy_ns", grown(a.busy, b.busy) * ns_per_tick);
        line.add("stolen_ns", grown(a.stolen, b.stolen) * ns_per_tick);
    }
}

// This process's own memory that is swapped out after the pass.
void KernelCounters::add_swapped(JsonLine &line) const {
    constexpr std::string_view name = "\nVmSwap:";
    const std::string_view text = status_.text(after);
    const size_t place = text.find(name);
    uint64_t kib = 0;
    if (place != std::string_view::npos &&
        std::sscanf(std::string(text.substr(place + name.size())).c_str(), "%" SCNu64, &kib) == 1) {
        line.add("swapped_bytes", kib * 1024);
    }
}

} // namespace melt
