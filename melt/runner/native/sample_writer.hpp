// The sampler's output file: one JSON line a sample, gathered and written a few times a second.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace melt {

constexpr int64_t flush_ns = 500'000'000;
constexpr size_t max_told_bytes = 65536;

class SampleWriter {
  public:
    explicit SampleWriter(const std::string &path);
    ~SampleWriter();
    SampleWriter(const SampleWriter &) = delete;
    SampleWriter &operator=(const SampleWriter &) = delete;

    bool good() const { return fd_ >= 0; } // else errno says why
    void sample(const std::string &head, int64_t start_ns, int64_t end_ns, std::string_view raw);
    void tell(); // the sample just taken also to stdout, which never waits; what has no room there is not told
    void failure(const std::string &probe, int64_t t_ns, const std::string &error, const std::string &message);
    bool flush(); // false where the file cannot be written
    bool flush_when_due(int64_t now);

  private:
    int fd_;
    int64_t flushed_ns_;
    size_t last_at_ = 0; // where the last sample begins in what is pending
    std::string pending_;
};

} // namespace melt
