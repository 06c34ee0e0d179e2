#include "job.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "json_reader.hpp"

namespace melt {
namespace {

constexpr size_t max_job_bytes = 1024 * 1024;

[[noreturn]] void bad(const std::string &what) { throw JobError("bad_job", what); }

// Reads fields out of one object, and knows which were asked for, so that what is left over is an unknown key.
class Fields {
  public:
    Fields(const Json &object, std::string prefix) : object_(object), prefix_(std::move(prefix)) {}

    const Json *find(const char *name) {
        known_.emplace_back(name);
        return object_.find(name);
    }

    void string(const char *name, std::string &value, bool required = false) {
        const Json *found = take(name, required);
        if (found != nullptr) {
            require(found->kind == Json::Kind::string, name, "a string");
            value = found->text;
        }
    }

    void one_of(const char *name, std::string &value, std::initializer_list<const char *> allowed) {
        const Json *found = take(name, false);
        if (found == nullptr) {
            return;
        }
        std::string names;
        for (const char *word : allowed) {
            names += (names.empty() ? "" : ", ") + std::string(word);
        }
        const bool good = found->kind == Json::Kind::string &&
                          std::any_of(allowed.begin(), allowed.end(), [&](const char *w) { return found->text == w; });
        require(good, name, "one of " + names);
        value = found->text;
    }

    void boolean(const char *name, bool &value) {
        const Json *found = take(name, false);
        if (found != nullptr) {
            require(found->kind == Json::Kind::boolean, name, "true or false");
            value = found->boolean;
        }
    }

    template <typename T>
    void integer(const char *name, T &value, uint64_t low, uint64_t high, bool required = false) {
        const Json *found = take(name, required);
        if (found == nullptr) {
            return;
        }
        uint64_t number = 0;
        const bool good = found->to_u64(number) && number >= low && number <= high;
        require(good, name, "an integer from " + std::to_string(low) + " to " + std::to_string(high));
        value = static_cast<T>(number);
    }

    void require(bool holds, const char *name, const std::string &wanted) const {
        if (!holds) {
            bad(prefix_ + name + ": must be " + wanted);
        }
    }

    void only_known() const {
        for (const auto &[name, value] : object_.fields) {
            if (std::find(known_.begin(), known_.end(), name) == known_.end()) {
                bad(prefix_ + name + ": unknown key");
            }
        }
    }

  private:
    const Json *take(const char *name, bool required) {
        const Json *found = find(name);
        if (found == nullptr && required) {
            bad(prefix_ + name + ": missing");
        }
        return found;
    }

    const Json &object_;
    std::string prefix_;
    std::vector<std::string> known_;
};

Workload parse_workload(const Json *found) {
    if (found == nullptr || found->kind != Json::Kind::object) {
        bad("workload: missing or not an object");
    }
    Workload workload;
    Fields fields(*found, "workload.");
    fields.one_of("kind", workload.kind, {"fixed", "sustained"});
    fields.integer("prompt_tokens", workload.prompt_tokens, 1, 100'000'000, true);
    fields.integer("gen_tokens", workload.gen_tokens, 1, 10'000'000, true);
    fields.integer("seed", workload.seed, 0, UINT64_MAX);
    const Json *seconds = fields.find("seconds");
    if (workload.kind == "sustained") {
        const bool good = seconds != nullptr && seconds->to_double(workload.seconds) && workload.seconds > 0 &&
                          workload.seconds <= 7 * 86400;
        fields.require(good, "seconds", "seconds up to a week");
    }
    fields.only_known();
    return workload;
}

void check_protocol(const Json &document) {
    const Json *found = document.find("protocol");
    uint64_t number = 0;
    if (found == nullptr || !found->to_u64(number) || number != protocol) {
        const std::string given = found == nullptr ? "none" : found->text;
        throw JobError("protocol", "job has protocol " + given + "; this runner speaks " + std::to_string(protocol));
    }
}

} // namespace

Job parse_job(std::string_view text) {
    const Json document = parse_object(text, "job", "bad_job");
    check_protocol(document);
    Job job;
    Fields fields(document, "");
    fields.find("protocol");
    job.workload = parse_workload(fields.find("workload"));
    fields.string("job_id", job.job_id, true);
    fields.string("engine", job.engine, true);
    fields.string("model", job.model, true);
    fields.require(job.model.find('\0') == std::string::npos, "model", "a path");
    fields.integer("threads", job.threads, 1, 1024, true);
    fields.one_of("accelerator", job.accelerator, {"cpu", "gpu", "npu"});
    const Json *device = fields.find("device");
    if (device != nullptr && device->kind != Json::Kind::null) {
        fields.require(device->kind == Json::Kind::string, "device", "a string or null");
        job.device = device->text;
    }
    const Json *mask = fields.find("cpu_mask");
    if (mask != nullptr && mask->kind != Json::Kind::null) {
        uint64_t number = 0;
        fields.require(mask->to_u64(number) && number > 0, "cpu_mask", "an integer from 1 to 2^64 - 1, or null");
        job.cpu_mask = number;
    }
    fields.integer("batch", job.batch, 1, 1 << 20);
    fields.integer("ubatch", job.ubatch, 1, 1 << 20);
    fields.one_of("flash_attn", job.flash_attn, {"auto", "on", "off"});
    fields.string("type_k", job.type_k);
    fields.string("type_v", job.type_v);
    fields.boolean("mmap", job.mmap);
    fields.boolean("extra_buffers", job.extra_buffers);
    fields.integer("warmups", job.warmups, 0, 1000);
    fields.integer("iterations", job.iterations, 1, 100'000);
    fields.boolean("profile_ops", job.profile_ops);
    fields.only_known();
    return job;
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
