// Reading and writing whole, and the names of what went wrong.
#pragma once

#include <cstddef>
#include <string>

namespace melt {

// A file from its start, in as many pieces as the kernel gives. False with errno set.
bool read_whole(int fd, size_t max_bytes, std::string &text);

bool write_all(int fd, const char *data, size_t size); // false with errno set

std::string errno_name(int error); // the errno's short name, "EACCES"

} // namespace melt
