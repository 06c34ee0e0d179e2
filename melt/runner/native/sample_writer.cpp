#include "sample_writer.hpp"

#include <cstdio>
#include <fcntl.h>
#include <unistd.h>

#include "clock.hpp"
#include "files.hpp"
#include "json_writer.hpp"

namespace melt {

SampleWriter::SampleWriter(const std::string &path)
    : fd_(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)), flushed_ns_(now_ns()) {
    pending_.reserve(64 * 1024);
}

SampleWriter::~SampleWriter() {
    if (fd_ >= 0) {
        close(fd_);
    }
}

void SampleWriter::sample(const std::string &head, int64_t start_ns, int64_t end_ns, std::string_view raw) {
    last_at_ = pending_.size();
    char stamps[64];
    std::snprintf(stamps, sizeof stamps, "{\"t_ns\":%lld,\"t_end_ns\":%lld", static_cast<long long>(start_ns),
                  static_cast<long long>(end_ns));
    pending_ += stamps;
    pending_ += head;
    append_escaped(pending_, raw);
    pending_ += "}\n";
}

void SampleWriter::tell() {
    const size_t bytes = pending_.size() - last_at_;
    if (bytes <= max_told_bytes) {
        [[maybe_unused]] const ssize_t told = write(STDOUT_FILENO, pending_.data() + last_at_, bytes);
    }
}

void SampleWriter::failure(const std::string &probe, int64_t t_ns, const std::string &error, const std::string &message) {
    JsonLine line;
    line.begin_object().add("t_ns", t_ns).add("probe", probe).add("error", error).add("message", message);
    pending_ += line.end_object().str() + "\n";
}

bool SampleWriter::flush() {
    flushed_ns_ = now_ns();
    const bool good = write_all(fd_, pending_.data(), pending_.size());
    pending_.clear();
    return good;
}

bool SampleWriter::flush_when_due(int64_t now) { return now - flushed_ns_ < flush_ns || flush(); }

} // namespace melt
