/* blocklog.h - replay a log of block writes, as the kernel's dm-log-writes records it, and let somebody judge what is
 * on the disk after each of them. Needs root in a kernel with dm-snapshot; guest.sh makes one.
 *
 * From the mark "start" to the mark "end" of the log, after every `every`-th entry that writes, a snapshot of the disk
 * is mounted (the file system recovers, as after a power loss), judged, unmounted and forgotten. Entries are in the
 * order in which a disk with a cache would have made them stay: the kernel logs a write once it has completed and was
 * flushed. */
#ifndef VV_TEST_BLOCKLOG_H
#define VV_TEST_BLOCKLOG_H

#include <stdbool.h>
#include <stdint.h>

struct blocklog {
    const char *log;        /* the device with the log */
    const char *disk;       /* one with the file system as it was before the log began */
    const char *scratch;    /* one for what a mounted snapshot changes */
    const char *type;       /* of the file system */
    const char *mountpoint;
    unsigned every;
    /* Whether what is mounted is sound; `deed` is what follows "deed-" in the newest mark, or "none". Says what is not. */
    bool (*judge)(void *context, const char *deed);
    void *context;
};
/* Says what it found in one line; the number of violations. What the system refuses ends the program. */
uint64_t blocklog_replay(const struct blocklog *options);

#endif
