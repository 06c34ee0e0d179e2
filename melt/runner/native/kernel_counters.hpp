// What the kernel counts of this process and of the machine, read around the phases of a pass.
//
// Files are opened before a pass and each is read by one call into memory that is there, outside the windows of prefill
// and decode: before the prompt is submitted, between the prefill's end and the first sampling, after the last token.
// What cannot be read is absent.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <sys/resource.h>
#include <vector>

#include "json_writer.hpp"

namespace melt {

enum Mark : size_t { before, between, after };
constexpr size_t n_marks = 3;

// The readings of one pass.
class KernelCounters {
  public:
    KernelCounters();
    void read(Mark mark);               // what concerns the whole machine is left out between the phases
    void add_counts(JsonLine &line) const; // as the field ``kernel``

  private:
    // An open file, and the memory for its text at every mark.
    class Kept {
      public:
        explicit Kept(const std::string &path);
        ~Kept();
        Kept(const Kept &) = delete;
        Kept &operator=(const Kept &) = delete;
        void read(Mark mark);
        std::string_view text(Mark mark) const { return {text_[mark].data(), sizes_[mark]}; }

      private:
        int fd_;
        std::array<std::array<char, 2048>, n_marks> text_; // holds the fields that are wanted of each file
        std::array<size_t, n_marks> sizes_{};
    };

    void add_between(JsonLine &line, Mark first, Mark last) const;
    void add_waited(JsonLine &line, Mark first, Mark last) const;
    void add_machine(JsonLine &line) const;
    void add_swapped(JsonLine &line) const;

    std::vector<std::unique_ptr<Kept>> threads_;
    Kept stat_, status_;
    std::array<rusage, n_marks> usage_{};
    std::array<int64_t, n_marks> suspended_ns_{};
};

} // namespace melt
