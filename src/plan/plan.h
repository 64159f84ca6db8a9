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
    double encode_s;    /* a thread's seconds per weight, as its trial took; 0: there was none */
} cand;

typedef struct menu {
    const char *tensor;
    uint64_t rows, cols;
    double sensitivity;
    size_t n;
    cand *cand;         /* several menus may have the same ones: tensors that nothing tells apart (fit/menu.c) */
    const char *note;   /* "pinned", "falls back ...", or "" */
} menu;

/* For each of n menus the first that has the very same candidates, mostly itself: what is made of these is made once. first: n numbers. */
snug_err menus_alike(const menu *menus, size_t n, size_t *first, snug_error *err);

/* The exact multiple-choice knapsack: one candidate of each menu, sum of bytes <= budget, least sum of loss (up to a relative
 * 1e-12); among equal losses a candidate with fewer bytes. Deterministic, exact for any sizes (dominance, LP bound, core
 * expansion). choice: n candidate numbers. SNUG_ERR_BUDGET when even the smallest do not fit, with *least = the least possible
 * bytes (set whenever the menus are well formed). */
snug_err knapsack_solve(const menu *menus, size_t n, uint64_t budget, uint32_t *choice, uint64_t *least, snug_error *err);

/* The same, spending at least `wanted` bytes where some plan does, at the least loss that costs; else the plan of knapsack_solve. */
snug_err knapsack_fill(const menu *menus, size_t n, uint64_t budget, uint64_t wanted, uint32_t *choice, uint64_t *least, snug_error *err);

typedef struct plan_entry { const char *tensor; comp comp; uint64_t rows, cols, bytes; double rel_error, loss, sensitivity; const char *note;
                             uint64_t *tokens; size_t n_tokens; /* that came to its experts while calibrating, one or all of a stack; not read back */ } plan_entry;
typedef struct plan {
    arena mem;
    size_t n;
    plan_entry *entry;
    uint64_t budget_bytes, file_bytes;
    double predicted_kl;
    snug_work run_work; /* told, and not read again */
    char target[8], calib[64];
    uint64_t source_fingerprint, seed;
} plan;
/* Written beside the path and renamed when whole. */
snug_err plan_save(const plan *p, const char *path, snug_error *err);
/* Hostile input is normal. Only tensor and codec of an entry are required; absent numbers are 0 (rows, cols, bytes) or -1. */
snug_err plan_load(const char *path, plan **out, snug_error *err);
void plan_destroy(plan **p);

/* Sensitivity fit (the linearity theorem, HIGGS): KL ~ alpha * t^2 with t^2 the relative error. alpha = sum t2 * kl / sum t2^2;
 * 0 when the points say nothing. */
double sensitivity_fit(const double *t2, const double *kl, size_t n);
/* The documented table by role ("embd", "head", "q" ... "down") and depth, for quick: nats per unit of relative error in a typical
 * decoder. layer -1: not in a layer. */
double sensitivity_prior(const char *role, int layer, int n_layers);
#endif
