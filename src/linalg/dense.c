/* LAPACK behind three calls. Row-major lower triangles are LAPACK's column-major upper ones, so no transposition is needed. */
#include "linalg/linalg.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Our own tiles bring the threads; a threaded BLAS inside them would make results depend on the machine. */
static void single_thread(void) { openblas_set_num_threads(1); }
static void init(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, single_thread);
}

snug_err linalg_gram_add(size_t n, size_t k, const float *m, size_t ldm, double *g, snug_error *err) {
    enum { PANEL = 256 }; /* columns converted at a time */
    init();
    double *panel = malloc(n * PANEL * sizeof *panel);
    if (!panel) return err_nomem(err, n * PANEL * sizeof *panel);
    for (size_t c = 0; c < k; c += PANEL) {
        size_t len = k - c < PANEL ? k - c : PANEL;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < len; j++) panel[i * len + j] = m[i * ldm + c + j];
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, (int)n, (int)len, 1, panel, (int)len, 1, g, (int)n);
    }
    free(panel);
    return SNUG_OK;
}

snug_err linalg_eigen_top(size_t n, double *g, size_t r, double *values, double *vectors, snug_error *err) {
    init();
    snug_err e = SNUG_OK;
    lapack_int found = 0;
    double *w = malloc(n * sizeof *w), *z = malloc(n * r * sizeof *z);
    lapack_int *support = malloc(2 * r * sizeof *support);
    if (!w || !z || !support) {
        e = err_nomem(err, n * (r + 1) * sizeof *z);
        goto done;
    }
    lapack_int info = LAPACKE_dsyevr(LAPACK_COL_MAJOR, 'V', 'I', 'U', (int)n, g, (int)n, 0, 0, (int)(n - r + 1), (int)n, 0, &found, w,
                                     z, (int)n, support);
    if (info != 0 || found != (lapack_int)r) {
        e = err_set(err, SNUG_ERR_NUMERIC, "LAPACK dsyevr gave %d: no eigenvalues of a %zu x %zu matrix", (int)info, n, n);
        goto done;
    }
    for (size_t i = 0; i < r; i++) { /* ascending there, descending here */
        const double *v = z + (r - 1 - i) * n;
        size_t top = 0;
        for (size_t j = 1; j < n; j++)
            if (fabs(v[j]) > fabs(v[top])) top = j;
        double sign = v[top] < 0 ? -1 : 1;
        values[i] = w[r - 1 - i];
        for (size_t j = 0; j < n; j++) vectors[i * n + j] = sign * v[j];
    }
done:
    free(w);
    free(z);
    free(support);
    return e;
}

snug_err linalg_solve_spd(size_t n, double *s, size_t n_rhs, double *b, snug_error *err) {
    init();
    double trace = 0;
    for (size_t i = 0; i < n; i++) trace += s[i * n + i];
    double ridge = 1e-12 * trace / (double)n;
    for (size_t i = 0; i < n; i++) s[i * n + i] = s[i * n + i] > 0 ? s[i * n + i] + ridge : 1;
    lapack_int info = LAPACKE_dposv(LAPACK_COL_MAJOR, 'U', (int)n, (int)n_rhs, s, (int)n, b, (int)n);
    if (info != 0) return err_set(err, SNUG_ERR_NUMERIC, "LAPACK dposv gave %d: a %zu x %zu matrix is singular", (int)info, n, n);
    return SNUG_OK;
}

void linalg_gemm(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda, const float *b, size_t ldb,
                 float beta, float *c, size_t ldc) {
    init();
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, alpha, a, (int)lda, b,
                (int)ldb, beta, c, (int)ldc);
}

void linalg_mul_unit_upper(bool transposed, size_t m, size_t n, const float *u, size_t ldu, float *b, size_t ldb) {
    init();
    cblas_strmm(CblasRowMajor, CblasRight, CblasUpper, transposed ? CblasTrans : CblasNoTrans, CblasUnit, (int)m, (int)n, 1, u, (int)ldu, b,
                (int)ldb);
}

void linalg_solve_right_upper_t(size_t m, size_t n, const float *u, size_t ldu, float *b, size_t ldb) {
    init();
    cblas_strsm(CblasRowMajor, CblasRight, CblasUpper, CblasTrans, CblasNonUnit, (int)m, (int)n, 1, u, (int)ldu, b, (int)ldb);
}
