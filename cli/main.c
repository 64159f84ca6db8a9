/* snug: the command table and the way to one of its commands. */
#include "cli.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const command *about;
    int (*run)(int argc, char **argv);
} commands[] = {
    {&fit_command, cmd_fit},       {&run_command, cmd_run},       {&chat_command, cmd_chat},
    {&eval_command, cmd_eval},     {&bench_command, cmd_bench},   {&inspect_command, cmd_inspect},
    {&verify_command, cmd_verify}, {&export_command, cmd_export},   {&convert_command, cmd_convert},
    {&pull_command, cmd_pull},
};

static void print_overview(FILE *to) {
    fprintf(to, "snug fits a language model into the memory you have, and runs it.\n\n"
                "    snug pull hf:Qwen/Qwen3-0.6B                        a model from Hugging Face\n"
                "    snug fit Llama-3.2-1B -o small.snug --size 700M     the best version that fits\n"
                "    snug eval small.snug --against Llama-3.2-1B --text book.txt\n"
                "    snug run small.snug -p \"Once upon a time\"\n\nCommands:\n");
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        fprintf(to, "    %-9s %s\n", commands[i].about->name, commands[i].about->summary);
    fprintf(to, "\nModels are Hugging Face folders, GGUF files or files that snug made. Each command explains itself: "
                "snug fit --help\n");
}

static int unknown_command(const char *word) {
    const char *names[COUNT_OF(commands)];
    for (size_t i = 0; i < COUNT_OF(commands); i++) names[i] = commands[i].about->name;
    const char *near = nearest_word(word, names, COUNT_OF(names));
    if (near)
        fprintf(stderr, "snug: unknown command '%s'; did you mean '%s'?\n", word, near);
    else
        fprintf(stderr, "snug: unknown command '%s'; `snug --help` lists them\n", word);
    return EXIT_USAGE;
}

/* libgomp's threads spin for milliseconds at every barrier, which on a busy machine makes two threads several times
 * slower than one. It reads its settings when it is loaded, before main: so the program starts itself once more with a
 * short spin (some tens of microseconds: longer than the gaps between the regions of one token), unless the user has
 * settings of their own. OpenBLAS likewise starts threads when it is loaded, which spin for a while beside the first token and
 * are never used: snug calls it from threads of its own. */
static void set_up_threads(char **argv) {
    bool spin = !getenv("GOMP_SPINCOUNT") && !getenv("OMP_WAIT_POLICY"), blas = !getenv("OPENBLAS_NUM_THREADS");
    bool set = false;
    if (spin) set |= setenv("GOMP_SPINCOUNT", "5000", 1) == 0;
    if (blas) set |= setenv("OPENBLAS_NUM_THREADS", "1", 1) == 0;
    if (set) execv("/proc/self/exe", argv); /* on failure: go on as we are */
}

static bool for_one_process(const command *cmd, bool wants_help) {
    if (wants_help || cmd == &fit_command || snug_processes() == 1) return false;
    fprintf(stderr, "snug: %s runs in one process; mpirun can share the work of snug fit alone\n", cmd->name);
    return true;
}

static int dispatch(int argc, char **argv) {
    signal(SIGXFSZ,
           SIG_IGN); /* a limit on the size of files: the write fails and says so, the program goes on to clean up */
    if (argc < 2) {
        print_overview(stderr);
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || (strcmp(word, "help") == 0 && argc == 2)) {
        print_overview(stdout);
        return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        printf("snug %s (%s kernels)\n", snug_version(), snug_cpu_level());
        return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
    }
    bool wants_help = strcmp(word, "help") == 0;
    if (wants_help) word = argv[2];
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        if (strcmp(word, commands[i].about->name) != 0) continue;
        if (for_one_process(commands[i].about, wants_help)) return EXIT_USAGE;
        static char help[] = "--help";
        char *only_help[] = {help};
        return wants_help ? commands[i].run(1, only_help) : commands[i].run(argc - 2, argv + 2);
    }
    return unknown_command(word);
}

/* Of the processes that mpirun started, number 0 speaks and its exit code is the program's; the others share the work of a fit in
 * silence. */
int main(int argc, char **argv) {
    set_up_threads(argv);
    if (snug_process() == 0) return dispatch(argc, argv);
    if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)) return EXIT_FAILED;
    if (argc > 1 && strcmp(argv[1], fit_command.name) == 0) dispatch(argc, argv);
    return EXIT_OK;
}
