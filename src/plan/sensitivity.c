/* Sensitivities: how much the model's output moves (KL, nats per token) for a given relative error of one weight.
 *
 * The linearity theorem (Malinovskii et al., "Pushing the Limits of Large Language Model Quantization via the Linearity Theorem",
 * 2024): for small, nearly independent errors, KL ~ sum over weights of alpha * t^2, t^2 = ||W_hat - W||^2 / ||W||^2. */
#include "plan/plan.h"

#include <string.h>

/* Least squares through the origin of kl on t2. */
double sensitivity_fit(const double *t2, const double *kl, size_t n) {
    double xy = 0, xx = 0;
    for (size_t i = 0; i < n; i++) {
        xy += t2[i] * kl[i];
        xx += t2[i] * t2[i];
    }
    return xx > 0 && xy > 0 ? xy / xx : 0;
}

/* The table for `quick`, where nothing is run. By role: measured on the demo model and stories260K, and in line with what
 * Q-Palette publishes for Llama-3.1-8B: v and down move the output most, q and k least, the first layers (and of these down)
 * more than the rest, the last layer a little more. Only ratios matter to the planner; the scale makes the predicted KL of a
 * typical decoder come out in the right order of magnitude. */
double sensitivity_prior(const char *role, int layer, int n_layers) {
    static const struct { const char *role; double alpha; } table[] = {
        {"embd", 1.2}, {"head", 1.0}, {"q", 0.12}, {"k", 0.12}, {"v", 0.45}, {"o", 0.35}, {"gate", 0.35}, {"up", 0.40}, {"down", 0.45},
    };
    double alpha = 1;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(role, table[i].role) == 0) alpha = table[i].alpha;
    if (layer < 0 || n_layers <= 0) return alpha;
    /* A layer's share falls with the number of layers that the residual stream sums over. */
    double depth = 4.0 / (n_layers < 4 ? 4 : n_layers), edge = 1;
    bool down = strcmp(role, "down") == 0;
    if (layer == 0) edge = down ? 3.0 : 2.0;
    else if (layer == 1) edge = down ? 2.0 : 1.4;
    else if (layer == n_layers - 1) edge = 1.3;
    return alpha * depth * edge;
}
