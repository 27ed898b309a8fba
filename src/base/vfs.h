/* vfs.h - the only way to a file: one table of functions, which tests replace to fail, record or kill.
 *
 * Two floors in one header. The *table* (struct vv_vfs) is the system as it is: raw calls that answer an
 * errno. What stands on it (struct vv_dir, struct vv_file) knows EINTR and short writes, turns an errno into
 * a status with words, and keeps the law of the failed sync: it is never retried, and everything that the
 * handle is asked to write from then on is refused with UNCERTAIN (docs/design.md, P4).
 *
 * A directory handle never leads out of its directory: names are opened beneath it, no symbolic link is
 * followed, and only regular files and directories are opened. */
#ifndef VV_VFS_H
#define VV_VFS_H

#include "base/error.h"

enum vv_open_flags {
    VV_OPEN_READ = 0,
    VV_OPEN_WRITE = 1 << 0,
    VV_OPEN_CREATE = 1 << 1,    /* make it when absent, mode 0600 */
    VV_OPEN_EXCLUSIVE = 1 << 2, /* with CREATE: it must be absent */
    VV_OPEN_DIRECTORY = 1 << 3,
    VV_OPEN_DIRECT = 1 << 4, /* O_DIRECT | O_DSYNC, for the bench and for layouts that ask */
    VV_OPEN_FROZEN = 1 << 5  /* with CREATE: mode 0444, so that nobody writes into it after this handle */
};

enum vv_lock_kind {
    VV_LOCK_SHARED,
    VV_LOCK_EXCLUSIVE,
    VV_LOCK_RELEASE,
    VV_LOCK_ASK_SHARED, /* take nothing, but tell whether such a lock would be refused */
    VV_LOCK_ASK_EXCLUSIVE
};

/* Called once per name in a directory, "." and ".." left out. Not 0: stop. */
typedef int (*vv_name_fn)(void *context, const char *name);

/* The raw calls. Each returns 0 or an errno; counts and descriptors come back through pointers. `self` is the
 * table itself, so that a double finds its own state around it. The calls that change what is on disk are
 * marked (W): they are what a fault or kill sweep counts.
 *
 * `dir` is a directory's descriptor and `name` one component in it; anything else is EINVAL. With AT_FDCWD for
 * `dir`, open, mkdir and unlink take any path: that is how a store is reached from outside. What is opened
 * without DIRECTORY is a regular file: EISDIR, ELOOP (a symbolic link) and ENXIO say that it is not. */
struct vv_vfs {
    int (*open)(const struct vv_vfs *self, int dir, const char *name, unsigned flags, int *fd); /* (W) with CREATE */
    void (*close)(const struct vv_vfs *self, int fd);
    int (*read)(const struct vv_vfs *self, int fd, void *data, size_t size, uint64_t offset, size_t *got);
    int (*write)(const struct vv_vfs *self, int fd, const void *data, size_t size, uint64_t offset,
                 size_t *put);                                                              /* (W) */
    int (*sync)(const struct vv_vfs *self, int fd);      /* (W) fdatasync */
    int (*sync_dir)(const struct vv_vfs *self, int fd);  /* (W) fsync of a directory, or of a file whose name is new */
    int (*allocate)(const struct vv_vfs *self, int fd, uint64_t offset, uint64_t size);      /* (W) */
    int (*truncate)(const struct vv_vfs *self, int fd, uint64_t size);                       /* (W) */
    int (*punch)(const struct vv_vfs *self, int fd, uint64_t offset, uint64_t size);         /* (W) a hole: zeros */
    int (*size)(const struct vv_vfs *self, int fd, uint64_t *size, uint64_t *allocated, uint64_t *inode);
    /* How many names the file has, and whether it was made FROZEN. */
    int (*look)(const struct vv_vfs *self, int fd, uint64_t *links, bool *frozen);
    /* All `size` bytes of a file into another, which is empty: shared with it where the file system can, and holes stay
     * holes. (W) */
    int (*copy)(const struct vv_vfs *self, int from, int to, uint64_t size);
    int (*mkdir)(const struct vv_vfs *self, int dir, const char *name);                      /* (W) */
    int (*rename)(const struct vv_vfs *self, int dir, const char *from, const char *to, bool replace); /* (W) */
    int (*unlink)(const struct vv_vfs *self, int dir, const char *name, bool directory);     /* (W) */
    /* A second name for a file. */
    int (*link)(const struct vv_vfs *self, int from_dir, const char *from, int to_dir, const char *to);   /* (W) */
    /* A symbolic link with this text, and the text of one: its meaning is the reader's, the system never follows it.
     * readlink puts at most `size` bytes and ends them with a NUL; a longer text is ENAMETOOLONG. */
    int (*symlink)(const struct vv_vfs *self, const char *text, int dir, const char *name);  /* (W) */
    int (*readlink)(const struct vv_vfs *self, int dir, const char *name, char *text, size_t size);
    int (*list)(const struct vv_vfs *self, int dir, vv_name_fn each, void *context);
    /* What the system remembers of a file and has not yet to write is dropped, so that it is read from the disk. */
    void (*forget)(const struct vv_vfs *self, int fd);
    /* An open-file-description lock on `size` bytes at `offset` (size 0: to the end). EAGAIN: held by
     * another, whose process id comes back in `holder` when the system tells it (0: unknown). */
    int (*lock)(const struct vv_vfs *self, int fd, enum vv_lock_kind kind, uint64_t offset, uint64_t size,
                int *holder);
};

/* The system's own calls. */
extern const struct vv_vfs vv_vfs_system;

/* ---- Files and directories -------------------------------------------------------------------- */

struct vv_dir {
    const struct vv_vfs *vfs;
    int fd; /* -1: not open */
};
struct vv_file {
    const struct vv_vfs *vfs;
    int fd;        /* -1: not open */
    bool poisoned; /* a sync failed: nothing is written any more */
    char name[160]; /* for words: relative to the store */
};
#define VV_DIR_NONE ((struct vv_dir){ .fd = -1 })
#define VV_FILE_NONE ((struct vv_file){ .fd = -1 })

/* Open a directory by any path; beneath another. VARVE_NOT_FOUND when absent. */
varve_status vv_dir_open(const struct vv_vfs *vfs, const char *path, struct vv_dir *dir);
varve_status vv_dir_open_at(const struct vv_dir *parent, const char *name, struct vv_dir *dir);
/* Make directory `path` (its parent must exist) durably; existing is fine and told by `existed` (may be NULL). */
varve_status vv_dir_create(const struct vv_vfs *vfs, const char *path, bool *existed);
varve_status vv_dir_create_at(const struct vv_dir *parent, const char *name); /* existing is fine; not synced */
varve_status vv_dir_sync(const struct vv_dir *dir); /* VARVE_UNCERTAIN on failure */
varve_status vv_dir_each(const struct vv_dir *dir, vv_name_fn each, void *context);
/* All of them, sorted, for who changes the directory on the way; end with vv_names_release. On failure there are none. */
struct vv_names {
    char **list;
    size_t count;
};
#define VV_NAMES_NONE ((struct vv_names){ .list = NULL })
varve_status vv_dir_names(const struct vv_dir *dir, struct vv_names *names);
void vv_names_release(struct vv_names *names);
/* INVALID unless the directory is this user's own and nobody else may write into it. */
varve_status vv_dir_private(const struct vv_dir *dir);
varve_status vv_dir_unlink(const struct vv_dir *dir, const char *name); /* absent is fine */
/* The same for an empty directory. */
varve_status vv_dir_remove(const struct vv_dir *dir, const char *name);
/* A second name for a file, not synced; NOT_FOUND, EXISTS. UNSUPPORTED: the file has as many as it can have, or the
 * file system knows no links: copy. */
varve_status vv_dir_link(const struct vv_dir *from_dir, const char *from, const struct vv_dir *to_dir,
                         const char *to);
/* A symbolic link that is only ever read: made, and what it says (NOT_FOUND; CORRUPT when it is something else, or
 * longer than `size` - 1). Not synced; EXISTS. */
varve_status vv_dir_symlink(const struct vv_dir *dir, const char *name, const char *text);
varve_status vv_dir_readlink(const struct vv_dir *dir, const char *name, char *text, size_t size);
/* What had the name `to` goes. VARVE_UNCERTAIN: nobody knows which of the two it names. Not synced. */
varve_status vv_dir_rename(const struct vv_dir *dir, const char *from, const char *to);
void vv_dir_close(struct vv_dir *dir);

/* VARVE_NOT_FOUND when absent, VARVE_EXISTS with EXCLUSIVE when not, VARVE_CORRUPT when it is no regular file. */
varve_status vv_file_open(const struct vv_dir *dir, const char *name, unsigned flags, struct vv_file *file);
void vv_file_close(struct vv_file *file);

/* All of `size` bytes at `offset`; less is there: VARVE_CORRUPT (for `_some`: `got` tells, END of file is no error). */
varve_status vv_file_read(const struct vv_file *file, void *data, size_t size, uint64_t offset);
varve_status vv_file_read_some(const struct vv_file *file, void *data, size_t size, uint64_t offset, size_t *got);
/* All of it, or a failure: then any part of it may have been written. */
varve_status vv_file_write(struct vv_file *file, const void *data, size_t size, uint64_t offset);
/* On failure VARVE_UNCERTAIN, and the file is poisoned. */
varve_status vv_file_sync(struct vv_file *file);
varve_status vv_file_sync_new(struct vv_file *file); /* the same with fsync: length and inode too */
/* Let the next read come from the disk: after a sync that failed the system shows what was written and is lost. */
void vv_file_forget(const struct vv_file *file);
/* Where the system cannot reserve space, the file is only made longer. */
varve_status vv_file_allocate(struct vv_file *file, uint64_t offset, uint64_t size);
varve_status vv_file_truncate(struct vv_file *file, uint64_t size);
/* Give back the space of a range, which reads as zeros then. Where the system cannot, nothing is done. */
varve_status vv_file_punch(struct vv_file *file, uint64_t offset, uint64_t size);
varve_status vv_file_size(const struct vv_file *file, uint64_t *size);
/* How many names it has, and whether it was made FROZEN; either may be NULL. */
varve_status vv_file_look(const struct vv_file *file, uint64_t *links, bool *frozen);
varve_status vv_file_copy(const struct vv_file *from, struct vv_file *to); /* `to` is empty; not synced */
varve_status vv_file_allocated(const struct vv_file *file, uint64_t *bytes);
/* Lock a byte range; VARVE_BUSY names the holder. Waits up to `wait_ms`. The lock goes with the file. */
varve_status vv_file_lock(struct vv_file *file, enum vv_lock_kind kind, uint64_t offset, uint64_t size,
                          uint32_t wait_ms);

/* Would such a lock be refused now? Takes nothing. A system that cannot tell: yes. */
bool vv_file_is_locked(const struct vv_file *file, enum vv_lock_kind kind, uint64_t offset, uint64_t size);

/* Put `data` under `name` in `dir`: a crash leaves the old file or the new one. On VARVE_OK the new file is
 * durable. On failure `name` holds the old bytes or the new ones, never a mix, and no temporary stays behind
 * ("NAME.tmp"; one that a crash left is overwritten). VARVE_UNCERTAIN: a sync failed, or the rename did so that
 * nobody knows which of the two it is; all else: the old ones. */
varve_status vv_dir_publish(const struct vv_dir *dir, const char *name, const void *data, size_t size);

/* The whole of a file of at most `limit` bytes; the caller frees. Larger: VARVE_CORRUPT. */
varve_status vv_dir_read(const struct vv_dir *dir, const char *name, size_t limit, uint8_t **data, size_t *size);

#endif
