/* call.h - run a function of a guest: from outside, guarded by a savepoint or not, and from within a host function.
 *
 * Laws:
 *   (V1) A guarded call that does not succeed leaves every memory, length, global, table and named value as it was.
 *   (V2) An unguarded call that does not succeed taints the session: nothing but going back is accepted after it.
 *   (V3) What a call printed is delivered once it has ended, never while it runs. */
#ifndef VV_CALL_H
#define VV_CALL_H

#include "vm/instance.h"

/* As varve_session_call. */
varve_status vv_call(struct vv_guests *guests, const varve_module_id *id, const char *function,
                     const varve_value *args, size_t arg_count, varve_value *results, size_t result_count,
                     const varve_call_options *options, varve_receipt **receipt);

/* A piece of work that may run guest code many times, as one call does: gas, undo, output, receipt. */
struct vv_work {
    struct vv_guests *guests;
    const varve_module_id *module; /* for the receipt */
    const char *function;
    uint64_t gas; /* 0: no limit */
    bool guarded, query;
    const varve_module_id *caller;
    /* Runs inside the savepoint; calls vv_work_use for each guest and vv_run. */
    varve_status (*run)(void *context, struct vv_work *work);
    void *context;
    uint64_t fuel;             /* what is left */
    struct varve_guest *guest; /* the one used last: its trace goes into the receipt */
};
varve_status vv_work_run(struct vv_work *work, varve_receipt **receipt);
/* Before vv_run: give the guest what fuel is left; after it, take back what it left. */
void vv_work_use(struct vv_work *work, struct varve_guest *guest);
void vv_work_used(struct vv_work *work, struct varve_guest *guest);

/* Call a function of a guest that was entered (vv_session_enter), on the session's own stack. proc_exit(0) is
 * VARVE_OK when this is the outermost call. */
varve_status vv_run(struct varve_guest *guest, const struct vv_function *function, union vv_slot *slots,
                    size_t count);

/* Call back into a guest that is running. Guarded: what it did is undone unless it succeeds. */
varve_status vv_run_inner(struct varve_guest *guest, const struct vv_function *function, union vv_slot *slots,
                          size_t count, bool guarded);

/* Bytes of a number of this type. */
size_t vv_size_of_type(varve_type type);

/* Arguments into slots, checked against the signature (MISUSE); results out of them. `slots` has room for
 * VV_CALL_VALUES_MAX. `count`: what the call needs. */
varve_status vv_slots_of(const char *function, const struct vv_signature *signature, const varve_value *args,
                         size_t arg_count, size_t result_count, union vv_slot *slots, size_t *count);
void vv_values_of(const struct vv_signature *signature, const union vv_slot *slots, varve_value *results);

#endif
