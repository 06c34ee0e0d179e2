// Where the time goes, by operator: a separate pass, node by node, never a timed iteration.
#pragma once

#include "channel.hpp"
#include "engine.hpp"
#include "job.hpp"

namespace melt {

// What kind of work a graph node is: attention, gemm, scan, conv, norm, elementwise, copy, embedding, output or other.
const char *category_of(const ggml_tensor *node);

// Two ``ops`` events: the prefill of the job's prompt, and the decoding of some tokens behind it.
void profile_ops(Engine &engine, const Job &job, const Channel &channel);

} // namespace melt
