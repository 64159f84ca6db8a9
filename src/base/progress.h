/* Progress: a meter over weighted stages that calls the user's snug_progress at most ten times a second and predicts the
 * end of the whole call from the share of the estimated work that is done. */
#ifndef BASE_PROGRESS_H
#define BASE_PROGRESS_H
#include <snug.h>

enum { METER_MAX_STAGES = 8 };
typedef struct meter {
    snug_progress to;
    double started_s, last_event_s, best_fraction;
    double expected_s; /* of a unit of cost; 0: not known */
    int n_stages, current; /* current: -1 before the first meter_begin */
    bool cancelled;
    struct {
        const char *name, *unit;
        uint64_t total, done, skipped; /* skipped: units of `done` that an earlier run did */
        double cost;                   /* estimated share of the whole */
        double began_s, spent_s;       /* spent_s is final once the stage is over */
        bool begun, said_last;
    } stage[METER_MAX_STAGES];
} meter;

double clock_seconds(void); /* monotonic */
void meter_init(meter *m, snug_progress to);
/* What a unit of cost is expected to take, where that is known before anything ran. */
void meter_expect(meter *m, double seconds_per_cost);
/* Announces a stage before the work starts; `cost` is its estimated share of the whole in any unit common to all stages.
 * Returns its number, counted from 0; stages beyond METER_MAX_STAGES join the last one. `name` and `unit` are kept as they are. */
int meter_add(meter *m, const char *name, const char *unit, uint64_t total, double cost);
/* Starts a stage. Stages run in the order in which they were added; those passed over count as done (they cost nothing). */
void meter_begin(meter *m, int stage);
/* Sets the stage's progress. Returns SNUG_ERR_CANCELLED when the user wants to stop. From the calling thread alone (inside
 * thread_for that is worker 0). `detail` may be NULL. */
snug_err meter_update(meter *m, uint64_t done, const char *detail, snug_error *err);
/* A line of its own for the user, at once. */
snug_err meter_note(meter *m, const char *note, snug_error *err);
snug_err meter_warn(meter *m, const char *note, snug_error *err); /* one that nobody should miss; it may come before the first stage */
/* The current stage's first `done` units are there already (resume): they are shown as done but say nothing about speed. */
void meter_skip(meter *m, uint64_t done);
/* The current stage's size became known, or changed. */
void meter_set_total(meter *m, uint64_t total);
/* What a stage to come will cost became known better. */
void meter_set_cost(meter *m, int stage, double cost);
/* The end of the whole call: the last event, with fraction 1, unless it has been sent. */
void meter_finish(meter *m);
#endif
