// Job and spec parsing on whatever bytes: nothing but a JobError may come out.
//
// With clang: clang++ -std=c++17 -g -fsanitize=fuzzer,address,undefined (this file, job.cpp, json_reader.cpp, ...)
// With FUZZ_MAIN defined, any compiler: reads the files it is given, each also cut short and with bytes changed.
#include <cstdint>
#include <string>
#include <string_view>

#include "job.hpp"
#include "job_error.hpp"
#include "json_reader.hpp"
#include "json_writer.hpp"
#include "sample_spec.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const std::string_view text(reinterpret_cast<const char *>(data), size);
    try {
        melt::parse_job(text);
    } catch (const melt::JobError &) {
    }
    try {
        melt::parse_spec(text);
    } catch (const melt::JobError &) {
    }
    // What is written of any bytes can be read again, and is the same the second time.
    std::string line, again, problem;
    melt::append_escaped(line, text);
    melt::Json value;
    if (!melt::parse_json(line, value, problem)) {
        __builtin_trap();
    }
    melt::append_escaped(again, value.text);
    melt::Json twice;
    if (!melt::parse_json(again, twice, problem) || twice.text != value.text) {
        __builtin_trap();
    }
    return 0;
}

#if defined(FUZZ_MAIN)
#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>

int main(int argc, char **argv) {
    constexpr int changed_copies = 2000;
    std::mt19937 random(0);
    long tried = 0;
    for (int i = 1; i < argc; ++i) {
        std::ifstream file(argv[i], std::ios::binary);
        const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
        const auto attempt = [&](const std::string &bytes) {
            LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size());
            ++tried;
        };
        for (size_t cut = 0; cut <= text.size(); ++cut) {
            attempt(text.substr(0, cut));
        }
        for (int n = 0; n < changed_copies; ++n) {
            std::string changed = text;
            for (unsigned k = 0; k < 1 + random() % 4 && !changed.empty(); ++k) {
                const size_t at = random() % changed.size();
                const auto byte = static_cast<char>(random() % 3 == 0 ? "{}[]\",:\\u0eE-."[random() % 14] : random() % 256);
                switch (random() % 3) {
                case 0: changed[at] = byte; break;
                case 1: changed.insert(at, 1, byte); break;
                default: changed.erase(at, 1 + random() % 5);
                }
            }
            attempt(changed);
        }
    }
    std::printf("%ld inputs\n", tried);
    return 0;
}
#endif
