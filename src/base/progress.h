/* Progress: a meter over weighted stages that calls the user's snug_progress at most ten times a second and predicts the
 * end of the whole call from the share of the estimated work that is done. */
#ifndef BASE_PROGRESS_H
#define BASE_PROGRESS_H
#include <snug.h>

enum { METER_MAX_STAGES = 8 };
typedef struct meter {
    snug_progress to;
    double started_s, last_event_s;
    int n_stages, current;
    struct { const char *name, *unit; uint64_t total, done; double cost; double began_s; } stage[METER_MAX_STAGES];
} meter;

double clock_seconds(void); /* monotonic */
void meter_init(meter *m, snug_progress to);
/* Announces a stage before the work starts; `cost` is its estimated share of the whole in any unit common to all stages. */
int meter_add(meter *m, const char *name, const char *unit, uint64_t total, double cost);
void meter_begin(meter *m, int stage);
/* Sets the stage's progress. Returns SNUG_ERR_CANCELLED when the user wants to stop. */
snug_err meter_update(meter *m, uint64_t done, const char *detail, snug_error *err);
#endif
