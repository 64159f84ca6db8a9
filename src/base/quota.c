/* CPU quota of the cgroup that this process lives in, and of every group above it (the least one binds).
 *
 *   v2: <mount>/<group>/cpu.max               "max 100000" or "150000 100000" (quota and period, microseconds)
 *   v1: <mount>/cpu[,cpuacct]/<group>/cpu.cfs_quota_us (-1: none) and cpu.cfs_period_us
 *
 * /proc/self/cgroup has one line per hierarchy, "id:controllers:path"; v2's is "0::path". Inside a container the path may
 * name folders that are not visible there; walking up ends at the mount point, where the container's own limit stands.
 * Source: Linux Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst. */
#include "base/quota.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool read_line(const char *path, char *line, int cap) {
    FILE *f = fopen(path, "re");
    bool ok = f && fgets(line, cap, f);
    if (f) fclose(f);
    return ok;
}

static bool read_field(const char *dir, const char *name, char *line, int cap) {
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path && read_line(path, line, cap);
}

/* Quota of one group's folder, 0: none or unreadable. */
static double group_quota(const char *dir, bool v2) {
    char line[128], second[128];
    double quota = 0, period = 0;
    if (v2) {
        if (!read_field(dir, "cpu.max", line, sizeof line)) return 0;
        if (sscanf(line, "%lf %lf", &quota, &period) != 2) return 0; /* "max ..." fails here */
    } else {
        if (!read_field(dir, "cpu.cfs_quota_us", line, sizeof line)) return 0;
        if (!read_field(dir, "cpu.cfs_period_us", second, sizeof second)) return 0;
        quota = atof(line);
        period = atof(second);
    }
    return quota > 0 && period > 0 ? quota / period : 0;
}

static double least(double a, double b) { return a == 0 ? b : b == 0 ? a : a < b ? a : b; }

/* The group and all above it, up to and including the mount point itself. */
static double walk_up(const char *mount, const char *group, bool v2) {
    char dir[PATH_MAX];
    int n = snprintf(dir, sizeof dir, "%s%s", mount, group);
    if (n < 0 || n >= (int)sizeof dir) return group_quota(mount, v2);
    size_t root = strlen(mount);
    double best = 0;
    for (;;) {
        best = least(best, group_quota(dir, v2));
        char *slash = strrchr(dir, '/');
        if (strlen(dir) <= root || !slash || (size_t)(slash - dir) < root) return best;
        *slash = 0;
    }
}

static bool has_controller(const char *list, const char *name) {
    size_t n = strlen(name);
    for (const char *p = list; p; p = strchr(p, ','), p = p ? p + 1 : NULL)
        if (strncmp(p, name, n) == 0 && (p[n] == 0 || p[n] == ',')) return true;
    return false;
}

double quota_cpus(const char *proc_cgroup, const char *mount) {
    FILE *f = fopen(proc_cgroup, "re");
    if (!f) return 0;
    char *line = NULL;
    size_t cap = 0;
    double best = 0;
    while (getline(&line, &cap, f) > 0) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) continue;
        *path++ = 0;
        controllers++;
        char base[PATH_MAX];
        if (*controllers == 0) {
            best = least(best, walk_up(mount, path, true));
        } else if (has_controller(controllers, "cpu")) { /* mounted under the list's name, often with "cpu" as a link to it */
            if (snprintf(base, sizeof base, "%s/%s", mount, controllers) < (int)sizeof base)
                best = least(best, walk_up(base, path, false));
            if (snprintf(base, sizeof base, "%s/cpu", mount) < (int)sizeof base)
                best = least(best, walk_up(base, path, false));
        }
    }
    free(line);
    fclose(f);
    return best;
}
