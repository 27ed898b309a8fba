/* digest.c - see digest.h. The sum of one hash per name, so that the order of a listing does not matter. */
#include "digest.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"

enum { OPEN_AT_ONCE = 16, BLOCK = 1 << 16, WORDS = VV_HASH_SIZE / 8 };

/* nftw has no context argument; one folder at a time. */
static struct {
    size_t skip; /* of each path: the folder's own */
    bool (*is_dull)(const char *name);
    uint64_t sum[WORDS];
} folder;

static _Noreturn void give_up(const char *path)
{
    (void)fprintf(stderr, "digest: %s: %s\n", path, strerror(errno));
    exit(2);
}

/* Holes are passed over: they read as zeros, and where they lie is said by the offsets of the rest. */
static void put_bytes(const char *path, struct vv_hasher *hasher)
{
    static uint8_t block[BLOCK];
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t at = 0;

    if (fd == -1)
        give_up(path);
    while ((at = lseek(fd, at, SEEK_DATA)) != -1) {
        const off_t hole = lseek(fd, at, SEEK_HOLE);
        while (at < hole) {
            const size_t wanted = hole - at < BLOCK ? (size_t)(hole - at) : BLOCK;
            if (pread(fd, block, wanted, at) != (ssize_t)wanted)
                give_up(path);
            vv_hasher_u64(hasher, (uint64_t)at);
            vv_hasher_put(hasher, block, wanted);
            at += (off_t)wanted;
        }
    }
    if (errno != ENXIO)
        give_up(path);
    (void)close(fd);
}

static int put_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    const char *name = path + folder.skip;
    struct vv_hasher hasher;
    uint8_t hash[VV_HASH_SIZE];
    char text[PATH_MAX];

    (void)walk;
    vv_hasher_init(&hasher, VV_HASH_RECORD);
    vv_hasher_put(&hasher, name, strlen(name) + 1);
    vv_hasher_u64(&hasher, status->st_mode);
    if (kind == FTW_SL) {
        const ssize_t size = readlink(path, text, sizeof text);
        if (size < 0)
            give_up(path);
        vv_hasher_put(&hasher, text, (size_t)size);
    } else if (kind == FTW_F) {
        vv_hasher_u64(&hasher, status->st_nlink);
        if (folder.is_dull == NULL || !folder.is_dull(name[0] == '/' ? name + 1 : name)) {
            vv_hasher_u64(&hasher, (uint64_t)status->st_size);
            put_bytes(path, &hasher);
        }
    } else if (kind != FTW_D) {
        give_up(path);
    }
    vv_hasher_end(&hasher, hash);
    for (unsigned i = 0; i < WORDS; i++)
        folder.sum[i] += vv_get_u64(hash + 8 * i);
    return 0;
}

void digest_folder(const char *path, bool (*is_dull)(const char *name), uint8_t digest[VV_HASH_SIZE])
{
    folder.skip = strlen(path);
    folder.is_dull = is_dull;
    memset(folder.sum, 0, sizeof folder.sum);
    if (nftw(path, put_one, OPEN_AT_ONCE, FTW_PHYS) != 0 && errno != ENOENT)
        give_up(path);
    for (unsigned i = 0; i < WORDS; i++)
        vv_put_u64(digest + 8 * i, folder.sum[i]);
}
