/* The CPU quota that cgroups (v1 and v2) put on this process. */
#ifndef BASE_QUOTA_H
#define BASE_QUOTA_H
/* CPUs' worth of time per period, 0 when there is no limit. proc_cgroup is normally "/proc/self/cgroup" and mount
 * "/sys/fs/cgroup"; tests pass folders of their own. */
double quota_cpus(const char *proc_cgroup, const char *mount);
#endif
