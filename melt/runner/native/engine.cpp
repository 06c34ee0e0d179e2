#include "engine.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "channel.hpp"
#include "memory.hpp"

namespace melt {
namespace {

constexpr const char *npu_prefix = "HTP"; // Hexagon's devices, which ggml counts among the GPUs

bool is_npu(const std::string &name) { return name.compare(0, std::strlen(npu_prefix), npu_prefix) == 0; }

const char *kind_of(const char *name, enum ggml_backend_dev_type type) {
    if (is_npu(name)) {
        return "npu";
    }
    return type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU ? "gpu" : "cpu";
}

ggml_type kv_type(const std::string &name, const char *field) {
    constexpr std::pair<const char *, ggml_type> types[] = {
        {"f32", GGML_TYPE_F32},   {"f16", GGML_TYPE_F16},   {"bf16", GGML_TYPE_BF16},
        {"q8_0", GGML_TYPE_Q8_0}, {"q4_0", GGML_TYPE_Q4_0}, {"q4_1", GGML_TYPE_Q4_1},
        {"q5_0", GGML_TYPE_Q5_0}, {"q5_1", GGML_TYPE_Q5_1}, {"iq4_nl", GGML_TYPE_IQ4_NL}};
    std::string known;
    for (const auto &[word, type] : types) {
        if (name == word) {
            return type;
        }
        known += (known.empty() ? "" : ", ") + std::string(word);
    }
    throw JobError("bad_job", std::string(field) + ": must be one of " + known);
}

// The devices the engine may use beside the CPU: none for "cpu", else those of the kind asked for.
std::vector<ggml_backend_dev_t> chosen_devices(const Library &library, const Job &job) {
    std::vector<ggml_backend_dev_t> chosen;
    const std::string &accelerator = job.text("accelerator");
    if (accelerator != "cpu") {
        std::string seen;
        for (const Device &d : library.devices()) {
            if (d.kind == accelerator && (job.is_null("device") || job.text("device") == d.name)) {
                chosen.push_back(d.handle);
            }
            seen += (seen.empty() ? "" : ", ") + d.name + " (" + d.kind + ")";
        }
        if (chosen.empty()) {
            const std::string name = job.is_null("device") ? "" : " '" + job.text("device") + "'";
            const std::string asked = accelerator + " device" + name;
            const std::string sees = seen.empty() ? "none" : seen;
            throw JobError("accelerator", "no " + asked + "; this build of llama.cpp sees: " + sees);
        }
    }
    chosen.push_back(nullptr); // the list's end
    return chosen;
}

std::string words_or(const std::string &words, const char *otherwise) { return words.empty() ? otherwise : words; }

} // namespace

Library::Library() {
    llama_log_set(on_log, this);
    llama_backend_init();
}

Library::~Library() {
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr); // the engine may log while the process ends
}

void Library::on_log(ggml_log_level level, const char *text, void *self) {
    auto *library = static_cast<Library *>(self);
    try {
        const std::lock_guard<std::mutex> lock(library->mutex_);
        library->log_.emplace_back(static_cast<int>(level), text);
    } catch (const std::exception &) { // out of memory: a line less, and nothing thrown through C
    }
}

LogLines Library::log() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return log_;
}

std::vector<Device> Library::devices() const {
    std::vector<Device> found;
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        size_t free_bytes = 0, total_bytes = 0;
        ggml_backend_dev_memory(device, &free_bytes, &total_bytes);
        const char *name = ggml_backend_dev_name(device);
        found.push_back({name, kind_of(name, ggml_backend_dev_type(device)),
                         ggml_backend_dev_description(device), total_bytes, device});
    }
    return found;
}

void Library::add_hello(JsonLine &line) const {
    line.add("engine", "llama.cpp").add("engine_version", llama_version());
    line.begin_object("engine_build").add("commit", ggml_commit()).add("compiler", MELT_COMPILER);
    line.add("target", MELT_TARGET).end_object();
    std::string info = llama_print_system_info();
    info.erase(info.find_last_not_of(" \n") + 1);
    line.add("system_info", info).begin_array("accelerators");
    for (const Device &d : devices()) {
        line.begin_object().add("name", d.name).add("kind", d.kind).add("description", d.description);
        line.add("memory_bytes", d.memory_bytes).end_object();
    }
    line.end_array();
}

Engine::Engine(const Library &library, const Job &job)
    : library_(library), job_(job), devices_(chosen_devices(library, job)) {
    load();
    n_vocab_ = llama_vocab_n_tokens(llama_model_get_vocab(model_.get()));
    if (n_vocab_ < 1) {
        throw JobError("model_load", "the model has no vocabulary");
    }
    make_context(nullptr, nullptr);
    buffers_ = buffers(library_.log()); // before any later context logs its own
}

void Engine::load() {
    llama_model_params params = llama_model_default_params();
    params.devices = devices_.data();
    params.n_gpu_layers = job_.text("accelerator") == "cpu" ? 0 : -1;
    params.load_mode = job_.text("load_mode") == "mmap" ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
    params.use_extra_bufts = job_.flag("extra_buffers");
    const auto before = process_memory(false).anonymous_bytes;
    model_.reset(llama_model_load_from_file(job_.text("model").c_str(), params));
    if (!model_) {
        throw JobError("model_load", words_or(last_error(library_.log()), "the engine could not load the model"));
    }
    // Anonymous memory beyond the weights that were copied is the vocabulary's tables, mostly; mapped weights have a
    // file behind them and are not in it.
    const auto after = process_memory(false).anonymous_bytes;
    uint64_t copied = 0;
    for (const Buffer &b : buffers(library_.log())) {
        const bool mapped = b.device.size() > 7 && b.device.compare(b.device.size() - 7, 7, "_Mapped") == 0;
        copied += is_cpu(b.device) && !mapped ? b.bytes : 0;
    }
    tables_known_ = before && after;
    tables_bytes_ = tables_known_ && *after > *before + copied ? *after - *before - copied : 0;
}

void Engine::make_context(ggml_backend_sched_eval_callback callback, void *user) {
    llama_context_params params = llama_context_default_params();
    const Values w = job_.values("workload");
    params.n_ctx = static_cast<uint32_t>(w.count("prompt_tokens") + w.count("gen_tokens"));
    params.n_batch = static_cast<uint32_t>(std::max(job_.number("batch"), job_.number("ubatch")));
    params.n_ubatch = static_cast<uint32_t>(job_.number("ubatch"));
    params.n_outputs_max = 1; // logits for the last token only, so no memory for the others'
    params.n_threads = params.n_threads_batch = job_.number("threads");
    const std::string &attention = job_.text("flash_attn");
    params.flash_attn_type = attention == "on"    ? LLAMA_FLASH_ATTN_TYPE_ENABLED
                             : attention == "off" ? LLAMA_FLASH_ATTN_TYPE_DISABLED
                                                  : LLAMA_FLASH_ATTN_TYPE_AUTO;
    params.type_k = kv_type(job_.text("type_k"), "type_k");
    params.type_v = kv_type(job_.text("type_v"), "type_v");
    params.offload_kqv = params.op_offload = job_.text("accelerator") != "cpu";
    params.swa_full = false; // a layer with a window keeps the window, as llama.cpp's own tools do
    params.no_perf = true;
    params.cb_eval = callback;
    params.cb_eval_user_data = user;
    context_.reset(llama_init_from_model(model_.get(), params));
    if (!context_) {
        throw JobError("context", words_or(last_error(library_.log()), "the engine could not allocate the context"));
    }
}

void Engine::watch(ggml_backend_sched_eval_callback callback, void *user) {
    context_.reset(); // first, so that there is never room for two
    make_context(callback, user);
}

void Engine::add_description(JsonLine &line) const {
    const llama_model *model = model_.get();
    const auto count = [](int64_t n) { return std::max<int64_t>(0, n); };
    char architecture[256] = "";
    llama_model_meta_val_str(model, "general.architecture", architecture, sizeof architecture);
    line.add("architecture", architecture)
        .add("recurrent", llama_model_is_recurrent(model))
        .add("hybrid", llama_model_is_hybrid(model))
        .add("n_params", llama_model_n_params(model))
        .add("file_bytes", llama_model_size(model))
        .add("n_layers", count(llama_model_n_layer(model)))
        .add("d_model", count(llama_model_n_embd(model)))
        .add("n_heads", count(llama_model_n_head(model)))
        .add("n_kv_heads", count(llama_model_n_head_kv(model)))
        .add("context_trained", count(llama_model_n_ctx_train(model)))
        .add("n_ctx", static_cast<uint64_t>(llama_n_ctx(context_.get())))
        .add("n_vocab", n_vocab_)
        .add("threads", llama_n_threads(context_.get()));
    std::set<std::string> outside;
    std::map<std::string, uint64_t> weights; // bytes beside the CPU's, by kind of device
    line.begin_array("buffers");
    for (const Buffer &b : buffers_) {
        line.begin_object().add("device", b.device).add("kind", b.kind).add("bytes", b.bytes).end_object();
        if (!is_cpu(b.device) && (b.kind == "weights" || b.kind == "kv" || b.kind == "state")) {
            outside.insert(b.device);
        }
        if (!is_cpu(b.device) && b.kind == "weights") {
            weights[is_npu(b.device) ? "npu" : "gpu"] += b.bytes;
        }
    }
    line.end_array();
    // Where at least half of the weights are: llama.cpp leaves some to the CPU, the embedding's rows for one. How many
    // its own buffer does not tell, as it maps the file from the first of them to the last.
    const std::string effective = 2 * weights["gpu"] >= std::max<uint64_t>(llama_model_size(model), 1)   ? "gpu"
                                  : 2 * weights["npu"] >= std::max<uint64_t>(llama_model_size(model), 1) ? "npu"
                                                                                                         : "cpu";
    std::string where;
    for (const std::string &device : outside) {
        where += (where.empty() ? "" : ",") + device;
    }
    line.add("effective_accelerator", effective).add("effective_device", words_or(where, "CPU"));
    if (tables_known_) {
        line.add("tables_bytes", tables_bytes_);
    }
}

void Engine::reset() { llama_memory_clear(llama_get_memory(context_.get()), true); }

void Engine::prepare(const std::vector<llama_token> &tokens) {
    prompt_ = tokens;
    batches_.clear();
    const size_t n_batch = llama_n_batch(context_.get());
    for (size_t start = 0; start < prompt_.size(); start += n_batch) {
        const size_t count = std::min(n_batch, prompt_.size() - start);
        batches_.push_back(llama_batch_get_one(prompt_.data() + start, static_cast<int32_t>(count)));
    }
}

void Engine::prefill() {
    for (const llama_batch &batch : batches_) {
        run(batch);
    }
    llama_synchronize(context_.get());
}

void Engine::decode(llama_token token) {
    one_ = token;
    run(llama_batch_get_one(&one_, 1));
}

void Engine::run(llama_batch batch) {
    const int32_t code = llama_decode(context_.get(), batch);
    if (code != 0) {
        const std::string what = words_or(last_error(library_.log()), "no reason logged");
        throw JobError("decode", "llama_decode returned " + std::to_string(code) + ": " + what);
    }
}

llama_token Engine::greedy() {
    const float *logits = llama_get_logits_ith(context_.get(), -1); // waits for the device
    if (logits == nullptr) {
        throw JobError("decode", "the engine gave no logits");
    }
    // Independent lanes, which the compiler turns into vector instructions: a large vocabulary is read in microseconds.
    constexpr int lanes = 16;
    float best[lanes];
    int nans[lanes] = {};
    std::fill(best, best + lanes, logits[0]);
    int i = 0;
    for (; i + lanes <= n_vocab_; i += lanes) {
        for (int j = 0; j < lanes; ++j) {
            const float v = logits[i + j];
            best[j] = v > best[j] ? v : best[j];
            nans[j] |= v != v;
        }
    }
    for (; i < n_vocab_; ++i) {
        const float v = logits[i];
        best[0] = v > best[0] ? v : best[0];
        nans[0] |= v != v;
    }
    if (std::any_of(nans, nans + lanes, [](int n) { return n != 0; })) {
        return -1;
    }
    const float top = *std::max_element(best, best + lanes);
    return static_cast<llama_token>(std::find(logits, logits + n_vocab_, top) - logits);
}

} // namespace melt
