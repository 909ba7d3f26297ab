// SPDX-License-Identifier: Apache-2.0
/* AMX by name: eight tile registers of 16 rows of 64 bytes, and the instructions on them (Intel SDM volume 2, tiles).
 *
 * Written as assembly with a memory clobber: gcc 12's intrinsics do not say that tile loads read what was just packed.
 * A function that uses tiles begins with TILES_BEGIN and ends with TILES_END: the shape of tiles belongs to a thread, and a
 * thread that leaves tiles in use makes every switch away from it save 8 KiB. */
#ifndef SGM_KERNEL_AMX_TILES_H
#define SGM_KERNEL_AMX_TILES_H

#include <stdint.h>

#define TILE 16 /* rows of a tile, and 32-bit elements of a row */
#define TILE_ROW_BYTES 64
#define TILE_PAIRS (TILE * TILE) /* of bf16 in a packed tile */
#define GROUP (2 * TILE)         /* k in a tile of pairs */
#define SQUARE (2 * TILE)        /* rows and columns of C that are summed at once */

typedef struct tile_shapes { /* as LDTILECFG reads it */
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes_a_row[16];
    uint8_t rows[16];
} tile_shapes;

static const tile_shapes whole_tiles = {
    .palette = 1, .bytes_a_row = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

#define TILES_BEGIN() __asm__ volatile("ldtilecfg %0" : : "m"(whole_tiles) : "memory")
#define TILES_END() __asm__ volatile("tilerelease" : : : "memory")
#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t : : : "memory")
/* 16 rows of 64 bytes, `stride` bytes apart. */
#define TILE_LOAD(t, from, stride)                                                                                     \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : : "r"(from), "r"((int64_t)(stride)) : "memory")
#define TILE_STORE(t, to, stride)                                                                                      \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" : : "r"(to), "r"((int64_t)(stride)) : "memory")
/* c (16 x 16 f32) += a (16 rows of 16 pairs of bf16) · b (16 pairs of 16 columns): the even products in order, the odd ones in
 * order, their sum, then the sum with c. Denormals are zeros, before and after. */
#define TILE_DOT_BF16(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c : : : "memory")
/* c (16 x 16 int32) += a (16 rows of 16 quads of int8) · b (16 quads of 16 columns), exact. */
#define TILE_DOT_INT8(c, a, b) __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #c : : : "memory")

#endif
