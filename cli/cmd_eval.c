/* snug eval: how good a model is on a text, and how far from another. */
#include "cli.h"

const command eval_command = {
    .name = "eval",
    .summary = "Judge a model on a text, alone or against its source.",
    .usage = "eval MODEL --text FILE [--against REF] [options]",
    .example = "snug eval small.snug --text book.txt --against Llama-3.2-1B",
    .notes = "Windows do not overlap and the second half of each is scored, as llama.cpp does; --stride N scores the "
             "last N tokens of a\n"
             "window that starts every N tokens (--stride equal to --ctx scores every position). Both models run side "
             "by side.\n"
             "KL is KL(REF || MODEL) in nats per token. Intervals are 95 %, clustered by window.",
    .operand = "MODEL",
    .advice = "name a model folder or file, e.g. snug eval small.snug --text book.txt",
};

static void put_stat(json_t *o, const char *name, const char *ci_name, snug_stat s) {
    json_put_real(o, name, s.value);
    json_put_real(o, ci_name, s.ci95);
}

static json_t *result_json(const char *model, const char *ref, const snug_eval_params *p, const snug_eval_result *r) {
    json_t *o = json_object();
    json_put_text(o, "model", model);
    json_put_text(o, "text", p->text_path);
    json_put_int(o, "tokens", r->tokens);
    put_stat(o, "nll", "nll_ci95", r->nll);
    json_put_real(o, "ppl", r->ppl);
    json_put_real(o, "ppl_lo", r->ppl_lo);
    json_put_real(o, "ppl_hi", r->ppl_hi);
    if (r->has_ref) {
        json_put_text(o, "against", ref);
        json_put_real(o, "ppl_ref", r->ppl_ref);
        put_stat(o, "kl_mean", "kl_ci95", r->kl);
        json_put_real(o, "kl_median", r->kl_median);
        json_put_real(o, "kl_p99", r->kl_p99);
        json_put_real(o, "kl_max", r->kl_max);
        put_stat(o, "js_mean", "js_ci95", r->js);
        put_stat(o, "top1", "top1_ci95", r->top1);
    }
    return o;
}

static void print_result(const snug_eval_result *r) {
    char n[TEXT_MAX];
    printf("scored        %s tokens\n", count_text(n, r->tokens));
    printf("perplexity    %.4f   (95 %%: %.4f to %.4f)", r->ppl, r->ppl_lo, r->ppl_hi);
    if (!r->has_ref) {
        printf("\n");
        return;
    }
    printf(", source %.4f: %+.2f %%\n", r->ppl_ref, 100 * (r->ppl / r->ppl_ref - 1));
    printf("KL to source  %.6f ± %.6f nats per token; median %.6f, 99 %% %.6f, largest %.4f\n", r->kl.value, r->kl.ci95,
           r->kl_median, r->kl_p99, r->kl_max);
    printf("JS            %.6f ± %.6f\n", r->js.value, r->js.ci95);
    printf("same top      %.2f ± %.2f %% of tokens\n", 100 * r->top1.value, 100 * r->top1.ci95);
}

int cmd_eval(int argc, char **argv) {
    snug_eval_params p = {.act = SNUG_ACT_F32};
    uint32_t threads = 0;
    int act = 0, kv = 0;
    bool json = false;
    const char *model_path, *ref_path = NULL;
    option opts[] = {
        {.name = "text", .kind = OPT_STRING, .value = &p.text_path, .arg = "FILE", .help = "the text to score"},
        {.name = "against",
         .kind = OPT_STRING,
         .value = &ref_path,
         .arg = "REF",
         .help = "the model to compare with, usually the source"},
        {.name = "ctx",
         .letter = 'c',
         .kind = OPT_U32,
         .value = &p.n_ctx,
         .arg = "N",
         .min = 2,
         .help = "window in tokens (default: 512, or the model's context if less)"},
        {.name = "stride", .kind = OPT_U32, .value = &p.stride, .arg = "N", .min = 1, .help = "see below"},
        {.name = "tokens",
         .letter = 'n',
         .kind = OPT_U64,
         .value = &p.max_tokens,
         .arg = "N",
         .help = "read no more than N tokens of the text"},
        {.name = "act",
         .kind = OPT_CHOICE,
         .value = &act,
         .arg = "A",
         .choices = "f32|q8",
         .help = "activations: f32 (default), or q8 as `snug run` uses them"},
        {.name = "kv",
         .kind = OPT_CHOICE,
         .value = &kv,
         .arg = "T",
         .choices = "f16|f32",
         .help = "cache: f16 (default) or f32"},
        OPTION_THREADS(&threads),
        OPTION_JSON(&json),
    };
    int exit_code;
    if (!options_parse(&eval_command, opts, COUNT_OF(opts), &model_path, argc, argv, &exit_code)) return exit_code;
    if (!p.text_path)
        return usage_error(&eval_command, "no text: say --text FILE (a plain text that the model was not trained on)");
    p.act = act ? SNUG_ACT_Q8 : SNUG_ACT_F32;
    p.kv = kv ? SNUG_KV_F32 : SNUG_KV_F16;
    p.threads = (int)threads;
    catch_interrupts();

    snug_model *model = NULL, *ref = NULL;
    snug_error err = {0};
    progress_view view;
    progress_open(&view, json);
    p.progress = progress_to(&view);
    snug_eval_result result = {0};
    snug_err code = snug_model_open(model_path, &model, &err);
    if (!code && ref_path) code = snug_model_open(ref_path, &ref, &err);
    if (!code) code = snug_eval(model, ref, &p, &result, &err);
    progress_close(&view);
    if (code) {
        exit_code = report_error(&eval_command, &err, json);
    } else if (json) {
        exit_code = finish_json(&eval_command, result_json(model_path, ref_path, &p, &result));
    } else {
        print_result(&result);
        exit_code = finish_stdout(&eval_command, EXIT_OK);
    }
    snug_model_close(&ref);
    snug_model_close(&model);
    return exit_code;
}
