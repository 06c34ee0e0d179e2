// A file kept open and read from its start each time.
#pragma once

#include <string>
#include <string_view>

#include "probe.hpp"

namespace melt {

class FileProbe : public Probe {
  public:
    FileProbe(const ProbeSpec &spec, std::string path, int64_t start_ns);
    ~FileProbe() override;
    void sample(SampleWriter &writer) override;

  private:
    bool open_file();
    bool read(std::string_view &raw);
    void let_go();

    std::string path_;
    int fd_ = -1;
};

} // namespace melt
