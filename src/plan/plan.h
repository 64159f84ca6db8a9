/* The planner: for every tensor a menu (candidates with exact bytes and predicted loss), one candidate chosen for each within
 * the budget, and the plan as a readable JSON file. Knows nothing of files' contents: fit measures, plan decides. */
#ifndef PLAN_PLAN_H
#define PLAN_PLAN_H
#include "codec/weight.h"
#include "base/json.h"

typedef struct cand {
    comp comp;
    uint64_t bytes;     /* everything it adds to the file: payload, padding, tensor info, record */
    double rel_error;   /* sum a (w - w_hat)^2 / sum a w^2  */
    double loss;        /* predicted, nats per token        */
} cand;

typedef struct menu {
    const char *tensor;
    uint64_t rows, cols;
    double sensitivity;
    size_t n;
    cand *cand;
    const char *note;   /* "pinned", "falls back ...", or "" */
} menu;

/* The exact multiple-choice knapsack: one candidate of each menu, sum of bytes <= budget, least sum of loss; ties: fewer bytes
 * unspent. Exact for any sizes (dominance, LP bound, core expansion). SNUG_ERR_BUDGET when even the smallest do not fit: the
 * message is the caller's business; *least = the least possible bytes (always set). */
snug_err knapsack_solve(const menu *menus, size_t n, uint64_t budget, uint32_t *choice, uint64_t *least, snug_error *err);

typedef struct plan_entry { const char *tensor; comp comp; uint64_t rows, cols, bytes; double rel_error, loss, sensitivity; const char *note; } plan_entry;
typedef struct plan {
    arena mem;
    size_t n;
    plan_entry *entry;
    uint64_t budget_bytes, file_bytes;
    double predicted_kl;
    char target[8], calib[64];
    uint64_t source_fingerprint, seed;
} plan;
snug_err plan_save(const plan *p, const char *path, snug_error *err);
snug_err plan_load(const char *path, plan **out, snug_error *err); /* hostile input is normal */
void plan_destroy(plan **p);

/* Sensitivity fit (the linearity theorem, HIGGS): KL ~ alpha * t^2 with t^2 the relative error. alpha = sum t2 * kl / sum t2^2. */
double sensitivity_fit(const double *t2, const double *kl, size_t n);
/* The documented table by role and depth, for quick: relative to a typical decoder. */
double sensitivity_prior(int role, int layer, int n_layers);
#endif
