/* vfs.c - the system's calls as a table, and handles that turn their errnos into statuses.
 *
 *   system_*   one raw call each: an errno comes back, nothing is retried, nothing is said
 *   vv_dir_*   a directory: names beneath it, each a single component
 *   vv_file_*  a regular file: EINTR and short counts are dealt with, and a failed sync poisons
 * Laws: (V1) A sync is never tried again: Linux answers 0 to the second one with the bytes gone.
 *       (V2) A name is one component, no link is followed, and what opens is a regular file or a directory.
 *       (V3) A rename of which nobody knows whether it happened (EIO, EINTR) is UNCERTAIN, as a failed sync is. */
#include "base/vfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/plant.h"

/* ---- The system's calls ----------------------------------------------------------------------- */

static bool is_one_component(const char *name)
{
    return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* 0 when `name` may be used in `dir`: any path from the current directory, else one component (V2). */
static int check_name(int dir, const char *name)
{
    return dir == AT_FDCWD || is_one_component(name) ? 0 : EINVAL;
}

static int open_beneath(int dir, const char *name, int flags, mode_t mode)
{
    const struct open_how how = {
        .flags = (uint64_t)flags,
        .mode = (flags & O_CREAT) != 0 ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
    };
    const int fd = (int)syscall(SYS_openat2, dir, name, &how, sizeof how);

    /* Kernels before 5.6 lack the call and old sandboxes forbid it. For a single component that is not
     * ".." O_NOFOLLOW says the same. */
    if (fd == -1 && (errno == ENOSYS || errno == EPERM))
        return openat(dir, name, flags | O_NOFOLLOW, mode);
    return fd;
}

static int flags_of(unsigned flags)
{
    int system = O_CLOEXEC | O_NOCTTY;

    system |= (flags & VV_OPEN_WRITE) != 0 ? O_RDWR : O_RDONLY;
    system |= (flags & VV_OPEN_CREATE) != 0 ? O_CREAT : 0;
    system |= (flags & VV_OPEN_EXCLUSIVE) != 0 ? O_EXCL : 0;
    system |= (flags & VV_OPEN_DIRECT) != 0 ? O_DIRECT | O_DSYNC : 0;
    /* O_NONBLOCK: a FIFO in our place must not hold us up before fstat finds it out. */
    system |= (flags & VV_OPEN_DIRECTORY) != 0 ? O_DIRECTORY : O_NONBLOCK;
    return system;
}

static int system_open(const struct vv_vfs *self, int dir, const char *name, unsigned flags, int *fd)
{
    const mode_t mode = (flags & VV_OPEN_FROZEN) != 0 ? 0444 : 0600;
    struct stat status;

    (void)self;
    *fd = -1;
    if (check_name(dir, name) != 0)
        return EINVAL;
    const int opened = dir == AT_FDCWD ? openat(dir, name, flags_of(flags), mode)
                                       : open_beneath(dir, name, flags_of(flags), mode);
    if (opened == -1)
        return errno;
    int number = 0;
    if ((flags & VV_OPEN_DIRECTORY) == 0) { /* of those the system has made sure */
        number = fstat(opened, &status) != 0 ? errno : 0;
        if (number == 0 && !S_ISREG(status.st_mode))
            number = S_ISDIR(status.st_mode) ? EISDIR : ENXIO;
    }
    if (number == 0)
        *fd = opened;
    else
        (void)close(opened);
    return number;
}

static void system_close(const struct vv_vfs *self, int fd)
{
    (void)self;
    (void)close(fd); /* what could be lost was synced, or is not promised */
}

static int system_read(const struct vv_vfs *self, int fd, void *data, size_t size, uint64_t offset,
                       size_t *got)
{
    (void)self;
    *got = 0;
    if (offset >= INT64_MAX)
        return 0; /* no file reaches there: it is the end */
    if (size > INT64_MAX - offset)
        size = (size_t)(INT64_MAX - offset);
    const ssize_t count = pread(fd, data, size, (off_t)offset);
    if (count < 0)
        return errno;
    *got = (size_t)count;
    return 0;
}

static int system_write(const struct vv_vfs *self, int fd, const void *data, size_t size, uint64_t offset,
                        size_t *put)
{
    (void)self;
    *put = 0;
    if (offset > INT64_MAX || size > INT64_MAX - offset)
        return EFBIG;
    const ssize_t count = pwrite(fd, data, size, (off_t)offset);
    if (count < 0)
        return errno;
    *put = (size_t)count;
    return 0;
}

static int system_sync(const struct vv_vfs *self, int fd)
{
    (void)self;
    return fdatasync(fd) == 0 ? 0 : errno;
}

static int system_sync_dir(const struct vv_vfs *self, int fd)
{
    (void)self;
    return fsync(fd) == 0 ? 0 : errno;
}

static void system_forget(const struct vv_vfs *self, int fd)
{
    (void)self;
    (void)posix_fadvise(fd, 0, 0,
                        POSIX_FADV_DONTNEED); /* advice: where it is not taken, nothing else can be done */
}

static int system_allocate(const struct vv_vfs *self, int fd, uint64_t offset, uint64_t size)
{
    (void)self;
    if (offset > INT64_MAX || size > INT64_MAX - offset)
        return EFBIG;
    return fallocate(fd, 0, (off_t)offset, (off_t)size) == 0 ? 0 : errno;
}

static int system_truncate(const struct vv_vfs *self, int fd, uint64_t size)
{
    (void)self;
    if (size > INT64_MAX)
        return EFBIG;
    return ftruncate(fd, (off_t)size) == 0 ? 0 : errno;
}

static int system_punch(const struct vv_vfs *self, int fd, uint64_t offset, uint64_t size)
{
    (void)self;
    if (offset > INT64_MAX || size > INT64_MAX - offset)
        return EFBIG;
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size) == 0 ? 0
                                                                                                      : errno;
}

static int system_size(const struct vv_vfs *self, int fd, uint64_t *size, uint64_t *allocated,
                       uint64_t *inode)
{
    struct stat status;

    (void)self;
    if (fstat(fd, &status) != 0)
        return errno;
    *size = (uint64_t)status.st_size;
    *allocated = (uint64_t)status.st_blocks * 512; /* st_blocks counts 512 bytes whatever st_blksize says */
    *inode = (uint64_t)status.st_ino;
    return 0;
}

static int system_look(const struct vv_vfs *self, int fd, uint64_t *links, bool *frozen)
{
    struct stat status;

    (void)self;
    if (fstat(fd, &status) != 0)
        return errno;
    *links = (uint64_t)status.st_nlink;
    *frozen = (status.st_mode & (S_IWUSR | S_IWGRP | S_IWOTH)) == 0;
    return 0;
}

/* One stretch that is no hole; the bytes go through the kernel, or through us where it will not take them. */
static int copy_stretch(int from, int to, off_t at, off_t end)
{
    off_t put_at = at;
    char bytes[1 << 14];

    while (at < end) {
        ssize_t count = copy_file_range(from, &at, to, &put_at, (size_t)(end - at), 0);
        if (count == 0)
            return EIO; /* shorter than it was */
        if (count > 0 || errno == EINTR)
            continue;
        if (errno != EXDEV && errno != ENOSYS && errno != EINVAL && errno != EOPNOTSUPP)
            return errno;
        const size_t wanted = end - at < (off_t)sizeof bytes ? (size_t)(end - at) : sizeof bytes;
        count = pread(from, bytes, wanted, at);
        if (count > 0)
            count = pwrite(to, bytes, (size_t)count, put_at);
        if (count < 0 && errno != EINTR)
            return errno;
        if (count == 0)
            return EIO;
        at += count > 0 ? count : 0;
        put_at = at;
    }
    return 0;
}

static int system_copy(const struct vv_vfs *self, int from, int to, uint64_t size)
{
    const off_t end = (off_t)size;
    int number = 0;

    (void)self;
    if (size > INT64_MAX)
        return EFBIG;
    if (ioctl(to, FICLONE, from) == 0)
        return 0;
    for (off_t at = 0; number == 0 && at < end;) {
        const off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break; /* a hole up to the end */
        off_t hole = data < 0 ? end : lseek(from, data, SEEK_HOLE);
        if (hole < 0 || hole > end)
            hole = end;
        number = copy_stretch(from, to, data < 0 ? at : data, hole);
        at = hole;
    }
    if (number == 0 && ftruncate(to, end) != 0)
        number = errno;
    return number;
}

static int system_mkdir(const struct vv_vfs *self, int dir, const char *name)
{
    (void)self;
    if (check_name(dir, name) != 0)
        return EINVAL;
    return mkdirat(dir, name, 0700) == 0 ? 0 : errno;
}

static int system_rename(const struct vv_vfs *self, int dir, const char *from, const char *to, bool replace)
{
    (void)self;
    if (!is_one_component(from) || !is_one_component(to))
        return EINVAL;
    return renameat2(dir, from, dir, to, replace ? 0 : RENAME_NOREPLACE) == 0 ? 0 : errno;
}

static int system_unlink(const struct vv_vfs *self, int dir, const char *name, bool directory)
{
    (void)self;
    if (check_name(dir, name) != 0)
        return EINVAL;
    return unlinkat(dir, name, directory ? AT_REMOVEDIR : 0) == 0 ? 0 : errno;
}

static int system_link(const struct vv_vfs *self, int from_dir, const char *from, int to_dir, const char *to)
{
    (void)self;
    if (!is_one_component(from) || !is_one_component(to))
        return EINVAL;
    return linkat(from_dir, from, to_dir, to, 0) == 0 ? 0 : errno;
}

static int system_symlink(const struct vv_vfs *self, const char *text, int dir, const char *name)
{
    (void)self;
    if (!is_one_component(name))
        return EINVAL;
    return symlinkat(text, dir, name) == 0 ? 0 : errno;
}

static int system_readlink(const struct vv_vfs *self, int dir, const char *name, char *text, size_t size)
{
    (void)self;
    if (!is_one_component(name) || size == 0)
        return EINVAL;
    const ssize_t count = readlinkat(dir, name, text, size);
    if (count < 0)
        return errno;
    if ((size_t)count == size)
        return ENAMETOOLONG;
    text[count] = '\0';
    return 0;
}

static int system_list(const struct vv_vfs *self, int dir, vv_name_fn each, void *context)
{
    _Alignas(struct dirent64) char entries[1 << 13]; /* opendir would take 32 KiB, and ask what it opened */
    int number = 0;
    bool more = true;

    (void)self;
    /* A descriptor of its own: `dir` keeps a position that lists at once would share. */
    const int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd == -1)
        return errno;
    while (more) {
        const ssize_t size = getdents64(fd, entries, sizeof entries);
        number = size < 0 ? errno : 0;
        more = size > 0;
        for (ssize_t at = 0; more && at < size;) {
            const struct dirent64 *entry = (const struct dirent64 *)(entries + at);
            const bool self_or_parent = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
            more = self_or_parent || each(context, entry->d_name) == 0;
            at += entry->d_reclen;
        }
    }
    (void)close(fd);
    return number;
}

static int system_lock(const struct vv_vfs *self, int fd, enum vv_lock_kind kind, uint64_t offset,
                       uint64_t size, int *holder)
{
    static const short types[] = { F_RDLCK, F_WRLCK, F_UNLCK, F_RDLCK, F_WRLCK };
    struct flock lock = {
        .l_type = types[kind], .l_whence = SEEK_SET, .l_start = (off_t)offset, .l_len = (off_t)size
    };

    (void)self;
    *holder = 0;
    if (VV_PLANT("lock-ignored"))
        return 0;
    if (kind == VV_LOCK_ASK_SHARED || kind == VV_LOCK_ASK_EXCLUSIVE) {
        if (fcntl(fd, F_OFD_GETLK, &lock) != 0)
            return errno;
        return lock.l_type == F_UNLCK ? 0 : EAGAIN;
    }
    if (fcntl(fd, VV_PLANT("lock-of-process") ? F_SETLK : F_OFD_SETLK, &lock) == 0)
        return 0;
    if (errno != EAGAIN && errno != EACCES)
        return errno;
    /* The kernel tells a process id for the older kind of lock only: ours belong to open files. */
    if (fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid > 0)
        *holder = lock.l_pid;
    return EAGAIN;
}

const struct vv_vfs vv_vfs_system = {
    .open = system_open,
    .close = system_close,
    .read = system_read,
    .write = system_write,
    .sync = system_sync,
    .sync_dir = system_sync_dir,
    .allocate = system_allocate,
    .truncate = system_truncate,
    .punch = system_punch,
    .size = system_size,
    .look = system_look,
    .copy = system_copy,
    .mkdir = system_mkdir,
    .rename = system_rename,
    .unlink = system_unlink,
    .link = system_link,
    .symlink = system_symlink,
    .readlink = system_readlink,
    .list = system_list,
    .forget = system_forget,
    .lock = system_lock,
};

/* ---- Directories ------------------------------------------------------------------------------ */

static int open_again_if_interrupted(const struct vv_vfs *vfs, int dir, const char *name, unsigned flags,
                                     int *fd)
{
    int number = 0;

    do
        number = vfs->open(vfs, dir, name, flags, fd);
    while (number == EINTR);
    return number;
}

varve_status vv_dir_open(const struct vv_vfs *vfs, const char *path, struct vv_dir *dir)
{
    *dir = VV_DIR_NONE;
    dir->vfs = vfs;
    const int number = open_again_if_interrupted(vfs, AT_FDCWD, path, VV_OPEN_DIRECTORY, &dir->fd);
    if (number == ENOENT)
        return vv_fail(VARVE_NOT_FOUND, "%s: no such directory", path);
    if (number == ENOTDIR)
        return vv_fail(VARVE_NOT_FOUND, "%s: not a directory", path);
    return number == 0 ? VARVE_OK : vv_fail_errno(number, "open directory %.300s", path);
}

varve_status vv_dir_open_at(const struct vv_dir *parent, const char *name, struct vv_dir *dir)
{
    *dir = VV_DIR_NONE;
    dir->vfs = parent->vfs;
    const int number = open_again_if_interrupted(parent->vfs, parent->fd, name, VV_OPEN_DIRECTORY, &dir->fd);
    if (number == ENOENT)
        return vv_fail(VARVE_NOT_FOUND, "%s: no such directory", name);
    if (number == ENOTDIR || number == ELOOP)
        return vv_fail(VARVE_CORRUPT, "%s: should be a directory and is something else", name);
    return number == 0 ? VARVE_OK : vv_fail_errno(number, "open directory %s", name);
}

static int mkdir_again_if_interrupted(const struct vv_vfs *vfs, int dir, const char *name)
{
    int number = 0;

    do
        number = vfs->mkdir(vfs, dir, name);
    while (number == EINTR);
    return number;
}

/* The path of the directory that `path` lies in: "a/b/" gives "a", "b" gives ".", "/b" gives "/". */
static varve_status parent_of(const char *path, char parent[PATH_MAX])
{
    size_t size = strlen(path);

    if (size >= PATH_MAX)
        return vv_fail_errno(ENAMETOOLONG, "make directory %.64s...", path);
    while (size > 1 && path[size - 1] == '/')
        size--;
    while (size > 0 && path[size - 1] != '/')
        size--;
    while (size > 1 && path[size - 1] == '/')
        size--;
    if (size == 0) {
        memcpy(parent, ".", 2);
        return VARVE_OK;
    }
    memcpy(parent, path, size);
    parent[size] = '\0';
    return VARVE_OK;
}

varve_status vv_dir_create(const struct vv_vfs *vfs, const char *path, bool *existed)
{
    varve_status rc = VARVE_OK;
    struct vv_dir dir = VV_DIR_NONE;
    char parent[PATH_MAX];

    TRY(parent_of(path, parent));
    const int number = mkdir_again_if_interrupted(vfs, AT_FDCWD, path);
    if (number == ENOENT)
        TRY(vv_fail(VARVE_NOT_FOUND, "make directory %s: there is no %s; make it first", path, parent));
    if (number != 0 && number != EEXIST)
        TRY(vv_fail_errno(number, "make directory %s", path));
    if (existed != NULL)
        *existed = number == EEXIST;
    if (number == EEXIST) {
        rc = vv_dir_open(vfs, path, &dir);
        if (rc == VARVE_NOT_FOUND)
            rc = vv_fail(VARVE_EXISTS, "make directory %s: something else has that name", path);
        if (rc != VARVE_OK)
            goto out;
        vv_dir_close(&dir);
    }
    /* The name of a directory that exists may be as new as a crash ago, so it is synced too; but where we
     * may not even read its parent, somebody else made it. */
    rc = vv_dir_open(vfs, parent, &dir);
    if (rc != VARVE_OK) {
        rc = number == EEXIST ? VARVE_OK : rc;
        goto out;
    }
    TRY(vv_dir_sync(&dir));
out:
    vv_dir_close(&dir);
    return rc;
}

varve_status vv_dir_create_at(const struct vv_dir *parent, const char *name)
{
    const int number = mkdir_again_if_interrupted(parent->vfs, parent->fd, name);

    return number == 0 || number == EEXIST ? VARVE_OK : vv_fail_errno(number, "make directory %s", name);
}

varve_status vv_dir_private(const struct vv_dir *dir)
{
    struct stat facts;

    if (fstat(dir->fd, &facts) != 0)
        return vv_fail_errno(errno, "look at a directory");
    if (facts.st_uid != geteuid() || (facts.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return vv_fail(VARVE_INVALID, "a directory that others can write into");
    return VARVE_OK;
}

varve_status vv_dir_sync(const struct vv_dir *dir)
{
    const int number = dir->vfs->sync_dir(dir->vfs, dir->fd);

    return number == 0 ? VARVE_OK : vv_fail_uncertain(number, "sync a directory");
}

varve_status vv_dir_each(const struct vv_dir *dir, vv_name_fn each, void *context)
{
    const int number = dir->vfs->list(dir->vfs, dir->fd, each, context);

    return number == 0 ? VARVE_OK : vv_fail_errno(number, "list a directory");
}

struct listing {
    struct vv_names *names;
    size_t room;
    varve_status rc;
};

static int list_name(void *context, const char *name)
{
    struct listing *listing = context;
    struct vv_names *names = listing->names;
    varve_status rc = VARVE_OK;

    if (names->count == listing->room) {
        const size_t room = 2 * listing->room + 16;
        TRY(vv_resize(&names->list, room, sizeof *names->list));
        listing->room = room;
    }
    TRY(vv_strdup(&names->list[names->count], name));
    names->count++;
out:
    listing->rc = rc;
    return rc != VARVE_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

varve_status vv_dir_names(const struct vv_dir *dir, struct vv_names *names)
{
    struct listing listing = { .names = names };
    varve_status rc = VARVE_OK;

    *names = VV_NAMES_NONE;
    TRY(vv_dir_each(dir, list_name, &listing));
    TRY(listing.rc);
    if (names->count > 1)
        qsort(names->list, names->count, sizeof *names->list, by_text);
out:
    if (rc != VARVE_OK)
        vv_names_release(names);
    return rc;
}

void vv_names_release(struct vv_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        vv_free(names->list[i]);
    vv_free(names->list);
    *names = VV_NAMES_NONE;
}

static int unlink_again_if_interrupted(const struct vv_dir *dir, const char *name)
{
    int number = 0;

    do
        number = dir->vfs->unlink(dir->vfs, dir->fd, name, false);
    while (number == EINTR);
    return number == ENOENT ? 0 : number;
}

varve_status vv_dir_unlink(const struct vv_dir *dir, const char *name)
{
    const int number = unlink_again_if_interrupted(dir, name);

    return number == 0 ? VARVE_OK : vv_fail_errno(number, "unlink %s", name);
}

varve_status vv_dir_remove(const struct vv_dir *dir, const char *name)
{
    int number = 0;

    do
        number = dir->vfs->unlink(dir->vfs, dir->fd, name, true);
    while (number == EINTR);
    return number == 0 || number == ENOENT ? VARVE_OK : vv_fail_errno(number, "remove directory %s", name);
}

varve_status vv_dir_link(const struct vv_dir *from_dir, const char *from, const struct vv_dir *to_dir,
                         const char *to)
{
    const struct vv_vfs *vfs = from_dir->vfs;
    int number = 0;

    do
        number = vfs->link(vfs, from_dir->fd, from, to_dir->fd, to);
    while (number == EINTR);
    switch (number) {
    case 0:
        return VARVE_OK;
    case ENOENT:
        return vv_fail(VARVE_NOT_FOUND, "%s: no such file", from);
    case EEXIST:
        return vv_fail(VARVE_EXISTS, "%s: the file exists already", to);
    case EMLINK:
    case EPERM:
    case EXDEV:
    case EOPNOTSUPP:
        return vv_fail(VARVE_UNSUPPORTED, "%s: can have no further name here", from);
    default:
        return vv_fail_errno(number, "link %s as %s", from, to);
    }
}

varve_status vv_dir_symlink(const struct vv_dir *dir, const char *name, const char *text)
{
    int number = 0;

    do
        number = dir->vfs->symlink(dir->vfs, text, dir->fd, name);
    while (number == EINTR);
    if (number == EEXIST)
        return vv_fail(VARVE_EXISTS, "%s: the file exists already", name);
    return number == 0 ? VARVE_OK : vv_fail_errno(number, "make the symbolic link %s", name);
}

varve_status vv_dir_readlink(const struct vv_dir *dir, const char *name, char *text, size_t size)
{
    const int number = dir->vfs->readlink(dir->vfs, dir->fd, name, text, size);

    if (number == ENOENT)
        return vv_fail(VARVE_NOT_FOUND, "%s: no such file", name);
    if (number == EINVAL || number == ENAMETOOLONG)
        return vv_fail(VARVE_CORRUPT, "%s: should be a symbolic link to a file of the store", name);
    return number == 0 ? VARVE_OK : vv_fail_errno(number, "read the symbolic link %s", name);
}

varve_status vv_dir_rename(const struct vv_dir *dir, const char *from, const char *to)
{
    const int number = dir->vfs->rename(dir->vfs, dir->fd, from, to, true);

    if (number == EIO || number == EINTR)
        return vv_fail_uncertain(number, "rename %s to %s", from, to); /* V3 */
    return number == 0 ? VARVE_OK : vv_fail_errno(number, "rename %s to %s", from, to);
}

void vv_dir_close(struct vv_dir *dir)
{
    if (dir->fd != -1)
        dir->vfs->close(dir->vfs, dir->fd);
    dir->fd = -1;
}

/* ---- Files ------------------------------------------------------------------------------------ */

varve_status vv_file_open(const struct vv_dir *dir, const char *name, unsigned flags, struct vv_file *file)
{
    VV_ASSERT((flags & VV_OPEN_DIRECTORY) == 0);
    *file = VV_FILE_NONE;
    file->vfs = dir->vfs;
    (void)snprintf(file->name, sizeof file->name, "%s", name);
    const int number = open_again_if_interrupted(dir->vfs, dir->fd, name, flags, &file->fd);
    switch (number) {
    case 0:
        return VARVE_OK;
    case ENOENT:
        return vv_fail(VARVE_NOT_FOUND, "%s: no such file", name);
    case EEXIST:
        return vv_fail(VARVE_EXISTS, "%s: the file exists already", name);
    case EISDIR: /* a directory */
    case ELOOP:  /* a symbolic link */
    case ENXIO:  /* a FIFO, a socket, a device */
        return vv_fail(VARVE_CORRUPT, "%s: should be a regular file and is something else", name);
    default:
        return vv_fail_errno(number, "open %s", name);
    }
}

void vv_file_close(struct vv_file *file)
{
    if (file->fd != -1)
        file->vfs->close(file->vfs, file->fd);
    file->fd = -1;
}

varve_status vv_file_read_some(const struct vv_file *file, void *data, size_t size, uint64_t offset,
                               size_t *got)
{
    uint8_t *to = data;

    *got = 0;
    while (*got < size) {
        size_t count = 0;
        const int number =
            file->vfs->read(file->vfs, file->fd, to + *got, size - *got, offset + *got, &count);
        if (number != 0 && number != EINTR)
            return vv_fail_errno(number, "read %s at %llu", file->name, (unsigned long long)(offset + *got));
        if (number == 0 && count == 0)
            break;
        *got += count;
    }
    return VARVE_OK;
}

varve_status vv_file_read(const struct vv_file *file, void *data, size_t size, uint64_t offset)
{
    size_t got = 0;
    const varve_status rc = vv_file_read_some(file, data, size, offset, &got);

    if (rc == VARVE_OK && got < size)
        return vv_fail(VARVE_CORRUPT, "%s: ends at %llu, where %zu more bytes should be", file->name,
                       (unsigned long long)(offset + got), size - got);
    return rc;
}

static varve_status refuse_when_poisoned(const struct vv_file *file)
{
    if (!file->poisoned)
        return VARVE_OK;
    return vv_fail(VARVE_UNCERTAIN,
                   "%s: a sync failed before, so nothing more is written; close the store and open it again",
                   file->name);
}

varve_status vv_file_write(struct vv_file *file, const void *data, size_t size, uint64_t offset)
{
    varve_status rc = VARVE_OK;
    const uint8_t *from = data;
    size_t done = 0;

    TRY(refuse_when_poisoned(file));
    while (done < size) {
        size_t count = 0;
        int number = file->vfs->write(file->vfs, file->fd, from + done, size - done, offset + done, &count);
        if (number == EINTR)
            continue;
        if (number == 0 && count == 0)
            number = EIO; /* a system that takes nothing and does not say why would be asked for ever */
        if (number != 0)
            TRY(vv_fail_errno(number, "write %s at %llu", file->name, (unsigned long long)(offset + done)));
        done += count;
    }
out:
    return rc;
}

static varve_status settle_sync(struct vv_file *file, int number)
{
    if (number == 0 || VV_PLANT("sync-error-ignored"))
        return VARVE_OK;
    file->poisoned = !VV_PLANT("poison-forgotten"); /* V1 */
    return vv_fail_uncertain(number, "sync %s", file->name);
}

varve_status vv_file_sync(struct vv_file *file)
{
    const varve_status rc = refuse_when_poisoned(file);

    if (rc == VARVE_OK && VV_PLANT("retry-sync") && file->vfs->sync(file->vfs, file->fd) == 0)
        return VARVE_OK; /* else it is asked again, which then says that all is well */
    return rc != VARVE_OK ? rc : settle_sync(file, file->vfs->sync(file->vfs, file->fd));
}

void vv_file_forget(const struct vv_file *file)
{
    file->vfs->forget(file->vfs, file->fd);
}

varve_status vv_file_sync_new(struct vv_file *file)
{
    const varve_status rc = refuse_when_poisoned(file);

    return rc != VARVE_OK ? rc : settle_sync(file, file->vfs->sync_dir(file->vfs, file->fd));
}

varve_status vv_file_truncate(struct vv_file *file, uint64_t size)
{
    varve_status rc = VARVE_OK;
    int number = 0;

    TRY(refuse_when_poisoned(file));
    do
        number = file->vfs->truncate(file->vfs, file->fd, size);
    while (number == EINTR);
    if (number != 0)
        TRY(vv_fail_errno(number, "set the length of %s to %llu", file->name, (unsigned long long)size));
out:
    return rc;
}

varve_status vv_file_allocate(struct vv_file *file, uint64_t offset, uint64_t size)
{
    varve_status rc = VARVE_OK;
    uint64_t length = 0;
    int number = 0;

    TRY(refuse_when_poisoned(file));
    do
        number = file->vfs->allocate(file->vfs, file->fd, offset, size);
    while (number == EINTR);
    if (number == EOPNOTSUPP) {
        TRY(vv_file_size(file, &length));
        if (length < offset + size)
            TRY(vv_file_truncate(file, offset + size));
    } else if (number != 0) {
        TRY(vv_fail_errno(number, "allocate %llu bytes of %s", (unsigned long long)size, file->name));
    }
out:
    return rc;
}

varve_status vv_file_punch(struct vv_file *file, uint64_t offset, uint64_t size)
{
    varve_status rc = VARVE_OK;
    int number = 0;

    TRY(refuse_when_poisoned(file));
    do
        number = file->vfs->punch(file->vfs, file->fd, offset, size);
    while (number == EINTR);
    if (number != 0 && number != EOPNOTSUPP)
        TRY(vv_fail_errno(number, "make a hole of %llu bytes in %s", (unsigned long long)size, file->name));
out:
    return rc;
}

static varve_status measure(const struct vv_file *file, uint64_t *size, uint64_t *allocated)
{
    uint64_t inode = 0;
    const int number = file->vfs->size(file->vfs, file->fd, size, allocated, &inode);

    return number == 0 ? VARVE_OK : vv_fail_errno(number, "ask for the size of %s", file->name);
}

varve_status vv_file_size(const struct vv_file *file, uint64_t *size)
{
    uint64_t allocated = 0;

    return measure(file, size, &allocated);
}

varve_status vv_file_allocated(const struct vv_file *file, uint64_t *bytes)
{
    uint64_t size = 0;

    return measure(file, &size, bytes);
}

varve_status vv_file_look(const struct vv_file *file, uint64_t *links, bool *frozen)
{
    uint64_t names = 0;
    bool cold = false;
    const int number = file->vfs->look(file->vfs, file->fd, &names, &cold);

    if (links != NULL)
        *links = names;
    if (frozen != NULL)
        *frozen = cold;
    return number == 0 ? VARVE_OK : vv_fail_errno(number, "look at %s", file->name);
}

varve_status vv_file_copy(const struct vv_file *from, struct vv_file *to)
{
    uint64_t size = 0;
    varve_status rc = VARVE_OK;

    TRY(vv_file_size(from, &size));
    const int number = to->vfs->copy(to->vfs, from->fd, to->fd, size);
    if (number != 0)
        rc = vv_fail_errno(number, "copy %s", from->name);
out:
    return rc;
}

varve_status vv_file_lock(struct vv_file *file, enum vv_lock_kind kind, uint64_t offset, uint64_t size,
                          uint32_t wait_ms)
{
    const uint64_t start = vv_clock_monotonic_ns();
    uint64_t pause = 1;
    int number = 0;
    int holder = 0;

    /* Asked again and again: waiting in the kernel (F_OFD_SETLKW) has no limit of time. */
    for (;;) {
        number = file->vfs->lock(file->vfs, file->fd, kind, offset, size, &holder);
        const uint64_t waited = (vv_clock_monotonic_ns() - start) / 1000000;
        if (number == EINTR)
            continue;
        if (number != EAGAIN || waited >= wait_ms)
            break;
        vv_clock_sleep_ms(pause < wait_ms - waited ? pause : wait_ms - waited);
        pause = pause < 32 ? pause * 2 : 50;
    }
    if (number == EAGAIN && holder > 0)
        return vv_fail(VARVE_BUSY, "%s: locked by process %d", file->name, holder);
    if (number == EAGAIN)
        return vv_fail(VARVE_BUSY, "%s: locked by another process, or by another handle in this one",
                       file->name);
    return number == 0 ? VARVE_OK : vv_fail_errno(number, "lock %s", file->name);
}

bool vv_file_is_locked(const struct vv_file *file, enum vv_lock_kind kind, uint64_t offset, uint64_t size)
{
    const enum vv_lock_kind ask = kind == VV_LOCK_SHARED ? VV_LOCK_ASK_SHARED : VV_LOCK_ASK_EXCLUSIVE;
    int holder = 0;
    int number = 0;

    do
        number = file->vfs->lock(file->vfs, file->fd, ask, offset, size, &holder);
    while (number == EINTR);
    return number != 0;
}

/* ---- Whole files ------------------------------------------------------------------------------ */

/* A file that has not got its name yet. The name it has is made from the final one, so that what a crash
 * leaves is found and overwritten by the next attempt, and there is never more than one. */
struct temp {
    const struct vv_dir *dir;
    struct vv_file file;
    char name[NAME_MAX + 1]; /* empty: there is nothing to unlink */
};
#define TEMP_NONE ((struct temp){ .file = VV_FILE_NONE })

static varve_status temp_create(const struct vv_dir *dir, const char *name, struct temp *temp)
{
    enum { FLAGS = VV_OPEN_WRITE | VV_OPEN_CREATE | VV_OPEN_EXCLUSIVE };
    char path[NAME_MAX + 1];
    varve_status rc = VARVE_OK;

    temp->dir = dir;
    const int length = snprintf(path, sizeof path, "%s.tmp", name);
    if (length < 0 || (size_t)length >= sizeof path)
        TRY(vv_fail_errno(ENAMETOOLONG, "make %.64s...", name));
    rc = vv_file_open(dir, path, FLAGS, &temp->file);
    if (rc == VARVE_EXISTS) { /* a crash left it */
        TRY(vv_dir_unlink(dir, path));
        TRY(vv_file_open(dir, path, FLAGS, &temp->file));
    }
    if (rc == VARVE_OK)
        memcpy(temp->name, path, sizeof path);
out:
    return rc;
}

static varve_status temp_publish(struct temp *temp, const char *name)
{
    const varve_status rc = vv_dir_rename(temp->dir, temp->name, name);

    if (rc == VARVE_OK)
        temp->name[0] = '\0';
    return rc;
}

static void temp_discard(struct temp *temp)
{
    vv_file_close(&temp->file);
    if (temp->name[0] != '\0')
        (void)unlink_again_if_interrupted(temp->dir, temp->name);
}

varve_status vv_dir_publish(const struct vv_dir *dir, const char *name, const void *data, size_t size)
{
    varve_status rc = VARVE_OK;
    struct temp temp = TEMP_NONE;

    VV_ASSERT(is_one_component(name));

    TRY(temp_create(dir, name, &temp));
    TRY(vv_file_write(&temp.file, data, size, 0));
    if (!VV_PLANT("rename-before-sync"))
        TRY(vv_file_sync_new(&temp.file)); /* the bytes, before their name */
    TRY(temp_publish(&temp, name));        /* the rename is the commit */
    if (VV_PLANT("rename-before-sync"))
        TRY(vv_file_sync_new(&temp.file));
    TRY(vv_dir_sync(dir)); /* the name, before we promise it */
out:
    temp_discard(&temp);
    return rc;
}

varve_status vv_dir_read(const struct vv_dir *dir, const char *name, size_t limit, uint8_t **data,
                         size_t *size)
{
    varve_status rc = VARVE_OK;
    struct vv_file file = VV_FILE_NONE;
    uint8_t *bytes = NULL;
    uint64_t length = 0;

    *data = NULL;
    *size = 0;
    TRY(vv_file_open(dir, name, VV_OPEN_READ, &file));
    TRY(vv_file_size(&file, &length));
    if (length > limit)
        TRY(vv_fail(VARVE_CORRUPT, "%s: %llu bytes long, where at most %zu can be", name,
                    (unsigned long long)length, limit));
    TRY(vv_alloc(&bytes, (size_t)length, 1));
    TRY(vv_file_read(&file, bytes, (size_t)length, 0));
    *data = bytes;
    *size = (size_t)length;
    bytes = NULL;
out:
    vv_free(bytes);
    vv_file_close(&file);
    return rc;
}
