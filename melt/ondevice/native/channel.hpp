// The event stream: one JSON object a line on the stdout that the runner was started with.
#pragma once

#include <stdexcept>
#include <string>

#include "json.hpp"

namespace melt {

// The run cannot go on; becomes the ``error`` event.
class JobError : public std::runtime_error {
  public:
    JobError(std::string kind_, const std::string &message) : std::runtime_error(message), kind(std::move(kind_)) {}
    std::string kind;
};

// Owns the real stdout and points file descriptor 1 at stderr, so that an engine that prints cannot spoil the stream.
class Channel {
  public:
    Channel();
    void send(const JsonLine &line) const; // writes one event, whole
    void error(const std::string &kind, const std::string &message) const;
    void warning(const std::string &kind, const std::string &message) const;
    void done(bool ok) const;
    int fd() const { return fd_; }

  private:
    int fd_;
};

JsonLine event(const char *name); // an open object that names the event

bool write_all(int fd, const char *data, size_t size);

} // namespace melt
