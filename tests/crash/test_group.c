/* Groups of commits, made by threads at once, killed and failed at every call: each commit that was acknowledged is
 * there, each that failed is not, and of the others each is whole or absent. Rows: sweep.h. */
#include <stdio.h>
#include <string.h>

#include "groups.h"
#include "store/journal/journal.h"
#include "sweep.h"

static varve_status prepare(const char *path, struct sweep_ledger *ledger, void *context)
{
    (void)ledger;
    (void)context;
    return groups_create(&vv_vfs_system, path);
}

static void begin(struct crowd_member *member)
{
    sweep_begin(member->context, member->number);
}

static void end(struct crowd_member *member)
{
    (void)sweep_end(member->context, member->number, member->status, member->facts.id.bytes,
                    member->status == VARVE_OK ? sizeof member->facts.id : 0);
}

static varve_status run(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                        void *context)
{
    struct opened store = OPENED_NONE;
    varve_status rc = VARVE_OK;

    (void)context;
    TRY(groups_open(&store, vfs, path, false));
    TRY(groups_make(store.place, begin, end, ledger));
out:
    opened_end(&store);
    return rc;
}

static bool check(const char *path, struct sweep_ledger *ledger, void *context)
{
    const struct vv_layout_options options = { .vfs = &vv_vfs_system, .read_only = true };
    bool seen[GROUPS_STEPS + 1] = { false };
    varve_commit_id ids[GROUPS_STEPS + 1];
    struct opened store = OPENED_NONE;
    uint64_t damage = 0;
    bool fine = true;

    (void)context;
    if (groups_open(&store, &vv_vfs_system, path, true) != VARVE_OK)
        fine = sweep_deny(ledger, "the store does not open: %s", vv_words());
    fine = fine && groups_see(store.place, seen, ids, ledger->denial);
    for (unsigned step = 1; fine && step <= GROUPS_STEPS; step++) {
        const enum sweep_expectation expectation = sweep_expect(ledger, step);
        if (expectation == SWEEP_PRESENT &&
            (!seen[step] || memcmp(&ids[step], ledger->steps[step].evidence, sizeof ids[step]) != 0))
            fine = sweep_deny(ledger, "step %u was acknowledged and is lost", step);
        else if (expectation == SWEEP_ABSENT && seen[step])
            fine = sweep_deny(ledger, "step %u is there, and should not be", step);
    }
    vv_journal_close(store.place);
    if (fine && (vv_journal_check(&store.dir, &options, 0, &damage) != VARVE_OK || damage != 0))
        fine = sweep_deny(ledger, "fsck finds damage: %s", vv_words());
    vv_dir_close(&store.dir);
    return fine;
}

static bool is_hint(const char *name)
{
    return strcmp(name, "head") == 0;
}

int main(int argc, char **argv)
{
    const struct sweep_op ops[] = {
        { "group", prepare, run, check, NULL, is_hint, NULL },
    };

    return sweep_main(argc, argv, ops, sizeof ops / sizeof *ops);
}
