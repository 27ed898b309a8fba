/* blocklog.c - see blocklog.h.
 *
 * The log: a superblock (magic u64, version u64, entries u64, size of a sector u32), then entries, each a header
 * (sector u64, sectors u64, flags u64, size of a mark u64; and the mark) filled up to a sector, and its sectors. */
#include "blocklog.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define LOG_MAGIC UINT64_C(0x6a736677736872)
#define NAME "loss"
#define NODE "/run/loss"
enum { FLUSH = 1, FUA = 2, DISCARD = 4, MARK = 8 };
enum { SECTOR = 512, HEADER = 32, CHUNK = 1 << 20, SHOWN = 5, BUFFER = 4096 };

struct replay {
    const struct blocklog *with;
    int log, disk, mapper;
    uint64_t sector_size, sectors; /* of the log; of the disk, in units of 512 bytes */
    uint64_t entries, writes, flushes, discards, states, violations, unmounted;
    char deed[32];
    bool started, ended;
};

static _Noreturn void give_up(const char *what)
{
    (void)fprintf(stderr, "blocklog: %s: %s\n", what, strerror(errno));
    exit(2);
}

static uint64_t number_at(const uint8_t *bytes)
{
    uint64_t number = 0;

    for (unsigned i = 8; i-- > 0;)
        number = number << 8 | bytes[i];
    return number;
}

/* ---- A snapshot of the disk ------------------------------------------------------------------- */

/* One request to the device mapper, about the device NAME. `target` NULL: none goes with it. */
static dev_t ask_mapper(const struct replay *r, unsigned long request, uint32_t flags, const char *target)
{
    union {
        struct dm_ioctl head;
        char room[BUFFER];
    } ask = { .head = { .version = { DM_VERSION_MAJOR, 0, 0 },
                        .data_size = sizeof ask,
                        .data_start = sizeof ask.head,
                        .flags = flags,
                        .name = NAME } };
    struct dm_target_spec *spec = (struct dm_target_spec *)(void *)(ask.room + sizeof ask.head);

    if (target != NULL) {
        ask.head.target_count = 1;
        *spec = (struct dm_target_spec){ .length = r->sectors, .target_type = "snapshot" };
        (void)snprintf((char *)(spec + 1), BUFFER - sizeof ask.head - sizeof *spec, "%s", target);
    }
    if (ioctl(r->mapper, request, &ask) != 0)
        give_up("the device mapper");
    return (dev_t)ask.head.dev;
}

static void make_snapshot(const struct replay *r)
{
    char target[256];

    (void)snprintf(target, sizeof target, "%s %s N 8", r->with->disk, r->with->scratch);
    const dev_t device = ask_mapper(r, DM_DEV_CREATE, 0, NULL);
    (void)ask_mapper(r, DM_TABLE_LOAD, 0, target);
    (void)ask_mapper(r, DM_DEV_SUSPEND, 0, NULL); /* without its flag: resume */
    (void)unlink(NODE);
    if (mknod(NODE, S_IFBLK | 0600,
              makedev((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00))) != 0)
        give_up("make " NODE);
}

static void drop_snapshot(const struct replay *r)
{
    (void)ask_mapper(r, DM_DEV_REMOVE, 0, NULL);
}

/* ---- States ----------------------------------------------------------------------------------- */

static void bad(struct replay *r, uint64_t entry, const char *why)
{
    if (r->violations++ < SHOWN)
        printf("entry %" PRIu64 ", deed %s: %s\n", entry, r->deed, why);
    (void)fflush(stdout);
}

static void judge_state(struct replay *r, uint64_t entry)
{
    r->states++;
    make_snapshot(r);
    if (mount(NODE, r->with->mountpoint, r->with->type, 0, NULL) != 0) {
        r->unmounted++;
        bad(r, entry, strerror(errno));
    } else {
        if (!r->with->judge(r->with->context, r->deed))
            bad(r, entry, "not sound");
        if (umount(r->with->mountpoint) != 0)
            give_up("unmount");
    }
    drop_snapshot(r);
}

static void copy_sectors(const struct replay *r, uint64_t from, uint64_t to, uint64_t size)
{
    static uint8_t bytes[CHUNK];

    while (size > 0) {
        const size_t part = size < sizeof bytes ? (size_t)size : sizeof bytes;
        if (pread(r->log, bytes, part, (off_t)from) != (ssize_t)part ||
            pwrite(r->disk, bytes, part, (off_t)to) != (ssize_t)part)
            give_up("copy");
        from += part;
        to += part;
        size -= part;
    }
    /* The snapshot reads below the cache of this descriptor. */
    if (fdatasync(r->disk) != 0)
        give_up("sync");
}

static void take_mark(struct replay *r, const char *text)
{
    if (strcmp(text, "start") == 0)
        r->started = true;
    else if (strcmp(text, "end") == 0)
        r->ended = true;
    else if (strncmp(text, "deed-", 5) == 0)
        (void)snprintf(r->deed, sizeof r->deed, "%.30s", text + 5);
}

/* The entry at `at`; where the next one is. */
static uint64_t take_entry(struct replay *r, uint64_t entry, uint64_t at)
{
    uint8_t header[SECTOR];

    if (pread(r->log, header, sizeof header, (off_t)at) != sizeof header)
        give_up("read an entry");
    const uint64_t to = number_at(header) * r->sector_size, size = number_at(header + 8) * r->sector_size;
    const uint64_t flags = number_at(header + 16), text_size = number_at(header + 24);
    at += r->sector_size;
    if (flags & MARK) {
        header[text_size < SECTOR - HEADER ? HEADER + text_size : SECTOR - 1] = '\0';
        take_mark(r, (char *)header + HEADER);
        return at;
    }
    r->flushes += (flags & (FLUSH | FUA)) != 0;
    if (flags & DISCARD) {
        r->discards++; /* what was there may stay */
        return at;
    }
    if (size == 0)
        return at;
    copy_sectors(r, at, to, size);
    r->writes += r->started;
    if (r->started && r->writes % r->with->every == 0)
        judge_state(r, entry);
    return at + size;
}

uint64_t blocklog_replay(const struct blocklog *with)
{
    struct replay r = { .with = with, .deed = "none" };
    uint8_t super[SECTOR];
    uint64_t bytes = 0;

    r.log = open(with->log, O_RDONLY | O_CLOEXEC);
    r.disk = open(with->disk, O_RDWR | O_CLOEXEC);
    r.mapper = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
    if (r.log < 0 || r.disk < 0 || r.mapper < 0 || ioctl(r.disk, BLKGETSIZE64, &bytes) != 0)
        give_up("open");
    r.sectors = bytes / SECTOR;
    if (pread(r.log, super, sizeof super, 0) != sizeof super || number_at(super) != LOG_MAGIC ||
        number_at(super + 8) != 1)
        give_up("no log of dm-log-writes");
    r.entries = number_at(super + 16);
    r.sector_size = number_at(super + 24) & UINT32_MAX;
    uint64_t at = r.sector_size;
    for (uint64_t entry = 0; entry < r.entries && !r.ended; entry++)
        at = take_entry(&r, entry, at);
    if (!r.ended)
        bad(&r, r.entries, "the log has no end");
    printf("%s: %" PRIu64 " entries, %" PRIu64 " writes, %" PRIu64 " flushes, %" PRIu64
           " discards, %s deeds; %" PRIu64 " states, %" PRIu64 " not mounted, %" PRIu64 " violations\n",
           with->type, r.entries, r.writes, r.flushes, r.discards, r.deed, r.states, r.unmounted,
           r.violations);
    (void)close(r.log);
    (void)close(r.disk);
    (void)close(r.mapper);
    return r.violations;
}
