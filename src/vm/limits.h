/* limits.h - what a guest may take, each with a default: nothing that a module says is believed without one.
 *
 * Those that a module's own bytes can break (functions, imports, table entries...) are kept by vm/wasm/wasm.h, which
 * reads them from the same varve_limits. */
#ifndef VV_LIMITS_H
#define VV_LIMITS_H

#include "base/error.h"

enum {
    VV_CALL_VALUES_MAX = 64, /* arguments, or results, of a call from outside */
    VV_HOST_VALUES_MAX = 16, /* of a host function, and of its calls back: they nest on the guest's stack */
    VV_MESSAGE_MAX = 400,    /* bytes of a guest's last words that are kept */
    VV_TOPIC_MAX = 255,      /* bytes of an event's topic */
    VV_OUTPUT_MAX = 16 * 1024 * 1024 /* bytes that one call may print */
};

/* Every field set: from `over` where it is not 0, else from `under`, else the default. Both may be NULL. */
varve_limits vv_limits_of(const varve_limits *over, const varve_limits *under);

#endif
