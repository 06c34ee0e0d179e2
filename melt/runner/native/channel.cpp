#include "channel.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <unistd.h>

#include "files.hpp"

namespace melt {

Channel::Channel() : fd_(dup(1)) { dup2(2, 1); }

void Channel::send(const JsonLine &line) const {
    const std::string text = line.str() + "\n";
    if (!write_all(fd_, text.data(), text.size())) {
        std::fprintf(stderr, "melt-runner: the event stream cannot be written: %s\n", std::strerror(errno));
        _exit(3); // the host's end is gone, so there is nobody else to tell
    }
}

void Channel::error(const std::string &kind, const std::string &message) const {
    send(event("error").add("kind", kind).add("message", message).end_object());
}

void Channel::warning(const std::string &kind, const std::string &message) const {
    send(event("warning").add("kind", kind).add("message", message).end_object());
}

void Channel::done(bool ok) const { send(event("done").add("status", ok ? "ok" : "error").end_object()); }

JsonLine event(const char *name) {
    JsonLine line;
    line.begin_object().add("event", name);
    return line;
}

} // namespace melt
