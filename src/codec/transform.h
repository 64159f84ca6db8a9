/* Changes of basis for a weight's columns: W x = (W T^T) (T x), T orthogonal. A term whose codec is named "had:int3g64" stores columns of
 * W T^T and multiplies T x, which all matrices with the same input share. T follows from the number of columns alone.
 *
 * TRANSFORM_HADAMARD: T = H S. S = diag(+-1), signs from a fixed hash of the column's number; H block diagonal with normalised Hadamard
 * matrices of the largest power of two up to 128 that divides the columns; widths without one of at least 16 have no such transform.
 * It spreads what stands out in a column over the block (QuIP#, QuaRot). docs/format.md 3.9 */
#ifndef CODEC_TRANSFORM_H
#define CODEC_TRANSFORM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TRANSFORM_NONE, TRANSFORM_HADAMARD };

size_t transform_block(uint64_t cols); /* of the Hadamard matrices; 0: none */
bool transform_takes(int transform, uint64_t cols);
uint64_t transform_adds(int transform, uint64_t cols); /* additions that T x takes */
/* y (cols) = T x; y may be x. */
void transform_apply(int transform, size_t cols, const float *x, float *y);
/* x (cols) = T^T x */
void transform_undo(int transform, size_t cols, float *x);
/* "had:" or "", and back: moves name behind it. */
const char *transform_prefix(int transform);
uint16_t transform_parse(const char **name);
/* Is column j's sign negative? */
bool transform_negates(size_t j);
#endif
