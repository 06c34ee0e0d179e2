// What files and programs have in common as probes: a name, a schedule, and failing once aloud.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "sample_spec.hpp"
#include "sample_writer.hpp"

namespace melt {

constexpr size_t read_lines_bytes = 262144; // of a program's output, or of a file that lines are taken from

class Probe {
  public:
    Probe(const ProbeSpec &spec, int64_t start_ns);
    virtual ~Probe() = default;
    Probe(const Probe &) = delete;
    Probe &operator=(const Probe &) = delete;

    virtual void sample(SampleWriter &writer) = 0;

    // A probe that failed is left alone for some seconds.
    bool resting(int64_t now) const { return now < retry_at_ns_; }
    int64_t period_ns() const { return spec_.period_ns; }

    int64_t due_ns;

  protected:
    void succeeded(SampleWriter &writer, int64_t start_ns, int64_t end_ns, std::string_view raw);
    void failed(SampleWriter &writer, int64_t start_ns, const std::string &error, const std::string &message);

    // Of a text the lines that begin as the spec says; the next call reuses the memory.
    std::string_view only_lines(std::string_view text);

    const ProbeSpec spec_;

  private:
    std::string head_, kept_;
    int64_t retry_at_ns_ = 0, tell_at_ns_ = 0;
    bool failing_ = false;
};

std::string_view without_last_newlines(std::string_view text);

} // namespace melt
