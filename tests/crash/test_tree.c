/* The layout tree, killed before and in the middle of every call that changes the disk, and with each of them failing: no
 * acknowledged commit is lost, every store opens, no failure is silent, nothing half-made stays. Rows: sweep.h; what a
 * row does: plan.h. */
#include <stdlib.h>
#include <string.h>

#include "plan.h"

static const struct plan_step begun[] = {
    { PLAN_COMMIT, 1, 1 }, { PLAN_COMMIT, 2, 2 }, { PLAN_COMMIT, 3, 3 },
    { PLAN_COMMIT, 4, 4 }, { PLAN_END, 0, 0 },
};
static const struct plan_step few[] = { { PLAN_COMMIT, 5, 5 }, { PLAN_COMMIT, 6, 6 }, { PLAN_END, 0, 0 } };
static const struct plan_step first[] = { { PLAN_COMMIT, 1, 1 }, { PLAN_END, 0, 0 } };
static const struct plan_step refs[] = {
    { PLAN_TAG, 5, 2 },
    { PLAN_COMMIT, 6, 5 },
    { PLAN_TAG, 7, 6 },
    { PLAN_END, 0, 0 },
};
static const struct plan_step code[] = { { PLAN_CODE, 5, 1 }, { PLAN_COMMIT, 6, 5 }, { PLAN_END, 0, 0 } };
/* A state whose directory goes, and that comes back. */
static const struct plan_step again[] = {
    { PLAN_REMOVE, 5, 2 },
    { PLAN_COMMIT, 6, 2 },
    { PLAN_COMMIT, 7, 5 },
    { PLAN_END, 0, 0 },
};
static const struct plan_step little[] = { { PLAN_REMOVE, 5, 2 }, { PLAN_COMMIT, 6, 5 }, { PLAN_END, 0, 0 } };
/* The same while its directory waits for a hold. */
static const struct plan_step held[] = {
    { PLAN_HELD, 5, 2 },
    { PLAN_COMMIT, 6, 2 },
    { PLAN_HELD, 7, 3 },
    { PLAN_END, 0, 0 },
};
static const struct plan_step reopened[] = {
    { PLAN_COMMIT, 5, 5 }, { PLAN_REOPEN, 0, 0 }, { PLAN_REMOVE, 6, 1 },
    { PLAN_COMMIT, 7, 6 }, { PLAN_END, 0, 0 },
};

static varve_status prepare(const char *path, struct sweep_ledger *ledger, void *context)
{
    varve_status rc = VARVE_OK;

    (void)context;
    TRY(plan_create(&vv_vfs_system, path, VARVE_LAYOUT_TREE, NULL));
    TRY(plan_run(&vv_vfs_system, path, begun, ledger, NULL, NULL));
out:
    return rc;
}

static varve_status run(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                        void *context)
{
    return plan_run(vfs, path, context, ledger, NULL, NULL);
}

/* A store that is made, and its first commit. Step 0 is the making. */
static varve_status run_create(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                               void *context)
{
    varve_status rc = VARVE_OK;

    sweep_begin(ledger, 0);
    TRY(sweep_end(ledger, 0, plan_create(vfs, path, VARVE_LAYOUT_TREE, ledger), NULL, 0));
    sweep_reopened(ledger);
    TRY(plan_run(vfs, path, context, ledger, NULL, NULL));
out:
    return rc;
}

static bool check(const char *path, struct sweep_ledger *ledger, void *context)
{
    const struct plan_step *const plans[] = { begun, context, NULL };

    return plan_check(path, plans, ledger);
}

static bool check_created(const char *path, struct sweep_ledger *ledger, void *context)
{
    const struct plan_step *const plans[] = { context, NULL };

    if (sweep_expect(ledger, 0) != SWEEP_PRESENT &&
        plan_create(&vv_vfs_system, path, VARVE_LAYOUT_TREE, NULL) != VARVE_OK)
        return sweep_deny(ledger, "a store whose making was interrupted cannot be made: %s", vv_words());
    return plan_check(path, plans, ledger);
}

static varve_status reopen(const struct vv_vfs *vfs, const char *path, void *context)
{
    static const struct plan_step nothing[] = { { PLAN_END, 0, 0 } };
    struct sweep_ledger *ledger = calloc(1, sizeof *ledger);

    (void)context;
    VV_ASSERT(ledger != NULL);
    const varve_status rc = plan_run(vfs, path, nothing, ledger, NULL, NULL);
    free(ledger);
    return rc;
}

/* How far the history was acknowledged: one that is not told costs a sync at the next opening. */
static bool is_hint(const char *name)
{
    return strncmp(name, ".varve/history.end", 18) == 0 || strncmp(name, "history.end", 11) == 0;
}

int main(int argc, char **argv)
{
#define PLAN(steps) ((void *)(uintptr_t)(steps))
    const struct sweep_op ops[] = {
        { "create", NULL, run_create, check_created, NULL, is_hint, PLAN(first) },
        { "commit", prepare, run, check, NULL, is_hint, PLAN(few) },
        { "refs", prepare, run, check, NULL, is_hint, PLAN(refs) },
        { "code", prepare, run, check, NULL, is_hint, PLAN(code) },
        { "again", prepare, run, check, NULL, is_hint, PLAN(again) },
        { "held", prepare, run, check, NULL, is_hint, PLAN(held) },
        { "reopened", prepare, run, check, NULL, is_hint, PLAN(reopened) },
        { "recovery", prepare, run, check, reopen, is_hint, PLAN(little) },
    };

    sweep_repeats(NULL, 0);
    return sweep_main(argc, argv, ops, sizeof ops / sizeof *ops);
}
