/* A disk that fills up: at every 4 KiB, and at every number of files, a store says FULL and is as it was.
 *
 *   work     a store is made; commits on two branches, code, refs, deletions, background work, until all is done or
 *            something fails, which must be FULL
 *   judge    in the same opening, after closing and opening again, and by fsck: everything acknowledged is there and
 *            nothing else; with room again one more commit goes in
 * The disk is a small tmpfs where this process may mount one, in a mount namespace of a child, so that it goes with
 * it. Elsewhere, or with VARVE_TEST_NO_MOUNT, a table of calls with a budget stands in for it. */
#include <errno.h>
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

/* What a child tells; it lies in memory that outlives it. */
static struct verdict {
    bool ended, finished;     /* finished: the work met no limit */
    unsigned deleted, denied; /* deletions on the full disk that were made; that had no room either */
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

static uint64_t size_of(int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 ? (uint64_t)status.st_size : 0;
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

static uint64_t blocks(uint64_t size)
{
    return (size + BLOCK - 1) / BLOCK;
}

static int budget_write(const struct vv_vfs *self, int fd, const void *data, size_t size, uint64_t offset,
                        size_t *put)
{
    struct budget *budget = budget_of(self);
    const uint64_t now = blocks(size_of(fd));

    *put = 0;
    if (blocks(offset + size) >
        now + budget->blocks) { /* as much as there is room for, as a file system does */
        const uint64_t end = (now + budget->blocks) * BLOCK;
        if (end <= offset)
            return ENOSPC;
        size = (size_t)(end - offset);
    }
    const int number = vv_vfs_system.write(&vv_vfs_system, fd, data, size, offset, put);
    budget->blocks -= blocks(size_of(fd)) - now;
    return number;
}

static int budget_truncate(const struct vv_vfs *self, int fd, uint64_t size)
{
    struct budget *budget = budget_of(self);
    const uint64_t now = blocks(size_of(fd));

    budget->blocks += blocks(size) < now ? now - blocks(size) : 0;
    return vv_vfs_system.truncate(&vv_vfs_system, fd, size);
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
    const int number = vv_vfs_system.unlink(&vv_vfs_system, dir, name, directory);

    budget_of(self)->names += number == 0;
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
    const varve_store_options options = { .size = sizeof options, .flags = flags, .snapshot_bytes = 8 << 10 };

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

/* A deletion must work on a full disk, for it makes room; of a store that was hardly begun it may not. */
static void delete_something(struct past *past, varve_store *store)
{
    for (unsigned i = 0; i < past->commit_count; i++) {
        if (past->commits[i].deleted || past_is_named(past, i))
            continue;
        const varve_status rc = past_remove(past, store, i);
        if (rc != VARVE_OK && rc != VARVE_FULL)
            deny("a deletion on the full disk: status %d: %s", (int)rc, vv_words());
        *(rc == VARVE_OK ? &verdict->deleted : &verdict->denied) += 1;
        return;
    }
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
        if (rc == VARVE_FULL)
            delete_something(&past, store);
    }
    vv_store_close(store);
    judge_left(vfs, &past, made);
}

/* ---- Sizes -------------------------------------------------------------------------------------- */

struct counts {
    uint64_t disks, violations, deleted, denied;
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
    counts->denied += verdict->denied;
    if (verdict->denial[0] != '\0' && counts->violations++ < SHOWN)
        (void)fprintf(stderr, "%llu bytes, %llu files: %s\n", (unsigned long long)bytes,
                      (unsigned long long)names, verdict->denial);
    return verdict->finished;
}

int main(void)
{
    enum { ENOUGH_NAMES = 1000, ENOUGH_BYTES = 64 << 20 };
    struct counts counts = { .disks = 0 };
    uint64_t bytes = 4 * BLOCK;
    uint64_t names = 2; /* tmpfs counts its root */

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
    (void)printf("%llu disks: up to %llu bytes, up to %llu files; on those that were full %llu deletions "
                 "made, %llu not\n",
                 (unsigned long long)counts.disks, (unsigned long long)bytes, (unsigned long long)names,
                 (unsigned long long)counts.deleted, (unsigned long long)counts.denied);
    tally("full", counts.disks, counts.violations);
    (void)printf("%u passed, %u failed\n", counts.violations == 0, counts.violations != 0);
    scratch_remove(root);
    return counts.violations == 0 ? 0 : 1;
}
