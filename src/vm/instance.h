/* instance.h - the guests of a session: live instances over its images, made at first use, kept while they are true.
 *
 *   guests   what a session has of the VM; the context of its hooks
 *   guest    one live instance of one module; lent to host functions as varve_guest
 * A guest's state that is not memory (globals, tables, dropped segments) is taken into the session only when it is
 * asked for and may have changed; after an undo it is put back in place where it can be, else the instance is
 * made anew. One thread at a time, as its session. */
#ifndef VV_INSTANCE_H
#define VV_INSTANCE_H

#include "store/session.h"
#include "vm/extra.h"
#include "vm/instance_state.h"
#include "vm/machine.h"
#include "vm/receipt.h"

enum { VV_LOOKUPS = 64 };

struct vv_lookup {
    const struct vv_plan_export *export; /* NULL: empty */
    struct vv_function function;
};

struct vv_identity {
    void *identity;
    uint32_t index;
};

struct varve_guest {
    struct vv_guests *guests;
    struct vv_working *working; /* NULL: parked, waiting for its module to be used again */
    varve_module_id id;
    struct vv_code *code;
    struct vv_image *image; /* the one it was made over, and where that lay */
    const uint8_t *bytes;
    uint64_t reserve; /* how far it could grow there: machine code relies on it */
    struct vv_instance *instance;
    struct vv_extra extra;
    struct vv_module *fields;       /* held: what `extra` was read from */
    struct vv_instance_state state; /* in the plan's order: what was captured or restored last */
    bool known;                     /* it is, and the session holds the same */
    struct vv_global *globals;
    struct vv_gtable *tables, refs;
    struct vv_gtable
        first_table; /* what calls through the table use: a handle stays in the instance, so one */
    bool has_first_table;
    struct vv_identity *identities; /* of the directory's functions, by identity; made when first asked for */
    struct vv_bytes scratch;
    bool changed; /* a call ran since the last capture */
    bool stale;   /* the session went back under it: restore before it is used */
    bool jumping; /* a longjmp is on its way to the invoke_ that waits for it */
    bool exited;  /* it called proc_exit */
    int32_t exit_code;
    uint32_t running; /* calls of it on the stack */
    struct vv_lookup lookups[VV_LOOKUPS];
    varve_guest_info info;
    struct varve_guest *next; /* in vv_guests.all */
};

struct vv_effect {
    void (*done)(void *context, bool kept);
    void *context;
};

/* Where an interrupt stands: only a call that runs can be stopped. */
enum vv_running { VV_IDLE = 0, VV_RUNNING = 1, VV_INTERRUPTED = 2 };

struct vv_guests {
    varve_session *session;
    varve_vm *vm;
    varve_limits limits;
    varve_output_fn output;
    void *context;       /* of the session's callbacks */
    varve_input *inputs; /* copies */
    size_t input_count;
    struct vv_code **lent; /* held until the session ends, for their signatures were given out */
    size_t lent_count;
    void *stack; /* NULL: no call yet */
    int _Atomic running;
    struct vv_record record;
    struct varve_guest *all;
    size_t count;
    struct vv_effect *effects;
    size_t effect_count, effect_capacity;
    size_t *marks; /* by depth: how many effects there were at that savepoint */
    size_t mark_count;
    uint32_t depth; /* calls in one another */
    bool doomed;    /* an inner undo could not be done in place: the outermost call must fail */
};

/* Hang the VM on a session that has just begun. */
varve_status vv_guests_attach(varve_session *session, varve_vm *vm, const varve_session_options *options);
/* Any thread. */
void vv_guests_interrupt(struct vv_guests *guests);
/* Call `done` when the fate of what runs now is known. */
varve_status vv_guests_on_outcome(struct vv_guests *guests, void (*done)(void *, bool), void *context);

/* Keep the code until the session ends: what it owns may be lent to the caller. */
varve_status vv_guests_lend(struct vv_guests *guests, struct vv_code *code);

/* The live instance of a module, true to the session's state. */
varve_status vv_guest_get(struct vv_guests *guests, struct vv_working *working, struct varve_guest **guest);
/* Drop it, wherever it is: the next use makes a new one. It must not be running. */
void vv_guest_drop(struct varve_guest *guest);
/* After an undo while it runs: put its state back in place. On failure it can not be done. */
varve_status vv_guest_restore_running(struct varve_guest *guest);

/* The exported function of this name, as lent by the code. NOT_FOUND; reserved names are not found. */
varve_status vv_guest_export(struct varve_guest *guest, const char *name, const struct vv_lookup **lookup);
/* The same without words: NULL when there is none. */
const struct vv_lookup *vv_guest_find(struct varve_guest *guest, const char *name);

#endif
