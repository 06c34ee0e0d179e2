#include "job.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "job_schema.hpp"
#include "schema.hpp"

namespace melt {
namespace {

constexpr size_t max_job_bytes = 1024 * 1024;

[[noreturn]] void bad(const std::string &what) { throw JobError("bad_job", what); }

const Json &schema() {
    static const Json parsed = parse_object(job_schema, "job.json", "bad_job");
    return parsed;
}

void check_protocol(const Json &document) {
    const Json *found = document.find("protocol");
    uint64_t number = 0;
    if (found == nullptr || !found->to_u64(number) || number != protocol()) {
        const std::string given = found == nullptr ? "none" : found->text;
        throw JobError("protocol", "job has protocol " + given + "; this runner speaks " + std::to_string(protocol()));
    }
}

} // namespace

const Json &Values::get(const char *name) const {
    const Json *found = whole_.find(name);
    if (found == nullptr) {
        throw std::logic_error(std::string(name) + ": no field of job.json");
    }
    return *found;
}

uint64_t Values::bits(const char *name) const {
    uint64_t value = 0;
    get(name).to_u64(value);
    return value;
}

double Values::real(const char *name) const {
    double value = 0;
    get(name).to_double(value);
    return value;
}

uint64_t protocol() { return Values(*schema().find("properties")->find("protocol")).bits("const"); }

Job parse_job(std::string_view text) {
    const Json document = parse_object(text, "job", "bad_job");
    check_protocol(document);
    return Job(check(schema(), document));
}

Job read_job(const char *path) {
    std::FILE *file = std::fopen(path, "rb");
    if (file == nullptr) {
        bad(std::string("job file cannot be read: ") + std::strerror(errno));
    }
    std::string text(max_job_bytes + 1, '\0');
    text.resize(std::fread(text.data(), 1, text.size(), file));
    const bool failed = std::ferror(file) != 0;
    std::fclose(file);
    if (failed) {
        bad("job file cannot be read");
    }
    if (text.size() > max_job_bytes) {
        bad("job file is larger than " + std::to_string(max_job_bytes) + " bytes");
    }
    return parse_job(text);
}

} // namespace melt
