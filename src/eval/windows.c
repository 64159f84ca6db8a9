/* Windows as llama.cpp's perplexity tool cuts them by default (no overlap, second half scored), the strided variant,
 * and the statistics over windows. */
#include "eval/windows.h"

#include "base/err.h"

#include <math.h>

snug_err windows_plan(size_t n_tokens, uint32_t n_ctx, uint32_t stride, windows *out, snug_error *err) {
    if (n_ctx < 2)
        return err_set(err, SNUG_ERR_ARG, "a window of %u token%s predicts nothing; it needs at least 2", n_ctx,
                       n_ctx == 1 ? "" : "s");
    if (stride > n_ctx)
        return err_set(err, SNUG_ERR_ARG,
                       "the stride (%u) is larger than the window (%u): tokens in between would never be scored",
                       stride, n_ctx);
    *out = (windows){.n_ctx = n_ctx, .step = stride ? stride : n_ctx};
    /* llama.cpp scores the logits of positions n_ctx/2 .. n_ctx-2, which predict the tokens one further on. The first
     * token of a window has nothing before it that could predict it. */
    out->first_target = stride ? n_ctx - stride : n_ctx / 2 + 1;
    if (out->first_target == 0) out->first_target = 1;
    if (out->first_target >= n_ctx) out->first_target = n_ctx - 1; /* a window of 2 */
    out->n_scored = n_ctx - out->first_target;
    if (n_tokens < n_ctx)
        return err_set(err, SNUG_ERR_ARG,
                       "the text has %zu tokens, less than one window of %u; give a longer text or a smaller context",
                       n_tokens, n_ctx);
    out->count = (n_tokens - n_ctx) / out->step + 1;
    return SNUG_OK;
}

/* Exact for 1 and 2 degrees; the Cornish-Fisher expansion in 1/v (Abramowitz and Stegun 26.7.5) is within 0.004 at 3,
 * 0.001 from 4 on. */
double student_t975(uint64_t degrees) {
    if (degrees <= 1) return 12.706204736;
    if (degrees == 2) return 4.302652730;
    const double z = 1.959963985, v = (double)degrees;
    const double z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z, z9 = z7 * z * z;
    return z + (z3 + z) / (4 * v) + (5 * z5 + 16 * z3 + 3 * z) / (96 * v * v) +
           (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * v * v * v) +
           (79 * z9 + 776 * z7 + 1482 * z5 - 1920 * z3 - 945 * z) / (92160 * v * v * v * v);
}

snug_stat clustered_mean(const double *group_mean, size_t n_groups, double token_sd, uint64_t n_tokens) {
    snug_stat out = {0, 0};
    if (n_groups == 0) return out;
    for (size_t i = 0; i < n_groups; i++) out.value += group_mean[i];
    out.value /= (double)n_groups;
    if (n_groups == 1) {
        out.ci95 = n_tokens > 1 ? student_t975(n_tokens - 1) * token_sd / sqrt((double)n_tokens) : 0;
        return out;
    }
    double squares = 0;
    for (size_t i = 0; i < n_groups; i++) squares += (group_mean[i] - out.value) * (group_mean[i] - out.value);
    out.ci95 = student_t975(n_groups - 1) * sqrt(squares / (double)(n_groups - 1) / (double)n_groups);
    return out;
}

double quantile_sorted(const double *sorted, size_t n, double q) {
    if (n == 0) return 0;
    double at = q * (double)(n - 1);
    size_t i = (size_t)at;
    if (i + 1 >= n) return sorted[n - 1];
    return sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]);
}
