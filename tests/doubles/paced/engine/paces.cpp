#include "paces.hpp"

#include <algorithm>
#include <cmath>

namespace melt {
namespace {

constexpr double least_factor = 0.05; // no noise makes time run backwards
constexpr double pi = 3.14159265358979323846;

[[noreturn]] void bad(const std::string &what) { throw JobError("bad_paces", "PACED: " + what); }

double real(const Json *value, const std::string &name) {
    double found = 0;
    if (value == nullptr || !value->to_double(found)) {
        bad(name + ": must be a number");
    }
    return found;
}

// splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), as in (0, 1].
double uniform(uint64_t &state) {
    uint64_t z = state += 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return static_cast<double>(((z ^ (z >> 31)) >> 11) + 1) * 0x1p-53;
}

} // namespace

Paces::Paces(const char *text) {
    given_ = parse_object(text == nullptr ? "{}" : text, "PACED", "bad_paces");
    const Json *steps = given_.find("steps"), *stream = given_.find("stream");
    if (steps == nullptr || stream == nullptr || !stream->to_u64(state_)) {
        bad("steps and stream are wanted");
    }
    for (const Json &step : steps->items) {
        if (step.items.size() != 2) {
            bad("steps: must be pairs of seconds and a factor");
        }
        steps_.emplace_back(real(&step.items[0], "steps"), real(&step.items[1], "steps"));
    }
    for (const char *name : {"base_ms", "token_us", "square_ns", "decode_ms", "load_ms", "noise", "session_noise",
                             "trend", "since_s", "prefill_cores", "decode_cores"}) {
        number(name);
    }
    session_ = std::max(least_factor, 1 + number("session_noise") * normal());
}

void Paces::begin(int64_t t_ns, int64_t realtime_ns) {
    const double since_s = number("since_s");
    origin_ns_ = since_s > 0 ? t_ns - (realtime_ns - static_cast<int64_t>(since_s * 1e9)) : t_ns;
}

double Paces::prefill_s(double tokens, int64_t t_ns) {
    const double law_s = number("base_ms") * 1e-3 + (number("token_us") * 1e-6 + number("square_ns") * 1e-9 * tokens) * tokens;
    return law_s * factor(t_ns);
}

double Paces::decode_s(int64_t t_ns) { return number("decode_ms") * 1e-3 * factor(t_ns); }

double Paces::factor(int64_t t_ns) {
    const double elapsed_s = static_cast<double>(t_ns - origin_ns_) * 1e-9;
    double slowed = 1 + number("trend") * elapsed_s / 60;
    for (const auto &[from_s, times] : steps_) {
        slowed *= elapsed_s >= from_s ? times : 1;
    }
    return std::max(least_factor, slowed * session_ * (1 + number("noise") * normal()));
}

double Paces::number(const char *name) const { return real(given_.find(name), name); }

// Box and Muller's.
double Paces::normal() {
    const double radius = std::sqrt(-2 * std::log(uniform(state_)));
    return radius * std::cos(2 * pi * uniform(state_));
}

void Paces::add_description(JsonLine &line) const {
    const Json *model = given_.find("model");
    for (const auto &[name, value] : model == nullptr ? decltype(Json::fields){} : model->fields) {
        uint64_t count = 0;
        if (value.kind == Json::Kind::boolean) {
            line.add(name, value.boolean);
        } else if (value.to_u64(count)) {
            line.add(name, count);
        } else {
            line.add(name, value.text);
        }
    }
}

} // namespace melt
