/* Showing what goes on: one bar that redraws itself on a terminal, a line every few seconds in a log, JSON lines for
 * programs. And the signals: Ctrl-C raises a flag that the progress callback hands to the library, which stops at the
 * next step. */
#include "cli.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* Nothing is drawn for what is over at once; a log gets few lines. */
static const double BAR_AFTER_S = 0.5, LINE_AFTER_S = 2, LINE_EVERY_S = 10,
                    LINE_EVERY_SHARE = 0.1; /* the larger of 10 s and 10 % of the time */

static volatile sig_atomic_t stop_requested;

static void on_interrupt(int sig) {
    if (stop_requested) _exit(128 + sig); /* asked twice: at once */
    stop_requested = 1;
}

void catch_interrupts(void) {
    struct sigaction act = {.sa_handler = on_interrupt}; /* no SA_RESTART: a waiting read returns */
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
}

bool interrupted(void) {
    return stop_requested != 0;
}
void clear_interrupt(void) {
    stop_requested = 0;
}

double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_open(progress_view *v, bool json) {
    *v = (progress_view){.json = json, .terminal = isatty(STDERR_FILENO)};
    const char *term = getenv("TERM");
    if (!term || strcmp(term, "dumb") == 0) v->terminal = false;
}

static int terminal_width(void) {
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40) return size.ws_col;
    return 80;
}

/* "12.3M/s" or "1,234 tokens/s" in the current stage; "" when not known yet. */
static void rate_text(const progress_view *v, const snug_event *e, char *out, size_t cap) {
    double seconds = e->elapsed_s - v->stage_began_s;
    *out = 0;
    if (seconds < 0.5 || e->done <= v->stage_began_done) return;
    double rate = (double)(e->done - v->stage_began_done) / seconds;
    char text[TEXT_MAX];
    if (strcmp(e->unit, "bytes") == 0)
        snprintf(out, cap, "%s/s", size_text(text, (uint64_t)rate));
    else if (rate >= 10)
        snprintf(out, cap, "%s %s/s", rate < 1e6 ? count_text(text, (uint64_t)rate) : size_text(text, (uint64_t)rate),
                 e->unit);
    else
        snprintf(out, cap, "%.2g %s/s", rate, e->unit);
}

static void draw_bar(progress_view *v, const snug_event *e) {
    char rate[48], eta[TEXT_MAX] = "", left[48] = "", line[512];
    rate_text(v, e, rate, sizeof rate);
    if (e->eta_s >= 0) snprintf(left, sizeof left, "%s left", duration_text(eta, e->eta_s));
    char bar[25];
    int full = (int)(e->fraction * 24 + 0.5);
    for (int i = 0; i < 24; i++) bar[i] = i < full ? '#' : '.';
    bar[24] = 0;
    int n = snprintf(line, sizeof line, "%-11.11s [%s] %3.0f %%  %-12s %-18s %s", e->stage, bar, 100 * e->fraction,
                     left, rate, e->detail);
    int width = terminal_width() - 1;
    if (n > width) n = width;
    while (n > 0 && ((unsigned char)line[n] & 0xc0) == 0x80) n--; /* never half a character */
    fprintf(stderr, "\r\033[K%.*s", n, line);
    fflush(stderr);
    v->drawn = true;
}

static void print_note(progress_view *v, const snug_event *e) {
    if (v->drawn) fprintf(stderr, "\r\033[K");
    fprintf(stderr, "%s: %s\n", e->warning ? "warning" : e->stage, e->note);
    v->drawn = false;
}

static void print_line(progress_view *v, const snug_event *e) {
    char rate[48], eta[TEXT_MAX], elapsed[TEXT_MAX];
    rate_text(v, e, rate, sizeof rate);
    fprintf(stderr, "%s: %.0f %% after %s", e->stage, 100 * e->fraction, duration_text(elapsed, e->elapsed_s));
    if (e->eta_s >= 0 && e->fraction < 1) fprintf(stderr, ", %s left", duration_text(eta, e->eta_s));
    if (*rate) fprintf(stderr, ", %s", rate);
    if (*e->detail) fprintf(stderr, " (%s)", e->detail);
    fputc('\n', stderr);
    v->last_line_s = e->elapsed_s;
}

static void print_json(const snug_event *e) {
    json_t *o = json_object();
    json_put_text(o, "event", "progress");
    json_put_text(o, "stage", e->stage);
    json_put_text(o, "detail", e->detail);
    json_put_int(o, "done", e->done);
    json_put_int(o, "total", e->total);
    json_put_text(o, "unit", e->unit);
    json_put_real(o, "elapsed_s", e->elapsed_s);
    if (e->eta_s >= 0)
        json_put_real(o, "eta_s", e->eta_s);
    else
        json_object_set_new(o, "eta_s", json_null());
    json_put_real(o, "fraction", e->fraction);
    if (e->note) json_put_text(o, e->warning ? "warning" : "note", e->note);
    json_print(stderr, o);
}

static bool line_due(const progress_view *v, const snug_event *e) {
    double since = e->elapsed_s - v->last_line_s;
    return since >= LINE_EVERY_S && since >= LINE_EVERY_SHARE * e->elapsed_s;
}

static bool on_event(void *user, const snug_event *e) {
    progress_view *v = user;
    bool new_stage = strcmp(v->stage, e->stage) != 0;
    if (new_stage) {
        snprintf(v->stage, sizeof v->stage, "%s", e->stage);
        v->stage_began_s = e->elapsed_s;
        v->stage_began_done = e->done;
    }
    if (!v->json && e->note && (e->warning || e->elapsed_s >= LINE_AFTER_S)) print_note(v, e);
    if (v->json)
        print_json(e);
    else if (v->terminal && e->elapsed_s >= BAR_AFTER_S)
        draw_bar(v, e);
    else if (!v->terminal && e->elapsed_s >= LINE_AFTER_S && (new_stage || line_due(v, e)))
        print_line(v, e);
    return interrupted();
}

snug_progress progress_to(progress_view *v) {
    return (snug_progress){.fn = on_event, .user = v};
}

void progress_close(progress_view *v) {
    if (!v->drawn) return;
    fprintf(stderr, "\r\033[K");
    fflush(stderr);
    v->drawn = false;
}

int report_error(const command *cmd, const snug_error *err, bool json) {
    if (json) {
        json_t *o = json_object(), *e = json_object();
        json_put_text(e, "code", snug_err_name(err->code));
        json_put_text(e, "message", err->message);
        if (err->offset) json_put_int(e, "offset", err->offset);
        json_object_set_new(o, "error", e);
        json_print(stdout, o);
    }
    fprintf(stderr, "snug %s: %s\n", cmd->name, *err->message ? err->message : snug_err_name(err->code));
    switch (err->code) {
    case SNUG_OK:
        return EXIT_OK;
    case SNUG_ERR_BUDGET:
        return EXIT_TOO_BIG;
    case SNUG_ERR_ARG:
        fprintf(stderr, "Try: snug %s --help\n", cmd->name);
        return EXIT_USAGE;
    default:
        return EXIT_FAILED;
    }
}
