// The event stream: one JSON object a line on the stdout that the runner was started with.
#pragma once

#include <string>

#include "job_error.hpp"
#include "json_writer.hpp"

namespace melt {

// Owns the real stdout and points file descriptor 1 at stderr, so that an engine that prints cannot spoil the stream.
class Channel {
  public:
    Channel();
    void send(const JsonLine &line) const; // writes one event, whole
    void error(const std::string &kind, const std::string &message) const;
    void warning(const std::string &kind, const std::string &message) const;
    void done(bool ok) const;

  private:
    int fd_;
};

JsonLine event(const char *name); // an open object that names the event

} // namespace melt
