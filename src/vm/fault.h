/* fault.h - an I/O error under a guest's memory: a trap, not the end of the process.
 *
 * Memory may be a mapping of a file, and a page of it that cannot be read (a bad sector, a file that somebody cut)
 * raises SIGBUS in whoever touches it. Between enter and leave, on that thread, such a page within the range becomes
 * zeros, so that the guest runs on; it is remembered, and the caller is to end the guest and to use nothing of what it
 * did. Everywhere else SIGBUS goes on to whoever had it before, as a rule the end of the process.
 *
 * The handler is installed once per process and stays: one that an embedder installs later must pass on what it does
 * not know. Wasmtime's own (SIGSEGV, and SIGBUS on some machines) are left as they are, and called. */
#ifndef VV_FAULT_H
#define VV_FAULT_H

#include <signal.h>

#include "base/error.h"

struct vv_fault {
    uint8_t *bytes;
    size_t size;
    void (*stop)(void *context); /* called by the handler: what may be called there */
    void *context;
    volatile sig_atomic_t hit; /* a page was lost; only set, never cleared, between enter and leave */
    size_t volatile offset;    /* where */
    struct vv_fault *outer;    /* of this thread */
};

varve_status vv_fault_install(void);
/* Its fields but the last three are set. Enter and leave nest as calls do. */
void vv_fault_enter(struct vv_fault *fault);
void vv_fault_leave(struct vv_fault *fault);

#endif
