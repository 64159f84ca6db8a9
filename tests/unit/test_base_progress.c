// rooms: base
/* The meter against simulated work: time is made to pass by moving the meter's own clock readings back, so that the test is
 * exact and takes no time. */
#include "base/progress.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { MAX_EVENTS = 5000 };
static snug_event events[MAX_EVENTS];
static int n_events, cancel_at;

static bool record(void *user, const snug_event *e) {
    if (n_events < MAX_EVENTS) events[n_events] = *e;
    return ++n_events == cancel_at;
}

static void pass(meter *m, double seconds) {
    m->started_s -= seconds;
    m->last_event_s -= seconds;
    for (int i = 0; i < m->n_stages; i++) m->stage[i].began_s -= seconds;
}

static meter fresh_meter(void) {
    meter m;
    n_events = cancel_at = 0;
    meter_init(&m, (snug_progress){.fn = record});
    return m;
}

/* Runs stages whose true seconds are given; the last event's data are checked against the truth from 15 % of the time on. */
static double worst_eta(const double *cost, const double *seconds, const int *steps, int n) {
    meter m = fresh_meter();
    double all = 0, past = 0, worst = 0, last_fraction = 0;
    for (int s = 0; s < n; s++) {
        meter_add(&m, "stage", "units", (uint64_t)steps[s], cost[s]);
        all += seconds[s];
    }
    for (int s = 0; s < n; s++) {
        meter_begin(&m, s);
        for (int i = 0; i < steps[s]; i++) {
            double dt = seconds[s] / steps[s];
            pass(&m, dt);
            past += dt;
            assert_int_equal(meter_update(&m, (uint64_t)i + 1, "x", NULL), SNUG_OK);
            const snug_event *e = &events[n_events - 1];
            assert_true(e->fraction >= last_fraction && e->fraction <= 1);
            last_fraction = e->fraction;
            double left = all - past;
            if (past < 0.15 * all || left < 0.01 * all) continue;
            assert_true(e->eta_s >= 0);
            double off = fabs(e->eta_s - left) / left;
            if (off > worst) worst = off;
        }
    }
    meter_finish(&m);
    assert_true(events[n_events - 1].fraction == 1);
    assert_true(fabs(events[n_events - 1].eta_s) < 1e-6);
    return worst;
}

static void eta_is_right_where_costs_are(void **state) {
    double cost[] = {10, 50, 5, 100}, seconds[] = {20, 100, 10, 200};
    int steps[] = {20, 100, 30, 400};
    assert_true(worst_eta(cost, seconds, steps, 4) < 0.05);
    assert_true(worst_eta((double[]){1}, (double[]){100}, (int[]){1000}, 1) < 0.05);
    double off[] = {12, 40, 5.5, 110}; /* costs wrong by a fifth or less */
    assert_true(worst_eta(off, seconds, steps, 4) < 0.30);
}

/* A first stage that should take half a second waits half a minute for a disk: the next one, 50 s, is not said to take 40 minutes. */
static void what_was_expected_counts(void **state) {
    for (int known = 0; known < 2; known++) {
        meter m = fresh_meter();
        if (known) meter_expect(&m, 0.5);
        meter_add(&m, "menu", "tensors", 10, 1);
        meter_add(&m, "encode", "weights", 1000, 99);
        meter_begin(&m, 0);
        for (uint64_t i = 1; i <= 10; i++) {
            pass(&m, 2.5);
            meter_update(&m, i, "", NULL);
        }
        meter_begin(&m, 1);
        assert_true(known ? events[n_events - 1].eta_s < 500 : events[n_events - 1].eta_s > 2000);
        for (uint64_t i = 1; i <= 100; i++) {
            pass(&m, 0.05);
            meter_update(&m, i, "", NULL);
        }
        assert_true(fabs(events[n_events - 1].eta_s - 45) < 1); /* by its own rate */
    }
}

static void resumed_work_says_nothing_about_speed(void **state) {
    meter m = fresh_meter();
    meter_add(&m, "encode", "tensors", 100, 100);
    meter_add(&m, "write", "bytes", 100, 50);
    meter_begin(&m, 0);
    meter_skip(&m, 80);
    for (int i = 0; i < 10; i++) {
        pass(&m, 2);
        meter_update(&m, 80 + (uint64_t)i + 1, "", NULL);
    }
    /* 10 tensors in 20 s: 10 more take 20 s, and 50 cost units at 2 s each take 100 s */
    assert_true(fabs(events[n_events - 1].eta_s - 120) < 3);
    assert_int_equal(events[n_events - 1].done, 90);
    for (int i = 10; i < 20; i++) {
        pass(&m, 2);
        meter_update(&m, 80 + (uint64_t)i + 1, "", NULL);
    }
    assert_true(fabs(events[n_events - 1].eta_s - 100) < 3);
    meter_begin(&m, 1);
    assert_true(fabs(events[n_events - 1].eta_s - 100) < 3);
}

static void events_are_few_but_ends_are_shown(void **state) {
    meter m = fresh_meter();
    meter_add(&m, "a", "units", 1000, 1);
    meter_add(&m, "passed over", "units", 10, 1);
    meter_add(&m, "b", "units", 10, 1);
    meter_begin(&m, 0);
    assert_int_equal(n_events, 1);
    assert_true(events[0].eta_s < 0 && events[0].done == 0 && events[0].total == 1000);
    for (uint64_t i = 1; i <= 1000; i++) {
        pass(&m, 0.01);
        meter_update(&m, i, "detail", NULL);
    }
    assert_true(n_events >= 90 && n_events <= 105); /* 10 s at 10 per second */
    assert_int_equal(events[n_events - 1].done, 1000);
    assert_string_equal(events[n_events - 1].detail, "detail");
    int before = n_events;
    meter_update(&m, 1000, "", NULL);
    assert_int_equal(n_events, before); /* the last one goes out once */
    meter_begin(&m, 2);
    assert_int_equal(n_events, before + 1);
    assert_true(events[n_events - 1].fraction > 0.66);
    meter_update(&m, 3, NULL, NULL);
    assert_int_equal(n_events, before + 1); /* too soon */
    meter_finish(&m); /* ended early: the last state is shown all the same */
    assert_int_equal(n_events, before + 2);
    assert_int_equal(events[n_events - 1].done, 3);
    assert_string_equal(events[n_events - 1].detail, "");
    assert_string_equal(events[n_events - 1].stage, "b");
    meter_finish(&m);
    assert_int_equal(n_events, before + 2);
}

static void cancelling_stops(void **state) {
    meter m = fresh_meter();
    snug_error e = {0};
    cancel_at = 1; /* in the event that meter_begin sends */
    meter_add(&m, "encode", "tensors", 10, 1);
    meter_begin(&m, 0);
    assert_int_equal(meter_update(&m, 1, "", &e), SNUG_ERR_CANCELLED);
    assert_string_equal(e.message, "cancelled during encode");
    assert_int_equal(meter_update(&m, 2, "", &e), SNUG_ERR_CANCELLED);
}

static void odd_meters_do_not_crash(void **state) {
    meter m;
    meter_init(&m, (snug_progress){0});
    assert_int_equal(meter_update(&m, 1, "", NULL), SNUG_OK);
    meter_finish(&m);
    for (int i = 0; i < 12; i++) assert_true(meter_add(&m, "s", "u", 0, NAN) < METER_MAX_STAGES);
    meter_begin(&m, 99);
    meter_begin(&m, 0);
    assert_int_equal(meter_update(&m, 5, NULL, NULL), SNUG_OK); /* total unknown */
    meter_set_total(&m, 4);
    meter_skip(&m, 9);
    assert_int_equal(meter_update(&m, 9, NULL, NULL), SNUG_OK);
    meter_finish(&m);
    meter k = fresh_meter();
    meter_add(&k, "s", "u", 0, 0);
    meter_begin(&k, 0);
    pass(&k, 5);
    meter_update(&k, 5, NULL, NULL);
    assert_true(events[n_events - 1].eta_s < 0);
    assert_true(clock_seconds() <= clock_seconds());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eta_is_right_where_costs_are),
        cmocka_unit_test(what_was_expected_counts),
        cmocka_unit_test(resumed_work_says_nothing_about_speed),
        cmocka_unit_test(events_are_few_but_ends_are_shown),
        cmocka_unit_test(cancelling_stops),
        cmocka_unit_test(odd_meters_do_not_crash),
    };
    return cmocka_run_group_tests_name("base progress", tests, NULL, NULL);
}
