/* What the commands share: their table, options, messages, progress and the printing of figures. The program stands on
 * snug.h alone; this header is its own little library. Exit codes: 0 fine, 1 failed, 2 usage, 3 does not fit. */
#ifndef CLI_CLI_H
#define CLI_CLI_H
#include <snug.h>

#include <jansson.h>
#include <stdio.h>

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_TOO_BIG = 3 };

/* --------------------------------------------------------------- options ---- */

typedef enum opt_kind {
    OPT_FLAG,   /* bool                                                    */
    OPT_STRING, /* const char *                                            */
    OPT_LIST,   /* str_list: may be given several times                    */
    OPT_U32,    /* uint32_t within [min, max]                              */
    OPT_U64,    /* uint64_t                                                */
    OPT_SIZE,   /* uint64_t bytes: "3.2G", "700M", "1500000"               */
    OPT_REAL,   /* double within [min, max]                                */
    OPT_RATIO,  /* double: "40%" or "0.4"                                  */
    OPT_CHOICE, /* int: index into `choices`, words separated by '|'       */
    OPT_INTS,   /* int_list: "1,2,4", each within [min, max]               */
} opt_kind;

typedef struct str_list {
    const char **item;
    size_t n;
} str_list;
enum { INT_LIST_MAX = 16 };
typedef struct int_list {
    int item[INT_LIST_MAX];
    size_t n;
} int_list;

typedef struct option {
    const char *name;  /* without dashes                                     */
    const char *alias; /* another name that is taken too, NULL: none        */
    char letter;       /* of the short form, 0: none                         */
    opt_kind kind;
    void *value;     /* where it goes, by kind; keeps its default          */
    const char *arg; /* what stands for the value in --help, NULL for flags */
    const char *help;
    double min, max; /* numbers; max 0: no bound                           */
    const char *choices;
    bool given; /* set by the parser                                  */
} option;

typedef struct command {
    const char *name, *summary;
    const char *usage;   /* after "snug "                                  */
    const char *example; /* lines, each a whole command                    */
    const char *notes;   /* after the options; NULL: none                  */
    const char *operand; /* "MODEL": the one positional argument, or NULL  */
    const char *advice;  /* said when the operand is missing               */
    const char *second;  /* another one that may follow it, or NULL        */
} command;

/* Fills the options and the operand, in operand[1] the second one where the command has it (NULL: not given). False: all is said and *exit_code is the program's (help: 0, mistakes: 2). */
bool options_parse(const command *cmd, option *opts, size_t n_opts, const char **operand, int argc, char **argv,
                   int *exit_code);
/* "3.2G", "700M", "1.5GiB", "2GB" (decimal), "123456": whole bytes, rounded down. */
bool parse_size(const char *text, uint64_t *bytes);
bool parse_ratio(const char *text, double *ratio);
/* The candidate that `word` most likely meant; NULL when none is near. */
const char *nearest_word(const char *word, const char *const *candidates, size_t n);
/* A mistake in how the command was called; returns EXIT_USAGE. */
int usage_error(const command *cmd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define OPTION_THREADS(where)                                                                                          \
    {                                                                                                                  \
        .name = "threads", .letter = 't', .kind = OPT_U32, .value = (where), .arg = "N", .min = 1, .max = 1024,        \
        .help = "threads (default: the CPUs that this process may use)"                                                \
    }
#define OPTION_JSON(where)                                                                                             \
    { .name = "json", .kind = OPT_FLAG, .value = (where), .help = "report as JSON on stdout" }
#define OPTION_SPLIT(where)                                                                                            \
    {                                                                                                                  \
        .name = "split-max-size", .kind = OPT_SIZE, .value = (where), .arg = "SIZE",                                   \
        .help = "write parts of at most SIZE, OUT-00001-of-0000N.gguf, as\nllama-gguf-split does"                      \
    }
#define COUNT_OF(a) (sizeof(a) / sizeof *(a))

/* -------------------------------------------------------------- commands ---- */

extern const command fit_command, run_command, chat_command, eval_command, bench_command, inspect_command,
    verify_command, export_command, convert_command, pull_command;
int cmd_fit(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_pull(int argc, char **argv);

/* ------------------------------------------------- messages and progress ---- */

/* SIGINT and SIGTERM raise a flag; the second one ends the program at once. */
void catch_interrupts(void);
bool interrupted(void);
void clear_interrupt(void); /* chat: the answer was stopped, the talk goes on */

/* A bar with rate and time left on a terminal, plain lines in a log, JSON lines with --json; always on stderr. */
typedef struct progress_view {
    bool terminal, json;
    bool drawn;         /* a bar is on the screen                          */
    double last_line_s; /* elapsed time at the last line of a log          */
    double stage_began_s;
    uint64_t stage_began_done;
    char stage[32];
} progress_view;
void progress_open(progress_view *v, bool json);
snug_progress progress_to(progress_view *v);
void progress_close(progress_view *v); /* takes the bar away */

/* The end of a command that reports JSON: prints it, checks stdout. Releases obj. */
int finish_json(const command *cmd, json_t *obj);

/* What was written: a file, or the first of its parts. */
typedef struct written {
    char *path; /* malloc'd; NULL before */
    uint32_t n_parts;
    uint64_t bytes; /* all together */
} written;
/* Cuts the GGUF at `output` into parts of at most max_bytes, 0: leaves it whole. path is released by the caller, even after an error. */
snug_err split_output(const char *output, uint64_t max_bytes, progress_view *view, written *out, snug_error *err);
/* "OUT", or "OUT-00001-of-00003.gguf and 2 more parts". */
void print_written(const written *w);

/* A plan of GGUF types as arguments of llama-quantize, to a file, or for "-" to stdout. */
snug_err write_tensor_types(const snug_fit_report *report, const char *path, snug_error *err);

/* Says what went wrong and returns the exit code for it. json: also an object {"error": ...} on stdout. */
int report_error(const command *cmd, const snug_error *err, bool json);

double now_seconds(void);

/* ------------------------------------------------------- figures and JSON ---- */

enum { TEXT_MAX = 32 };
const char *size_text(char out[TEXT_MAX], uint64_t bytes);     /* "3.2G": K, M, G are powers of 1024 */
const char *count_text(char out[TEXT_MAX], uint64_t n);        /* "1,234,567" */
const char *duration_text(char out[TEXT_MAX], double seconds); /* "42 s", "3:07", "1:02:03" */

/* Bytes of the UTF-8 character at p (RFC 3629), 0 when there is none within the `left` bytes. */
size_t utf8_char(const unsigned char *p, size_t left);

/* Numbers that are not finite become null, bytes that are no UTF-8 become U+FFFD: what is printed is always valid JSON.
 */
void json_put_real(json_t *obj, const char *key, double value);
void json_put_int(json_t *obj, const char *key, uint64_t value);
void json_put_text(json_t *obj, const char *key, const char *value);
void json_put_bytes(json_t *obj, const char *key, const char *value, size_t n);
void json_put_bool(json_t *obj, const char *key, bool value);
/* Prints one line and releases the object. False: stdout cannot be written. */
bool json_print(FILE *to, json_t *obj);
/* Flushes stdout; a full disk or a closed pipe there is a failure: returns exit_code or EXIT_FAILED. */
int finish_stdout(const command *cmd, int exit_code);
#endif
