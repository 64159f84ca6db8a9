/* What block.c reads of group-sparse rows (gs.c, docs/format.md 3.7): they become int rows. */
#ifndef CODEC_GS_H
#define CODEC_GS_H
#include "codec/codec.h"

enum { GS_PIECE = 3 + 4 * 32 }; /* d, meta, at most four chunks of 32 bytes */

uint64_t gs_row_bytes(codec_params p, uint64_t cols);
/* Group g of a row of n_groups as an int row of that group alone: d, meta, codes (GS_PIECE bytes at most). */
void gs_group(codec_params p, uint64_t n_groups, const uint8_t *row, uint64_t g, uint8_t *piece);
/* The whole row as an int row, with scale 0 where a group is absent. */
void gs_unpack(codec_params p, uint64_t cols, const uint8_t *row, uint8_t *int_row);
#endif
