#include "peak.hpp"

#include <algorithm>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "channel.hpp"
#include "clock.hpp"
#include "ggml-alloc.h"
#include "ggml.h"

namespace melt {
namespace {

constexpr int64_t budget_ns = 400'000'000; // a measurement repeats for this long
constexpr int64_t gemm_rows = 2048, gemm_inner = 2048, gemm_columns = 512;
constexpr int64_t vector_inner = 4096;
constexpr size_t stream_bytes = 128U << 20; // larger than the last-level cache of a phone or board

// The shortest of the passes that fit the budget, at least three.
int64_t fastest_ns(const std::function<void()> &pass) {
    pass();
    int64_t best = INT64_MAX;
    const int64_t end_ns = now_ns() + budget_ns;
    for (int i = 0; i < 3 || now_ns() < end_ns; ++i) {
        const int64_t start_ns = now_ns();
        pass();
        best = std::min(best, now_ns() - start_ns);
    }
    return std::max<int64_t>(best, 1);
}

// Plain reading by all threads, eight independent sums each.
double read_bytes_per_s(int threads) {
    const size_t words = stream_bytes / sizeof(uint64_t) / static_cast<size_t>(threads);
    std::vector<std::vector<uint64_t>> parts(static_cast<size_t>(threads), std::vector<uint64_t>(words, 1));
    std::vector<uint64_t> sums(static_cast<size_t>(threads));
    const auto read = [&](size_t t) {
        uint64_t lanes[8] = {};
        const uint64_t *part = parts[t].data();
        for (size_t i = 0; i + 8 <= words; i += 8) {
            for (size_t j = 0; j < 8; ++j) {
                lanes[j] += part[i + j];
            }
        }
        for (const uint64_t lane : lanes) {
            sums[t] += lane;
        }
    };
    const int64_t took_ns = fastest_ns([&] {
        std::vector<std::thread> others;
        for (size_t t = 1; t < parts.size(); ++t) {
            others.emplace_back(read, t);
        }
        read(0);
        for (std::thread &other : others) {
            other.join();
        }
    });
    const bool used = std::any_of(sums.begin(), sums.end(), [](uint64_t n) { return n != 0; });
    return used ? static_cast<double>(words * sizeof(uint64_t)) * threads / static_cast<double>(took_ns) * 1e9 : 0;
}

struct FreeBackend {
    void operator()(ggml_backend *backend) const { ggml_backend_free(backend); }
};
struct FreeGgml {
    void operator()(ggml_context *context) const { ggml_free(context); }
};
struct FreeBuffer {
    void operator()(ggml_backend_buffer *buffer) const { ggml_backend_buffer_free(buffer); }
};

// Seconds of one product of weights [inner, rows] with activations [inner, columns]; 0 where the device cannot.
double product_s(ggml_backend_t backend, ggml_type type, int64_t inner, int64_t rows, int64_t columns) {
    const std::unique_ptr<ggml_context, FreeGgml> context(
        ggml_init({ggml_tensor_overhead() * 8 + ggml_graph_overhead(), nullptr, true}));
    ggml_tensor *weights = ggml_new_tensor_2d(context.get(), type, inner, rows);
    ggml_tensor *activations = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, inner, columns);
    ggml_tensor *product = ggml_mul_mat(context.get(), weights, activations);
    if (!ggml_backend_supports_op(backend, product)) {
        return 0;
    }
    ggml_cgraph *graph = ggml_new_graph(context.get());
    ggml_build_forward_expand(graph, product);
    const std::unique_ptr<ggml_backend_buffer, FreeBuffer> buffer(
        ggml_backend_alloc_ctx_tensors(context.get(), backend));
    if (!buffer) {
        return 0;
    }
    // Row by row: a phone has no room for the weights a second time.
    const std::vector<float> values(static_cast<size_t>(inner), 0.5F);
    std::vector<uint8_t> encoded(ggml_row_size(type, inner));
    ggml_quantize_chunk(type, values.data(), encoded.data(), 0, 1, inner, nullptr);
    for (int64_t row = 0; row < rows; ++row) {
        ggml_backend_tensor_set(weights, encoded.data(), static_cast<size_t>(row) * encoded.size(), encoded.size());
    }
    const size_t values_bytes = values.size() * sizeof(float);
    for (int64_t column = 0; column < columns; ++column) {
        ggml_backend_tensor_set(activations, values.data(), static_cast<size_t>(column) * values_bytes, values_bytes);
    }
    bool good = true;
    const int64_t took_ns = fastest_ns([&] {
        good = good && ggml_backend_graph_compute(backend, graph) == GGML_STATUS_SUCCESS;
        ggml_backend_synchronize(backend);
    });
    return good ? static_cast<double>(took_ns) / 1e9 : 0;
}

void set_threads(ggml_backend_t backend, ggml_backend_dev_t device, int threads) {
    const ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(device);
    const auto set = reinterpret_cast<ggml_backend_set_n_threads_t>(
        ggml_backend_reg_get_proc_address(reg, "ggml_backend_set_n_threads"));
    if (set != nullptr) {
        set(backend, threads);
    }
}

void add_device(JsonLine &line, const Device &device, int threads) {
    const std::unique_ptr<ggml_backend, FreeBackend> backend(ggml_backend_dev_init(device.handle, nullptr));
    if (!backend) {
        return;
    }
    set_threads(backend.get(), device.handle, threads);
    line.begin_object().add("device", device.name).add("kind", device.kind);
    line.begin_object("matmul_flop_per_s");
    constexpr double flop = 2.0 * gemm_rows * gemm_inner * gemm_columns;
    for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0}) {
        const double took_s = product_s(backend.get(), type, gemm_inner, gemm_rows, gemm_columns);
        if (took_s > 0) {
            line.add_number(ggml_type_name(type), flop / took_s);
        }
    }
    line.end_object().begin_object("matvec_bytes_per_s");
    for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0}) {
        const size_t row_bytes = ggml_row_size(type, vector_inner);
        const int64_t rows = static_cast<int64_t>(stream_bytes / row_bytes);
        const double took_s = product_s(backend.get(), type, vector_inner, rows, 1);
        if (took_s > 0) {
            line.add_number(ggml_type_name(type), static_cast<double>(row_bytes) * static_cast<double>(rows) / took_s);
        }
    }
    line.end_object();
    if (device.kind == "cpu") {
        line.add_number("read_bytes_per_s", read_bytes_per_s(threads));
    }
    line.end_object();
}

} // namespace

void add_peaks(JsonLine &line, const Library &library, int threads) {
    line.add("threads", threads).begin_array("peaks");
    for (const Device &device : library.devices()) {
        add_device(line, device, threads);
    }
    line.end_array();
}

} // namespace melt
