/* extra.h - the VM's part of a module's descriptor (vv_module.extra): how it was deployed.
 *
 * Nothing when all is default; else format (1), flags (1: imports that nobody answers trap; 2: values follow),
 * arguments, environment: each list a count and its texts, with their sizes. Then, with the flag, the count of values
 * for imported globals, not 0, and of each the module, the name, the type (one byte) and 16 bytes, those that the type
 * does not use zero. All counts and sizes are varints. */
#ifndef VV_EXTRA_H
#define VV_EXTRA_H

#include "vm/rewrite.h"

enum { VV_EXTRA_MAX = 65536, VV_EXTRA_TEXTS_MAX = 4096 /* and values */ };

struct vv_extra {
    bool trap_missing;
    char **args, **env; /* owned */
    size_t arg_count, env_count;
    struct vv_import_value *values; /* owned, with their texts */
    size_t value_count;
};
/* MISUSE when it has no room. */
varve_status vv_extra_encode(bool trap_missing, const char *const *args, const char *const *env,
                             const struct vv_import_value *values, size_t value_count, struct vv_bytes *out);
varve_status vv_extra_decode(const void *bytes, size_t size, struct vv_extra *extra); /* CORRUPT */
void vv_extra_release(struct vv_extra *extra);

#endif
