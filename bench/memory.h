/* memory.h - floors that touch memory: page faults, copies, write protection, hashes. */
#ifndef BENCH_MEMORY_H
#define BENCH_MEMORY_H

#include "bench.h"

/* Anonymous, without huge pages (a page is the unit of all that varve does), every word random. */
uint8_t *memory_new(size_t size);
void memory_free(uint8_t *bytes, size_t size);
/* `file` as it lies, private: a store copies the page. */
uint8_t *memory_map(int file, size_t size);

/* `count` different page numbers below `total`, in random or ascending order. */
uint32_t *memory_pages(uint32_t count, uint32_t total, bool ascending);

/* One store to each page: ns per page. */
double memory_touch(uint8_t *bytes, const uint32_t *pages, uint32_t count);

/* What a commit must do with changed pages: read each and what it was before, hash it. Hashes are the real ones
 * of 4096 bytes, sixteen pages abreast: ns per page. */
double memory_commit(const uint8_t *bytes, const uint8_t *before, const uint32_t *pages, uint32_t count);

/* Pages that are write-protected and whose first store is noted by the kernel alone (userfaultfd, WP_ASYNC). */
struct tracked {
    uint8_t *bytes;
    size_t size;
    int uffd;
};
bool tracked_new(struct tracked *tracked, size_t size); /* false: this kernel or sandbox has none */
void tracked_protect(struct tracked *tracked);          /* all of it */
void tracked_free(struct tracked *tracked);

#endif
