// SPDX-License-Identifier: Apache-2.0
/* Numbers at any address of a file's bytes, in this machine's order: a file says in its header which order it has. */
#ifndef SGM_BASE_BYTES_H
#define SGM_BASE_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint16_t sgm_get_u16(const unsigned char *at) {
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint32_t sgm_get_u32(const unsigned char *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t sgm_get_u64(const unsigned char *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline void sgm_put_u16(unsigned char *at, uint16_t value) {
    memcpy(at, &value, sizeof value);
}

static inline void sgm_put_u32(unsigned char *at, uint32_t value) {
    memcpy(at, &value, sizeof value);
}

static inline void sgm_put_u64(unsigned char *at, uint64_t value) {
    memcpy(at, &value, sizeof value);
}

#endif
