/* wasi.h - WASI preview 1, the part of it that is the same everywhere and every time.
 *
 * The clock answers the session's time and stands still. Chance is the session's stream, undone with the call.
 * Arguments and environment were recorded at deploy. There are no files: 0 is at its end, 1 and 2 go to the session's
 * output, all else is a bad descriptor. proc_exit ends the call, with 0 as a success.
 * A call that handles bytes costs one gas for each, so that gas bounds the host's work too.
 * A signature other than the one of the standard refuses the module. */
#ifndef VV_WASI_H
#define VV_WASI_H

#include "vm/guest.h"

/* One of our answers: a name, what it takes and gives, and what it does. */
struct vv_builtin {
    const char *name, *signature;
    vv_outside_fn call;
};
/* The entry for `name`, or NULL. */
const struct vv_builtin *vv_builtin_find(const struct vv_builtin *list, size_t count,
                                         const struct vv_text *name);
/* REFUSED unless the import has the builtin's signature. */
varve_status vv_builtin_check(const struct vv_builtin *builtin, const struct vv_plan_import *import);

varve_status vv_wasi_answer(const struct vv_plan_import *import, struct vv_answer *answer);

#endif
