#include "program_probe.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "clock.hpp"
#include "files.hpp"

extern char **environ;

namespace melt {
namespace {

constexpr int64_t timeout_ns = 5'000'000'000;
constexpr int64_t reap_ns = 10'000'000; // how often a program is looked at that has closed its output and lives on
constexpr int max_reads = 8;
constexpr size_t max_line_bytes = 4096;
constexpr int64_t flood_window_ns = 1'000'000'000;
constexpr size_t max_flood_lines = 1000, max_flood_bytes = 1024 * 1024;

} // namespace

ProgramProbe::~ProgramProbe() { end(); }

int64_t ProgramProbe::look_at_ns(int64_t now) const {
    return fd_ < 0 ? now + reap_ns : streams() ? now + timeout_ns : start_ns_ + timeout_ns;
}

void ProgramProbe::sample(SampleWriter &writer) {
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

void ProgramProbe::look(SampleWriter &writer) {
    if (pid_ <= 0) {
        return;
    }
    drain();
    if (streams()) {
        take_lines(writer);
        if (pid_ <= 0) {
            return;
        }
    }
    int status = 0;
    if (fd_ < 0 && waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = -1;
        ended(writer, status);
    } else if (!streams() && now_ns() - start_ns_ > timeout_ns) {
        end();
        failed(writer, start_ns_, "ETIMEDOUT", "took longer than 5 s");
    }
}

int ProgramProbe::start() {
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
    for (const std::string &word : streams() ? spec_.stream : spec_.exec) {
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

void ProgramProbe::reap() {
    if (dying_ > 0 && waitpid(dying_, nullptr, WNOHANG) != 0) {
        dying_ = -1;
    }
}

// A few reads at a time, so that a program that never pauses does not keep the files from being read.
void ProgramProbe::drain() {
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

// Whole lines, stamped as they come; a line without end is cut. One that floods is ended: it would disturb the model.
void ProgramProbe::take_lines(SampleWriter &writer) {
    const int64_t now = now_ns();
    if (now - window_ns_ > flood_window_ns) {
        window_ns_ = now;
        lines_ = bytes_ = 0;
    }
    size_t begin = 0;
    for (size_t end = output_.find('\n'); end != std::string::npos; end = output_.find('\n', begin)) {
        const std::string_view line(output_.data() + begin, std::min(end - begin, max_line_bytes));
        const bool wanted = spec_.lines.empty() || !only_lines(line).empty();
        if (!line.empty() && wanted && lines_ <= max_flood_lines) {
            succeeded(writer, now, now, line);
        }
        ++lines_;
        begin = end + 1;
    }
    const size_t rest = std::min(output_.size() - begin, max_line_bytes);
    bytes_ += output_.size() - rest;
    output_ = output_.substr(begin, rest);
    if (lines_ > max_flood_lines || bytes_ > max_flood_bytes) {
        end();
        failed(writer, now, "EOVERFLOW", "says more than a thousand lines or a MiB a second");
    }
}

void ProgramProbe::ended(SampleWriter &writer, int status) {
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    if (streams()) { // it is to go on for as long as the sampler
        failed(writer, now_ns(), "EXIT" + std::to_string(code), "ended by itself");
    } else if (code == 0) {
        const std::string_view all = without_last_newlines(output_);
        succeeded(writer, start_ns_, now_ns(), spec_.lines.empty() ? all : only_lines(all));
    } else {
        failed(writer, start_ns_, "EXIT" + std::to_string(code), "exit status " + std::to_string(code));
    }
}

// Does not wait for its death: a program in the kernel's hands may not die for long.
void ProgramProbe::end() {
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

} // namespace melt
