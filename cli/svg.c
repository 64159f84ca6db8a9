/* Where the bytes went: a horizontal bar per layer, its parts in the order of the computation (q k v o gate up down),
 * their length in bytes and their colour in bits per weight. Colours run from dark violet (few bits) over green to
 * yellow (many), readable without telling red from green. Text is plain SVG: it scales, and can be searched. */
#include "svg.h"

#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEFT = 92, BAR_SPACE = 760, RIGHT = 130, ROW = 24, TOP = 92 };
static const double LEAST_BPW = 2, MOST_BPW = 16; /* ends of the colour scale, on a logarithmic axis */

static const char *const role_order[] = {"embd", "q", "k", "v", "o", "gate", "up", "down", "head", "norm", "bias"};

typedef struct part {
    char role[8];
    uint64_t bytes, weights;
    char codec[64];
} part;
enum { MAX_PARTS = 16 };
typedef struct bar {
    char label[24];
    uint64_t bytes, weights;
    size_t n;
    part part[MAX_PARTS];
} bar;

static int role_rank(const char *role) {
    for (size_t i = 0; i < COUNT_OF(role_order); i++)
        if (strcmp(role, role_order[i]) == 0) return (int)i;
    return COUNT_OF(role_order);
}

static int by_role(const void *a, const void *b) {
    return role_rank(((const part *)a)->role) - role_rank(((const part *)b)->role);
}

static void add_tensor(bar *b, const snug_tensor_info *t) {
    part *p = NULL;
    for (size_t i = 0; i < b->n; i++)
        if (strcmp(b->part[i].role, t->role) == 0) p = &b->part[i];
    if (!p && b->n < MAX_PARTS) {
        p = &b->part[b->n++];
        snprintf(p->role, sizeof p->role, "%s", t->role);
        snprintf(p->codec, sizeof p->codec, "%s", t->codec);
    }
    if (!p) return;
    p->bytes += t->bytes;
    p->weights += t->rows * t->cols;
    b->bytes += t->bytes;
    b->weights += t->rows * t->cols;
}

/* Seven stops of the viridis map, linear in between. */
static void colour(double bpw, unsigned rgb[3]) {
    static const unsigned char stops[][3] = {{68, 1, 84},    {68, 57, 131},  {49, 104, 142}, {33, 145, 140},
                                             {53, 183, 121}, {144, 215, 67}, {253, 231, 37}};
    double at = log2(bpw > LEAST_BPW ? bpw / LEAST_BPW : 1) / log2(MOST_BPW / LEAST_BPW) * 6;
    if (!(at < 6)) at = 6;
    int i = at < 5 ? (int)at : 5;
    for (int c = 0; c < 3; c++)
        rgb[c] = (unsigned)(stops[i][c] + (at - i) * ((double)stops[i + 1][c] - stops[i][c]) + 0.5);
}

static void put_escaped(FILE *to, const char *s) {
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '<')
            fputs("&lt;", to);
        else if (c == '>')
            fputs("&gt;", to);
        else if (c == '&')
            fputs("&amp;", to);
        else if (c == '"')
            fputs("&quot;", to);
        else
            fputc(c < 0x20 || c >= 0x7f ? '?' : c, to); /* names come from a file: ASCII is what tensors use */
    }
}

static double rate(uint64_t bytes, uint64_t weights) {
    return weights ? 8.0 * (double)bytes / (double)weights : 0;
}

static void draw_part(FILE *to, const part *p, double x, double width, int y) {
    unsigned rgb[3];
    char size[TEXT_MAX];
    colour(rate(p->bytes, p->weights), rgb);
    bool dark = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] < 140;
    fprintf(to, "<g><title>%s: %s, %s bytes, %.3f bits per weight</title>", p->role, p->codec,
            count_text(size, p->bytes), rate(p->bytes, p->weights));
    fprintf(to,
            "<rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\" fill=\"#%02x%02x%02x\" stroke=\"#fff\" "
            "stroke-width=\"1\"/>",
            x, y, width, ROW - 6, rgb[0], rgb[1], rgb[2]);
    double need = 7.0 * (double)strlen(p->role) + 6; /* a name that does not fit is left to the title */
    if (width >= need)
        fprintf(to, "<text x=\"%.2f\" y=\"%d\" class=\"p\" fill=\"%s\">%s</text>", x + width / 2, y + ROW - 11,
                dark ? "#fff" : "#111", p->role);
    fputs("</g>\n", to);
}

static void draw_bar(FILE *to, const bar *b, uint64_t widest, int y) {
    char size[TEXT_MAX];
    double x = LEFT;
    fprintf(to, "<text x=\"%d\" y=\"%d\" class=\"l\">%s</text>\n", LEFT - 10, y + ROW - 11, b->label);
    for (size_t i = 0; i < b->n; i++) {
        double width = (double)b->part[i].bytes / (double)widest * BAR_SPACE;
        if (width >= 0.05) draw_part(to, &b->part[i], x, width, y);
        x += width;
    }
    fprintf(to, "<text x=\"%.2f\" y=\"%d\" class=\"r\">%s, %.2f bpw</text>\n", x + 8, y + ROW - 11,
            size_text(size, b->bytes), rate(b->bytes, b->weights));
}

static void draw_legend(FILE *to, int y) {
    enum { STEPS = 60, WIDTH = 300 };
    fprintf(to, "<text x=\"%d\" y=\"%d\" class=\"r\">bits per weight</text>\n", LEFT, y + 13);
    int x0 = LEFT + 120;
    for (int i = 0; i < STEPS; i++) {
        unsigned rgb[3];
        colour(LEAST_BPW * pow(MOST_BPW / LEAST_BPW, (i + 0.5) / STEPS), rgb);
        fprintf(to, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"16\" fill=\"#%02x%02x%02x\"/>\n",
                x0 + i * WIDTH / STEPS, y, WIDTH / STEPS + 1, rgb[0], rgb[1], rgb[2]);
    }
    static const int ticks[] = {2, 3, 4, 6, 8, 12, 16};
    for (size_t i = 0; i < COUNT_OF(ticks); i++) {
        double x = x0 + log2(ticks[i] / LEAST_BPW) / log2(MOST_BPW / LEAST_BPW) * WIDTH;
        fprintf(to, "<text x=\"%.1f\" y=\"%d\" class=\"c\">%d</text>\n", x, y + 31, ticks[i]);
    }
}

bool svg_write(FILE *to, const snug_model *model) {
    const snug_model_info *info = snug_model_get_info(model);
    size_t n_bars = (size_t)info->n_layers + 1;
    bar *bars = calloc(n_bars, sizeof *bars);
    if (!bars) return false;
    for (size_t i = 0; i < snug_model_n_tensors(model); i++) {
        snug_tensor_info t;
        if (snug_model_tensor(model, i, &t)) continue;
        size_t k =
            t.layer >= 0 && (uint32_t)t.layer < info->n_layers ? (size_t)t.layer + 1 : 0; /* 0: outside the layers */
        add_tensor(&bars[k], &t);
    }
    snprintf(bars[0].label, sizeof bars[0].label, "outside");
    uint64_t widest = 1;
    for (size_t i = 0; i < n_bars; i++) {
        if (i > 0) snprintf(bars[i].label, sizeof bars[i].label, "layer %zu", i - 1);
        qsort(bars[i].part, bars[i].n, sizeof *bars[i].part, by_role);
        if (bars[i].bytes > widest) widest = bars[i].bytes;
    }
    int width = LEFT + BAR_SPACE + RIGHT, height = TOP + ROW * (int)n_bars + 64;
    char size[TEXT_MAX], weights[TEXT_MAX];
    fprintf(to, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n", width,
            height, width, height);
    fputs("<style>text{font-family:'DejaVu "
          "Sans',Verdana,Arial,sans-serif;font-size:13px}.t{font-size:18px;font-weight:bold}"
          ".l{text-anchor:end}.c{text-anchor:middle;font-size:12px}.p{text-anchor:middle;font-size:11px}</style>\n"
          "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"16\" y=\"32\" class=\"t\">Where the bytes "
          "went: ",
          to);
    put_escaped(to, *info->name ? info->name : info->path);
    fprintf(to, "</text>\n<text x=\"16\" y=\"56\">%s in %s weights: %.3f bits per weight, everything counted",
            size_text(size, info->file_bytes), count_text(weights, info->n_weights), info->bpw);
    if (info->predicted_kl >= 0) fprintf(to, "; predicted KL %.4f nats per token", info->predicted_kl);
    fputs("</text>\n", to);
    for (size_t i = 0; i < n_bars; i++) draw_bar(to, &bars[i], widest, TOP - 14 + ROW * (int)i);
    draw_legend(to, TOP + ROW * (int)n_bars + 8);
    fputs("</svg>\n", to);
    free(bars);
    return fflush(to) == 0 && !ferror(to);
}
