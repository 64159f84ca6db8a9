/* Solvers: choose a codec's codes given the weight and the calibration statistics. Use the codec contract only.
 * Round-to-nearest with the encoders' own weighted scale search, and the truncated SVD for low-rank terms. */
#ifndef SOLVE_SOLVE_H
#define SOLVE_SOLVE_H
#include "codec/weight.h"
#include "solve/hessian.h"

/* Encodes a panel: w (n_rows, ldw) f32, a: importance per column or NULL. dst: codec->bytes(p, n_rows, cols). w_hat (n_rows, cols)
 * may be NULL. effort: snug_effort. Thread-safe. */
snug_err solve_rtn(const snug_codec *codec, codec_params p, const float *w, size_t ldw, size_t n_rows, size_t cols, const float *a,
                   int effort, uint8_t *dst, float *w_hat, snug_error *err);
/* The same with the payload in a layout of choice; WT_PANELS only for codecs that have panels. */
snug_err solve_rtn_to(wt_layout layout, const snug_codec *codec, codec_params p, const float *w, size_t ldw, size_t n_rows, size_t cols,
                      const float *a, int effort, uint8_t *dst, float *w_hat, snug_error *err);
enum { SOLVE_LDLQ_ROWS = 64 }; /* rows that share a pass over the second moments: what callers cut panels by */
enum { SOLVE_LDLQ_REFITS = 2 };   /* of scales that ggml's types store as numbers; as much work as so many sweeps */
int solve_ldlq_sweeps(const snug_codec *codec, int effort); /* of coordinate descent; codec NULL: one that rounds weights one by one */
/* The same with error feedback under a Hessian of the inputs (ldlq.c), for codecs that are row-separable: never a larger tr(E H E^T) than
 * feedback alone gives. */
snug_err solve_ldlq(wt_layout layout, const snug_codec *codec, codec_params p, const float *w, size_t ldw, size_t n_rows, size_t cols,
                    const hessian *h, int effort, uint8_t *dst, float *w_hat, snug_error *err);
/* Best rank-r factors of w (rows, cols) in the metric sum_j a_j d_j^2, as a lowrank payload. Threads change no bit. */
snug_err solve_svd(codec_params p, const float *w, size_t ldw, size_t rows, size_t cols, const float *a, int threads, uint8_t *dst,
                   snug_error *err);
/* The same in the metric tr(E H E^T): of a weight, or of the delta that the terms before left. Beyond delta and h
 * at most 20 (rows + cols) (rank + max(8, min(rank / 2, 32))) bytes. */
snug_err solve_svd_hessian(codec_params p, const float *delta, size_t ldw, size_t rows, size_t cols, const hessian *h, int threads,
                           uint8_t *dst, snug_error *err);
/* The out_count weights with the largest a_j w^2, as an out payload (no error is fed to others).
 * Best before other terms, out10+int3g64: they then see no outliers, and what these round away. */
snug_err solve_outliers(codec_params p, const float *w, size_t ldw, size_t rows, size_t cols, const float *a, uint8_t *dst,
                        snug_error *err);
/* The same before a row-separable term: those with the largest a_j e^2, e what that term's rounding misses where it has fitted its scales to all
 * but a choice so made before, the first by a_j w^2. Beyond w as much memory again. */
snug_err solve_outliers_before(const comp_term *next, codec_params p, const float *w, size_t ldw, size_t rows, size_t cols, const float *a,
                               int effort, int threads, uint8_t *dst, snug_error *err);
/* A dictionary and who uses which of its atoms, as a dict payload, in the metric tr(E H E^T), or of a (cols; NULL: all alike) where h is NULL. Atoms and
 * uses are chosen by turns, `rounds` times. left (rounds + 1), if not NULL: what remains of the loss after each turn, and as it is stored.
 * Beyond w and h about 8 K cols + 4 K^2 + 5 S rows bytes. Threads change no bit. */
enum { SOLVE_DICT_ROUNDS = 12 };
snug_err solve_dict(codec_params p, const float *w, size_t ldw, size_t rows, size_t cols, const float *a, const hessian *h, int rounds,
                    int threads, double *left, uint8_t *dst, snug_error *err);
/* Books and codes of an aq payload, in the metric tr(E H E^T), or of a (cols; NULL: all alike) where h is NULL, by turns, `rounds` times. left (rounds + 1), if
 * not NULL: the loss of the rows that books are made with after each turn's codes, and of all rows as they are stored. Beyond w and h about 12 bytes for
 * each of up to max(2^19, 64 cols) weights and p.rank / 4 for each weight. Threads change no bit. */
enum { SOLVE_AQ_ROUNDS = 6 };
snug_err solve_aq(codec_params p, const float *w, size_t ldw, size_t rows, size_t cols, const float *a, const hessian *h, int rounds, int threads,
                  double *left, uint8_t *dst, snug_error *err);
/* A term of a CODEC_WHOLE codec by the solver that it has. */
snug_err solve_whole(const snug_codec *codec, codec_params p, const float *w, size_t ldw, size_t rows, size_t cols, const float *a,
                     int threads, uint8_t *dst, snug_error *err);
/* What is known of a weight's input in one basis (codec/transform.h): importances a, second moments h; NULL: not known. */
typedef struct solve_input { const float *a; const hessian *h; } solve_input;
/* A whole composition of a whole matrix: each term is solved in its basis on what the terms before it left: under h with feedback, and low
 * rank in its metric; without h with the importances. dst[i]: term i's payload. Processes share the rows (base/cluster.h).
 * Row-separable single-term compositions should be streamed by solve_rtn instead. */
snug_err solve_comp(const comp *c, const float *w, size_t rows, size_t cols, const solve_input in[TRANSFORM_COUNT], int effort, int threads,
                    uint8_t *const dst[WEIGHT_MAX_TERMS], snug_error *err);
/* The basis that all terms share, TRANSFORM_NONE where they do not. */
int solve_basis(const comp *c);
/* Relative error of a composition on some rows: sum_rj a_j (w - w_hat)^2 and sum_rj a_j w^2, in double and in solve_basis(c), whose
 * importances a are (terms in others see their mean over a block). A low-rank term of rank r fits
 * r sampled rows exactly: with one, give all rows, or many times r. */
snug_err solve_error(const comp *c, const float *w, size_t ldw, size_t n_rows, size_t cols, const float *a, int effort, double *err2,
                     double *norm2, snug_error *err);
/* Importances of a transform's channels from those of the plain ones (cols), where nothing is known of how these go together: out (cols), which may be a, is
 * a block's mean, or with geometric its geometric mean, which a block's share of hessian.d keeps when its basis changes. */
void solve_spread(size_t cols, const float *a, bool geometric, float *out);
#endif
