#include "bridge.h"

#include <cstdio>
#include <fcntl.h>
#include <string>
#include <unistd.h>
#include <vector>

#include "clock.hpp"
#include "json_writer.hpp"

int melt_runner_main(int argc, char **argv); // main.cpp's own main, by that name here

namespace {

int open_to_add(const char *path) { return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644); }

int add_line(const char *path, const melt::JsonLine &line) {
    const std::string text = line.str() + "\n";
    const int file = open_to_add(path);
    if (file < 0) {
        return -1;
    }
    const bool whole = write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    close(file);
    return whole ? 0 : -1;
}

} // namespace

extern "C" int melt_run(int argc, const char *const *argv, const char *events_path) {
    const int events = open_to_add(events_path);
    // The runner's channel is the stdout it finds: without a pipe between, nothing is lost when the process is killed.
    if (events < 0 || dup2(events, STDOUT_FILENO) < 0) {
        return 2;
    }
    close(events);
    std::vector<std::string> words{"melt-runner"};
    words.insert(words.end(), argv, argv + argc);
    std::vector<char *> pointers;
    for (std::string &word : words) {
        pointers.push_back(word.data());
    }
    pointers.push_back(nullptr);
    return melt_runner_main(argc + 1, pointers.data());
}

extern "C" int melt_warn(const char *events_path, const char *kind, const char *message) {
    melt::JsonLine line;
    line.begin_object().add("event", "warning").add("kind", kind).add("message", message);
    return add_line(events_path, line.end_object());
}

extern "C" int melt_sample_memory(const char *telemetry_path, uint64_t available_bytes) {
    melt::JsonLine raw;
    raw.begin_object().add("available_bytes", available_bytes).end_object();
    const int64_t t_ns = melt::now_ns();
    melt::JsonLine line;
    line.begin_object().add("t_ns", t_ns).add("t_end_ns", t_ns).add("probe", "memory").add("raw", raw.str());
    return add_line(telemetry_path, line.end_object());
}
