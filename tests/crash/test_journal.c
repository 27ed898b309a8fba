/* The journal, killed before and in the middle of every call that changes the disk, and with each of them failing:
 * no acknowledged commit is lost, every store opens, no failure is silent. Rows: sweep.h.
 *
 * A step is one commit on `main`, whose message is the step's number and whose state follows from its parent's and
 * that number; so a check can tell for any commit that it finds what must be in it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model.h"
#include "opened.h"
#include "store/codepool.h"
#include "store/journal/journal.h"
#include "store/journal/repair.h"
#include "store/journal/snapshot.h"
#include "page/root.h"
#include "sweep.h"

static const struct vv_layout *const journal = &vv_layout_journal;

/* So small that a few commits make checkpoints, segments and zeros ahead. */
static const struct vv_journal_limits small = {
    .log = { .segment = 48 << 10, .ahead = 8 << 10, .files = 2 },
    .spare = 8 << 10,
    .checkpoint_records = 3,
    .checkpoint_bytes = 1 << 20,
    .views = 2,
    .frames = 2,
    .close_records = 2,
    .image_pages = 1,
    .image_files = 8,
};
enum { PREPARED = 4, FIRST_TAG = 40 };

/* The step that made a commit: its message. */
static unsigned step_of(const struct vv_commit_facts *facts)
{
    return (unsigned)strtoul(facts->message, NULL, 10);
}

static void state_after(struct model_state *state, unsigned step)
{
    struct model_chance chance = { .state = 1000 + step };

    for (unsigned i = 0; i < 3; i++)
        model_mutate(state, &chance);
}

enum { LINE_MAX_STEPS = 64 };
static bool some_deleted; /* of the commits that lead to others */

/* What a commit must hold: the steps from its genesis on, one after the other. */
static varve_status expected_state(struct vv_place *place, const varve_commit_id *id,
                                   struct model_state *state)
{
    varve_status rc = VARVE_OK;
    unsigned steps[LINE_MAX_STEPS];
    size_t count = 0;
    varve_commit_id at = *id;
    struct vv_commit_facts facts = { .locator = 0 };

    memset(state, 0, sizeof *state);
    while (!vv_hash_is_zero(at.bytes) && count < LINE_MAX_STEPS) {
        rc = journal->facts(place, &at, &facts);
        if (rc == VARVE_NOT_FOUND && some_deleted && count > 0) { /* a line of all steps, less those */
            for (rc = VARVE_OK; steps[count - 1] > 1; count++)
                steps[count] = steps[count - 1] - 1;
            break;
        }
        TRY(rc);
        steps[count++] = step_of(&facts);
        at = facts.parent;
        vv_commit_facts_release(&facts);
    }
    while (count-- > 0)
        state_after(state, steps[count]);
out:
    vv_commit_facts_release(&facts);
    return rc;
}

static varve_status commit_on(struct vv_place *place, unsigned step, varve_durability durability,
                              varve_commit_id *id)
{
    varve_status rc = VARVE_OK;
    struct vv_ref_facts ref;
    struct vv_commit_facts parent = { .locator = 0 };
    struct vv_commit_facts made = { .locator = 0 };
    struct vv_ref_move move = { .name = "main", .what = "commit", .to = &made.id };
    struct model_state base;
    struct model_state after;
    char message[16];
    bool rooted = true;

    memset(&base, 0, sizeof base);
    snprintf(message, sizeof message, "%u", step);
    rc = journal->ref_get(place, "main", &ref);
    if (rc == VARVE_OK) {
        rooted = false;
        TRY(journal->facts(place, &ref.commit, &parent));
        TRY(expected_state(place, &ref.commit, &base));
        move.expected = &parent.id;
    } else if (rc != VARVE_NOT_FOUND) {
        goto out;
    }
    after = base;
    state_after(&after, step);
    TRY(model_commit(journal, place, &base, rooted ? NULL : &parent, &after, message, &move, durability,
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
    const varve_status rc = commit_on(place, step, VARVE_DURABLE, &id);
    return sweep_end(ledger, step, rc, id.bytes, rc == VARVE_OK ? sizeof id.bytes : 0);
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

/* Commits until checkpoints and segments have turned over. */
static varve_status run_commits(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                                void *context)
{
    const unsigned *steps = context;
    struct opened store = OPENED_NONE;
    varve_status rc = opened_begin(&store, vfs, path, false, &small);

    for (unsigned step = PREPARED + 1; store.place != NULL && step <= PREPARED + *steps; step++) {
        const varve_status status = commit_step(store.place, ledger, step);
        rc = rc == VARVE_OK ? status : rc;
    }
    sweep_closing(ledger);
    opened_end(&store);
    return rc;
}

static varve_status tag_step(struct vv_place *place, struct sweep_ledger *ledger, unsigned step)
{
    varve_status rc = VARVE_OK;
    struct vv_ref_facts main_ref;
    struct vv_ref_move move = { .what = "create", .to = &main_ref.commit };

    sweep_begin(ledger, step);
    snprintf(move.name, sizeof move.name, "tags/t%u", step);
    rc = journal->ref_get(place, "main", &main_ref);
    if (rc == VARVE_OK)
        rc = journal->move_refs(place, &move, 1, 5);
    return sweep_end(ledger, step, rc, main_ref.commit.bytes, rc == VARVE_OK ? 32 : 0);
}

/* Tags, a commit between them. */
static varve_status run_refs(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                             void *context)
{
    struct opened store = OPENED_NONE;
    varve_status rc = opened_begin(&store, vfs, path, false, &small);

    (void)context;
    if (store.place != NULL) {
        const varve_status statuses[] = { tag_step(store.place, ledger, FIRST_TAG),
                                          commit_step(store.place, ledger, PREPARED + 1),
                                          tag_step(store.place, ledger, FIRST_TAG + 1) };
        for (size_t i = 0; i < 3; i++)
            rc = rc == VARVE_OK ? statuses[i] : rc;
    }
    sweep_closing(ledger);
    opened_end(&store);
    return rc;
}

/* Two openings, a commit in each: each announces itself, and each leaves its head. */
static varve_status run_reopened(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                                 void *context)
{
    varve_status rc = VARVE_OK;

    (void)context;
    for (unsigned step = PREPARED + 1; step <= PREPARED + 2; step++) {
        struct opened store = OPENED_NONE;
        sweep_reopened(ledger);
        varve_status status = opened_begin(&store, vfs, path, false, &small);
        if (store.place != NULL)
            status = commit_step(store.place, ledger, step);
        rc = rc == VARVE_OK ? status : rc;
        sweep_closing(ledger);
        opened_end(&store);
    }
    return rc;
}

/* A store that is made, and its first commit. */
static varve_status run_create(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                               void *context)
{
    varve_status rc = VARVE_OK;
    struct opened store = OPENED_NONE;

    (void)context;
    sweep_begin(ledger, 0);
    TRY(sweep_end(ledger, 0, opened_create(vfs, path, &small), NULL, 0));
    TRY(opened_begin(&store, vfs, path, false, &small));
    TRY(commit_step(store.place, ledger, 1));
out:
    sweep_closing(ledger);
    opened_end(&store);
    return rc;
}

static varve_status code_step(struct vv_place *place, struct sweep_ledger *ledger, unsigned step)
{
    uint8_t hash[VV_HASH_SIZE];

    vv_code_hash("bytecode", 8, hash);
    sweep_begin(ledger, step);
    return sweep_end(ledger, step, journal->code_put(place, hash, "bytecode", 8), hash, sizeof hash);
}

/* Code, the same again, then the commit that would name it (J6). */
static varve_status run_code(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                             void *context)
{
    struct opened store = OPENED_NONE;
    varve_status rc = opened_begin(&store, vfs, path, false, &small);

    (void)context;
    if (store.place != NULL) {
        const varve_status statuses[] = { code_step(store.place, ledger, FIRST_TAG + 2),
                                          code_step(store.place, ledger, FIRST_TAG + 3),
                                          commit_step(store.place, ledger, PREPARED + 1) };
        for (size_t i = 0; i < 3; i++)
            rc = rc == VARVE_OK ? statuses[i] : rc;
    }
    sweep_closing(ledger);
    opened_end(&store);
    return rc;
}

/* A snapshot that fails is no failure of anything else, unless it is the log that is uncertain. */
static varve_status snapshot_step(struct vv_place *place)
{
    const varve_status rc = vv_place_snapshot(place, false);

    return rc == VARVE_UNCERTAIN ? rc : VARVE_OK;
}

/* A store with pairs of image files. */
static varve_status prepare_pairs(const char *path, struct sweep_ledger *ledger, void *context)
{
    struct opened store = OPENED_NONE;
    varve_status rc = prepare_journal(path, ledger, context);

    if (rc == VARVE_OK)
        rc = opened_begin(&store, &vv_vfs_system, path, false, &small);
    for (unsigned step = PREPARED + 1; rc == VARVE_OK && step <= PREPARED + 3; step++) {
        rc = commit_step(store.place, ledger, step);
        if (rc == VARVE_OK)
            rc = vv_place_snapshot(store.place, false);
    }
    opened_end(&store);
    return rc;
}

static bool is_as_it_was(const struct vv_image_file *file)
{
    uint64_t bad = UINT64_MAX;

    return vv_image_file_verify(file, 0, file->tree.page_count, &bad) == VARVE_MEMORY || bad == UINT64_MAX;
}

/* The older files are written over where they lie, but for those in use, which are replaced. */
static varve_status run_snapshots(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                                  void *context)
{
    const bool *in_use = context;
    struct opened store = OPENED_NONE;
    varve_status rc = opened_begin(&store, vfs, path, false, &small);
    struct vv_image_file *used[2 * MODEL_MODULES] = { NULL };

    for (unsigned i = 0; store.place != NULL && *in_use && i < 2 * MODEL_MODULES; i++) {
        varve_module_id id;
        model_module_id(i / 2, &id);
        used[i] = vv_images_use(&store.place->images, &id, i % 2);
    }
    if (store.place != NULL) {
        /* Three commits: one alone may change nothing in any memory, and then no file is due. */
        const varve_status statuses[] = { commit_step(store.place, ledger, PREPARED + 4),
                                          commit_step(store.place, ledger, PREPARED + 5),
                                          commit_step(store.place, ledger, PREPARED + 6),
                                          snapshot_step(store.place) };
        for (size_t i = 0; i < 4; i++)
            rc = rc == VARVE_OK ? statuses[i] : rc;
        for (unsigned i = 0; i < 2 * MODEL_MODULES; i++) {
            if (used[i] != NULL && !is_as_it_was(used[i]))
                rc = vv_fail(VARVE_CONFLICT, "a file that was in use was written into");
            vv_images_leave(&store.place->images, used[i]);
        }
    }
    sweep_closing(ledger);
    opened_end(&store);
    return rc;
}

/* Whoever opens the store next goes on with what was left half-written. */
static varve_status reopen_and_snapshot(const struct vv_vfs *vfs, const char *path, void *context)
{
    struct opened store = OPENED_NONE;
    varve_status rc = opened_begin(&store, vfs, path, false, &small);

    (void)context;
    if (rc == VARVE_OK)
        rc = snapshot_step(store.place);
    opened_end(&store);
    return rc;
}

/* ---- Judging ---------------------------------------------------------------------------------- */

struct judge {
    struct sweep_ledger *ledger;
    struct vv_place *place;
    bool seen[SWEEP_STEPS];
    uint64_t newest_present; /* number of the newest commit that must be there */
};

static bool judge_commit(struct judge *judge, const varve_commit_id *id)
{
    struct vv_commit_facts facts = { .locator = 0 };
    struct model_state expected;
    const struct sweep_step *steps = judge->ledger->steps;

    if (journal->facts(judge->place, id, &facts) != VARVE_OK)
        return sweep_deny(judge->ledger, "facts: %s", vv_words());
    const unsigned step = step_of(&facts);
    const uint64_t number = facts.number;
    vv_commit_facts_release(&facts);
    const enum sweep_expectation expectation = sweep_expect(judge->ledger, step);
    if (expectation == SWEEP_ABSENT)
        return sweep_deny(judge->ledger, "step %u is there, and should not be", step);
    if (expectation == SWEEP_PRESENT) {
        if (memcmp(steps[step].evidence, id->bytes, 32) != 0)
            return sweep_deny(judge->ledger, "step %u has another id than was told", step);
        judge->newest_present = number > judge->newest_present ? number : judge->newest_present;
    }
    judge->seen[step] = true;
    if (expected_state(judge->place, id, &expected) != VARVE_OK ||
        model_compare(journal, judge->place, id, &expected) != VARVE_OK)
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
    for (unsigned step = 1; step < FIRST_TAG; step++) {
        if (sweep_expect(judge->ledger, step) == SWEEP_PRESENT && !judge->seen[step])
            return sweep_deny(judge->ledger, "step %u was acknowledged and is lost", step);
    }
    return true;
}

static bool judge_refs(struct judge *judge)
{
    struct vv_ref_facts ref;
    struct vv_commit_facts facts = { .locator = 0 };

    if (judge->newest_present > 0) {
        if (journal->ref_get(judge->place, "main", &ref) != VARVE_OK ||
            journal->facts(judge->place, &ref.commit, &facts) != VARVE_OK)
            return sweep_deny(judge->ledger, "main: %s", vv_words());
        const uint64_t number = facts.number;
        vv_commit_facts_release(&facts);
        if (number < judge->newest_present || number != journal->last_number(judge->place))
            return sweep_deny(judge->ledger, "main stands at commit %u", (unsigned)number);
    }
    for (unsigned step = FIRST_TAG; step < FIRST_TAG + 2; step++) {
        char name[16];
        snprintf(name, sizeof name, "tags/t%u", step);
        const varve_status rc = journal->ref_get(judge->place, name, &ref);
        const enum sweep_expectation expectation = sweep_expect(judge->ledger, step);
        if ((expectation == SWEEP_ABSENT && rc == VARVE_OK) ||
            (expectation == SWEEP_PRESENT && rc != VARVE_OK))
            return sweep_deny(judge->ledger, "%s is there or not, wrongly", name);
        if (expectation == SWEEP_PRESENT &&
            memcmp(ref.commit.bytes, judge->ledger->steps[step].evidence, 32) != 0)
            return sweep_deny(judge->ledger, "%s names another commit", name);
    }
    return true;
}

static bool judge_code(struct judge *judge)
{
    for (unsigned step = FIRST_TAG + 2; step < FIRST_TAG + 4; step++) {
        uint8_t *code = NULL;
        size_t size = 0;
        if (sweep_expect(judge->ledger, step) != SWEEP_PRESENT)
            continue;
        const varve_status rc =
            journal->code_get(judge->place, judge->ledger->steps[step].evidence, &code, &size);
        vv_free(code);
        if (rc != VARVE_OK || size != 8)
            return sweep_deny(judge->ledger, "the code: %s", vv_words());
    }
    return true;
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
    if (ledger->steps[0].begun && sweep_expect(ledger, 0) != SWEEP_PRESENT)
        return true; /* there need not be a store */
    if (opened_begin(&store, &vv_vfs_system, path, true, &small) != VARVE_OK)
        fine = sweep_deny(ledger, "the store does not open: %s", vv_words());
    judge.place = store.place;
    if (fine) {
        journal->stat(judge.place, &stat);
        if (stat.damaged)
            fine = sweep_deny(ledger, "the store says that it is damaged");
    }
    fine = fine && judge_commits(&judge) && judge_refs(&judge) && judge_code(&judge);
    vv_journal_close(store.place);
    if (fine && (vv_journal_check(&store.dir, &options, 0, &damage) != VARVE_OK || damage != 0))
        fine = sweep_deny(ledger, "fsck finds damage: %s", vv_words());
    vv_dir_close(&store.dir);
    return fine;
}

/* ---- Repair ----------------------------------------------------------------------------------- */

enum { REPAIR_STEP = FIRST_TAG + 4, BEFORE_DAMAGE = 6, ALL_STEPS = 8, DELETED = 5 };
struct repair_row {
    bool reclaimed; /* the first commits were deleted, and their space given back */
    bool closes;    /* the checkpoint at the close is swept too */
};

static varve_status flip(const struct vv_dir *dir, uint64_t address)
{
    varve_status rc = VARVE_OK;
    struct vv_log log;
    struct vv_file file = VV_FILE_NONE;
    char name[VV_SEGMENT_NAME];
    uint64_t start = 0;
    uint8_t byte = 0;

    TRY(vv_log_open(&log, dir, true, &small.log));
    vv_log_file_name(&log, address, name);
    vv_log_close(&log);
    VV_ASSERT(vv_segment_parse(name, &start));
    TRY(vv_file_open(dir, name, VV_OPEN_WRITE, &file));
    TRY(vv_file_read(&file, &byte, 1, address - start));
    byte ^= 0x40;
    TRY(vv_file_write(&file, &byte, 1, address - start));
out:
    vv_file_close(&file);
    return rc;
}

/* A line of commits, and the header of one in its middle damaged. */
static varve_status prepare_damaged(const char *path, struct sweep_ledger *ledger, void *context)
{
    varve_status rc = VARVE_OK;
    struct opened store = OPENED_NONE;
    const struct repair_row *row = context;
    struct vv_commit_facts facts = { .locator = 0 };
    uint64_t freed = 0;
    varve_commit_id id;

    some_deleted = row->reclaimed;
    TRY(prepare_journal(path, ledger, context));
    TRY(opened_begin(&store, &vv_vfs_system, path, false, &small));
    /* Behind the last checkpoint, where whoever opens the store meets it. */
    store.place->limits.close_records = 0;
    for (unsigned step = PREPARED + 1; step <= BEFORE_DAMAGE; step++)
        TRY(commit_step(store.place, ledger, step));
    for (unsigned step = 1; row->reclaimed && step <= DELETED; step++) {
        memcpy(id.bytes, ledger->steps[step].evidence, 32);
        TRY(journal->remove(store.place, &id, 1, 9));
    }
    if (row->reclaimed)
        TRY(journal->maintain(store.place, 0, NULL, NULL, &freed));
    VV_ASSERT(!row->reclaimed || freed > 0);
    for (unsigned step = BEFORE_DAMAGE + 1; step <= ALL_STEPS; step++)
        TRY(commit_step(store.place, ledger, step));
    memcpy(id.bytes, ledger->steps[BEFORE_DAMAGE + 1].evidence, 32);
    TRY(journal->facts(store.place, &id, &facts));
    vv_journal_close(store.place);
    store.place = NULL;
    TRY(flip(&store.dir, facts.locator + 40));
out:
    vv_commit_facts_release(&facts);
    opened_end(&store);
    return rc;
}

/* The repair is made, and what is left is the close. */
static int note_closing(void *context, const varve_progress *progress)
{
    if (strcmp(progress->what, "closing the log") == 0)
        sweep_closing(context);
    return 0;
}

static varve_status repair_at(const struct vv_vfs *vfs, const char *path, const struct repair_row *row,
                              struct sweep_ledger *ledger)
{
    varve_status rc = VARVE_OK;
    struct vv_dir dir = VV_DIR_NONE;
    const struct vv_layout_options options = { .vfs = vfs,
                                               .durability = VARVE_DURABLE,
                                               .progress = ledger == NULL ? NULL : note_closing,
                                               .context = ledger };
    struct vv_journal_limits limits = small;
    bool done = false;

    if (!row->closes)
        limits.close_records = 0;
    TRY(vv_dir_open(vfs, path, &dir));
    TRY(vv_journal_repair(&dir, &options, &limits, 0, &done));
out:
    vv_dir_close(&dir);
    return rc;
}

static varve_status run_repair(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                               void *context)
{
    sweep_begin(ledger, REPAIR_STEP);
    return sweep_end(ledger, REPAIR_STEP, repair_at(vfs, path, context, ledger), NULL, 0);
}

static varve_status repair_again(const struct vv_vfs *vfs, const char *path, void *context)
{
    return repair_at(vfs, path, context, NULL);
}

static char last_damage[300];
static void note_damage(void *context, const varve_finding *finding)
{
    (void)context;
    if (finding->severity == VARVE_DAMAGE)
        snprintf(last_damage, sizeof last_damage, "%s", finding->text);
}

/* The commits before the damage read as ever; the rest is damaged as it was, or gone as a whole. */
static bool check_repaired(const char *path, struct sweep_ledger *ledger, void *context)
{
    struct opened store = OPENED_NONE;
    const struct vv_layout_options options = { .vfs = &vv_vfs_system,
                                               .read_only = true,
                                               .finding = note_damage };
    const enum sweep_expectation expectation = sweep_expect(ledger, REPAIR_STEP);
    struct vv_layout_stat stat;
    struct vv_ref_facts ref = { .moves = 0 };
    struct model_state expected;
    uint64_t damage = 0;
    bool fine = true;
    const struct repair_row *row = context;

    some_deleted = row->reclaimed;
    if (opened_begin(&store, &vv_vfs_system, path, true, &small) != VARVE_OK)
        return sweep_deny(ledger, "the store does not open: %s", vv_words());
    journal->stat(store.place, &stat);
    if (stat.damaged && expectation == SWEEP_PRESENT)
        fine = sweep_deny(ledger, "repaired, and damaged all the same");
    if (!stat.damaged && expectation == SWEEP_ABSENT)
        fine = sweep_deny(ledger, "the damage is hidden");
    for (unsigned step = 1; fine && step <= BEFORE_DAMAGE; step++) {
        varve_commit_id id;
        struct vv_commit_facts facts = { .locator = 0 };
        memcpy(id.bytes, ledger->steps[step].evidence, 32);
        if (row->reclaimed && step <= DELETED) {
            if (journal->facts(store.place, &id, &facts) == VARVE_OK)
                fine = sweep_deny(ledger, "step %u was deleted and is back", step);
            vv_commit_facts_release(&facts);
            continue;
        }
        if (expected_state(store.place, &id, &expected) != VARVE_OK ||
            model_compare(journal, store.place, &id, &expected) != VARVE_OK)
            fine = sweep_deny(ledger, "step %u: %s", step, vv_words());
    }
    const bool has_main = journal->ref_get(store.place, "main", &ref) == VARVE_OK;
    if (fine &&
        (!has_main || (!stat.damaged && memcmp(&ref.commit, ledger->steps[BEFORE_DAMAGE].evidence, 32) != 0)))
        fine = sweep_deny(ledger, "main does not stand on the newest whole commit");
    vv_journal_close(store.place);
    if (fine &&
        (vv_journal_check(&store.dir, &options, 0, &damage) != VARVE_OK || (damage != 0) != stat.damaged))
        fine = sweep_deny(ledger, "fsck finds %u damages, the store says %u: %s", (unsigned)damage,
                          (unsigned)stat.damaged, last_damage);
    vv_dir_close(&store.dir);
    return fine;
}

/* Whoever opens the store next writes to it: that is when its debris is passed over. */
static varve_status reopen_journal(const struct vv_vfs *vfs, const char *path, void *context)
{
    varve_status rc = VARVE_OK;
    struct opened store = OPENED_NONE;
    struct vv_ref_facts ref;
    struct vv_ref_move move = { .name = "recovery", .what = "create", .to = &ref.commit, .force = true };

    (void)context;
    TRY(opened_begin(&store, vfs, path, false, &small));
    rc = journal->ref_get(store.place, "main", &ref);
    if (rc == VARVE_NOT_FOUND)
        rc = VARVE_OK;
    else if (rc == VARVE_OK)
        rc = journal->move_refs(store.place, &move, 1, 7);
out:
    opened_end(&store);
    return rc;
}

static bool is_hint(const char *name)
{
    return strcmp(name, "head") == 0 || strncmp(name, "image", 5) == 0;
}

int main(int argc, char **argv)
{
    static unsigned one = 1;
    static unsigned few = 2;
    static unsigned many = 9;
    static bool no = false;
    static bool yes = true;
    static struct repair_row plain = { .closes = false };
    static struct repair_row closing = { .closes = true };
    static struct repair_row reclaimed = { .reclaimed = true };
    const struct sweep_op ops[] = {
        { "create", NULL, run_create, check_journal, NULL, is_hint, NULL },
        { "commit", prepare_journal, run_commits, check_journal, NULL, is_hint, &few },
        { "turnover", prepare_journal, run_commits, check_journal, NULL, is_hint, &many },
        { "refs", prepare_journal, run_refs, check_journal, NULL, is_hint, NULL },
        { "reopened", prepare_journal, run_reopened, check_journal, NULL, is_hint, NULL },
        { "pairs", prepare_pairs, run_snapshots, check_journal, reopen_and_snapshot, is_hint, &no },
        { "pairs-in-use", prepare_pairs, run_snapshots, check_journal, NULL, is_hint, &yes },
        { "code", prepare_journal, run_code, check_journal, NULL, is_hint, NULL },
        { "recovery", prepare_journal, run_commits, check_journal, reopen_journal, is_hint, &one },
        { "repair", prepare_damaged, run_repair, check_repaired, repair_again, is_hint, &plain },
        { "repair-closing", prepare_damaged, run_repair, check_repaired, repair_again, is_hint, &closing },
        { "repair-reclaimed", prepare_damaged, run_repair, check_repaired, repair_again, is_hint,
          &reclaimed },
    };

    sweep_repeats(NULL, 0);
    return sweep_main(argc, argv, ops, sizeof ops / sizeof *ops);
}
