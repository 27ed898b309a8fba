/* plan.h - a plan of steps for a store of any layout that is durable at commit, and what must be there of it.
 *
 * A step is a commit on main whose message is the step's number, a tag, a removal, bytecode, a new opening. What a commit holds follows
 * from the number of its state alone, so that states can come back; whoever opens the store can tell for any commit
 * that it finds what must be in it. The ledger is sweep.h's. */
#ifndef PLAN_H
#define PLAN_H

#include "past.h"
#include "sweep.h"

enum plan_kind { PLAN_END, PLAN_COMMIT, PLAN_TAG, PLAN_REMOVE, PLAN_HELD, PLAN_CODE, PLAN_REOPEN };
struct plan_step {
    enum plan_kind kind;
    unsigned number; /* the step, from 1 on; 0: PLAN_REOPEN has none */
    unsigned of;     /* COMMIT: its state. TAG, REMOVE, HELD (removed while it is held to the end): the commit's step */
};

/* Make a store of this layout. `ledger` (may be NULL) is told when it is closed. */
varve_status plan_create(const struct vv_vfs *vfs, const char *path, varve_layout layout,
                         struct sweep_ledger *ledger);
/* Do the steps; each is begun and ended in the ledger. After a plain failure the next is tried. `ended` (may be NULL) is
 * told of each step that ended. */
varve_status plan_run(const struct vv_vfs *vfs, const char *path, const struct plan_step *steps,
                      struct sweep_ledger *ledger, void (*ended)(void *context, unsigned step), void *context);
/* All that the ledger says must be there is, and nothing else; read only, then by a writer, which leaves no debris (names
 * that begin so: `debris`); fsck finds nothing. */
bool plan_check(const char *path, const struct plan_step *const *plans, struct sweep_ledger *ledger);

#endif
