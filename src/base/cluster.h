/* Processes that mpirun started together and that share the work of a fit. MPI stands behind these calls and nowhere else, in builds
 * with SNUG_MPI alone; in others there is one process and all of this returns at once.
 *
 * All processes run the same code on the same input and take the same decisions. What is split is cut by shapes: each part is computed
 * by one process exactly as a single one would, and then all have all parts. Nothing is ever summed across processes, so the bits do
 * not depend on how many there are.
 *
 * Between join and leave all processes make the same calls in the same order, from the thread that joined. One that fails goes straight
 * to cluster_leave, and the next call of each other one returns its error (so does every later call): nobody waits for it. */
#ifndef BASE_CLUSTER_H
#define BASE_CLUSTER_H
#include <snug.h>

snug_err cluster_join(snug_error *err);
/* The end of what was shared, with what became of it here; returns what became of it everywhere: SNUG_OK, or one process' error. */
snug_err cluster_leave(snug_err rc, snug_error *err);
int cluster_rank(void); /* 0 <= rank < size; outside of join and leave 0 of 1 */
int cluster_size(void);

/* This process' part [begin, end) of n units: neighbours, parts as even as can be, process 0 the last to have none. */
void cluster_share(size_t n, size_t *begin, size_t *end);
/* data: n units of `unit` bytes, `total` in all (the last unit may be shorter). Each process has filled its part; now all have all. */
snug_err cluster_gather(void *data, size_t n, size_t unit, size_t total, snug_error *err);
snug_err cluster_broadcast(void *data, size_t bytes, snug_error *err); /* process 0's */
/* SNUG_ERR_MISMATCH unless all processes give the same value. */
snug_err cluster_check(uint64_t value, snug_error *err);
#endif
