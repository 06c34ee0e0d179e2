#include "sampler.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <poll.h>
#include <sched.h>
#include <string>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

#include "clock.hpp"
#include "file_probe.hpp"
#include "program_probe.hpp"

namespace melt {
namespace {

constexpr int64_t s = 1'000'000'000;
constexpr size_t max_command_bytes = 4096;

class Sampler {
  public:
    Sampler(const SampleSpec &spec, SampleWriter &writer) : writer_(writer), start_ns_(now_ns()), watch_ns_(spec.watch_stdin_ns), heard_ns_(start_ns_) {
        for (const ProbeSpec &probe : spec.probes) {
            if (probe.read.empty()) {
                programs_.push_back(std::make_unique<ProgramProbe>(probe, start_ns_));
            } else if (probe.read.find("{pid}") != std::string::npos) {
                of_process_.push_back(probe);
            } else {
                // The first time at once: a short run has a sample of every probe.
                files_.push_back(std::make_unique<FileProbe>(probe, spec.root + probe.read, start_ns_));
            }
        }
    }

    // Until stdin ends, or falls silent for too long. False when the output cannot be written.
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
            if (watch_ns_ > 0 && now_ns() - heard_ns_ > watch_ns_) {
                return true; // the host is gone, and the link has not told
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
        heard_ns_ = now_ns();
        command_.append(part, static_cast<size_t>(got));
        for (size_t end = command_.find('\n'); end != std::string::npos; end = command_.find('\n')) {
            if (end > 0) { // an empty line only says that the host is there
                obey(command_.substr(0, end));
            }
            command_.erase(0, end + 1);
        }
        command_.resize(std::min(command_.size(), max_command_bytes)); // a line without end is no command
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
            const int64_t due_ns = deadline_after(start_ns_, probe.period_ns, now_ns() - 1);
            files_.push_back(std::make_unique<FileProbe>(probe, path, due_ns));
        }
    }

    SampleWriter &writer_;
    int64_t start_ns_;
    int64_t watch_ns_;
    int64_t heard_ns_;
    std::vector<std::unique_ptr<FileProbe>> files_;
    std::vector<std::unique_ptr<ProgramProbe>> programs_;
    std::vector<ProbeSpec> of_process_;
    std::vector<pollfd> watched_;
    std::string command_;
};

// Where it is allowed to: the runner keeps all cores busy, and a sample has its time. By the system call, which musl's
// function of that name does not make; not for the programs that are started.
void come_first() {
#ifdef SYS_sched_setscheduler
    const sched_param first{1};
    syscall(SYS_sched_setscheduler, 0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first);
#endif
}

} // namespace

int sample(const char *spec_path, int stdin_fd) {
    const SampleSpec spec = read_spec(spec_path);
    SampleWriter writer(spec.out);
    if (!writer.good()) {
        std::fprintf(stderr, "sampler: %s: %s\n", spec.out.c_str(), std::strerror(errno));
        return 1;
    }
    if (std::any_of(spec.probes.begin(), spec.probes.end(), [](const ProbeSpec &probe) { return probe.tell; })) {
        fcntl(STDOUT_FILENO, F_SETFL, fcntl(STDOUT_FILENO, F_GETFL) | O_NONBLOCK); // nobody may be reading
    }
    come_first();
    Sampler sampler(spec, writer);
    const bool looped = sampler.loop(stdin_fd);
    if (!writer.flush() || !looped) {
        std::fprintf(stderr, "sampler: %s: %s\n", spec.out.c_str(), std::strerror(errno));
        return 1;
    }
    return 0;
}

} // namespace melt
