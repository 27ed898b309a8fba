/* A disk that fills up: at every 4 KiB, and at every number of files, a store says FULL and is as it was.
 *
 *   work     a store is made; commits on two branches, code, refs, deletions, background work, until all is done or
 *            something fails, which must be FULL
 *   room     on the full disk, in the same opening or the next: a branch goes, every commit that nothing names is
 *            deleted, and space is given back; none of it may fail
 *   judge    in the same opening, after closing and opening again, and by fsck: everything acknowledged is there and
 *            nothing else; with room again one more commit goes in
 * With --layout tree the same is done to that layout, which keeps no space in hand: there what makes room may be FULL
 * too, and then it has not happened.
 * The disk is a small tmpfs where this process may mount one, in a mount namespace of a child, so that it goes with
 * it. Elsewhere, or with VARVE_TEST_NO_MOUNT, a table of calls with a budget stands in for it. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "past.h"
#include "scratch.h"
#include "tally.h"

enum { BLOCK = 4096, STEPS = 44, CHILD_SECONDS = 120, SHOWN = 12 };

static char root[SCRATCH_PATH], path[SCRATCH_PATH + 16];
static varve_layout layout_asked = VARVE_LAYOUT_JOURNAL;

/* What a child tells; it lies in memory that outlives it. */
static struct verdict {
    bool ended, finished;     /* finished: the work met no limit */
    unsigned deleted;         /* on the full disk */
    unsigned refused;         /* deletions there, for want of room */
    uint64_t freed;           /* there */
    bool revived;             /* a commit went in there again */
    char denial[400];
} * verdict;

static void deny(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void deny(const char *format, ...)
{
    va_list args;

    if (verdict->denial[0] != '\0')
        return; /* the first is the one to look at */
    va_start(args, format);
    (void)vsnprintf(verdict->denial, sizeof verdict->denial, format, args);
    va_end(args);
}

/* ---- The disk ----------------------------------------------------------------------------------- */

/* A table that gives out only so much: blocks by which files grow, and names. */
struct budget {
    struct vv_vfs table;
    uint64_t blocks, names;
};

static struct budget *budget_of(const struct vv_vfs *self)
{
    return (struct budget *)(uintptr_t)self; /* as in base/double.c */
}

static uint64_t blocks_of(int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 ? (uint64_t)status.st_blocks * 512 / BLOCK : 0;
}

/* Blocks of a piece of a file that are not on the disk. */
static uint64_t holes_in(int fd, uint64_t offset, uint64_t size)
{
    uint64_t holes = 0;

    for (uint64_t at = offset / BLOCK * BLOCK; at < offset + size; at += BLOCK) {
        const off_t data = lseek(fd, (off_t)at, SEEK_DATA);
        holes += data < 0 || (uint64_t)data >= at + BLOCK;
    }
    return holes;
}

static int budget_open(const struct vv_vfs *self, int dir, const char *name, unsigned flags, int *fd)
{
    struct budget *budget = budget_of(self);
    const struct vv_vfs *system = &vv_vfs_system;

    *fd = -1;
    const int number =
        system->open(system, dir, name, flags & ~(unsigned)(VV_OPEN_CREATE | VV_OPEN_EXCLUSIVE), fd);
    if ((flags & VV_OPEN_CREATE) == 0 || (number != ENOENT && number != 0))
        return number;
    if (number == 0 && (flags & VV_OPEN_EXCLUSIVE) == 0)
        return 0;
    if (number == 0) {
        system->close(system, *fd);
        *fd = -1;
        return EEXIST;
    }
    if (budget->names == 0)
        return ENOSPC;
    budget->names--;
    return system->open(system, dir, name, flags, fd);
}

static int budget_write(const struct vv_vfs *self, int fd, const void *data, size_t size, uint64_t offset,
                        size_t *put)
{
    struct budget *budget = budget_of(self);
    const uint64_t now = blocks_of(fd);

    *put = 0;
    while (size > 0 && holes_in(fd, offset, size) > budget->blocks) /* as much as there is room for */
        size -= (offset + size - 1) % BLOCK + 1 < size ? (offset + size - 1) % BLOCK + 1 : size;
    if (size == 0)
        return ENOSPC;
    const int number = vv_vfs_system.write(&vv_vfs_system, fd, data, size, offset, put);
    budget->blocks -= blocks_of(fd) - now;
    return number;
}

static int budget_truncate(const struct vv_vfs *self, int fd, uint64_t size)
{
    struct budget *budget = budget_of(self);
    const uint64_t now = blocks_of(fd);
    const int number = vv_vfs_system.truncate(&vv_vfs_system, fd, size);

    budget->blocks += now - blocks_of(fd);
    return number;
}

static int budget_punch(const struct vv_vfs *self, int fd, uint64_t offset, uint64_t size)
{
    const uint64_t now = blocks_of(fd);
    const int number = vv_vfs_system.punch(&vv_vfs_system, fd, offset, size);

    budget_of(self)->blocks += now - blocks_of(fd);
    return number;
}

static int budget_mkdir(const struct vv_vfs *self, int dir, const char *name)
{
    struct budget *budget = budget_of(self);

    if (budget->names == 0)
        return ENOSPC;
    const int number = vv_vfs_system.mkdir(&vv_vfs_system, dir, name);
    budget->names -= number == 0;
    return number;
}

static int budget_unlink(const struct vv_vfs *self, int dir, const char *name, bool directory)
{
    struct stat status = { .st_blocks = 0 };

    (void)fstatat(dir, name, &status, AT_SYMLINK_NOFOLLOW);
    const int number = vv_vfs_system.unlink(&vv_vfs_system, dir, name, directory);
    budget_of(self)->names += number == 0;
    budget_of(self)->blocks += number == 0 && !directory ? (uint64_t)status.st_blocks * 512 / BLOCK : 0;
    return number;
}

static struct budget budget;
static bool mounts; /* this process may */

static const struct vv_vfs *make_disk(uint64_t bytes, uint64_t names)
{
    char options[64];

    if (mounts) {
        (void)snprintf(options, sizeof options, "size=%llu,nr_inodes=%llu", (unsigned long long)bytes,
                       (unsigned long long)names);
        if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("none", root, "tmpfs", 0, options) != 0) {
            perror("mount");
            exit(2);
        }
        return &vv_vfs_system;
    }
    budget = (struct budget){ .table = vv_vfs_system, .blocks = bytes / BLOCK, .names = names };
    budget.table.open = budget_open;
    budget.table.write = budget_write;
    budget.table.truncate = budget_truncate;
    budget.table.punch = budget_punch;
    budget.table.mkdir = budget_mkdir;
    budget.table.unlink = budget_unlink;
    return &budget.table;
}

static void make_room(void)
{
    if (mounts && mount(NULL, root, NULL, MS_REMOUNT, "size=64m,nr_inodes=1000") != 0) {
        perror("remount");
        exit(2);
    }
    budget.blocks = budget.names = 1 << 14;
}

static bool may_mount(void)
{
    int status = 1;

    if (getenv("VARVE_TEST_NO_MOUNT") != NULL)
        return false;
    const pid_t child = fork();
    if (child == 0)
        _exit(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                      mount("none", root, "tmpfs", 0, "size=1m") == 0
                  ? 0
                  : 1);
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

/* ---- Work and judgement, in a child -------------------------------------------------------------- */

static varve_status open_store(const struct vv_vfs *vfs, uint32_t flags, varve_store **store)
{
    const varve_store_options options = {
        .size = sizeof options, .flags = flags, .snapshot_bytes = 8 << 10, .layout = layout_asked
    };

    *store = NULL;
    return vv_store_open(vfs, path, &options, store);
}

static varve_status work_step(struct past *past, varve_store *store, unsigned step)
{
    const unsigned old = step / 3;

    switch (step % 11) {
    case 3:
        return past->code_count < PAST_CODES ? past_code(past, store) : VARVE_OK;
    case 5:
        return past_ref(past, store, "tags/t", past->commit_count - 1);
    case 7:
        return past_tidy(store, 1 << 20);
    case 9:
        if (old < past->commit_count && !past_is_named(past, old) && !past->commits[old].deleted)
            return past_remove(past, store, old);
        return VARVE_OK;
    case 10:
        return past_commit(past, store, "side", 0, VARVE_DURABLE);
    default:
        return past_commit(past, store, "main", PAST_COMMITS, VARVE_DURABLE);
    }
}

/* A journal has kept the space that this takes. */
static bool may_be_full(varve_status rc)
{
    return rc == VARVE_FULL && layout_asked != VARVE_LAYOUT_JOURNAL;
}

/* What makes room must work on a full disk, as often as it is asked for. */
static void make_some_room(struct past *past, varve_store *store)
{
    varve_status rc =
        past_stands(past, "side") == PAST_COMMITS ? VARVE_OK : past_ref_gone(past, store, "side");
    if (rc != VARVE_OK && !may_be_full(rc))
        deny("a branch that goes on the full disk: %s", vv_words());
    for (unsigned i = 0; i < past->commit_count; i++) {
        if (past->commits[i].deleted || past_is_named(past, i))
            continue;
        rc = past_remove(past, store, i);
        if (rc != VARVE_OK && !may_be_full(rc))
            deny("deletion %u on the full disk: %s", verdict->deleted, vv_words());
        if (rc == VARVE_OK)
            verdict->deleted++;
        else
            verdict->refused++;
    }
    rc = store->layout->maintain(store->place, 0, NULL, NULL, &verdict->freed);
    if (rc != VARVE_OK && !may_be_full(rc))
        deny("gc on the full disk: %s", vv_words());
    if (past_read_only(past, store) != VARVE_OK)
        deny("after gc on the full disk: %s", vv_words());
    verdict->revived = past_commit(past, store, "again", PAST_COMMITS, VARVE_DURABLE) == VARVE_OK;
}

static void judge_left(const struct vv_vfs *vfs, struct past *past, bool made)
{
    const varve_check_options options = { .size = sizeof options };
    varve_store *store = NULL;
    uint64_t damage = 0;

    varve_status rc = open_store(vfs, 0, &store);
    if (rc == VARVE_NOT_FOUND && !made) {
        make_room();
        rc = open_store(vfs, VARVE_STORE_CREATE, &store);
    }
    if (rc != VARVE_OK) {
        deny("it does not open on the full disk: status %d: %s", (int)rc, vv_words());
        return;
    }
    if (past_read_only(past, store) != VARVE_OK)
        deny("opened again: %s", vv_words());
    make_room();
    if (past_commit(past, store, "more", PAST_COMMITS, VARVE_DURABLE) != VARVE_OK)
        deny("one more commit when there is room: %s", vv_words());
    vv_store_close(store);
    if (vv_store_check(vfs, path, &options, &damage) != VARVE_OK || damage != 0)
        deny("fsck finds %llu damages", (unsigned long long)damage);
    if (open_store(vfs, 0, &store) != VARVE_OK || past_read_only(past, store) != VARVE_OK)
        deny("in the end: %s", vv_words());
    vv_store_close(store);
}

static void fill_and_judge(uint64_t bytes, uint64_t names)
{
    static struct past past = { .chance = { .state = 21 } };
    varve_store *store = NULL;
    const struct vv_vfs *vfs = make_disk(bytes, names);
    varve_status rc = open_store(vfs, VARVE_STORE_CREATE, &store);
    const bool made = rc == VARVE_OK;

    for (unsigned step = 0; rc == VARVE_OK && step < STEPS; step++)
        rc = work_step(&past, store, step);
    verdict->finished = rc == VARVE_OK;
    if (rc != VARVE_OK && rc != VARVE_FULL)
        deny("status %d: %s", (int)rc, vv_words());
    if (made) {
        if (past_read_only(&past, store) != VARVE_OK)
            deny("in the opening in which the disk became full: %s", vv_words());
        if (rc == VARVE_FULL && (bytes / BLOCK + names) % 2 == 0) {
            vv_store_close(store);
            if (open_store(vfs, 0, &store) != VARVE_OK)
                deny("it does not open to make room: %s", vv_words());
        }
        if (rc == VARVE_FULL && store != NULL)
            make_some_room(&past, store);
    }
    vv_store_close(store);
    judge_left(vfs, &past, made);
}

/* ---- Sizes -------------------------------------------------------------------------------------- */

struct counts {
    uint64_t disks, violations, deleted, refused, freed, revived;
};

/* One disk. Whether the work was finished on it. */
static bool try_disk(uint64_t bytes, uint64_t names, struct counts *counts)
{
    int status = 0;

    *verdict = (struct verdict){ .ended = false };
    (void)fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        (void)alarm(CHILD_SECONDS);
        fill_and_judge(bytes, names);
        verdict->ended = true;
        _exit(0);
    }
    if (child == -1 || waitpid(child, &status, 0) != child) {
        perror("fork");
        exit(2);
    }
    if (WIFSIGNALED(status))
        deny("it died of signal %d", WTERMSIG(status));
    else if (!verdict->ended)
        deny("it ended the process");
    if (!mounts)
        scratch_remove(path);
    counts->disks++;
    counts->deleted += verdict->deleted;
    counts->refused += verdict->refused;
    counts->freed += verdict->freed;
    counts->revived += verdict->revived;
    if (verdict->denial[0] != '\0' && counts->violations++ < SHOWN)
        (void)fprintf(stderr, "%llu bytes, %llu files: %s\n", (unsigned long long)bytes,
                      (unsigned long long)names, verdict->denial);
    return verdict->finished;
}

int main(int argc, char **argv)
{
    enum { ENOUGH_NAMES = 1000, ENOUGH_BYTES = 64 << 20 };
    struct counts counts = { .disks = 0 };
    uint64_t bytes = 4 * BLOCK;
    uint64_t names = 2; /* tmpfs counts its root */

    if (argc == 3 && strcmp(argv[1], "--layout") == 0 && strcmp(argv[2], "tree") == 0) {
        layout_asked = VARVE_LAYOUT_TREE;
    } else if (argc != 1) {
        (void)fprintf(stderr, "usage: full [--layout tree]\n");
        return 2;
    }
    scratch_in_memory();
    scratch_new(root);
    (void)snprintf(path, sizeof path, "%s/store", root);
    verdict = mmap(NULL, sizeof *verdict, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (verdict == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
    mounts = may_mount();
    if (!mounts)
        (void)printf("no tmpfs can be mounted here: a table of calls with a budget stands in for the disk\n");
    while (!try_disk(bytes, ENOUGH_NAMES, &counts) && bytes < ENOUGH_BYTES)
        bytes += BLOCK;
    while (!try_disk(ENOUGH_BYTES, names, &counts) && names < ENOUGH_NAMES)
        names++;
    (void)printf(
        "%llu disks: up to %llu bytes, up to %llu files; on those that were full %llu deletions, %llu "
        "refused, %llu bytes given back, and on %llu of them a commit went in again\n",
        (unsigned long long)counts.disks, (unsigned long long)bytes, (unsigned long long)names,
        (unsigned long long)counts.deleted, (unsigned long long)counts.refused, (unsigned long long)counts.freed,
        (unsigned long long)counts.revived);
    tally("full", counts.disks, counts.violations);
    (void)printf("%u passed, %u failed\n", counts.violations == 0, counts.violations != 0);
    scratch_remove(root);
    return counts.violations == 0 ? 0 : 1;
}
