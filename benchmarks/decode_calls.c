// Loaded before libllama: stamps every call that computes tokens and writes them out at the end.
// llama_decode and llama_process do the same with two forms of a batch; of the second only its additions are seen.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "llama.h"

enum { max_calls = 1 << 20 };
static struct {
    long long begin_ns, end_ns;
    int n_tokens;
} calls[max_calls];
static int n_calls;

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void stamp(long long begin_ns, struct llama_context *context, int n_tokens) {
    llama_synchronize(context);
    if (n_calls < max_calls) {
        calls[n_calls].begin_ns = begin_ns;
        calls[n_calls].end_ns = now_ns();
        calls[n_calls++].n_tokens = n_tokens;
    }
}

int32_t llama_decode(struct llama_context *context, struct llama_batch batch) {
    static int32_t (*real)(struct llama_context *, struct llama_batch);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "llama_decode");
    }
    const long long begin_ns = now_ns();
    const int32_t status = real(context, batch);
    stamp(begin_ns, context, batch.n_tokens);
    return status;
}

static int n_added;

int32_t llama_batch_ext_add_token(struct llama_batch_ext *batch, llama_seq_id sequence, llama_token token) {
    static int32_t (*real)(struct llama_batch_ext *, llama_seq_id, llama_token);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "llama_batch_ext_add_token");
    }
    ++n_added;
    return real(batch, sequence, token);
}

int32_t llama_process(struct llama_context *context, enum llama_process_type type, struct llama_batch_ext *batch) {
    static int32_t (*real)(struct llama_context *, enum llama_process_type, struct llama_batch_ext *);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "llama_process");
    }
    const long long begin_ns = now_ns();
    const int32_t status = real(context, type, batch);
    stamp(begin_ns, context, n_added);
    n_added = 0;
    return status;
}

__attribute__((destructor)) static void write_calls(void) {
    FILE *out = n_calls > 0 ? fopen(getenv("DECODE_CALLS"), "w") : NULL;
    for (int i = 0; out != NULL && i < n_calls; ++i) {
        fprintf(out, "%lld %lld %d\n", calls[i].begin_ns, calls[i].end_ns, calls[i].n_tokens);
    }
    if (out != NULL) {
        fclose(out);
    }
}
