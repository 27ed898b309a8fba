/* double.c - see double.h. Every (W) call asks `judge` what shall happen to it, and nothing else here
 * decides. */
#include "base/double.h"

#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

/* The table is the first member, and tables are const to those who call through them only. */
static struct vv_double *double_of(const struct vv_vfs *self)
{
    return (struct vv_double *)(uintptr_t)self;
}

static _Noreturn void die(void)
{
    (void)kill(getpid(), SIGKILL);
    for (;;)
        (void)pause(); /* the signal is on its way */
}

/* What is to become of this call: go on and do it (0), or answer this errno. For a write, `size` comes back
 * as the bytes to be really written; `die_after`: and then no more. Kills are done here. */
struct verdict {
    int number;
    size_t size;
    bool die_after;
};

static struct verdict judge(struct vv_double *d, enum vv_double_call call, size_t size)
{
    struct verdict verdict = { .size = size };
    const unsigned count = atomic_fetch_add(&d->count, 1) + 1;
    const bool due = d->nth != 0 && (count == d->nth || (d->mode == VV_DOUBLE_STICK && count > d->nth));
    const bool is_write = call == VV_CALL_WRITE;

    if (!due || d->mode == VV_DOUBLE_PASS)
        return verdict;
    if ((d->mode == VV_DOUBLE_SHORT || d->mode == VV_DOUBLE_HALF) && !is_write)
        return verdict;
    if (!atomic_exchange(&d->fired, true))
        d->fired_call = call;
    switch (d->mode) {
    case VV_DOUBLE_FAIL:
    case VV_DOUBLE_STICK:
        verdict.number = d->number;
        verdict.size = 0;
        break;
    case VV_DOUBLE_SHORT:
        verdict.size = size - size / 2; /* never nothing: a count of 0 would be a failure */
        break;
    case VV_DOUBLE_HALF:
        verdict.number = d->number;
        verdict.size = size / 2;
        break;
    case VV_DOUBLE_TORN:
        if (!is_write)
            die();
        verdict.size = size / 2;
        verdict.die_after = true;
        break;
    case VV_DOUBLE_KILL:
        die();
    case VV_DOUBLE_PASS:
        break;
    }
    return verdict;
}

static int tell(struct vv_double *d, struct vv_double_event event, int result)
{
    event.result = result;
    if (d->record != NULL)
        d->record(d->context, &event);
    return result;
}

static int double_open(const struct vv_vfs *self, int dir, const char *name, unsigned flags, int *fd)
{
    struct vv_double *d = double_of(self);
    struct vv_double_event event = { .call = VV_CALL_CREATE, .fd = -1, .dir = dir, .name = name };

    *fd = -1;
    if ((flags & VV_OPEN_CREATE) == 0)
        return d->inner->open(d->inner, dir, name, flags, fd);
    int number = judge(d, VV_CALL_CREATE, 0).number;
    if (number == 0)
        number = d->inner->open(d->inner, dir, name, flags, fd);
    event.fd = *fd;
    return tell(d, event, number);
}

static void double_close(const struct vv_vfs *self, int fd)
{
    const struct vv_vfs *inner = double_of(self)->inner;

    inner->close(inner, fd);
}

static int double_read(const struct vv_vfs *self, int fd, void *data, size_t size, uint64_t offset,
                       size_t *got)
{
    const struct vv_vfs *inner = double_of(self)->inner;

    return inner->read(inner, fd, data, size, offset, got);
}

static int double_write(const struct vv_vfs *self, int fd, const void *data, size_t size, uint64_t offset,
                        size_t *put)
{
    struct vv_double *d = double_of(self);
    struct vv_double_event event = {
        .call = VV_CALL_WRITE, .fd = fd, .dir = -1, .data = data, .offset = offset
    };
    const struct verdict verdict = judge(d, VV_CALL_WRITE, size);

    *put = 0;
    int number = 0;
    if (verdict.size > 0 || verdict.number == 0)
        number = d->inner->write(d->inner, fd, data, verdict.size, offset, put);
    if (verdict.die_after)
        die();
    event.size = *put; /* as much as reached the file, whatever the caller is told */
    if (verdict.number != 0) {
        *put = 0;
        number = verdict.number;
    }
    return tell(d, event, number);
}

static int double_sync(const struct vv_vfs *self, int fd)
{
    struct vv_double *d = double_of(self);
    const int number = judge(d, VV_CALL_SYNC, 0).number;

    return tell(d, (struct vv_double_event){ .call = VV_CALL_SYNC, .fd = fd, .dir = -1 },
                number != 0 ? number : d->inner->sync(d->inner, fd));
}

static int double_sync_dir(const struct vv_vfs *self, int fd)
{
    struct vv_double *d = double_of(self);
    const int number = judge(d, VV_CALL_SYNC_DIR, 0).number;

    return tell(d, (struct vv_double_event){ .call = VV_CALL_SYNC_DIR, .fd = fd, .dir = -1 },
                number != 0 ? number : d->inner->sync_dir(d->inner, fd));
}

static int double_allocate(const struct vv_vfs *self, int fd, uint64_t offset, uint64_t size)
{
    struct vv_double *d = double_of(self);
    const struct vv_double_event event = {
        .call = VV_CALL_ALLOCATE, .fd = fd, .dir = -1, .offset = offset, .size = (size_t)size
    };
    const int number = judge(d, VV_CALL_ALLOCATE, 0).number;

    return tell(d, event, number != 0 ? number : d->inner->allocate(d->inner, fd, offset, size));
}

static int double_truncate(const struct vv_vfs *self, int fd, uint64_t size)
{
    struct vv_double *d = double_of(self);
    const struct vv_double_event event = {
        .call = VV_CALL_TRUNCATE, .fd = fd, .dir = -1, .size = (size_t)size
    };
    const int number = judge(d, VV_CALL_TRUNCATE, 0).number;

    return tell(d, event, number != 0 ? number : d->inner->truncate(d->inner, fd, size));
}

static int double_punch(const struct vv_vfs *self, int fd, uint64_t offset, uint64_t size)
{
    struct vv_double *d = double_of(self);
    const struct vv_double_event event = {
        .call = VV_CALL_PUNCH, .fd = fd, .dir = -1, .offset = offset, .size = (size_t)size
    };
    const int number = judge(d, VV_CALL_PUNCH, 0).number;

    return tell(d, event, number != 0 ? number : d->inner->punch(d->inner, fd, offset, size));
}

static int double_size(const struct vv_vfs *self, int fd, uint64_t *size, uint64_t *allocated,
                       uint64_t *inode)
{
    const struct vv_vfs *inner = double_of(self)->inner;

    return inner->size(inner, fd, size, allocated, inode);
}

static int double_look(const struct vv_vfs *self, int fd, uint64_t *links, bool *frozen)
{
    const struct vv_vfs *inner = double_of(self)->inner;

    return inner->look(inner, fd, links, frozen);
}

static int double_copy(const struct vv_vfs *self, int from, int to, uint64_t size)
{
    struct vv_double *d = double_of(self);
    const struct vv_double_event event = { .call = VV_CALL_COPY, .fd = to, .dir = -1, .size = (size_t)size };
    const int number = judge(d, VV_CALL_COPY, 0).number;

    return tell(d, event, number != 0 ? number : d->inner->copy(d->inner, from, to, size));
}

static int double_mkdir(const struct vv_vfs *self, int dir, const char *name)
{
    struct vv_double *d = double_of(self);
    const struct vv_double_event event = { .call = VV_CALL_MKDIR, .fd = -1, .dir = dir, .name = name };
    const int number = judge(d, VV_CALL_MKDIR, 0).number;

    return tell(d, event, number != 0 ? number : d->inner->mkdir(d->inner, dir, name));
}

static int double_rename(const struct vv_vfs *self, int dir, const char *from, const char *to, bool replace)
{
    struct vv_double *d = double_of(self);
    const struct vv_double_event event = {
        .call = VV_CALL_RENAME, .fd = -1, .dir = dir, .name = from, .to = to
    };
    const int number = judge(d, VV_CALL_RENAME, 0).number;

    return tell(d, event, number != 0 ? number : d->inner->rename(d->inner, dir, from, to, replace));
}

static int double_unlink(const struct vv_vfs *self, int dir, const char *name, bool directory)
{
    struct vv_double *d = double_of(self);
    const struct vv_double_event event = { .call = VV_CALL_UNLINK, .fd = -1, .dir = dir, .name = name };
    const int number = judge(d, VV_CALL_UNLINK, 0).number;

    return tell(d, event, number != 0 ? number : d->inner->unlink(d->inner, dir, name, directory));
}

static int double_link(const struct vv_vfs *self, int from_dir, const char *from, int to_dir, const char *to)
{
    struct vv_double *d = double_of(self);
    const struct vv_double_event event = {
        .call = VV_CALL_LINK, .fd = -1, .dir = from_dir, .name = from, .to_dir = to_dir, .to = to
    };
    const int number = judge(d, VV_CALL_LINK, 0).number;

    return tell(d, event, number != 0 ? number : d->inner->link(d->inner, from_dir, from, to_dir, to));
}

static int double_symlink(const struct vv_vfs *self, const char *text, int dir, const char *name)
{
    struct vv_double *d = double_of(self);
    const struct vv_double_event event = {
        .call = VV_CALL_SYMLINK, .fd = -1, .dir = dir, .name = name, .to = text
    };
    const int number = judge(d, VV_CALL_SYMLINK, 0).number;

    return tell(d, event, number != 0 ? number : d->inner->symlink(d->inner, text, dir, name));
}

static int double_readlink(const struct vv_vfs *self, int dir, const char *name, char *text, size_t size)
{
    const struct vv_vfs *inner = double_of(self)->inner;

    return inner->readlink(inner, dir, name, text, size);
}

static int double_list(const struct vv_vfs *self, int dir, vv_name_fn each, void *context)
{
    const struct vv_vfs *inner = double_of(self)->inner;

    return inner->list(inner, dir, each, context);
}

static int double_lock(const struct vv_vfs *self, int fd, enum vv_lock_kind kind, uint64_t offset,
                       uint64_t size, int *holder)
{
    const struct vv_vfs *inner = double_of(self)->inner;

    return inner->lock(inner, fd, kind, offset, size, holder);
}

static void double_forget(const struct vv_vfs *self, int fd)
{
    struct vv_double *d = double_of(self);

    d->inner->forget(d->inner, fd);
}

void vv_double_init(struct vv_double *d, const struct vv_vfs *inner)
{
    *d = (struct vv_double){
        .table = {
            .open = double_open,
            .close = double_close,
            .read = double_read,
            .write = double_write,
            .sync = double_sync,
            .sync_dir = double_sync_dir,
            .allocate = double_allocate,
            .truncate = double_truncate,
            .punch = double_punch,
            .size = double_size,
            .look = double_look,
            .copy = double_copy,
            .mkdir = double_mkdir,
            .rename = double_rename,
            .unlink = double_unlink,
            .link = double_link,
            .symlink = double_symlink,
            .readlink = double_readlink,
            .list = double_list,
            .forget = double_forget,
            .lock = double_lock,
        },
        .inner = inner,
        .mode = VV_DOUBLE_PASS,
    };
}

void vv_double_arm(struct vv_double *d, enum vv_double_mode mode, unsigned nth, int number)
{
    d->mode = mode;
    d->nth = nth;
    d->number = number;
    d->fired_call = VV_CALL_COUNT;
    d->fired = false;
    d->count = 0;
}

bool vv_double_fired(const struct vv_double *d)
{
    return d->fired;
}

const char *vv_double_call_name(enum vv_double_call call)
{
    static const char *const names[] = { "create", "write", "sync",   "sync_dir", "allocate", "truncate",
                                         "punch",  "mkdir", "rename", "unlink",   "link",     "symlink",
                                         "copy" };

    return call < VV_CALL_COUNT ? names[call] : "none";
}
