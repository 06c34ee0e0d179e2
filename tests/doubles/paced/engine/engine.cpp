#include "engine.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sched.h>
#include <unistd.h>

#include "clock.hpp"

namespace melt {
namespace {

constexpr int64_t most_late_ns = 20'000'000;

void wait_until(int64_t t_ns) {
    const timespec due{static_cast<time_t>(t_ns / 1'000'000'000), static_cast<long>(t_ns % 1'000'000'000)};
    while (clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &due, nullptr) == EINTR) {
    }
}

// A wait ends on time although others want the processor, where this is allowed; elsewhere no later than it must.
void be_on_time() {
    sched_param first{};
    first.sched_priority = 1;
    syscall(SYS_sched_setscheduler, 0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first);
    prctl(PR_SET_TIMERSLACK, 1UL);
}

// The boxes read the name of a process for how many cores it seems to keep busy (tests/doubles/phone/load.py).
void seem_busy(double cores) {
    char name[16];
    std::snprintf(name, sizeof name, "paced %.3f", std::min(cores, 99.0));
    prctl(PR_SET_NAME, name);
}

void check_model(const std::string &path) {
    char magic[4] = {};
    std::FILE *file = std::fopen(path.c_str(), "rb");
    const bool is_gguf = file != nullptr && std::fread(magic, 1, 4, file) == 4 && std::memcmp(magic, "GGUF", 4) == 0;
    if (file != nullptr) {
        std::fclose(file);
    }
    if (!is_gguf) {
        throw JobError("model_load", path + ": no GGUF file");
    }
}

} // namespace

void Library::add_hello(JsonLine &line) const {
    line.add("engine", "paced").add("engine_version", llama_version());
    line.begin_object("engine_build").add("compiler", MELT_COMPILER).add("target", MELT_TARGET).end_object();
    line.add("system_info", "waits and computes nothing").begin_array("accelerators").begin_object();
    line.add("name", "CPU").add("kind", "cpu").add("description", "none is used").end_object().end_array();
}

Engine::Engine(const Library &, const Job &job) : job_(job), paces_(std::getenv("PACED")) {
    if (job.text("accelerator") != "cpu") {
        throw JobError("accelerator", "this engine has the CPU alone");
    }
    be_on_time();
    check_model(job.text("model"));
    wait_until(now_ns() + static_cast<int64_t>(paces_.load_s() * 1e9));
    paces_.begin(now_ns(), realtime_ns());
}

Engine::~Engine() { seem_busy(0); }

void Engine::add_description(JsonLine &line) const {
    const Values w = job_.values("workload");
    paces_.add_description(line);
    line.add("n_ctx", w.count("prompt_tokens") + w.count("gen_tokens")).add("n_vocab", n_vocab());
    line.add("threads", job_.number("threads"));
    line.begin_array("buffers").end_array();
    line.add("effective_accelerator", "cpu").add("effective_device", "CPU");
}

void Engine::reset() { seem_busy(0); }

void Engine::prepare(const std::vector<llama_token> &tokens) {
    prompt_tokens_ = static_cast<int64_t>(tokens.size());
    position_ = 0;
}

void Engine::prefill() {
    seem_busy(paces_.prefill_cores());
    due_ns_ = now_ns();
    pass(paces_.prefill_s(static_cast<double>(prompt_tokens_), due_ns_));
}

void Engine::decode(llama_token) {
    if (position_++ == 0) {
        seem_busy(paces_.decode_cores());
    }
    pass(paces_.decode_s(due_ns_));
}

llama_token Engine::greedy() { return static_cast<llama_token>(position_ % n_vocab()); }

// A pass that ends late, as a machine has other work, does not make those behind it late; one that was stopped does.
void Engine::pass(double seconds) {
    const auto pace_ns = static_cast<int64_t>(seconds * 1e9);
    due_ns_ = std::max(due_ns_, now_ns() - std::max(pace_ns, most_late_ns)) + pace_ns;
    wait_until(due_ns_);
}

} // namespace melt
