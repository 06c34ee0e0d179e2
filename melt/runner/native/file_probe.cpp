#include "file_probe.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.hpp"
#include "files.hpp"

namespace melt {
namespace {

char buffer[4096]; // a file of sysfs is never larger; one thread, one read at a time
std::string text;

} // namespace

FileProbe::FileProbe(const ProbeSpec &spec, std::string path, int64_t start_ns)
    : Probe(spec, start_ns), path_(std::move(path)) {}

FileProbe::~FileProbe() { let_go(); }

void FileProbe::sample(SampleWriter &writer) {
    const int64_t start_ns = now_ns();
    std::string_view raw;
    if (!open_file() || !read(raw)) {
        const int error = errno;
        let_go();
        failed(writer, start_ns, errno_name(error), std::strerror(error));
        return;
    }
    succeeded(writer, start_ns, now_ns(), raw);
}

bool FileProbe::open_file() {
    if (fd_ >= 0) {
        return true;
    }
    struct stat status {};
    if (stat(path_.c_str(), &status) != 0) {
        return false;
    }
    if (!S_ISREG(status.st_mode)) { // pipes and device nodes could block or act on being read
        errno = EINVAL;
        return false;
    }
    fd_ = open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    return fd_ >= 0;
}

bool FileProbe::read(std::string_view &raw) {
    if (spec_.lines.empty()) {
        const ssize_t got = pread(fd_, buffer, sizeof buffer, 0);
        raw = got >= 0 ? without_last_newlines({buffer, static_cast<size_t>(got)}) : "";
        return got >= 0;
    }
    if (!read_whole(fd_, read_lines_bytes, text)) {
        return false;
    }
    raw = only_lines(text);
    return true;
}

void FileProbe::let_go() {
    if (fd_ >= 0) {
        close(fd_);
    }
    fd_ = -1;
}

} // namespace melt
