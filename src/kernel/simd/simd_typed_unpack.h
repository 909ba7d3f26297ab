// SPDX-License-Identifier: Apache-2.0
/* Weights in blocks of integers, taken apart in registers: WIDTH rows side by side, one row a lane.
 *
 * A row is read as a stream of 16-byte pieces that are transposed as they come (iv_quads), so scales arrive the same way
 * as the rest: 256 elements of a row are 9 pieces in q4_0 and q4_k, 17 in q8_0, 11 in q5_0, 13 and 2 bytes in q6_k.
 * "Quad" is four neighbouring elements of a row in one lane; a block of 32 elements is eight.
 *
 * Blocks of 18, 22 and 34 bytes begin in the middle of a lane every other time. There the elements are shifted by two:
 * quads are 2 … 5, 6 … 9, … and the last one wraps round, from the end of its run to its beginning. The activations
 * follow (wrap in simd_typed.h), and nothing has to be shifted.
 * Block layouts: quant/blocks.h. */

#define STEP 256      /* elements of a row taken apart in one go */
#define STEP_BLOCKS 8 /* blocks of 32 */
#define QUADS 8       /* quads in a block */
#define STREAM 68     /* most lanes of a step: 17 pieces */

/* What 32 elements of WIDTH rows are: q, unsigned or (q8_0, with SIGNED_BIAS added) signed; their value is
 *   q8_0, q4_0, q5_0: scale (q - zero)
 *   q4_k:             scale q - minimum
 *   q6_k:             scale (q - 32) times `inner` of its half, an integer. */
typedef struct unpacked {
    ivec q[QUADS];
    vec scale, minimum;
    ivec inner[2];
} unpacked;

INLINE int typed_bits(const int type) {
    return type == SGM_TYPE_Q8_0 ? 8 : type == SGM_TYPE_Q6_K ? 6 : type == SGM_TYPE_Q5_0 ? 5 : 4;
}
INLINE int32_t typed_zero(const int type) {
    return type == SGM_TYPE_Q8_0   ? SIGNED_BIAS
           : type == SGM_TYPE_Q6_K ? 32
           : type == SGM_TYPE_Q5_0 ? 16
           : type == SGM_TYPE_Q4_0 ? 8
                                   : 0;
}
INLINE size_t typed_step_bytes(const int type) {
    return type == SGM_TYPE_Q8_0   ? 8 * 34
           : type == SGM_TYPE_Q6_K ? 210
           : type == SGM_TYPE_Q5_0 ? 8 * 22
           : type == SGM_TYPE_Q4_0 ? 8 * 18
                                   : 144;
}
INLINE int typed_block_bytes(const int type) { /* of the types with blocks of 32 elements */
    return type == SGM_TYPE_Q8_0 ? 34 : type == SGM_TYPE_Q5_0 ? 22 : 18;
}
/* Quads of block b of a step are shifted by two elements. */
INLINE bool typed_shifted(const int type, int b) {
    return type != SGM_TYPE_Q6_K && type != SGM_TYPE_Q4_K && b % 2 == 0;
}

/* Rows at `at`, `stride` bytes apart. */
typedef struct rows_at {
    const uint8_t *at;
    size_t stride;
} rows_at;

INLINE void piece(const rows_at *rows, int index, ivec stream[STREAM]) {
    iv_quads(rows->at + 16 * index, rows->stride, stream + 4 * index);
}

/* q8_0, q4_0, q5_0: block b of the step; earlier blocks have been asked for before. */
INLINE void unpack_small(const int type, const rows_at *rows, const int b, ivec stream[STREAM], unpacked *out) {
    const int bytes = typed_block_bytes(type);
    const bool shifted = b % 2 == 0;
    for (int p = (b * bytes + 15) / 16; p < ((b + 1) * bytes + 15) / 16; p++)
        piece(rows, p, stream);
    const ivec *from = stream + b * bytes / 4; /* the lane that holds the scale */
    out->scale = shifted ? v_of_low_half(from[0]) : v_of_high_half(from[0]);
    const ivec upper = iv_set((int32_t)0xFFFF0000);
    if (type == SGM_TYPE_Q8_0) {
        UNROLL
        for (int q = 0; q < QUADS; q++) {
            ivec x = q == QUADS - 1 && shifted ? iv_merge(upper, from[0], from[QUADS]) : from[1 + q];
            out->q[q] = SIGNED_BIAS ? iv_xor(x, iv_set((int32_t)0x80808080)) : x;
        }
        return;
    }
    const ivec nibble = iv_set(0x0F0F0F0F);
    const ivec *data = type == SGM_TYPE_Q5_0 ? from + 1 : from; /* the lane before the nibbles */
    UNROLL
    for (int q = 0; q < 4; q++) {
        ivec x = q == 3 && shifted ? iv_merge(upper, data[0], data[4]) : data[1 + q];
        out->q[q] = iv_and(x, nibble);
        out->q[4 + q] = iv_and(iv_right(x, 4), nibble);
    }
    if (type == SGM_TYPE_Q5_0) { /* the fifth bits: bit k of a lane belongs to element k */
        ivec high = from[1];
        if (shifted) {
            high = iv_merge(upper, iv_left(from[1], 16), iv_right(from[0], 16));
            high = iv_merge(iv_set(0x3FFF3FFF), iv_right(high, 2), iv_left(high, 14)); /* both halves round by 2 */
        }
        UNROLL
        for (int q = 0; q < QUADS; q++) { /* four bits are multiplied into four bytes */
            ivec four = iv_and(iv_right(high, 4 * q), iv_set(15));
            ivec spread = iv_and(iv_mul(four, iv_set(0x02040810)), iv_set(0x10101010));
            out->q[q] = iv_or(out->q[q], spread);
        }
    }
}

/* q4_k: the eight scales and minima are 6 bits each, packed into 12 bytes as quant/blocks.h describes. */
INLINE void unpack_q4_k(const rows_at *rows, const int b, ivec stream[STREAM], unpacked *out, vec super[2],
                        ivec scales[4]) {
    if (b == 0) {
        const ivec six = iv_set(0x3F3F3F3F), four = iv_set(0x0F0F0F0F), two = iv_set(0x30303030);
        piece(rows, 0, stream);
        super[0] = v_of_low_half(stream[0]);
        super[1] = v_of_high_half(stream[0]);
        scales[0] = iv_and(stream[1], six); /* scales 0 … 3 */
        scales[2] = iv_and(stream[2], six); /* minima 0 … 3 */
        scales[1] = iv_or(iv_and(stream[3], four), iv_and(iv_right(stream[1], 2), two));
        scales[3] = iv_or(iv_and(iv_right(stream[3], 4), four), iv_and(iv_right(stream[2], 2), two));
    }
    if (b % 2 == 0) {
        piece(rows, 1 + b, stream);
        piece(rows, 2 + b, stream);
    }
    const ivec byte = iv_set(255), nibble = iv_set(0x0F0F0F0F);
    out->scale = v_mul(super[0], v_of_int(iv_and(iv_right(scales[b / 4], 8 * (b % 4)), byte)));
    out->minimum = v_mul(super[1], v_of_int(iv_and(iv_right(scales[2 + b / 4], 8 * (b % 4)), byte)));
    const ivec *from = stream + 4 + 8 * (b / 2);
    UNROLL
    for (int q = 0; q < QUADS; q++)
        out->q[q] = iv_and(b % 2 == 0 ? from[q] : iv_right(from[q], 4), nibble);
}

/* q6_k: 128 elements share 64 bytes of low nibbles and 32 bytes of high pairs. */
INLINE void unpack_q6_k(const rows_at *rows, const int b, ivec stream[STREAM], unpacked *out, vec super[2]) {
    const int half = b / 4, part = b % 4;
    if (b == 0) {
        _Alignas(64) uint32_t lanes[WIDTH];
        UNROLL
        for (size_t r = 0; r < WIDTH; r++) {
            uint16_t f16;
            memcpy(&f16, rows->at + r * rows->stride + 208, sizeof f16);
            lanes[r] = f16;
        }
        super[0] = v_of_low_half(iv_load(lanes));
        piece(rows, 12, stream);
    }
    if (part < 2) {
        piece(rows, 4 * half + 2 * part, stream);
        piece(rows, 4 * half + 2 * part + 1, stream);
    }
    if (part == 0) {
        piece(rows, 8 + 2 * half, stream);
        piece(rows, 8 + 2 * half + 1, stream);
    }
    const ivec *low = stream + 16 * half + 8 * (part % 2), *high = stream + 32 + 8 * half;
    const ivec nibble = iv_set(0x0F0F0F0F), pair = iv_set(0x30303030);
    UNROLL
    for (int q = 0; q < QUADS; q++) {
        ivec bits = part == 0   ? iv_left(high[q], 4)
                    : part == 1 ? iv_left(high[q], 2)
                    : part == 2 ? high[q]
                                : iv_right(high[q], 2);
        out->q[q] = iv_or(iv_and(part < 2 ? low[q] : iv_right(low[q], 4), nibble), iv_and(bits, pair));
    }
    out->scale = super[0];
    const ivec scales = stream[48 + 2 * half + part / 2]; /* bytes 2 part and 2 part + 1 of this half's eight */
    out->inner[0] = iv_right_signed(iv_left(scales, part % 2 == 0 ? 24 : 8), 24);
    out->inner[1] = iv_right_signed(iv_left(scales, part % 2 == 0 ? 16 : 0), 24);
}

/* State of one step between its blocks. */
typedef struct unpacking {
    ivec stream[STREAM];
    vec super[2];
    ivec scales[4];
} unpacking;

/* Block b = 0, 1, 2, … of a step, in this order; b is a compile-time constant. */
INLINE void unpack(const int type, const rows_at *rows, const int b, unpacking *state, unpacked *out) {
    if (type == SGM_TYPE_Q4_K)
        unpack_q4_k(rows, b, state->stream, out, state->super, state->scales);
    else if (type == SGM_TYPE_Q6_K)
        unpack_q6_k(rows, b, state->stream, out, state->super);
    else
        unpack_small(type, rows, b, state->stream, out);
}
