/* Progress and the estimate of the end.
 *
 * Every stage was announced with a cost (weights, FLOPs ... any unit common to all). What remains is
 *
 *     rest of the current stage        at the rate that it has shown since it began
 *   + cost of the stages to come       x (seconds per cost unit seen so far, current stage included)
 *
 * What was expected of a unit counts as if a share of the whole had been seen at it: a short stage in the beginning, which waited for a disk,
 * says little about hours to come.
 *
 * The current stage's own rate is noisy in its first few per cent (and absent at 0 %), so there the announced cost stands in
 * for it and fades out linearly until 5 % of the stage is done. Units that a resumed run found done are left out of all rates. */
#include "base/progress.h"

#include "base/err.h"

#include <time.h>

static const double EVENT_INTERVAL_S = 0.1, RATE_TRUSTED_FROM = 0.05, FIRST_ETA_AFTER_S = 0.2, EXPECTED_SHARE = 0.05;

double clock_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void meter_init(meter *m, snug_progress to) {
    *m = (meter){.to = to, .current = -1};
    m->started_s = clock_seconds();
}

void meter_expect(meter *m, double seconds_per_cost) { m->expected_s = seconds_per_cost; }

int meter_add(meter *m, const char *name, const char *unit, uint64_t total, double cost) {
    if (!(cost > 0)) cost = 0; /* NaN too */
    if (m->n_stages == METER_MAX_STAGES) {
        m->stage[METER_MAX_STAGES - 1].cost += cost;
        return METER_MAX_STAGES - 1;
    }
    int i = m->n_stages++;
    m->stage[i].name = name;
    m->stage[i].unit = unit;
    m->stage[i].total = total;
    m->stage[i].cost = cost;
    return i;
}

/* Share of stage i that is done, 0..1. */
static double share(const meter *m, int i) {
    if (i < m->current) return 1;
    if (i > m->current || m->stage[i].total == 0) return 0;
    double f = (double)m->stage[i].done / (double)m->stage[i].total;
    return f < 1 ? f : 1;
}

static double fraction(meter *m) {
    double all = 0, done = 0;
    for (int i = 0; i < m->n_stages; i++) {
        all += m->stage[i].cost;
        done += m->stage[i].cost * share(m, i);
    }
    double f = all > 0 ? done / all : 0;
    if (f > m->best_fraction) m->best_fraction = f;
    return m->best_fraction;
}

static double eta(const meter *m, double now) {
    double spent = 0, spent_cost = 0, coming_cost = 0, whole = 0;
    for (int i = 0; i < m->n_stages; i++) whole += m->stage[i].cost;
    if (m->expected_s > 0) spent_cost = EXPECTED_SHARE * whole, spent = spent_cost * m->expected_s;
    for (int i = 0; i < m->n_stages; i++) {
        if (i < m->current && m->stage[i].begun) {
            double fresh = m->stage[i].total ? 1 - (double)m->stage[i].skipped / (double)m->stage[i].total : 1;
            spent += m->stage[i].spent_s;
            spent_cost += m->stage[i].cost * fresh;
        } else if (i > m->current) {
            coming_cost += m->stage[i].cost;
        }
    }
    int c = m->current;
    double total = (double)m->stage[c].total, in_stage = now - m->stage[c].began_s, cost = m->stage[c].cost;
    double todo = total > 0 ? 1 - (double)m->stage[c].skipped / total : 1; /* share of the stage that this run does */
    double fresh = total > 0 ? share(m, c) - (1 - todo) : 0;               /* ... and has done                      */
    if (fresh < 0) fresh = 0;
    double all_cost = spent_cost + cost * fresh;
    double seconds_per_cost = all_cost > 0 ? (spent + in_stage) / all_cost : -1;
    double left = total > 0 ? 1 - share(m, c) : 1, rest = -1;
    if (left <= 0) rest = 0;
    else if (fresh > 0) rest = in_stage * left / fresh;
    double trust = todo > 0 ? fresh / todo / RATE_TRUSTED_FROM : 1;
    if (spent_cost > 0 && (rest < 0 || trust < 1)) { /* what the announced cost says about this stage */
        double by_cost = spent / spent_cost * cost * todo - in_stage;
        if (by_cost < 0) by_cost = 0;
        rest = rest < 0 ? by_cost : trust * rest + (1 - trust) * by_cost;
    }
    if (rest < 0 || (coming_cost > 0 && seconds_per_cost < 0)) return -1;
    return rest + (coming_cost > 0 ? coming_cost * seconds_per_cost : 0);
}

static void send_note(meter *m, const char *detail, const char *note, bool warning, double now) {
    m->last_event_s = now;
    if (!m->to.fn || m->cancelled) return;
    double elapsed = now - m->started_s;
    snug_event e = {.stage = m->stage[m->current].name, .detail = detail ? detail : "", .done = m->stage[m->current].done,
                    .total = m->stage[m->current].total, .unit = m->stage[m->current].unit, .elapsed_s = elapsed,
                    .eta_s = elapsed < FIRST_ETA_AFTER_S ? -1 : eta(m, now), .fraction = fraction(m), .note = note, .warning = warning};
    if (m->to.fn(m->to.user, &e)) m->cancelled = true;
}

static void send(meter *m, const char *detail, double now) { send_note(m, detail, NULL, false, now); }

/* Ends the current stage's clock; its last state goes out if it has not yet. */
static void close_stage(meter *m, double now) {
    if (m->current < 0) return;
    int c = m->current;
    if (!m->stage[c].said_last) send(m, "", now);
    m->stage[c].said_last = true;
    m->stage[c].spent_s = now - m->stage[c].began_s;
}

void meter_begin(meter *m, int stage) {
    if (stage < 0 || stage >= m->n_stages || stage == m->current) return;
    double now = clock_seconds();
    close_stage(m, now);
    m->current = stage;
    m->stage[stage].begun = true;
    m->stage[stage].began_s = now;
    send(m, "", now);
}

static snug_err cancelled(const meter *m, snug_error *err) {
    return m->cancelled ? err_set(err, SNUG_ERR_CANCELLED, "cancelled during %s", m->current >= 0 ? m->stage[m->current].name : "the start") : SNUG_OK;
}

snug_err meter_note(meter *m, const char *note, snug_error *err) {
    if (m->current >= 0) send_note(m, "", note, false, clock_seconds());
    return cancelled(m, err);
}

/* Before the first stage there is nothing to tell but the warning. */
static void warn_early(meter *m, const char *note) {
    snug_event e = {.stage = "open", .detail = "", .unit = "", .elapsed_s = clock_seconds() - m->started_s, .eta_s = -1, .note = note, .warning = true};
    if (m->to.fn && !m->cancelled && m->to.fn(m->to.user, &e)) m->cancelled = true;
}

snug_err meter_warn(meter *m, const char *note, snug_error *err) {
    if (m->current >= 0) send_note(m, "", note, true, clock_seconds());
    else warn_early(m, note);
    return cancelled(m, err);
}

snug_err meter_update(meter *m, uint64_t done, const char *detail, snug_error *err) {
    int c = m->current;
    if (c >= 0) {
        double now = clock_seconds();
        m->stage[c].done = done;
        bool last = m->stage[c].total > 0 && done >= m->stage[c].total && !m->stage[c].said_last;
        if (last) m->stage[c].said_last = true;
        if (last || now - m->last_event_s >= EVENT_INTERVAL_S) send(m, detail, now);
    }
    return cancelled(m, err);
}

void meter_skip(meter *m, uint64_t done) {
    if (m->current < 0) return;
    int c = m->current;
    m->stage[c].skipped = m->stage[c].total && done > m->stage[c].total ? m->stage[c].total : done;
    if (m->stage[c].done < done) m->stage[c].done = done;
}

void meter_set_total(meter *m, uint64_t total) {
    if (m->current >= 0) m->stage[m->current].total = total;
}

void meter_set_cost(meter *m, int stage, double cost) {
    if (stage >= 0 && stage < m->n_stages && cost > 0) m->stage[stage].cost = cost;
}

void meter_finish(meter *m) {
    if (m->current < 0) return;
    double now = clock_seconds();
    int c = m->current;
    bool said_all = m->stage[c].said_last && m->best_fraction >= 1;
    m->stage[c].said_last = true;
    m->best_fraction = 1;
    if (!said_all) send(m, "", now);
}
