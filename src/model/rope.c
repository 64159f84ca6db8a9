/* Frequencies of RoPE and what makes them reach beyond the context that was trained. Sources: transformers' modeling_rope_utils.py; "YaRN"
 * (2309.00071), "LongRoPE" (2402.13753); llama.cpp's convert_hf_to_gguf.py (rope_freqs). */
#include "base/err.h"
#include "model/arch.h"

#include <math.h>

static const double PI = 3.14159265358979323846;

static snug_err check_scaling(const config *c, const char *where, snug_error *err) {
    if (c->scaling == ROPE_NONE) return SNUG_OK;
    if (c->scaling != ROPE_LONG && !(c->scale_factor > 0 && c->scale_factor < 1e9))
        return err_set(err, SNUG_ERR_FORMAT, "%s: RoPE scaling factor is %g, expected a positive number", where, c->scale_factor);
    if (c->scaling == ROPE_LLAMA3 && !(c->scale_orig_ctx > 0 && c->low_freq_factor > 0 &&
                                       c->high_freq_factor > c->low_freq_factor && c->high_freq_factor < 1e9))
        return err_set(err, SNUG_ERR_FORMAT,
                       "%s: llama3 RoPE scaling needs 0 < low_freq_factor < high_freq_factor and an original context, "
                       "found %g, %g, %u",
                       where, c->low_freq_factor, c->high_freq_factor, c->scale_orig_ctx);
    if ((c->scaling == ROPE_YARN || c->scaling == ROPE_DYNAMIC || c->scaling == ROPE_LONG) && c->scale_orig_ctx == 0)
        return err_set(err, SNUG_ERR_FORMAT, "%s: RoPE scaling needs an original context, found 0", where);
    if (c->scaling == ROPE_YARN && !(c->beta_fast > 0 && c->beta_slow > 0 && c->beta_fast < 1e9 && c->beta_slow < 1e9 && c->rope_base > 1))
        return err_set(err, SNUG_ERR_FORMAT, "%s: yarn needs positive beta_fast and beta_slow, found %g, %g", where, c->beta_fast, c->beta_slow);
    if (c->scaling == ROPE_DYNAMIC && c->rope_dims < 4) return err_set(err, SNUG_ERR_FORMAT, "%s: dynamic RoPE needs 4 dimensions, found %u", where, c->rope_dims);
    for (uint32_t i = 0; c->scaling == ROPE_LONG && i < c->rope_dims / 2; i++)
        if (c->rope_dims / 2 > CONFIG_MAX_LONG || !(c->rope_short[i] > 0 && c->rope_short[i] < 1e9f && c->rope_long[i] > 0 && c->rope_long[i] < 1e9f))
            return err_set(err, SNUG_ERR_FORMAT, "%s: longrope needs %u positive factors (at most %d), one is %g or %g", where, c->rope_dims / 2, CONFIG_MAX_LONG,
                           (double)c->rope_short[i % CONFIG_MAX_LONG], (double)c->rope_long[i % CONFIG_MAX_LONG]);
    return SNUG_OK;
}

snug_err rope_check(const config *c, const char *where, snug_error *err) {
    if (c->rope_dims == 0 || c->rope_dims % 2 || c->rope_dims > c->head_dim)
        return err_set(err, SNUG_ERR_FORMAT, "%s: RoPE turns %u dimensions (rope.dimension_count, partial_rotary_factor) of a head of %u, expected an even number of them", where, c->rope_dims, c->head_dim);
    if (c->arch->gguf_permutes_qk && c->rope_dims != c->head_dim)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: RoPE turns %u of %u dimensions, which is not supported for architecture '%s'", where, c->rope_dims, c->head_dim, c->arch->gguf_name);
    if (c->rope_base_local != 0 && !(c->rope_base_local >= 1 && c->rope_base_local < 1e15))
        return err_set(err, SNUG_ERR_FORMAT, "%s: RoPE base of layers with a window is %g, expected 1 to 1e15", where, c->rope_base_local);
    if (!(c->rope_base >= 1 && c->rope_base < 1e15))
        return err_set(err, SNUG_ERR_FORMAT, "%s: RoPE base (rope_theta, rope.freq_base) is %g, expected 1 to 1e15", where, c->rope_base);
    if (!(c->rope_magnitude > 0 && c->rope_magnitude < 1e6))
        return err_set(err, SNUG_ERR_FORMAT, "%s: RoPE's attention factor is %g, expected a positive number", where, c->rope_magnitude);
    return check_scaling(c, where, err);
}

/* The factor by which llama3 scaling divides inverse frequency f: 1 for short wavelengths, scale_factor for long ones,
 * a smooth blend between. */
static double llama3_factor(const config *c, double f) {
    double turns = c->scale_orig_ctx * f / (2 * PI); /* full turns within the original context */
    if (turns > c->high_freq_factor) return 1;
    if (turns < c->low_freq_factor) return c->scale_factor;
    double smooth = (turns - c->low_freq_factor) / (c->high_freq_factor - c->low_freq_factor);
    return 1 / ((1 - smooth) / c->scale_factor + smooth);
}

/* The dimension pair that turns so many times within the original context. */
static double yarn_pair(const config *c, double turns) { return c->rope_dims * log(c->scale_orig_ctx / (turns * 2 * PI)) / (2 * log(c->rope_base)); }

/* What yarn makes of the inverse frequency f of pair i: itself for fast ones, f / factor for slow ones, a blend between. */
static double yarn(const config *c, double f, uint32_t i) {
    double low = yarn_pair(c, c->beta_fast), high = yarn_pair(c, c->beta_slow);
    if (!c->yarn_exact) low = floor(low), high = ceil(high);
    low = fmax(low, 0), high = fmin(high, c->rope_dims - 1.0);
    if (low == high) high += 0.001;
    const double slow = fmin(1, fmax(0, (i - low) / (high - low)));
    return f / c->scale_factor * slow + f * (1 - slow);
}

double rope_yarn_magnitude(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1; }

void rope_inv_freq(const config *c, const float *freqs, bool local, uint32_t n_ctx, double *out) {
    double base = local ? c->rope_base_local : c->rope_base;
    const rope_scaling scaling = local ? ROPE_NONE : c->scaling;
    if (scaling == ROPE_DYNAMIC && n_ctx > c->scale_orig_ctx)
        base *= pow(c->scale_factor * n_ctx / c->scale_orig_ctx - (c->scale_factor - 1), c->rope_dims / (c->rope_dims - 2.0));
    for (uint32_t i = 0; i < c->rope_dims / 2; i++) {
        double f = pow(base, -2.0 * i / c->rope_dims);
        if (freqs && !local) f /= (double)freqs[i];
        else if (scaling == ROPE_LLAMA3) f /= llama3_factor(c, f);
        if (scaling == ROPE_LINEAR) f /= c->scale_factor;
        if (scaling == ROPE_YARN) f = yarn(c, f, i);
        if (scaling == ROPE_LONG) f /= (double)(n_ctx > c->scale_orig_ctx ? c->rope_long : c->rope_short)[i];
        out[i] = f;
    }
}

bool rope_freq_factors(const config *c, float *out) {
    if (c->scaling != ROPE_LLAMA3) return false;
    for (uint32_t i = 0; i < c->rope_dims / 2; i++)
        out[i] = (float)llama3_factor(c, pow(c->rope_base, -2.0 * i / c->rope_dims));
    return true;
}
