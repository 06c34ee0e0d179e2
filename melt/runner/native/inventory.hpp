// Reads many small files of the device once, so that the host can tell what the device can measure.
#pragma once

#include <string>
#include <vector>

#include "json_writer.hpp"

namespace melt {

// Every file that the patterns name under ``root``, as ``files``: [{path, text} or {path, error}]. Besides patterns
// "uname:FIELD" and "sysconf:NAME" are understood, which no file tells. Pipes and device nodes are passed over.
void add_inventory(JsonLine &line, const std::vector<std::string> &globs, const std::string &root);

} // namespace melt
