#include "ops.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>

#include "clock.hpp"
#include "workload.hpp"

namespace melt {
namespace {

constexpr int64_t decode_tokens = 8;

struct Sum {
    uint64_t count = 0;
    int64_t total_ns = 0;
};

ggml_backend_buffer_t buffer_of(const ggml_tensor *tensor) {
    return tensor->view_src != nullptr ? tensor->view_src->buffer : tensor->buffer;
}

// Told of every node before and after it is computed. Asking for each makes the scheduler compute them one by one.
class Watch {
  public:
    static bool on_node(ggml_tensor *node, bool ask, void *self) {
        return static_cast<Watch *>(self)->on(node, ask);
    }

    void clear() { sums_.clear(); }

    void send(const Channel &channel, const char *phase, int64_t context, int64_t tokens, int64_t wall_ns) const {
        JsonLine line = event("ops");
        line.add("phase", phase).add("context", context).add("tokens", tokens).add("wall_ns", wall_ns);
        line.begin_array("rows");
        for (const auto &[key, sum] : sums_) {
            const auto &[op, category, device] = key;
            line.begin_object().add("op", op).add("category", category).add("device", device);
            line.add("count", sum.count).add("total_ns", sum.total_ns).end_object();
        }
        channel.send(line.end_array().end_object());
    }

  private:
    bool on(ggml_tensor *node, bool ask) {
        if (ask) {
            const bool computes = !is_view(node->op);
            start_ns_ = now_ns();
            return computes;
        }
        const int64_t took_ns = now_ns() - start_ns_;
        Sum &sum = sums_[{ggml_op_desc(node), category_of(node), device_of(node)}];
        sum.count += 1;
        sum.total_ns += took_ns;
        return true;
    }

    static bool is_view(ggml_op op) {
        return op == GGML_OP_NONE || op == GGML_OP_RESHAPE || op == GGML_OP_VIEW || op == GGML_OP_PERMUTE ||
               op == GGML_OP_TRANSPOSE;
    }

    // A node is computed where its result lies.
    static std::string device_of(const ggml_tensor *node) {
        const ggml_backend_buffer_t buffer = buffer_of(node);
        if (buffer == nullptr) {
            return "unknown";
        }
        if (ggml_backend_buffer_is_host(buffer)) {
            return "CPU"; // also where a GPU lends the CPU its pinned memory for results
        }
        const ggml_backend_dev_t device = ggml_backend_buft_get_device(ggml_backend_buffer_get_type(buffer));
        return device != nullptr ? ggml_backend_dev_name(device) : ggml_backend_buffer_name(buffer);
    }

    std::map<std::tuple<std::string, std::string, std::string>, Sum> sums_;
    int64_t start_ns_ = 0;
};

bool is_weight(const ggml_tensor *tensor) {
    if (tensor == nullptr) {
        return false;
    }
    const ggml_backend_buffer_t buffer = buffer_of(tensor);
    return buffer != nullptr && ggml_backend_buffer_get_usage(buffer) == GGML_BACKEND_BUFFER_USAGE_WEIGHTS;
}

const char *matrix_product(const ggml_tensor *node) {
    // The vocabulary's matrix, or that of the embedding where both are one. What follows it may be scaled or capped,
    // so the node's own name does not tell.
    const char *weights = ggml_get_name(node->src[0]);
    if (std::strcmp(weights, "output.weight") == 0 || std::strcmp(weights, "token_embd.weight") == 0) {
        return "output";
    }
    // Without flash attention, scores and values are products of two activations that llama.cpp names kq and kqv.
    return !is_weight(node->src[0]) && std::strncmp(ggml_get_name(node), "kq", 2) == 0 ? "attention" : "gemm";
}

} // namespace

const char *category_of(const ggml_tensor *node) {
    switch (node->op) {
    case GGML_OP_MUL_MAT:
    case GGML_OP_MUL_MAT_ID:
    case GGML_OP_OUT_PROD: return matrix_product(node);
    case GGML_OP_FLASH_ATTN_EXT:
    case GGML_OP_SOFT_MAX:
    case GGML_OP_DIAG_MASK_INF:
    case GGML_OP_ROPE:
    case GGML_OP_LIGHTNING_INDEXER: return "attention";
    case GGML_OP_SSM_SCAN:
    case GGML_OP_RWKV_WKV6:
    case GGML_OP_RWKV_WKV7:
    case GGML_OP_GATED_LINEAR_ATTN:
    case GGML_OP_GATED_DELTA_NET:
    case GGML_OP_CUMSUM:
    case GGML_OP_SOLVE_TRI:
    case GGML_OP_TRI: return "scan";
    case GGML_OP_SSM_CONV:
    case GGML_OP_IM2COL:
    case GGML_OP_CONV_2D:
    case GGML_OP_CONV_2D_DW:
    case GGML_OP_CONV_TRANSPOSE_1D: return "conv";
    case GGML_OP_NORM:
    case GGML_OP_RMS_NORM:
    case GGML_OP_GROUP_NORM:
    case GGML_OP_L2_NORM: return "norm";
    case GGML_OP_GET_ROWS: return is_weight(node->src[0]) ? "embedding" : "copy";
    case GGML_OP_CPY:
    case GGML_OP_CONT:
    case GGML_OP_DUP:
    case GGML_OP_SET:
    case GGML_OP_SET_ROWS:
    case GGML_OP_CONCAT:
    case GGML_OP_REPEAT:
    case GGML_OP_PAD:
    case GGML_OP_ROLL:
    case GGML_OP_FILL: return "copy";
    case GGML_OP_ADD:
    case GGML_OP_ADD_ID:
    case GGML_OP_ADD1:
    case GGML_OP_ACC:
    case GGML_OP_SUB:
    case GGML_OP_MUL:
    case GGML_OP_DIV:
    case GGML_OP_SQR:
    case GGML_OP_SQRT:
    case GGML_OP_LOG:
    case GGML_OP_SIN:
    case GGML_OP_COS:
    case GGML_OP_SUM:
    case GGML_OP_SUM_ROWS:
    case GGML_OP_MEAN:
    case GGML_OP_SCALE:
    case GGML_OP_CLAMP:
    case GGML_OP_UNARY:
    case GGML_OP_GLU: return "elementwise";
    default: return "other";
    }
}

void profile_ops(Engine &engine, const Job &job, const Channel &channel) {
    const Values w = job.values("workload");
    const int64_t prompt = w.count("prompt_tokens");
    const int64_t decoded = std::min(w.count("gen_tokens"), decode_tokens);
    const auto prefill = [&](int64_t count) {
        engine.reset();
        engine.prepare(prompt_tokens(count, engine.n_vocab(), w.bits("seed")));
        engine.prefill();
    };
    Watch watch;
    engine.watch(Watch::on_node, &watch);
    prefill(std::min(prompt, warmup_prompt_tokens)); // the new context's pages are cold
    watch.clear();
    int64_t start_ns = now_ns();
    prefill(prompt);
    watch.send(channel, "prefill", prompt, prompt, now_ns() - start_ns);
    llama_token token = engine.greedy();
    watch.clear();
    start_ns = now_ns();
    for (int64_t i = 0; i < decoded && token >= 0; ++i) {
        engine.decode(token);
        token = engine.greedy();
    }
    watch.send(channel, "decode", prompt, decoded, now_ns() - start_ns);
    if (token < 0) {
        throw JobError("nan_logits", "the logits hold a NaN in the operator pass");
    }
}

} // namespace melt
