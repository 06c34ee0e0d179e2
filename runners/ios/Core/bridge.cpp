#include "bridge.h"

#include <cstdio>
#include <fcntl.h>
#include <string>
#include <unistd.h>
#include <vector>

#include "json_writer.hpp"

int melt_runner_main(int argc, char **argv); // main.cpp's own main, by that name here

namespace {

int open_events(const char *path) { return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644); }

} // namespace

extern "C" int melt_run(int argc, const char *const *argv, const char *events_path) {
    const int events = open_events(events_path);
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
    const std::string text = line.end_object().str() + "\n";
    const int events = open_events(events_path);
    if (events < 0) {
        return -1;
    }
    const bool whole = write(events, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    close(events);
    return whole ? 0 : -1;
}
