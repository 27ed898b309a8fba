/* Deleting commits and reclaiming their space, killed before and in the middle of every call that changes the disk,
 * and with each of them failing: what is retained reads as it was made, what was deleted and acknowledged stays
 * away, and every store opens. Rows: sweep.h.
 *
 * A commit's message lists the steps that lead to it, so that a check knows what must be in it whatever became of
 * the commits before it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model.h"
#include "opened.h"
#include "store/journal/journal.h"
#include "sweep.h"

static const struct vv_layout *const journal = &vv_layout_journal;

static const struct vv_journal_limits small = {
    .log = { .segment = 32 << 10, .ahead = 8 << 10, .files = 2 },
    .spare = 8 << 10,
    .checkpoint_records = 3,
    .checkpoint_bytes = 1 << 20,
    .views = 2,
    .frames = 2,
};
enum { PREPARED = 8, FIRST_DELETE = 40, FIRST_RECLAIM = 62, MESSAGE = 200 };

/* What a commit with this message must hold. */
static void state_of(const char *message, struct model_state *state)
{
    memset(state, 0, sizeof *state);
    for (const char *at = message; *at != '\0';) {
        char *end = NULL;
        struct model_chance chance = { .state = 1000 + strtoul(at, &end, 10) };
        for (unsigned i = 0; i < 4; i++)
            model_mutate(state, &chance);
        at = *end == ' ' ? end + 1 : end;
    }
}

static unsigned step_of(const char *message)
{
    const char *last = strrchr(message, ' ');

    return (unsigned)strtoul(last == NULL ? message : last + 1, NULL, 10);
}

static varve_status commit_on_main(struct vv_place *place, unsigned step, varve_commit_id *id)
{
    varve_status rc = VARVE_OK;
    struct vv_ref_facts ref;
    struct vv_commit_facts parent = { .locator = 0 };
    struct vv_commit_facts made = { .locator = 0 };
    struct vv_ref_move move = { .name = "main", .what = "commit", .to = &made.id };
    struct model_state base;
    struct model_state after;
    char message[MESSAGE];
    bool rooted = true;

    snprintf(message, sizeof message, "%u", step);
    memset(&base, 0, sizeof base);
    rc = journal->ref_get(place, "main", &ref);
    if (rc == VARVE_OK) {
        rooted = false;
        TRY(journal->facts(place, &ref.commit, &parent));
        state_of(parent.message, &base);
        move.expected = &parent.id;
        snprintf(message, sizeof message, "%s %u", parent.message, step);
    } else if (rc != VARVE_NOT_FOUND) {
        goto out;
    }
    state_of(message, &after);
    TRY(model_commit(journal, place, &base, rooted ? NULL : &parent, &after, message, &move, VARVE_DURABLE,
                     &made));
    *id = made.id;
out:
    vv_commit_facts_release(&parent);
    vv_commit_facts_release(&made);
    return rc;
}

static varve_status commit_step(struct vv_place *place, struct sweep_ledger *ledger, unsigned step)
{
    varve_commit_id id = { { 0 } };

    sweep_begin(ledger, step);
    const varve_status rc = commit_on_main(place, step, &id);
    return sweep_end(ledger, step, rc, id.bytes, rc == VARVE_OK ? sizeof id.bytes : 0);
}

/* Delete the commit that `step` made; it is step FIRST_DELETE + `step`. */
static varve_status delete_step(struct vv_place *place, struct sweep_ledger *ledger, unsigned step)
{
    varve_commit_id id;

    memcpy(id.bytes, ledger->steps[step].evidence, sizeof id.bytes);
    sweep_begin(ledger, FIRST_DELETE + step);
    return sweep_end(ledger, FIRST_DELETE + step, journal->remove(place, &id, 1, 9), NULL, 0);
}

static varve_status prepare_journal(const char *path, struct sweep_ledger *ledger, void *context)
{
    varve_status rc = VARVE_OK;
    struct opened store = OPENED_NONE;

    (void)context;
    TRY(opened_create(&vv_vfs_system, path, &small));
    TRY(opened_begin(&store, &vv_vfs_system, path, false, &small));
    for (unsigned step = 1; step <= PREPARED; step++)
        TRY(commit_step(store.place, ledger, step));
out:
    opened_end(&store);
    return rc;
}

/* Reclaim makes nothing that a check could look for; what must hold is that nothing is lost. */
static varve_status reclaim_step(struct vv_place *place, struct sweep_ledger *ledger, unsigned step,
                                 uint64_t *freed)
{
    sweep_begin(ledger, step);
    return sweep_end(ledger, step, journal->maintain(place, 0, NULL, NULL, freed), NULL, 0);
}

static void keep_first(varve_status *rc, varve_status status)
{
    *rc = *rc == VARVE_OK ? status : *rc;
}

/* Deletes between commits, and a checkpoint that takes them up. */
static varve_status run_delete(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                               void *context)
{
    struct opened store = OPENED_NONE;
    varve_status rc = opened_begin(&store, vfs, path, false, &small);

    (void)context;
    if (store.place != NULL) {
        keep_first(&rc, delete_step(store.place, ledger, 2));
        keep_first(&rc, commit_step(store.place, ledger, PREPARED + 1));
        keep_first(&rc, delete_step(store.place, ledger, 5));
        keep_first(&rc, delete_step(store.place, ledger, 3));
        for (unsigned step = PREPARED + 2; step <= PREPARED + 4; step++)
            keep_first(&rc, commit_step(store.place, ledger, step));
        keep_first(&rc, delete_step(store.place, ledger, 1));
    }
    opened_end(&store);
    return rc;
}

/* Deletes, and all that reclaim does: it goes on as far as it can after every failure. */
static varve_status run_reclaim(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                                void *context)
{
    struct opened store = OPENED_NONE;
    varve_status rc = opened_begin(&store, vfs, path, false, &small);
    uint64_t freed = 0;

    (void)context;
    if (store.place != NULL) {
        for (unsigned step = 1; step < PREPARED - 1; step++)
            keep_first(&rc, delete_step(store.place, ledger, step));
        keep_first(&rc, reclaim_step(store.place, ledger, FIRST_RECLAIM, &freed));
        keep_first(&rc, commit_step(store.place, ledger, PREPARED + 1));
        keep_first(&rc, reclaim_step(store.place, ledger, FIRST_RECLAIM + 1, &freed));
    }
    opened_end(&store);
    return rc;
}

/* Whoever opens the store next reclaims again. */
static varve_status reopen_reclaim(const struct vv_vfs *vfs, const char *path, void *context)
{
    struct opened store = OPENED_NONE;
    varve_status rc = opened_begin(&store, vfs, path, false, &small);
    uint64_t freed = 0;

    (void)context;
    if (store.place != NULL)
        rc = journal->maintain(store.place, 0, NULL, NULL, &freed);
    opened_end(&store);
    return rc;
}

/* ---- Judging ---------------------------------------------------------------------------------- */

struct judge {
    struct sweep_ledger *ledger;
    struct vv_place *place;
    bool seen[SWEEP_STEPS];
};

static bool judge_commit(struct judge *judge, const varve_commit_id *id)
{
    struct vv_commit_facts facts = { .locator = 0 };
    struct model_state expected;

    if (journal->facts(judge->place, id, &facts) != VARVE_OK)
        return sweep_deny(judge->ledger, "facts: %s", vv_words());
    const unsigned step = step_of(facts.message);
    state_of(facts.message, &expected);
    vv_commit_facts_release(&facts);
    const enum sweep_expectation made = sweep_expect(judge->ledger, step);
    if (made == SWEEP_ABSENT)
        return sweep_deny(judge->ledger, "step %u is there, and should not be", step);
    if (step < FIRST_DELETE && sweep_expect(judge->ledger, FIRST_DELETE + step) == SWEEP_PRESENT)
        return sweep_deny(judge->ledger, "step %u was deleted and is there", step);
    judge->seen[step] = true;
    if (model_compare(journal, judge->place, id, &expected) != VARVE_OK)
        return sweep_deny(judge->ledger, "step %u: %s", step, vv_words());
    return true;
}

static bool judge_commits(struct judge *judge)
{
    const uint64_t last = journal->last_number(judge->place);

    for (uint64_t number = 1; number <= last; number++) {
        varve_commit_id id;
        const varve_status rc = journal->find_number(judge->place, number, &id);
        if (rc == VARVE_NOT_FOUND)
            continue;
        if (rc != VARVE_OK)
            return sweep_deny(judge->ledger, "number %u: %s", (unsigned)number, vv_words());
        if (!judge_commit(judge, &id))
            return false;
    }
    for (unsigned step = 1; step < FIRST_DELETE && FIRST_DELETE + step < FIRST_RECLAIM; step++) {
        if (sweep_expect(judge->ledger, step) == SWEEP_PRESENT && !judge->seen[step] &&
            sweep_expect(judge->ledger, FIRST_DELETE + step) == SWEEP_ABSENT)
            return sweep_deny(judge->ledger, "step %u was acknowledged and is lost", step);
    }
    return true;
}

/* From the head back, no commit that is there is passed over and none is met twice. */
static bool judge_line(struct judge *judge)
{
    struct vv_ref_facts ref;
    struct vv_commit_facts facts = { .locator = 0 };
    varve_status rc = journal->ref_get(judge->place, "main", &ref);
    uint64_t below = UINT64_MAX;
    uint64_t met = 0;
    struct vv_layout_stat stat;

    if (rc != VARVE_OK)
        return sweep_deny(judge->ledger, "main: %s", vv_words());
    for (varve_commit_id at = ref.commit; rc == VARVE_OK && !vv_hash_is_zero(at.bytes); met++) {
        rc = journal->facts(judge->place, &at, &facts);
        if (rc == VARVE_OK && facts.number >= below)
            return sweep_deny(judge->ledger, "the line does not lead back");
        below = facts.number;
        if (rc == VARVE_OK && vv_hash_is_zero(facts.parent.bytes))
            at = facts.parent;
        else if (rc == VARVE_OK)
            rc = journal->ancestor(judge->place, &facts.parent, &at);
        vv_commit_facts_release(&facts);
    }
    journal->stat(judge->place, &stat);
    if (rc != VARVE_OK)
        return sweep_deny(judge->ledger, "the line: %s", vv_words());
    return met == stat.commits ? true : sweep_deny(judge->ledger, "the line passes over a commit");
}

static bool check_journal(const char *path, struct sweep_ledger *ledger, void *context)
{
    struct opened store = OPENED_NONE;
    struct judge judge = { .ledger = ledger };
    const struct vv_layout_options options = { .vfs = &vv_vfs_system, .read_only = true };
    struct vv_layout_stat stat;
    uint64_t damage = 0;
    bool fine = true;

    (void)context;
    if (opened_begin(&store, &vv_vfs_system, path, true, &small) != VARVE_OK)
        fine = sweep_deny(ledger, "the store does not open: %s", vv_words());
    judge.place = store.place;
    if (fine) {
        journal->stat(judge.place, &stat);
        if (stat.damaged)
            fine = sweep_deny(ledger, "the store says that it is damaged");
    }
    fine = fine && judge_commits(&judge) && judge_line(&judge);
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
        { "delete", prepare_journal, run_delete, check_journal, NULL, is_hint, NULL },
        { "reclaim", prepare_journal, run_reclaim, check_journal, reopen_reclaim, is_hint, NULL },
    };

    sweep_repeats(NULL, 0);
    return sweep_main(argc, argv, ops, sizeof ops / sizeof *ops);
}
