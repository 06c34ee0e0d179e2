// A program run each time for its output, or one that goes on and gives a sample a line, while the files are read.
#pragma once

#include <cstdint>
#include <string>
#include <sys/types.h>

#include "probe.hpp"

namespace melt {

class ProgramProbe : public Probe {
  public:
    ProgramProbe(const ProbeSpec &spec, int64_t start_ns) : Probe(spec, start_ns) {}
    ~ProgramProbe() override;

    void sample(SampleWriter &writer) override; // starts it, unless the last one still runs: then the tick is skipped
    void look(SampleWriter &writer);            // takes what it has written, and its end
    bool running() const { return pid_ > 0; }
    int output_fd() const { return fd_; } // -1 where there is none to wait for
    int64_t look_at_ns(int64_t now) const; // when to look again though no output came

  private:
    bool streams() const { return !spec_.stream.empty(); }
    int start();
    void drain();
    void take_lines(SampleWriter &writer);
    void ended(SampleWriter &writer, int status);
    void end();
    void reap();

    pid_t pid_ = -1, dying_ = -1;
    int fd_ = -1;
    int64_t start_ns_ = 0, window_ns_ = 0;
    size_t lines_ = 0, bytes_ = 0; // of one that goes on, in this window
    std::string output_;
};

} // namespace melt
