/* scratch.c - see scratch.h. Own code instead of cp and rm, because a sweep does this thousands of times. */
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPEN_AT_ONCE = 16, LINKS = 256 };

static _Noreturn void give_up(const char *what, const char *path)
{
    (void)fprintf(stderr, "scratch: %s %s: %s\n", what, path, strerror(errno));
    exit(2);
}

void scratch_in_memory(void)
{
    if (getenv("TMPDIR") == NULL && access("/dev/shm", W_OK) == 0 && setenv("TMPDIR", "/dev/shm", 1) != 0)
        give_up("choose", "/dev/shm");
}

void scratch_new(char path[SCRATCH_PATH])
{
    const char *parent = getenv("TMPDIR");

    (void)snprintf(path, SCRATCH_PATH, "%s/varve-test-XXXXXX",
                   parent != NULL && parent[0] != '\0' ? parent : P_tmpdir);
    if (mkdtemp(path) == NULL)
        give_up("make", path);
}

/* nftw has no context argument, so what a copy needs lies here; one copy at a time. */
static struct {
    const char *to;
    size_t from_size; /* length of the source's path: what follows it is the same in the target */
    unsigned links;
    struct {
        ino_t inode;
        char path[PATH_MAX];
    } link[LINKS]; /* files with several names, and where the first of them went */
} copy;

static void copy_bytes(const char *from, const char *to, const struct stat *status)
{
    static uint8_t block[1 << 16];
    const int in = open(from, O_RDONLY | O_CLOEXEC);
    const int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, status->st_mode & 07777);
    off_t at = 0;

    if (in == -1 || out == -1 || ftruncate(out, status->st_size) != 0)
        give_up("copy", from);
    while ((at = lseek(in, at, SEEK_DATA)) != -1) {
        const off_t hole = lseek(in, at, SEEK_HOLE);
        while (at < hole) {
            const size_t wanted = (size_t)(hole - at) < sizeof block ? (size_t)(hole - at) : sizeof block;
            const ssize_t got = pread(in, block, wanted, at);
            if (got <= 0 || pwrite(out, block, (size_t)got, at) != got)
                give_up("copy", from);
            at += got;
        }
    }
    (void)close(in);
    (void)close(out);
}

/* Whether `from` is another name of a file that was copied already; then `to` is made a name of the copy. */
static bool link_instead(const struct stat *status, const char *to)
{
    if (status->st_nlink < 2)
        return false;
    for (unsigned i = 0; i < copy.links; i++) {
        if (copy.link[i].inode == status->st_ino) {
            if (link(copy.link[i].path, to) != 0)
                give_up("link", to);
            return true;
        }
    }
    if (copy.links == LINKS) {
        errno = EMLINK;
        give_up("copy", to);
    }
    copy.link[copy.links].inode = status->st_ino;
    (void)snprintf(copy.link[copy.links].path, PATH_MAX, "%s", to);
    copy.links++;
    return false;
}

static int copy_one(const char *from, const struct stat *status, int kind, struct FTW *walk)
{
    char to[PATH_MAX];
    char target[PATH_MAX];

    (void)walk;
    (void)snprintf(to, sizeof to, "%s%s", copy.to, from + copy.from_size);
    if (kind == FTW_D) {
        if (mkdir(to, 0700) != 0)
            give_up("make", to);
    } else if (kind == FTW_SL) {
        const ssize_t size = readlink(from, target, sizeof target - 1);
        if (size < 0)
            give_up("read link", from);
        target[size] = '\0';
        if (symlink(target, to) != 0)
            give_up("link", to);
    } else if (kind == FTW_F && S_ISREG(status->st_mode)) {
        if (!link_instead(status, to))
            copy_bytes(from, to, status);
    } else {
        give_up("copy", from);
    }
    return 0;
}

void scratch_copy(const char *from, const char *to)
{
    copy.to = to;
    copy.from_size = strlen(from);
    copy.links = 0;
    if (nftw(from, copy_one, OPEN_AT_ONCE, FTW_PHYS) != 0)
        give_up("copy", from);
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)walk;
    if ((kind == FTW_DP ? rmdir(path) : unlink(path)) != 0)
        give_up("remove", path);
    return 0;
}

void scratch_remove(const char *path)
{
    if (nftw(path, remove_one, OPEN_AT_ONCE, FTW_PHYS | FTW_DEPTH) != 0 && errno != ENOENT)
        give_up("remove", path);
}
