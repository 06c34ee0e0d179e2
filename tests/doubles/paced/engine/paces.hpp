// How long each pass of the paced engine takes: a law of cost, seeded noise, and what slows it as time goes on.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "json_reader.hpp"
#include "json_writer.hpp"

namespace melt {

class Paces {
  public:
    // Of JSON text, an object: numbers by the names of the backend's options, ``steps`` as [[seconds, factor], ...],
    // ``stream`` to draw the noise from, and ``model``, which is described as it stands. Throws JobError bad_paces.
    explicit Paces(const char *text);

    void begin(int64_t t_ns, int64_t realtime_ns); // steps and trend count from here, unless ``since_s`` says otherwise
    double load_s() const { return number("load_ms") * 1e-3; }
    double prefill_s(double tokens, int64_t t_ns);
    double decode_s(int64_t t_ns);
    double prefill_cores() const { return number("prefill_cores"); }
    double decode_cores() const { return number("decode_cores"); }
    void add_description(JsonLine &line) const;

  private:
    double number(const char *name) const;
    double factor(int64_t t_ns);
    double normal(); // the next of a stream of standard normal numbers

    Json given_;
    std::vector<std::pair<double, double>> steps_;
    uint64_t state_ = 0;
    double session_ = 1;
    int64_t origin_ns_ = 0;
};

} // namespace melt
