// The device's own peaks, for the roofline: memory bandwidth and matrix products, a few seconds in all.
#pragma once

#include "engine.hpp"
#include "json_writer.hpp"

namespace melt {

// ``peaks``: for each compute device the FLOP/s of a large matrix product by weight type, and the bytes/s at which a
// matrix-vector product streams weights; for the CPU also plain reading. Best of several passes.
void add_peaks(JsonLine &line, const Library &library, int threads);

} // namespace melt
