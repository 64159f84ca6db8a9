/* The only file with MPI in it. See cluster.h.
 *
 * Every call begins with one small reduction in which each process says whether it has failed, and what call this is: failures and
 * processes that went apart are seen before anybody waits for data that will not come. */
#include "base/cluster.h"

#include <stdlib.h>

/* What mpirun tells the processes that it starts. */
static int from_launcher(const char *name, int otherwise) {
#ifdef SNUG_MPI
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
#else
    return otherwise;
#endif
}

int snug_process(void) { return from_launcher("OMPI_COMM_WORLD_RANK", 0); }

int snug_processes(void) {
    int n = from_launcher("OMPI_COMM_WORLD_SIZE", 1);
    return n > 1 ? n : 1;
}

#ifdef SNUG_MPI
#include "base/err.h"

#include <mpi.h>

typedef enum call { CALL_LEAVE = 1, CALL_GATHER, CALL_BROADCAST, CALL_CHECK } call;

static struct {
    MPI_Comm comm;
    int rank, size;     /* size 0: not joined */
    snug_error failure; /* of any process; after it nothing is exchanged any more */
} cluster;

int cluster_rank(void) { return cluster.size ? cluster.rank : 0; }
int cluster_size(void) { return cluster.size ? cluster.size : 1; }
static size_t first_unit(size_t n, int rank) { return (n * (size_t)rank + (size_t)cluster_size() - 1) / (size_t)cluster_size(); }

static void finalize(void) {
    int over = 1;
    MPI_Finalized(&over);
    if (!over) MPI_Finalize();
}

snug_err cluster_join(snug_error *err) {
    if (snug_processes() == 1) return SNUG_OK;
    int ready = 0, level;
    MPI_Initialized(&ready);
    if (!ready) { /* MPI ends the program when it cannot begin */
        MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level);
        atexit(finalize);
    }
    MPI_Comm_dup(MPI_COMM_WORLD, &cluster.comm);
    MPI_Comm_rank(cluster.comm, &cluster.rank);
    MPI_Comm_size(cluster.comm, &cluster.size);
    cluster.failure = (snug_error){0};
    return SNUG_OK;
}

/* The failure of process `from` becomes everybody's. */
static snug_err take_failure(int from, snug_err rc, snug_error *err) {
    if (cluster.rank == from) {
        if (err) cluster.failure = *err;
        cluster.failure.code = rc;
    }
    MPI_Bcast(&cluster.failure, sizeof cluster.failure, MPI_BYTE, from, cluster.comm);
    if (!*cluster.failure.message) err_set(&cluster.failure, cluster.failure.code, "%s", snug_err_name(cluster.failure.code));
    if (from > 0) err_prefix(&cluster.failure, cluster.failure.code, "process %d", from);
    if (err) *err = cluster.failure;
    return cluster.failure.code;
}

/* value < 2^56 */
static snug_err agree(call c, uint64_t value, snug_err rc, snug_error *err) {
    if (cluster.failure.code) {
        if (err) *err = cluster.failure;
        return cluster.failure.code;
    }
    int64_t what = (int64_t)((uint64_t)c << 56 | value), mine[3] = {rc ? cluster.size - cluster.rank : 0, what, -what}, all[3];
    MPI_Allreduce(mine, all, 3, MPI_INT64_T, MPI_MAX, cluster.comm);
    if (all[0]) return take_failure(cluster.size - (int)all[0], rc, err);
    if (all[1] == -all[2]) return SNUG_OK;
    err_set(&cluster.failure, SNUG_ERR_MISMATCH, "the processes came to different results: they need one program and CPUs of one kind");
    if (err) *err = cluster.failure;
    return SNUG_ERR_MISMATCH;
}

snug_err cluster_leave(snug_err rc, snug_error *err) {
    if (!cluster.size) return rc;
    snug_err all = agree(CALL_LEAVE, 0, rc, err);
    MPI_Comm_free(&cluster.comm);
    cluster.size = 0;
    return all;
}

/* In pieces whose length MPI's int can hold. */
static void send_all(uint8_t *data, size_t bytes, int from) {
    const size_t piece = (size_t)1 << 30;
    for (size_t at = 0; at < bytes; at += piece)
        MPI_Bcast(data + at, (int)(bytes - at < piece ? bytes - at : piece), MPI_BYTE, from, cluster.comm);
}

snug_err cluster_gather(void *data, size_t n, size_t unit, size_t total, snug_error *err) {
    if (!cluster.size) return SNUG_OK;
    snug_err rc = agree(CALL_GATHER, total, SNUG_OK, err);
    for (int r = 0; r < cluster.size && rc == SNUG_OK; r++) {
        size_t begin = first_unit(n, r) * unit, end = first_unit(n, r + 1) * unit;
        if (end > total) end = total;
        if (begin < end) send_all((uint8_t *)data + begin, end - begin, r);
    }
    return rc;
}

snug_err cluster_broadcast(void *data, size_t bytes, snug_error *err) {
    if (!cluster.size) return SNUG_OK;
    snug_err rc = agree(CALL_BROADCAST, bytes, SNUG_OK, err);
    if (rc == SNUG_OK) send_all(data, bytes, 0);
    return rc;
}

snug_err cluster_check(uint64_t value, snug_error *err) {
    return cluster.size ? agree(CALL_CHECK, value >> 8, SNUG_OK, err) : SNUG_OK;
}

#else
snug_err cluster_join(snug_error *err) { return SNUG_OK; }
snug_err cluster_leave(snug_err rc, snug_error *err) { return rc; }
int cluster_rank(void) { return 0; }
int cluster_size(void) { return 1; }
static size_t first_unit(size_t n, int rank) { return rank ? n : 0; }
snug_err cluster_gather(void *data, size_t n, size_t unit, size_t total, snug_error *err) { return SNUG_OK; }
snug_err cluster_broadcast(void *data, size_t bytes, snug_error *err) { return SNUG_OK; }
snug_err cluster_check(uint64_t value, snug_error *err) { return SNUG_OK; }
#endif

void cluster_share(size_t n, size_t *begin, size_t *end) {
    *begin = first_unit(n, cluster_rank());
    *end = first_unit(n, cluster_rank() + 1);
}
