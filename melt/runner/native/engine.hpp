// llama.cpp behind its public API: one model and one context, ready to be timed.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "ggml-backend.h"
#include "llama.h"

#include "job.hpp"
#include "json_writer.hpp"
#include "log.hpp"

namespace melt {

// A compute device that the engine sees.
struct Device {
    std::string name, kind, description;
    uint64_t memory_bytes;
    ggml_backend_dev_t handle;
};

// llama.cpp, silenced; its log lines are kept. One a process.
class Library {
  public:
    Library();
    ~Library();
    Library(const Library &) = delete;
    Library &operator=(const Library &) = delete;
    LogLines log() const;
    std::vector<Device> devices() const;
    void add_hello(JsonLine &line) const; // what ``hello`` and ``info`` say of this engine

  private:
    static void on_log(ggml_log_level level, const char *text, void *self);
    mutable std::mutex mutex_;
    LogLines log_;
};

class Engine {
  public:
    // Throws JobError: accelerator, model_load, context or bad_job.
    Engine(const Library &library, const Job &job);

    void add_description(JsonLine &line) const; // what the ``model`` event says: shape, buffers, real placement
    void reset();                               // forgets every token
    void prepare(const std::vector<llama_token> &tokens); // so that prefill allocates nothing
    void prefill();                             // processes the prepared prompt; returns when the device is done
    void decode(llama_token token);             // processes one token
    llama_token greedy();                       // the most likely next token; -1 where the logits hold a NaN
    void watch(ggml_backend_sched_eval_callback callback, void *user); // a fresh context that is watched node by node
    int n_vocab() const { return n_vocab_; }

  private:
    struct FreeModel {
        void operator()(llama_model *model) const { llama_model_free(model); }
    };
    struct FreeContext {
        void operator()(llama_context *context) const { llama_free(context); }
    };

    void load();
    void make_context(ggml_backend_sched_eval_callback callback, void *user);
    void run(llama_batch batch);

    const Library &library_;
    const Job job_;
    std::vector<ggml_backend_dev_t> devices_;
    std::unique_ptr<llama_model, FreeModel> model_;
    std::unique_ptr<llama_context, FreeContext> context_;
    std::vector<Buffer> buffers_;
    uint64_t tables_bytes_ = 0;
    bool tables_known_ = false;
    int n_vocab_ = 0;
    std::vector<llama_token> prompt_;
    std::vector<llama_batch> batches_;
    llama_token one_ = 0;
};

} // namespace melt
