#include "peak.hpp"

namespace melt {

void add_peaks(JsonLine &line, const Library &, int) { line.begin_array("peaks").end_array(); }

} // namespace melt
