/* The parts of the public header that concern the library itself: version, names of errors, what the machine offers. */
#include "base/cpu.h"
#include "base/thread.h"

#include <snug.h>
#include <stdlib.h>

const char *snug_version(void) { return SNUG_VERSION; }

const char *snug_err_name(snug_err code) {
    switch (code) {
    case SNUG_OK: return "ok";
    case SNUG_ERR_NOMEM: return "out of memory";
    case SNUG_ERR_IO: return "input/output error";
    case SNUG_ERR_FORMAT: return "bad format";
    case SNUG_ERR_UNSUPPORTED: return "unsupported";
    case SNUG_ERR_ARG: return "bad argument";
    case SNUG_ERR_BUDGET: return "does not fit the budget";
    case SNUG_ERR_CANCELLED: return "cancelled";
    case SNUG_ERR_MISMATCH: return "mismatch";
    case SNUG_ERR_NUMERIC: return "not a finite number";
    }
    return "unknown error";
}

const char *snug_cpu_level(void) { return cpu_level_name(cpu_get_level()); }
int snug_default_threads(void) { return thread_default_count(); }
void snug_free(void *p) { free(p); }
