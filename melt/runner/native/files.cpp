#include "files.hpp"

#include <algorithm>
#include <cerrno>
#include <poll.h>
#include <unistd.h>
#include <utility>

namespace melt {

std::string errno_name(int error) {
    static const std::pair<int, const char *> names[] = {
        {EPERM, "EPERM"},     {ENOENT, "ENOENT"},   {EIO, "EIO"},         {EAGAIN, "EAGAIN"},   {ENOMEM, "ENOMEM"},
        {EACCES, "EACCES"},   {EBUSY, "EBUSY"},     {ENODEV, "ENODEV"},   {ENOTDIR, "ENOTDIR"}, {EISDIR, "EISDIR"},
        {EINVAL, "EINVAL"},   {EMFILE, "EMFILE"},   {ENOSPC, "ENOSPC"},   {EPIPE, "EPIPE"},     {ENODATA, "ENODATA"},
        {ETIMEDOUT, "ETIMEDOUT"}, {ESRCH, "ESRCH"}, {ENXIO, "ENXIO"},     {EOPNOTSUPP, "EOPNOTSUPP"},
        {ENAMETOOLONG, "ENAMETOOLONG"}, {ELOOP, "ELOOP"}, {EINTR, "EINTR"}, {ERANGE, "ERANGE"}};
    for (const auto &[number, name] : names) {
        if (number == error) {
            return name;
        }
    }
    return std::to_string(error);
}

bool read_whole(int fd, size_t limit, std::string &text) {
    text.clear();
    char part[16384];
    while (text.size() < limit) {
        const size_t wanted = std::min(sizeof part, limit - text.size());
        const ssize_t got = pread(fd, part, wanted, static_cast<off_t>(text.size()));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return false;
        }
        if (got == 0) {
            break;
        }
        text.append(part, static_cast<size_t>(got));
    }
    return true;
}

bool write_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        const ssize_t written = write(fd, data, size);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0 && errno == EAGAIN) {
            pollfd output{fd, POLLOUT, 0};
            poll(&output, 1, -1);
            continue;
        }
        if (written <= 0) {
            return false;
        }
        data += written;
        size -= static_cast<size_t>(written);
    }
    return true;
}

} // namespace melt
