/* Divergences between two next-token distributions, from logits, in double.
 *
 * With d_i = log q_i - log p_i:
 *     KL(p || q) = - sum p_i d_i                                 (definition)
 *     JS(p, q)   = 1/2 sum p_i log 2/(1 + e^d_i)  +  1/2 sum q_i log 2/(1 + e^-d_i)
 * The logits are floats, so d_i is a difference of exactly represented numbers minus one constant: equal inputs give d_i = 0 and
 * both results exactly 0. The sums run over the vocabulary in order; rounding leaves about 1e-15. */
#include "eval/divergence.h"

#include <math.h>

/* log sum exp, and the first index of the largest value. A NaN anywhere makes the result NaN. */
static double log_sum_exp(const float *x, size_t n, size_t *top) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    double sum = 0, max = x[best];
    for (size_t i = 0; i < n; i++) sum += exp((double)x[i] - max);
    *top = best;
    return max + log(sum);
}

/* log(2 / (1 + e^d)) without overflow and exact at d = 0. */
static double log_half_share(double d) {
    double softplus = d > 0 ? d + log1p(exp(-d)) : log1p(exp(d));
    return d == 0 ? 0 : M_LN2 - softplus;
}

divergence divergence_of(const float *ref, const float *model, size_t n) {
    divergence out = {0, 0, 1};
    if (n == 0) return out;
    size_t top_p, top_q;
    double lp = log_sum_exp(ref, n, &top_p), lq = log_sum_exp(model, n, &top_q);
    double shift = lq - lp, kl = 0, js_p = 0, js_q = 0;
    for (size_t i = 0; i < n; i++) {
        double d = ((double)model[i] - (double)ref[i]) - shift;
        double p = exp((double)ref[i] - lp), q = exp((double)model[i] - lq);
        /* A probability that underflowed to 0 adds nothing, whatever the other one is (also for -inf logits). */
        if (p != 0) { /* NaN passes */
            kl -= p * d;
            js_p += p * log_half_share(d);
        }
        if (q != 0) js_q += q * log_half_share(-d);
    }
    out.kl = kl < 0 ? 0 : kl; /* rounding; NaN stays NaN */
    out.js = 0.5 * (js_p + js_q);
    if (out.js < 0) out.js = 0;
    out.same_top = top_p == top_q;
    return out;
}

double nll_of(const float *logits, size_t n, int32_t token) {
    size_t top;
    if (token < 0 || (size_t)token >= n) return NAN;
    return log_sum_exp(logits, n, &top) - (double)logits[token];
}
