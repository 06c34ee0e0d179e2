#include "sampler.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <poll.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel.hpp"
#include "clock.hpp"
#include "inventory.hpp"
#include "json.hpp"

extern char **environ;

namespace melt {
namespace {

constexpr int64_t ms = 1'000'000, s = 1'000'000'000;
constexpr int64_t retry_ns = 5 * s; // how long a probe that failed is left alone
constexpr int64_t flush_ns = s / 2;
constexpr int64_t exec_timeout_ns = 5 * s;
constexpr int64_t reap_ns = 10 * ms; // how often a program is looked at that has closed its output and lives on
constexpr size_t read_bytes = 4096;  // a file of sysfs is never larger
constexpr size_t read_lines_bytes = 262144;
constexpr size_t max_spec_bytes = 1024 * 1024;
constexpr uint64_t max_period_ms = 86'400'000;

[[noreturn]] void bad(const std::string &what) { throw JobError("bad_spec", what); }

std::vector<std::string> strings(const Json *found, const std::string &field) {
    std::vector<std::string> texts;
    if (found == nullptr || found->kind == Json::Kind::null) {
        return texts;
    }
    if (found->kind != Json::Kind::array) {
        bad(field + ": must be a list of strings");
    }
    for (const Json &item : found->items) {
        if (item.kind != Json::Kind::string || item.text.find('\0') != std::string::npos) {
            bad(field + ": must be a list of strings");
        }
        texts.push_back(item.text);
    }
    return texts;
}

std::string string(const Json *found, const std::string &field) {
    if (found == nullptr || found->kind == Json::Kind::null) {
        return "";
    }
    if (found->kind != Json::Kind::string || found->text.find('\0') != std::string::npos) {
        bad(field + ": must be a string");
    }
    return found->text;
}

int64_t period(const Json *found, int64_t otherwise_ns, const std::string &field) {
    if (found == nullptr || found->kind == Json::Kind::null) {
        return otherwise_ns;
    }
    uint64_t number = 0;
    if (!found->to_u64(number) || number < 1 || number > max_period_ms) {
        bad(field + ": must be milliseconds from 1 to a day");
    }
    return static_cast<int64_t>(number) * ms;
}

ProbeSpec parse_probe(const Json &item, int64_t period_ns, const std::string &field) {
    if (item.kind != Json::Kind::object) {
        bad(field + ": must be an object");
    }
    ProbeSpec probe;
    probe.name = string(item.find("name"), field + ".name");
    probe.read = string(item.find("read"), field + ".read");
    probe.exec = strings(item.find("exec"), field + ".exec");
    probe.lines = strings(item.find("lines"), field + ".lines");
    probe.period_ns = period(item.find("period_ms"), period_ns, field + ".period_ms");
    if (probe.name.empty() || probe.read.empty() == probe.exec.empty()) {
        bad(field + ": needs a name, and a file to read or a program to run");
    }
    return probe;
}

// The output file; samples are gathered and written a few times a second.
class Writer {
  public:
    explicit Writer(const std::string &path)
        : fd_(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)), flushed_ns_(now_ns()) {
        pending_.reserve(64 * 1024);
    }
    ~Writer() {
        if (fd_ >= 0) {
            close(fd_);
        }
    }
    Writer(const Writer &) = delete;
    Writer &operator=(const Writer &) = delete;

    bool good() const { return fd_ >= 0; }

    void sample(const std::string &head, int64_t start_ns, int64_t end_ns, std::string_view raw) {
        char stamps[64];
        std::snprintf(stamps, sizeof stamps, "{\"t_ns\":%lld,\"t_end_ns\":%lld", static_cast<long long>(start_ns),
                      static_cast<long long>(end_ns));
        pending_ += stamps;
        pending_ += head;
        append_escaped(pending_, raw);
        pending_ += "}\n";
    }

    void failure(const std::string &probe, int64_t t_ns, const std::string &error, const std::string &message) {
        JsonLine line;
        line.begin_object().add("t_ns", t_ns).add("probe", probe).add("error", error).add("message", message);
        pending_ += line.end_object().str() + "\n";
    }

    bool flush() {
        flushed_ns_ = now_ns();
        const bool good = write_all(fd_, pending_.data(), pending_.size());
        pending_.clear();
        return good;
    }

    bool flush_when_due(int64_t now) { return now - flushed_ns_ < flush_ns || flush(); }

  private:
    int fd_;
    int64_t flushed_ns_;
    std::string pending_;
};

// What files and programs have in common: a name, a schedule, and failing once aloud.
struct Probe {
    Probe(const ProbeSpec &spec, int64_t start_ns) : spec_(spec), due_ns(start_ns) {
        head_ = ",\"probe\":";
        append_escaped(head_, spec.name);
        head_ += ",\"raw\":";
    }
    virtual ~Probe() = default;
    virtual void sample(Writer &writer) = 0;

    bool resting(int64_t now) const { return now < retry_at_ns_; }

  protected:
    void succeeded(Writer &writer, int64_t start_ns, int64_t end_ns, std::string_view raw) {
        failing_ = false;
        writer.sample(head_, start_ns, end_ns, raw);
    }

    void failed(Writer &writer, int64_t start_ns, const std::string &error, const std::string &message) {
        retry_at_ns_ = start_ns + retry_ns;
        if (!failing_) {
            writer.failure(spec_.name, start_ns, error, message);
        }
        failing_ = true;
    }

    const ProbeSpec spec_;
    std::string head_;
    int64_t retry_at_ns_ = 0;
    bool failing_ = false;

  public:
    int64_t due_ns;
    int64_t period_ns() const { return spec_.period_ns; }
};

std::string_view without_last_newlines(std::string_view text) {
    while (!text.empty() && text.back() == '\n') {
        text.remove_suffix(1);
    }
    return text;
}

// A file kept open and read from its start each time.
class FileProbe : public Probe {
  public:
    FileProbe(const ProbeSpec &spec, std::string path, int64_t start_ns) : Probe(spec, start_ns), path_(std::move(path)) {}
    ~FileProbe() override { let_go(); }

    void sample(Writer &writer) override {
        const int64_t start_ns = now_ns();
        std::string_view raw;
        if (!open_file() || !read(raw)) {
            const int error = errno;
            let_go();
            failed(writer, start_ns, errno_name(error), std::strerror(error));
            return;
        }
        succeeded(writer, start_ns, now_ns(), raw);
    }

  private:
    bool open_file() {
        if (fd_ >= 0) {
            return true;
        }
        struct stat status {};
        if (stat(path_.c_str(), &status) != 0) {
            return false;
        }
        if (!S_ISREG(status.st_mode)) { // pipes and device nodes could block or act on being read
            errno = EINVAL;
            return false;
        }
        fd_ = open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        return fd_ >= 0;
    }

    bool read(std::string_view &raw) {
        if (spec_.lines.empty()) {
            const ssize_t got = pread(fd_, buffer_, sizeof buffer_, 0);
            raw = got >= 0 ? without_last_newlines({buffer_, static_cast<size_t>(got)}) : "";
            return got >= 0;
        }
        if (!read_whole(fd_, read_lines_bytes, text_)) {
            return false;
        }
        keep_lines();
        raw = kept_;
        return true;
    }

    void keep_lines() {
        kept_.clear();
        for (size_t at = 0; at < text_.size();) {
            const size_t end = std::min(text_.find('\n', at), text_.size());
            const std::string_view line(text_.data() + at, end - at);
            const auto starts = [&](const std::string &with) { return line.substr(0, with.size()) == with; };
            if (std::any_of(spec_.lines.begin(), spec_.lines.end(), starts)) {
                kept_ += kept_.empty() ? "" : "\n";
                kept_ += line;
            }
            at = end + 1;
        }
    }

    void let_go() {
        if (fd_ >= 0) {
            close(fd_);
        }
        fd_ = -1;
    }

    std::string path_;
    int fd_ = -1;
    static inline char buffer_[read_bytes]; // one thread, one read at a time
    static inline std::string text_, kept_;
};

// A program run each time for its output, while the files go on being read.
class ExecProbe : public Probe {
  public:
    ExecProbe(const ProbeSpec &spec, int64_t start_ns) : Probe(spec, start_ns) {}
    ~ExecProbe() override { end(); }

    void sample(Writer &writer) override {
        reap();
        if (pid_ > 0 || dying_ > 0) {
            return; // still running: this tick is skipped
        }
        start_ns_ = now_ns();
        const int error = start();
        if (error != 0) {
            failed(writer, start_ns_, errno_name(error), std::strerror(error));
        }
    }

    bool running() const { return pid_ > 0; }
    int output_fd() const { return fd_; }
    // When to look again without output: at the time-out, or soon where the output is closed.
    int64_t look_at_ns(int64_t now) const { return fd_ >= 0 ? start_ns_ + exec_timeout_ns : now + reap_ns; }

    void look(Writer &writer) {
        if (pid_ <= 0) {
            return;
        }
        drain();
        int status = 0;
        if (fd_ < 0 && waitpid(pid_, &status, WNOHANG) == pid_) {
            pid_ = -1;
            ended(writer, status);
        } else if (now_ns() - start_ns_ > exec_timeout_ns) {
            end();
            failed(writer, start_ns_, "ETIMEDOUT", "took longer than 5 s");
        }
    }

  private:
    int start() {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) != 0) {
            return errno;
        }
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attributes);
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
        sigset_t usual;
        sigemptyset(&usual);
        sigaddset(&usual, SIGPIPE); // ignored here, but not there
        posix_spawnattr_setsigdefault(&attributes, &usual);
        // A group of its own, so that it is ended with all it started.
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
        posix_spawnattr_setpgroup(&attributes, 0);
        std::vector<char *> argv;
        for (const std::string &word : spec_.exec) {
            argv.push_back(const_cast<char *>(word.c_str()));
        }
        argv.push_back(nullptr);
        const int error = posix_spawnp(&pid_, argv[0], &actions, &attributes, argv.data(), environ);
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attributes);
        close(ends[1]);
        if (error != 0) {
            close(ends[0]);
            pid_ = -1;
            return error;
        }
        fcntl(ends[0], F_SETFL, O_NONBLOCK);
        fd_ = ends[0];
        output_.clear();
        return 0;
    }

    void reap() {
        if (dying_ > 0 && waitpid(dying_, nullptr, WNOHANG) != 0) {
            dying_ = -1;
        }
    }

    // A few reads at a time, so that a program that never pauses does not keep the files from being read.
    void drain() {
        char part[16384];
        for (int reads = 0; fd_ >= 0 && reads < max_reads; ++reads) {
            const ssize_t got = ::read(fd_, part, sizeof part);
            if (got > 0) {
                output_.append(part, std::min(static_cast<size_t>(got), read_lines_bytes - output_.size()));
            } else if (got == 0 || (errno != EINTR && errno != EAGAIN)) {
                close(fd_);
                fd_ = -1;
            } else if (errno == EAGAIN) {
                return;
            }
        }
    }

    void ended(Writer &writer, int status) {
        const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
        if (code == 0) {
            succeeded(writer, start_ns_, now_ns(), without_last_newlines(output_));
        } else {
            failed(writer, start_ns_, "EXIT" + std::to_string(code), "exit status " + std::to_string(code));
        }
    }

    // Does not wait for its death: a program in the kernel's hands may not die for long.
    void end() {
        if (pid_ > 0) {
            kill(-pid_, SIGKILL);
            dying_ = pid_;
        }
        pid_ = -1;
        reap();
        if (fd_ >= 0) {
            close(fd_);
        }
        fd_ = -1;
    }

    static constexpr int max_reads = 8;
    pid_t pid_ = -1, dying_ = -1;
    int fd_ = -1;
    int64_t start_ns_ = 0;
    std::string output_;
};

class Sampler {
  public:
    Sampler(const SampleSpec &spec, Writer &writer) : writer_(writer), start_ns_(now_ns()) {
        for (const ProbeSpec &probe : spec.probes) {
            if (!probe.exec.empty()) {
                programs_.push_back(std::make_unique<ExecProbe>(probe, start_ns_));
            } else if (probe.read.find("{pid}") != std::string::npos) {
                of_process_.push_back(probe);
            } else {
                files_.push_back(std::make_unique<FileProbe>(probe, spec.root + probe.read, first_due(probe)));
            }
        }
    }

    // Until stdin ends. False when the output cannot be written.
    bool loop(int stdin_fd) {
        while (true) {
            std::vector<pollfd> &watched = watch(stdin_fd);
            const int64_t wait_ns = std::max<int64_t>(0, next_ns() - now_ns());
            const timespec timeout{static_cast<time_t>(wait_ns / s), static_cast<long>(wait_ns % s)};
            if (ppoll(watched.data(), watched.size(), &timeout, nullptr) < 0 && errno != EINTR) {
                return false;
            }
            if (watched[0].revents != 0 && !listen(stdin_fd)) {
                return true;
            }
            for (const auto &program : programs_) {
                program->look(writer_);
            }
            take_due(now_ns());
            if (!writer_.flush_when_due(now_ns())) {
                return false;
            }
        }
    }

  private:
    int64_t first_due(const ProbeSpec &probe) const { return deadline_after(start_ns_, probe.period_ns, now_ns() - 1); }

    std::vector<pollfd> &watch(int stdin_fd) {
        watched_.clear();
        watched_.push_back({stdin_fd, POLLIN, 0});
        for (const auto &program : programs_) {
            if (program->output_fd() >= 0) {
                watched_.push_back({program->output_fd(), POLLIN, 0});
            }
        }
        return watched_;
    }

    int64_t next_ns() const {
        const int64_t now = now_ns();
        int64_t next = now + flush_ns;
        for (const auto &file : files_) {
            next = std::min(next, file->due_ns);
        }
        for (const auto &program : programs_) {
            next = std::min(next, program->running() ? program->look_at_ns(now) : program->due_ns);
        }
        return next;
    }

    void take_due(int64_t now) {
        const auto take = [&](Probe &probe) {
            if (probe.due_ns <= now) {
                if (!probe.resting(now)) {
                    probe.sample(writer_);
                }
                probe.due_ns = deadline_after(start_ns_, probe.period_ns(), now);
            }
        };
        for (const auto &file : files_) {
            take(*file);
        }
        for (const auto &program : programs_) {
            take(*program);
        }
    }

    // False at the end of stdin.
    bool listen(int stdin_fd) {
        char part[4096];
        const ssize_t got = ::read(stdin_fd, part, sizeof part);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) {
            return true;
        }
        if (got <= 0) {
            return false;
        }
        command_.append(part, static_cast<size_t>(got));
        for (size_t end = command_.find('\n'); end != std::string::npos; end = command_.find('\n')) {
            obey(command_.substr(0, end));
            command_.erase(0, end + 1);
        }
        command_.resize(std::min(command_.size(), read_bytes)); // a line without end is no command
        return true;
    }

    void obey(const std::string &line) {
        int pid = 0;
        char rest = 0;
        if (std::sscanf(line.c_str(), "pid %9d %c", &pid, &rest) != 1 || pid <= 0) {
            std::fprintf(stderr, "sampler: not understood: %.80s\n", line.c_str());
            return;
        }
        for (const ProbeSpec &probe : of_process_) {
            // Never under the root: the process is this machine's own, whatever tree the rest is read from.
            std::string path = probe.read;
            for (size_t at = path.find("{pid}"); at != std::string::npos; at = path.find("{pid}")) {
                path.replace(at, 5, std::to_string(pid));
            }
            files_.push_back(std::make_unique<FileProbe>(probe, path, first_due(probe)));
        }
    }

    Writer &writer_;
    int64_t start_ns_;
    std::vector<std::unique_ptr<FileProbe>> files_;
    std::vector<std::unique_ptr<ExecProbe>> programs_;
    std::vector<ProbeSpec> of_process_;
    std::vector<pollfd> watched_;
    std::string command_;
};

} // namespace

SampleSpec parse_spec(std::string_view text) {
    Json document;
    std::string problem;
    if (!parse_json(text, document, problem)) {
        bad("spec is not JSON: " + problem);
    }
    if (document.kind != Json::Kind::object) {
        bad("a spec is a JSON object");
    }
    SampleSpec spec;
    spec.out = string(document.find("out"), "out");
    spec.root = string(document.find("root"), "root");
    const int64_t period_ns = period(document.find("period_ms"), 100 * ms, "period_ms");
    const Json *probes = document.find("probes");
    if (spec.out.empty() || probes == nullptr || probes->kind != Json::Kind::array) {
        bad("needs out, a path, and probes, a list");
    }
    for (size_t i = 0; i < probes->items.size(); ++i) {
        spec.probes.push_back(parse_probe(probes->items[i], period_ns, "probes[" + std::to_string(i) + "]"));
    }
    return spec;
}

int sample(const char *spec_path, int stdin_fd) {
    const int fd = open(spec_path, O_RDONLY | O_CLOEXEC);
    std::string text;
    const bool read = fd >= 0 && read_whole(fd, max_spec_bytes, text);
    if (!read) {
        std::fprintf(stderr, "sampler: %s: %s\n", spec_path, std::strerror(errno));
        return 1;
    }
    close(fd);
    const SampleSpec spec = parse_spec(text);
    Writer writer(spec.out);
    if (!writer.good()) {
        std::fprintf(stderr, "sampler: %s: %s\n", spec.out.c_str(), std::strerror(errno));
        return 1;
    }
    Sampler sampler(spec, writer);
    const bool looped = sampler.loop(stdin_fd);
    if (!writer.flush() || !looped) {
        std::fprintf(stderr, "sampler: %s: %s\n", spec.out.c_str(), std::strerror(errno));
        return 1;
    }
    return 0;
}

} // namespace melt
