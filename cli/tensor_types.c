/* A plan as arguments of llama.cpp's llama-quantize, for those who want its encoders with snug's choices:
 *
 *   --token-embedding-type q6_K
 *   --output-tensor-type q8_0
 *   --tensor-type ^blk[.]0[.]attn_q[.]weight$=q4_K          a regular expression that only this tensor's name matches
 *
 * One option to a line, without quotes or backslashes, so that neither a shell's $(cat FILE) nor xargs changes anything. */
#include "cli.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* What llama-quantize leaves alone whatever it is told: vectors, routers, tables of RoPE. */
static bool is_quantizable(const snug_plan_row *r) { return r->rows > 1 && !strstr(r->tensor, "ffn_gate_inp"); }

/* As ggml spells it: q4_K. llama-quantize takes any case, its relatives do not. */
static void write_type(FILE *f, const char *codec) {
    const size_t n = strlen(codec);
    const bool k = n > 2 && strcmp(codec + n - 2, "_k") == 0;
    fprintf(f, "%.*s%s\n", (int)(k ? n - 1 : n), codec, k ? "K" : "");
}

static void write_row(FILE *f, const snug_plan_row *r) {
    if (strcmp(r->tensor, "token_embd.weight") == 0) fputs("--token-embedding-type ", f);
    else if (strcmp(r->tensor, "output.weight") == 0) fputs("--output-tensor-type ", f);
    else {
        fputs("--tensor-type ^", f);
        for (const char *p = r->tensor; *p; p++) {
            if (*p == '.') fputs("[.]", f);
            else fputc(*p, f);
        }
        fputs("$=", f);
    }
    write_type(f, r->codec);
}

snug_err write_tensor_types(const snug_fit_report *report, const char *path, snug_error *err) {
    const bool to_stdout = strcmp(path, "-") == 0;
    FILE *f = to_stdout ? stdout : fopen(path, "w");
    for (uint64_t i = 0; f && i < snug_fit_report_summary(report)->n_rows; i++) {
        const snug_plan_row *r = snug_fit_report_row(report, i);
        if (is_quantizable(r)) write_row(f, r);
    }
    bool ok = f && !ferror(f);
    if (f && !to_stdout && fclose(f) != 0) ok = false;
    if (ok || to_stdout) return SNUG_OK; /* finish_stdout looks at stdout */
    *err = (snug_error){.code = SNUG_ERR_IO};
    snprintf(err->message, sizeof err->message, "%s: %s", path, strerror(errno));
    if (f) unlink(path); /* no half a list */
    return SNUG_ERR_IO;
}
