#include "workload.hpp"

#include <algorithm>

#include "clock.hpp"
#include "kernel_counters.hpp"
#include "memory.hpp"

namespace melt {
namespace {

constexpr int64_t warmup_gen_tokens = 8;

// Stamps of one iteration; preallocated.
struct Timing {
    int64_t start_ns = 0, end_ns = 0;
    std::vector<int64_t> token_t_ns;
    std::vector<llama_token> tokens;
};

// The timed region: nothing is written, nothing of ours allocated, and in both phases nothing read.
Timing timed(Engine &engine, int64_t gen_tokens, KernelCounters &counters) {
    Timing timing;
    timing.token_t_ns.assign(static_cast<size_t>(gen_tokens), 0);
    timing.tokens.assign(static_cast<size_t>(gen_tokens), 0);
    counters.read(before);
    timing.start_ns = now_ns();
    engine.prefill();
    timing.end_ns = now_ns();
    counters.read(between); // a part of the time to the first token, and of neither phase (docs/measurement.md)
    llama_token token = engine.greedy();
    timing.token_t_ns[0] = now_ns();
    timing.tokens[0] = token;
    for (size_t i = 1; i < timing.tokens.size() && token >= 0; ++i) {
        engine.decode(token);
        token = engine.greedy();
        timing.token_t_ns[i] = now_ns();
        timing.tokens[i] = token;
    }
    counters.read(after);
    return timing;
}

template <typename T> void add_numbers(JsonLine &line, const char *name, const std::vector<T> &numbers) {
    line.begin_array(name);
    for (const T number : numbers) {
        line.add({}, static_cast<int64_t>(number));
    }
    line.end_array();
}

void iterate(Engine &engine, int64_t prompt, int64_t gen, uint64_t seed, int index, bool warmup, const Channel &channel) {
    const std::vector<llama_token> tokens = prompt_tokens(prompt, engine.n_vocab(), seed);
    engine.reset();
    engine.prepare(tokens);
    KernelCounters counters;
    const Timing timing = timed(engine, gen, counters);
    const auto nan = std::find(timing.tokens.begin(), timing.tokens.end(), -1);
    if (nan != timing.tokens.end()) {
        const std::string after = std::to_string(nan - timing.tokens.begin());
        throw JobError("nan_logits", "the logits hold a NaN after " + after + " generated tokens");
    }
    JsonLine line = event("iteration");
    line.add("index", index).add("warmup", warmup);
    line.begin_object("prefill").add("tokens", prompt).add("t_start_ns", timing.start_ns);
    line.add("t_end_ns", timing.end_ns).end_object();
    add_numbers(line, "token_t_ns", timing.token_t_ns);
    add_numbers(line, "tokens", timing.tokens);
    add_memory(line, process_memory(true));
    counters.add_counts(line);
    channel.send(line.end_object());
}

} // namespace

std::vector<llama_token> prompt_tokens(int64_t count, int n_vocab, uint64_t seed) {
    std::vector<llama_token> tokens;
    tokens.reserve(static_cast<size_t>(count));
    uint64_t state = seed;
    for (int64_t i = 0; i < count; ++i) {
        state += 0x9E3779B97F4A7C15U;
        uint64_t z = state;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
        tokens.push_back(static_cast<llama_token>((z ^ (z >> 31)) % static_cast<uint64_t>(n_vocab)));
    }
    return tokens;
}

void run_workload(Engine &engine, const Job &job, const Channel &channel) {
    const Values w = job.values("workload");
    const int64_t prompt = w.count("prompt_tokens"), gen = w.count("gen_tokens");
    const uint64_t seed = w.bits("seed");
    for (int i = 0; i < job.number("warmups"); ++i) {
        const int64_t first = std::min(prompt, warmup_prompt_tokens);
        iterate(engine, first, std::min(gen, warmup_gen_tokens), seed, i, true, channel);
    }
    if (w.text("kind") == "fixed") {
        for (int i = 0; i < job.number("iterations"); ++i) {
            iterate(engine, prompt, gen, seed, i, false, channel);
        }
        return;
    }
    const int64_t end_ns = now_ns() + static_cast<int64_t>(w.real("seconds") * 1e9);
    for (int i = 0; i == 0 || now_ns() < end_ns; ++i) {
        iterate(engine, prompt, gen, seed, i, false, channel);
    }
}

} // namespace melt
