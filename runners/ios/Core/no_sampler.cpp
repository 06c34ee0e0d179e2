// An app does not sample: the phone's instruments do, and send what they see to the computer.
#include <cstdio>

#include "sampler.hpp"

namespace melt {

int sample(const char *, int) {
    std::fprintf(stderr, "melt's app has no sampler\n");
    return 2;
}

} // namespace melt
