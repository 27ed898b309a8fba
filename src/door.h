/* door.h - what every public function does with what it is given; shared by the door's parts. */
#ifndef VV_DOOR_H
#define VV_DOOR_H

#include <string.h>

#include "store/session.h"

enum { VV_DOOR_OPTIONS_MAX = 4096 }; /* bytes of an options struct: none from any future comes near */

static inline varve_status vv_door_need(const void *pointer, const char *what)
{
    return pointer != NULL ? VARVE_OK : vv_fail(VARVE_MISUSE, "%s is NULL", what);
}

static inline varve_status vv_door_flags(uint64_t flags, uint64_t known, const char *what)
{
    if ((flags & ~known) == 0)
        return VARVE_OK;
    return vv_fail(VARVE_MISUSE, "%s has flags that this library does not know: 0x%llx", what,
                   (unsigned long long)(flags & ~known));
}

/* Copy the caller's struct, of whatever age, into ours of `size` bytes, which are zero; NULL leaves them so. Every
 * such struct begins with its size. */
static inline varve_status vv_door_options(void *ours, size_t size, const void *theirs, const char *what)
{
    size_t given = 0;

    memcpy(ours, &size, sizeof size);
    if (theirs == NULL)
        return VARVE_OK;
    memcpy(&given, theirs, sizeof given);
    if (given < sizeof given || given > VV_DOOR_OPTIONS_MAX)
        return vv_fail(VARVE_MISUSE, "%s: its size is %zu: set it with VARVE_INIT", what, given);
    for (size_t i = size; i < given; i++) {
        if (((const uint8_t *)theirs)[i] != 0)
            return vv_fail(VARVE_MISUSE, "%s has fields that this library does not know: it is too old",
                           what);
    }
    memcpy(ours, theirs, given < size ? given : size);
    memcpy(ours, &size, sizeof size);
    return VARVE_OK;
}

/* Every call on a session begins with `enter` and ends with `leave`; `inside` says that there is something to leave. */
static inline varve_status vv_door_enter(varve_session *session, bool *inside)
{
    const varve_status rc = session == NULL ? vv_door_need(session, "session") : vv_session_lock(session);

    *inside = rc == VARVE_OK;
    return rc;
}

static inline varve_status vv_door_leave(varve_session *session, bool inside, varve_error *error,
                                         varve_status rc)
{
    if (inside)
        vv_session_unlock(session);
    return vv_error_deliver(error, rc);
}

/* Give a session that has just begun the VM of its options. UNSUPPORTED in a build without one. */
varve_status vv_door_attach(varve_session *session, const varve_session_options *options);

#endif
