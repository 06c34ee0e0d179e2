// melt-runner: the on-device program, native flavour.
//
// Events and results go to stdout, words for people to stderr. Exit status 0 only after a ``done`` event with status
// ok; 1 for an error event; 2 for wrong usage; 3 when the host has gone.
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <new>
#include <poll.h>
#include <sched.h>
#include <string>
#include <sys/utsname.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "channel.hpp"
#include "clock.hpp"
#include "engine.hpp"
#include "inventory.hpp"
#include "job.hpp"
#include "memory.hpp"
#include "ops.hpp"
#include "peak.hpp"
#include "sampler.hpp"
#include "workload.hpp"

namespace melt {
namespace {

constexpr const char *usage = "usage: melt-runner run JOB [--watch-stdin [SECONDS]] | sample SPEC | "
                              "info [--root DIR] [GLOB ...] | probe-peak [THREADS]";

const Channel *abort_channel = nullptr; // the engine's abort hook takes no argument of ours

void add_identity(JsonLine &line) {
    line.add("protocol", protocol()).add("runner", "melt-runner-native").add("runner_version", MELT_RUNNER_VERSION);
    const int64_t before = now_ns();
    const int64_t realtime = realtime_ns();
    line.begin_object("clock").add("name", clock_name).add("t_ns", (before + now_ns()) / 2);
    line.add("realtime_ns", realtime).end_object().add("pid", static_cast<int64_t>(getpid()));
}

void pin(uint64_t cpu_mask) {
#if defined(__linux__)
    cpu_set_t set;
    CPU_ZERO(&set);
    for (unsigned i = 0; i < 64; ++i) {
        if ((cpu_mask >> i & 1U) != 0) {
            CPU_SET(i, &set);
        }
    }
    cpu_set_t had = set; // the kernel drops processors of the mask that it does not grant, and says nothing
    const bool asked = sched_setaffinity(0, sizeof set, &set) == 0 && sched_getaffinity(0, sizeof had, &had) == 0;
    if (asked && CPU_EQUAL(&set, &had)) {
        return;
    }
    const std::string why = asked ? "not all of them are granted" : std::strerror(errno);
#else
    const std::string why = "this system does not pin";
#endif
    char mask[24];
    std::snprintf(mask, sizeof mask, "0x%llx", static_cast<unsigned long long>(cpu_mask));
    throw JobError("cpu_mask", std::string("cannot pin to CPUs ") + mask + ": " + why);
}

// Ends this process when the host's end of stdin closes, or no byte came for so long: no runner outlives its host.
void die_with_host(double seconds) {
    std::thread([seconds] {
        char part[4096];
        pollfd input{0, POLLIN, 0};
        const int timeout_ms = seconds > 0 ? static_cast<int>(seconds * 1000) : -1;
        while (true) {
            const int ready = poll(&input, 1, timeout_ms);
            if (ready < 0 && errno == EINTR) {
                continue;
            }
            if (ready <= 0 || read(0, part, sizeof part) <= 0) {
                _exit(3);
            }
        }
    }).detach();
}

// The engine asserts where it meets what it did not expect. Its last words become the error event.
void on_abort(const char *message) {
    static std::atomic_flag speaking = ATOMIC_FLAG_INIT;
    while (speaking.test_and_set()) {
        pause(); // several of its threads may assert at once, and one error event is enough
    }
    if (abort_channel != nullptr) {
        abort_channel->error("engine_abort", message);
        abort_channel->done(false);
    }
    _exit(1);
}

void run_job(const Job &job, const Channel &channel) {
    if (job.text("engine") != "llama.cpp") {
        throw JobError("engine", "engine '" + job.text("engine") + "' is not known here; known: llama.cpp");
    }
    if (!job.is_null("cpu_mask")) {
        pin(job.bits("cpu_mask"));
    }
    const Library library;
    JsonLine hello = event("hello");
    add_identity(hello);
    library.add_hello(hello);
    channel.send(hello.end_object());
    const auto base_rss_bytes = process_memory(false).rss_bytes;
    const int64_t start_ns = now_ns();
    Engine engine(library, job);
    const int64_t end_ns = now_ns();
    JsonLine model = event("model");
    model.add("t_start_ns", start_ns).add("t_end_ns", end_ns);
    if (base_rss_bytes) {
        model.add("base_rss_bytes", *base_rss_bytes);
    }
    add_memory(model, process_memory(false));
    engine.add_description(model);
    channel.send(model.end_object());
    run_workload(engine, job, channel);
    if (job.flag("profile_ops")) {
        try {
            profile_ops(engine, job, channel);
        } catch (const JobError &e) { // what was measured stands
            channel.warning("profile_ops", e.kind + ": " + e.what());
        }
    }
}

int run(const char *job_path) {
    static const Channel channel; // outlives whatever the engine does while the process ends
    abort_channel = &channel;
    ggml_set_abort_callback(on_abort);
    try {
        run_job(read_job(job_path), channel);
        abort_channel = nullptr; // nothing follows ``done``
        channel.done(true);
        return 0;
    } catch (const JobError &e) {
        channel.error(e.kind, e.what());
    } catch (const std::bad_alloc &) {
        channel.error("out_of_memory", "the runner could not allocate memory");
    } catch (const std::exception &e) {
        channel.error("engine", e.what());
    }
    channel.done(false);
    return 1;
}

// Whether each job of a file would be taken, a job and a verdict a line: how the tests ask about many at once.
int check_jobs(const char *path) {
    const Channel channel;
    std::ifstream file(path, std::ios::binary);
    for (std::string text; std::getline(file, text);) {
        std::string kind, message;
        try {
            parse_job(text);
        } catch (const JobError &e) {
            kind = e.kind;
            message = e.what();
        }
        JsonLine line;
        channel.send(line.begin_object().add("kind", kind).add("message", message).end_object());
    }
    return 0;
}

int info(const std::vector<std::string> &globs, const std::string &root) {
    const Channel channel;
    const Library library;
    JsonLine line;
    line.begin_object();
    add_identity(line);
    utsname system{};
    uname(&system);
    line.add("machine", system.machine).add("kernel", system.release);
    line.add("page_size_bytes", static_cast<int64_t>(sysconf(_SC_PAGESIZE)));
    line.begin_object("engines").add("llama.cpp", llama_version()).end_object();
    line.begin_object("llama.cpp");
    library.add_hello(line);
    line.end_object();
    add_inventory(line, globs, root);
    channel.send(line.end_object());
    return 0;
}

int probe_peak(const char *threads_text) {
    const Channel channel;
    char *end = nullptr;
    const unsigned cores = std::thread::hardware_concurrency();
    const long threads = threads_text != nullptr ? std::strtol(threads_text, &end, 10) : std::max(1U, cores);
    if (threads < 1 || threads > 1024 || (end != nullptr && *end != '\0')) {
        std::fprintf(stderr, "probe-peak: THREADS must be from 1 to 1024\n");
        return 2;
    }
    const Library library;
    JsonLine line;
    line.begin_object();
    add_identity(line);
    add_peaks(line, library, static_cast<int>(threads));
    channel.send(line.end_object());
    return 0;
}

int main(const std::vector<std::string> &words) {
    const std::string command = words.empty() ? "" : words[0];
    if (command == "run" && words.size() >= 2) {
        const bool watched = words.size() >= 3 && words[2] == "--watch-stdin";
        const bool timed = watched && words.size() == 4;
        char *end = nullptr;
        const double seconds = timed ? std::strtod(words[3].c_str(), &end) : 0;
        const bool good = !timed || (*end == '\0' && seconds >= 0.1 && seconds <= 86400);
        if (good && words.size() == 2U + (watched ? 1U : 0U) + (timed ? 1U : 0U)) {
            if (watched) {
                die_with_host(seconds);
            }
            return run(words[1].c_str());
        }
    }
    if (command == "sample" && words.size() == 2) {
        return sample(words[1].c_str(), 0);
    }
    if (command == "info") {
        const bool rooted = words.size() >= 3 && words[1] == "--root";
        return info({words.begin() + (rooted ? 3 : 1), words.end()}, rooted ? words[2] : "");
    }
    if (command == "check-jobs" && words.size() == 2) {
        return check_jobs(words[1].c_str());
    }
    if (command == "probe-peak" && words.size() <= 2) {
        return probe_peak(words.size() == 2 ? words[1].c_str() : nullptr);
    }
    std::fprintf(stderr, "%s\n", usage);
    return 2;
}

} // namespace
} // namespace melt

int main(int argc, char **argv) {
    std::signal(SIGPIPE, SIG_IGN); // a reader that has gone is an error of write, not a death
    try {
        return melt::main({argv + 1, argv + argc});
    } catch (const std::exception &e) {
        std::fprintf(stderr, "melt-runner: %s\n", e.what());
        return 1;
    }
}
