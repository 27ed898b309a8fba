/* disk.c - see disk.h. */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void fill_random(uint8_t *bytes, size_t size)
{
    for (size_t at = 0; at + 8 <= size; at += 8) {
        const uint64_t word = bench_random();
        memcpy(bytes + at, &word, 8);
    }
}

static int write_file(const char *path, size_t size, const uint8_t *block)
{
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        bench_die("make %s: %s", path, strerror(errno));
    for (size_t at = 0; at < size; at += MIB)
        if (pwrite(fd, block, size - at < MIB ? size - at : MIB, (off_t)at) < 0)
            bench_die("write %s: %s", path, strerror(errno));
    if (fdatasync(fd) != 0)
        bench_die("sync %s: %s", path, strerror(errno));
    return fd;
}

static size_t sector_of(int fd)
{
    struct statx facts;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &facts) == 0 && (facts.stx_mask & STATX_DIOALIGN) != 0 &&
        facts.stx_dio_offset_align > 0)
        return facts.stx_dio_offset_align;
    return 4096;
}

void disk_open(struct disk *disk, const struct bench *b, size_t size)
{
    char path[600];

    *disk = (struct disk){ .size = size };
    disk->bytes = aligned_alloc(4096, MIB);
    if (disk->bytes == NULL)
        bench_die("no memory");
    fill_random(disk->bytes, MIB);
    snprintf(path, sizeof path, "%s/floor", b->dir);
    disk->buffered = write_file(path, size, disk->bytes);
    disk->sector = sector_of(disk->buffered);
    disk->direct = open(path, O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
    if (disk->direct >= 0 && pwrite(disk->direct, disk->bytes, 4096, 0) != 4096) {
        close(disk->direct);
        disk->direct = -1;
    }
}

void disk_close(struct disk *disk)
{
    close(disk->buffered);
    if (disk->direct >= 0)
        close(disk->direct);
    free(disk->bytes);
}

/* Where the next `size` bytes go; `size` becomes a multiple of the sector. */
static off_t place(struct disk *disk, size_t *size)
{
    *size = (*size + disk->sector - 1) / disk->sector * disk->sector;
    if (*size > MIB)
        bench_die("a flush of %zu bytes is more than the floor can write", *size);
    if (disk->at + *size > disk->size)
        disk->at = 0;
    const off_t at = (off_t)disk->at;
    disk->at += *size;
    return at;
}

double disk_flush(struct disk *disk, size_t size)
{
    const off_t at = place(disk, &size);
    const double start = bench_now();

    if (pwrite(disk->buffered, disk->bytes, size, at) != (ssize_t)size || fdatasync(disk->buffered) != 0)
        bench_die("flush: %s", strerror(errno));
    return (bench_now() - start) / 1e3;
}

double disk_flush_direct(struct disk *disk, size_t size)
{
    const off_t at = place(disk, &size);
    const double start = bench_now();

    if (pwrite(disk->direct, disk->bytes, size, at) != (ssize_t)size)
        bench_die("direct write: %s", strerror(errno));
    return (bench_now() - start) / 1e3;
}

int disk_file(const struct bench *b, const char *name, size_t size)
{
    char path[600];
    uint8_t *block = malloc(MIB);

    if (block == NULL)
        bench_die("no memory");
    fill_random(block, MIB);
    snprintf(path, sizeof path, "%s/%s", b->dir, name);
    const int fd = write_file(path, size, block);
    free(block);
    return fd;
}
