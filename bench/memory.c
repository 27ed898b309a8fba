/* memory.c - see memory.h. */
#include "memory.h"

#include <blake3.h>
#include <blake3_impl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From linux/userfaultfd.h of newer kernels than the headers may be. */
enum { WP_UNPOPULATED = 1 << 13, WP_ASYNC = 1 << 15, USER_MODE_ONLY = 1 };

enum { ABREAST = 16, CHUNK = 1024, CHUNKS = BENCH_PAGE / CHUNK, COMPARED = 256 };

uint8_t *memory_new(size_t size)
{
    uint8_t *bytes =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (bytes == MAP_FAILED)
        bench_die("map %zu bytes: %s", size, strerror(errno));
    madvise(bytes, size, MADV_NOHUGEPAGE);
    for (size_t at = 0; at < size; at += 8) {
        const uint64_t word = bench_random();
        memcpy(bytes + at, &word, 8);
    }
    return bytes;
}

void memory_free(uint8_t *bytes, size_t size)
{
    munmap(bytes, size);
}

uint8_t *memory_map(int file, size_t size)
{
    uint8_t *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file, 0);

    if (bytes == MAP_FAILED)
        bench_die("map a file: %s", strerror(errno));
    return bytes;
}

static int by_number(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

uint32_t *memory_pages(uint32_t count, uint32_t total, bool ascending)
{
    uint32_t *pages = malloc(total * sizeof *pages);

    if (pages == NULL || count > total)
        bench_die("cannot pick %u of %u pages", count, total);
    for (uint32_t i = 0; i < total; i++)
        pages[i] = i;
    for (uint32_t i = 0; i < count; i++) { /* the first steps of a shuffle */
        const uint32_t with = i + (uint32_t)(bench_random() % (total - i)), page = pages[i];
        pages[i] = pages[with];
        pages[with] = page;
    }
    if (ascending)
        qsort(pages, count, sizeof *pages, by_number);
    return pages;
}

double memory_touch(uint8_t *bytes, const uint32_t *pages, uint32_t count)
{
    const double start = bench_now();

    for (uint32_t i = 0; i < count; i++)
        *(volatile uint64_t *)(bytes + (size_t)pages[i] * BENCH_PAGE + 64) += 1;
    return (bench_now() - start) / count;
}

/* Sixteen pages: chunk k of all of them abreast, then the inner nodes, then the roots. Every lane is full. */
static void hash_abreast(const uint8_t *const pages[ABREAST], uint8_t out[ABREAST][32])
{
    uint8_t level[ABREAST][32], chunks[ABREAST][CHUNKS][32], halves[2 * ABREAST][32];
    const uint8_t *in[2 * ABREAST];

    for (size_t k = 0; k < CHUNKS; k++) {
        for (size_t i = 0; i < ABREAST; i++)
            in[i] = pages[i] + k * CHUNK;
        blake3_hash_many(in, ABREAST, CHUNK / BLAKE3_BLOCK_LEN, IV, k, false, 0, CHUNK_START, CHUNK_END,
                         level[0]);
        for (size_t i = 0; i < ABREAST; i++)
            memcpy(chunks[i][k], level[i], 32);
    }
    for (size_t i = 0; i < 2 * ABREAST; i++)
        in[i] = chunks[i / 2][i % 2 * 2];
    blake3_hash_many(in, 2 * ABREAST, 1, IV, 0, false, PARENT, 0, 0, halves[0]);
    for (size_t i = 0; i < ABREAST; i++)
        in[i] = halves[2 * i];
    blake3_hash_many(in, ABREAST, 1, IV, 0, false, PARENT | ROOT, 0, 0, out[0]);
}

double memory_commit(const uint8_t *bytes, const uint8_t *before, const uint32_t *pages, uint32_t count)
{
    uint8_t hashes[ABREAST][32];
    uint64_t differ = 0;
    const double start = bench_now();

    for (uint32_t at = 0; at + ABREAST <= count; at += ABREAST) {
        const uint8_t *batch[ABREAST];
        for (uint32_t i = 0; i < ABREAST; i++) {
            const size_t offset = (size_t)pages[at + i] * BENCH_PAGE;
            batch[i] = bytes + offset;
            for (size_t k = 0; k < BENCH_PAGE; k += COMPARED) /* the C library's is the fastest there is */
                differ += memcmp(bytes + offset + k, before + offset + k, COMPARED) != 0;
        }
        hash_abreast(batch, hashes);
        differ += hashes[0][0];
    }
    bench_use(differ);
    return (bench_now() - start) / (count / ABREAST * ABREAST);
}

bool tracked_new(struct tracked *tracked, size_t size)
{
    struct uffdio_api api = { .api = UFFD_API, .features = WP_ASYNC | WP_UNPOPULATED };

    *tracked = (struct tracked){ .size = size };
    tracked->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY);
    if (tracked->uffd < 0)
        return false;
    tracked->bytes = memory_new(size);
    struct uffdio_register range = { .range = { (uintptr_t)tracked->bytes, size },
                                     .mode = UFFDIO_REGISTER_MODE_WP };
    if (ioctl(tracked->uffd, UFFDIO_API, &api) != 0 || ioctl(tracked->uffd, UFFDIO_REGISTER, &range) != 0) {
        tracked_free(tracked);
        return false;
    }
    return true;
}

void tracked_protect(struct tracked *tracked)
{
    struct uffdio_writeprotect range = { .range = { (uintptr_t)tracked->bytes, tracked->size },
                                         .mode = UFFDIO_WRITEPROTECT_MODE_WP };

    if (ioctl(tracked->uffd, UFFDIO_WRITEPROTECT, &range) != 0)
        bench_die("write-protect: %s", strerror(errno));
}

void tracked_free(struct tracked *tracked)
{
    close(tracked->uffd);
    memory_free(tracked->bytes, tracked->size);
}
