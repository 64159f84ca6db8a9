/* A budget that is spent: between rates where a large tensor has no candidate (8.5 to 16 bits, say) the plan of least loss may leave a
 * few percent of the budget unused. Here unspent bytes are given a price: each candidate's loss becomes loss + price * (bytes that
 * the menu's largest would take more), and the price rises until enough is spent. With price 0 it is the plain knapsack; the plan
 * found is the best of all that spend as much, up to the gaps of the lower convex hull of (unspent, loss). */
#include "plan/plan.h"

#include "base/arena.h"
#include "base/err.h"

#include <string.h>

enum { MAX_PRICES = 24 };
static const double FIRST_PRICE = 1e-3, PRICE_STEP = 4; /* the first: in units of the plan's own loss per byte */

static uint64_t bytes_of(const menu *menus, size_t n, const uint32_t *choice) {
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += menus[i].cand[choice[i]].bytes;
    return sum;
}

static double loss_of(const menu *menus, size_t n, const uint32_t *choice) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += menus[i].cand[choice[i]].loss;
    return sum;
}

/* Copies of the menus, whose losses are to be overwritten; those that were alike still are. */
static menu *copy_menus(const menu *menus, const size_t *first, size_t n, arena *mem) {
    menu *out = arena_calloc(mem, n, sizeof *out);
    for (size_t i = 0; out && i < n; i++) {
        out[i] = menus[i];
        out[i].cand = first[i] < i ? out[first[i]].cand : arena_calloc(mem, menus[i].n, sizeof *out[i].cand);
        if (!out[i].cand) return NULL;
        if (first[i] == i) memcpy(out[i].cand, menus[i].cand, menus[i].n * sizeof *out[i].cand);
    }
    return out;
}

static void set_price(menu *priced, const menu *menus, const size_t *first, size_t n, double price) {
    for (size_t i = 0; i < n; i++) {
        uint64_t most = 0;
        if (first[i] < i) continue;
        for (size_t k = 0; k < menus[i].n; k++)
            if (menus[i].cand[k].bytes > most) most = menus[i].cand[k].bytes;
        for (size_t k = 0; k < menus[i].n; k++)
            priced[i].cand[k].loss = menus[i].cand[k].loss + price * (double)(most - menus[i].cand[k].bytes);
    }
}

snug_err knapsack_fill(const menu *menus, size_t n, uint64_t budget, uint64_t wanted, uint32_t *choice, uint64_t *least, snug_error *err) {
    snug_err rc = knapsack_solve(menus, n, budget, choice, least, err);
    if (rc != SNUG_OK || n == 0 || bytes_of(menus, n, choice) >= wanted) return rc;
    double loss = loss_of(menus, n, choice), price = FIRST_PRICE * loss / (double)budget;
    if (loss <= 0) return SNUG_OK; /* nothing is lost: more bytes would buy nothing */
    arena mem = {0};
    menu *priced = NULL;
    uint32_t *filled = arena_calloc(&mem, n, sizeof *filled);
    size_t *first = arena_calloc(&mem, n, sizeof *first);
    rc = filled && first ? menus_alike(menus, n, first, err) : err_nomem(err, n * sizeof *first);
    if (rc == SNUG_OK && !(priced = copy_menus(menus, first, n, &mem))) rc = err_nomem(err, n * sizeof *priced);
    for (int i = 0; i < MAX_PRICES && rc == SNUG_OK; i++, price *= PRICE_STEP) {
        set_price(priced, menus, first, n, price);
        rc = knapsack_solve(priced, n, budget, filled, least, err);
        if (rc == SNUG_OK && bytes_of(menus, n, filled) >= wanted) {
            memcpy(choice, filled, n * sizeof *choice);
            break;
        }
    }
    arena_fini(&mem);
    return rc;
}
