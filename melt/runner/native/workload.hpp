// The timed loop.
#pragma once

#include <vector>

#include "channel.hpp"
#include "engine.hpp"
#include "job.hpp"

namespace melt {

// A warm-up pages the weights in, builds the graphs of both phases and wakes the thread pool. A longer one was not
// seen to change the first timed prefill (docs/measurement.md).
constexpr int64_t warmup_prompt_tokens = 128;

// Seeded random token ids, the same in every runner: splitmix64 of seed, modulo the vocabulary. Source of the
// generator: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
std::vector<llama_token> prompt_tokens(int64_t count, int n_vocab, uint64_t seed);

// Warm-ups, then the timed iterations (or as many as fit the seconds asked for), an event after each.
// Throws JobError: the logits hold a NaN, or the engine fails.
void run_workload(Engine &engine, const Job &job, const Channel &channel);

} // namespace melt
