/* bytes.h - adding up what commits write and what they change. */
#ifndef BENCH_BYTES_H
#define BENCH_BYTES_H

#include "product.h"

struct bytes_sum {
    uint64_t changed, pages, written, padded;
    unsigned commits;
};
/* Commit, go on from there, and add. */
void bytes_commit(struct product *p, struct bytes_sum *sum);
void bytes_tell(struct bench *b, const char *name, const struct bytes_sum *sum);

#endif
