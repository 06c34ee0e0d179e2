#include "inventory.hpp"

#include <cerrno>
#include <fcntl.h>
#include <glob.h>
#include <set>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "files.hpp"

namespace melt {
namespace {

constexpr size_t max_files = 8192;
constexpr size_t max_bytes = 65536;

std::string glob_escaped(const std::string &text) {
    std::string out;
    for (const char c : text) {
        if (c == '*' || c == '?' || c == '[' || c == '\\') {
            out += '\\';
        }
        out += c;
    }
    return out;
}

void add_file(JsonLine &line, const std::string &path, const std::string &reported) {
    struct stat status {};
    const bool seen = stat(path.c_str(), &status) == 0;
    if (seen && !S_ISREG(status.st_mode)) {
        return;
    }
    line.begin_object().add("path", reported);
    const int fd = seen ? open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;
    std::string text;
    if (fd >= 0 && read_whole(fd, max_bytes, text)) {
        line.add("text", text);
    } else {
        line.add("error", errno_name(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    line.end_object();
}

// uname's fields, and those values of sysconf that the host asks for.
void add_system_value(JsonLine &line, const std::string &name) {
    const size_t colon = name.find(':');
    const std::string kind = name.substr(0, colon), key = colon == std::string::npos ? "" : name.substr(colon + 1);
    std::string text;
    utsname system{};
    if (kind == "uname" && uname(&system) == 0) {
        text = key == "sysname"    ? system.sysname
               : key == "release"  ? system.release
               : key == "version"  ? system.version
               : key == "machine"  ? system.machine
               : key == "nodename" ? system.nodename
                                   : "";
    } else if (kind == "sysconf") {
        const long value = key == "SC_PAGE_SIZE" || key == "SC_PAGESIZE" ? sysconf(_SC_PAGESIZE)
                           : key == "SC_NPROCESSORS_ONLN"                ? sysconf(_SC_NPROCESSORS_ONLN)
                           : key == "SC_NPROCESSORS_CONF"                ? sysconf(_SC_NPROCESSORS_CONF)
                           : key == "SC_PHYS_PAGES"                      ? sysconf(_SC_PHYS_PAGES)
                           : key == "SC_CLK_TCK"                         ? sysconf(_SC_CLK_TCK)
                                                                         : -1;
        text = value >= 0 ? std::to_string(value) : "";
    }
    line.begin_object().add("path", name);
    line.add(text.empty() ? "error" : "text", text.empty() ? "ENOENT" : text).end_object();
}

} // namespace

void add_inventory(JsonLine &line, const std::vector<std::string> &globs, const std::string &root) {
    std::set<std::string> seen;
    line.begin_array("files");
    for (const std::string &pattern : globs) {
        if (pattern.empty() || pattern[0] != '/') {
            add_system_value(line, pattern);
            continue;
        }
        glob_t found{};
        if (glob((glob_escaped(root) + pattern).c_str(), 0, nullptr, &found) == 0) {
            for (size_t i = 0; i < found.gl_pathc && seen.size() < max_files; ++i) {
                const std::string path = found.gl_pathv[i];
                if (seen.insert(path).second) {
                    add_file(line, path, path.substr(root.size()));
                }
            }
        }
        globfree(&found);
    }
    line.end_array();
}

} // namespace melt
