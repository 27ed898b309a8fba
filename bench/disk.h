/* disk.h - floors that write: a file that is written already, overwritten and flushed. */
#ifndef BENCH_DISK_H
#define BENCH_DISK_H

#include "bench.h"

/* Every byte was written and synced once, so that an overwrite changes no metadata: what a journal on the same
 * disk cannot do faster. Writes follow each other and begin anew at the end. */
struct disk {
    int buffered, direct; /* direct -1: the file system refuses O_DIRECT */
    size_t sector;        /* least aligned write */
    size_t size, at;
    uint8_t *bytes; /* aligned, to write from */
};
void disk_open(struct disk *disk, const struct bench *b, size_t size);
void disk_close(struct disk *disk);
/* Overwrite `size` bytes, rounded up to the sector, and wait until they are durable: us. */
double disk_flush(struct disk *disk, size_t size);        /* pwrite, fdatasync */
double disk_flush_direct(struct disk *disk, size_t size); /* one O_DIRECT|O_DSYNC pwrite; needs `direct` */

/* A file of `size` random bytes, its pages in the page cache. */
int disk_file(const struct bench *b, const char *name, size_t size);

#endif
