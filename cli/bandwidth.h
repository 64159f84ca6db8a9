/* How fast this machine's memory is read: the limit of what writes text from weights that no cache holds. */
#ifndef CLI_BANDWIDTH_H
#define CLI_BANDWIDTH_H

/* Bytes per second that `threads` threads read from memory together, the best pass of the best of three kernels; 0 when
 * it cannot be measured. Takes 64 MB per thread, at least 512 MB, for a second or so. */
double measure_bandwidth(int threads);
#endif
