// An engine that computes nothing and waits as long as it is told. It takes the place of melt/runner/native/engine.hpp
// and keeps what the runner's other files use of it, so that those are the real ones.
#pragma once

#include <cstdint>
#include <vector>

#include "job.hpp"
#include "json_writer.hpp"
#include "paces.hpp"

struct ggml_tensor; // declared by ops.hpp
using llama_token = int32_t;

inline const char *llama_version() { return "1"; }
inline void ggml_set_abort_callback(void (*)(const char *)) {} // it never aborts

namespace melt {

class Library {
  public:
    void add_hello(JsonLine &line) const;
};

class Engine {
  public:
    // Takes the time that loading is to take. Throws JobError: model_load, accelerator, or bad_paces where the
    // environment's PACED is not what ``Paces`` reads.
    Engine(const Library &library, const Job &job);
    ~Engine();
    Engine(const Engine &) = delete;
    Engine &operator=(const Engine &) = delete;

    void add_description(JsonLine &line) const;
    void reset();
    void prepare(const std::vector<llama_token> &tokens);
    void prefill();
    void decode(llama_token token);
    llama_token greedy();
    int n_vocab() const { return 1000; }

  private:
    void pass(double seconds);

    const Job job_;
    Paces paces_;
    int64_t prompt_tokens_ = 0, position_ = 0;
    int64_t due_ns_ = 0; // when the pass that was begun last is over
};

} // namespace melt
