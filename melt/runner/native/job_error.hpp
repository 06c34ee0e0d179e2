// Why a run cannot go on.
#pragma once

#include <stdexcept>
#include <string>

namespace melt {

// Becomes the ``error`` event.
class JobError : public std::runtime_error {
  public:
    JobError(std::string kind_, const std::string &message) : std::runtime_error(message), kind(std::move(kind_)) {}
    std::string kind;
};

} // namespace melt
