/* Cutting a text's tokens into windows, and averages over windows. */
#ifndef EVAL_WINDOWS_H
#define EVAL_WINDOWS_H
#include <snug.h>

/* Window w holds the tokens [w * step, w * step + n_ctx). Of it the tokens at first_target .. n_ctx - 1 are predicted
 * and scored. */
typedef struct windows {
    uint32_t n_ctx, step, first_target;
    uint32_t n_scored; /* per window: n_ctx - first_target */
    size_t count;
} windows;

/* stride as in snug_eval_params. SNUG_ERR_ARG when it makes no sense, or when the text is shorter than one window. */
snug_err windows_plan(size_t n_tokens, uint32_t n_ctx, uint32_t stride, windows *out, snug_error *err);

/* Mean over equally large groups and the half-width of its 95 % confidence interval from the spread between groups
 * (neighbouring tokens are not independent, windows nearly are): Student's t with n_groups - 1 degrees of freedom. One
 * group alone: the spread between its tokens, token_sd, stands in. group_mean[n_groups]. */
snug_stat clustered_mean(const double *group_mean, size_t n_groups, double token_sd, uint64_t n_tokens);
/* The 97.5 % quantile of Student's t. */
double student_t975(uint64_t degrees);
/* Quantile q in [0, 1] of sorted values, linear between neighbours. */
double quantile_sorted(const double *sorted, size_t n, double q);
#endif
