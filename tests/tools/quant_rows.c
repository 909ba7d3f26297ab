// SPDX-License-Identifier: Apache-2.0
/* quant_rows pack|unpack TYPE: one long row from standard input to standard output, floats to blocks or blocks to floats.
 * scripts/oracle/quants compares it with GGUF's own Python package. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/quant.h"

static void *read_all(size_t *size) {
    size_t capacity = 1 << 16, used = 0;
    char *data = malloc(capacity);
    for (size_t got; data && (got = fread(data + used, 1, capacity - used, stdin)) > 0;) {
        used += got;
        if (used == capacity) {
            char *wider = realloc(data, capacity *= 2);
            if (!wider)
                free(data);
            data = wider;
        }
    }
    *size = used;
    return data;
}

int main(int argc, char **argv) {
    const sgm_quant *type = argc == 3 ? sgm_quant_find(argv[2]) : NULL;
    if (!type || (strcmp(argv[1], "pack") != 0 && strcmp(argv[1], "unpack") != 0)) {
        fprintf(stderr, "usage: quant_rows pack|unpack TYPE < in > out\n");
        return 2;
    }
    size_t size;
    void *in = read_all(&size);
    if (!in)
        return 1;
    bool pack = argv[1][0] == 'p';
    size_t blocks = size / (pack ? (size_t)type->block * sizeof(float) : type->block_bytes);
    int64_t n = (int64_t)blocks * type->block;
    size_t bytes = pack ? blocks * type->block_bytes : (size_t)n * sizeof(float);
    void *out = malloc(bytes ? bytes : 1);
    if (!out)
        return 1;
    if (pack)
        type->pack(n, in, out);
    else
        type->unpack(n, in, out);
    bool good = fwrite(out, 1, bytes, stdout) == bytes && fflush(stdout) == 0;
    free(out);
    free(in);
    return good ? 0 : 1;
}
