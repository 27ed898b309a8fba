/* process.h - a child that is forked to do one thing with memory as it is now, and says when it is done.
 *
 * It holds copies of the parent's private memory and of the descriptors that it is told to keep; the others it closes,
 * so that no lock of the parent's outlives the parent in it. It may call only what is safe after a fork of a process
 * with threads: no allocation, no locks, no words. */
#ifndef VV_PROCESS_H
#define VV_PROCESS_H

#include <sys/types.h>

#include "base/error.h"

struct vv_child {
    pid_t pid; /* 0: none */
    int done;  /* a pipe that holds a byte when the child has succeeded */
};
#define VV_CHILD_NONE ((struct vv_child){ .pid = 0, .done = -1 })

enum { VV_CHILD_KEEP = 64 }; /* descriptors it may keep */
/* `run` in a child, which ends with it; true: it succeeded. */
varve_status vv_child_start(struct vv_child *child, bool (*run)(void *context), void *context,
                            const int *keep, size_t keep_count);
/* Has it ended? Then it is gone, and `succeeded` says how. `wait`: until it has. */
bool vv_child_ended(struct vv_child *child, bool wait, bool *succeeded);
void vv_child_kill(struct vv_child *child); /* VV_CHILD_NONE is fine */

#endif
