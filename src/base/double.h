/* double.h - tables that stand in for the system: they fail, kill or record at the n-th changing call.
 *
 * Part of the library's sources, linked into tests only. A double wraps another table and counts the calls
 * marked (W) in vfs.h, from 1, in the order in which they are made, over all threads. */
#ifndef VV_DOUBLE_H
#define VV_DOUBLE_H

#include "base/vfs.h"

enum vv_double_call {
    VV_CALL_CREATE, VV_CALL_WRITE, VV_CALL_SYNC, VV_CALL_SYNC_DIR, VV_CALL_ALLOCATE, VV_CALL_TRUNCATE, VV_CALL_PUNCH,
    VV_CALL_MKDIR, VV_CALL_RENAME, VV_CALL_UNLINK, VV_CALL_LINK, VV_CALL_SYMLINK, VV_CALL_COPY,
    VV_CALL_COUNT
};
enum vv_double_mode {
    VV_DOUBLE_PASS,  /* only count */
    VV_DOUBLE_FAIL,  /* the nth call answers `number` and changes nothing */
    VV_DOUBLE_STICK, /* the nth and all later ones */
    VV_DOUBLE_SHORT, /* the nth, when a write: half of it is written and told as written */
    VV_DOUBLE_HALF,  /* the nth, when a write: half is written, then `number` */
    VV_DOUBLE_KILL,  /* the process dies by SIGKILL before the nth call */
    VV_DOUBLE_TORN   /* when a write: half is written, then the process dies; else as KILL */
};
/* One call as it was made; lent to the recorder. */
struct vv_double_event {
    enum vv_double_call call;
    int fd, dir, to_dir;
    const char *name, *to; /* `to`: the new name; of a symbolic link its text */
    const void *data;
    size_t size;
    uint64_t offset;
    int result; /* the errno answered */
};
struct vv_double {
    struct vv_vfs table; /* pass &double.table where a vfs is wanted */
    const struct vv_vfs *inner;
    enum vv_double_mode mode;
    unsigned nth;        /* 0: never */
    int number;          /* errno to answer */
    unsigned _Atomic count;
    bool _Atomic fired;
    enum vv_double_call _Atomic fired_call;
    void (*record)(void *context, const struct vv_double_event *event);
    void *context;
};
void vv_double_init(struct vv_double *d, const struct vv_vfs *inner);
void vv_double_arm(struct vv_double *d, enum vv_double_mode mode, unsigned nth, int number); /* counts from 0 again */
bool vv_double_fired(const struct vv_double *d);
const char *vv_double_call_name(enum vv_double_call call);

#endif
