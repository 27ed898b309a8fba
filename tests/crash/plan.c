/* plan.c - see plan.h. */
#include "plan.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "page/root.h"

enum { HELD = 4 };

static varve_status open_store(const struct vv_vfs *vfs, const char *path, uint32_t flags,
                               varve_layout layout, varve_store **store)
{
    const varve_store_options options = { .size = sizeof options,
                                          .flags = flags | VARVE_STORE_NO_THREADS,
                                          .layout = layout };

    *store = NULL;
    return vv_store_open(vfs, path, &options, store);
}

static void state_of(unsigned number, struct model_state *state)
{
    memset(state, 0, sizeof *state);
    for (unsigned step = 1; step <= number; step++) {
        struct model_chance chance = { .state = 500 + step };
        for (unsigned i = 0; i < 3; i++)
            model_mutate(state, &chance);
    }
}

varve_status plan_create(const struct vv_vfs *vfs, const char *path, varve_layout layout,
                         struct sweep_ledger *ledger)
{
    varve_store *store = NULL;
    const varve_status rc = open_store(vfs, path, VARVE_STORE_CREATE, layout, &store);

    if (ledger != NULL)
        sweep_closing(ledger);
    vv_store_close(store);
    return rc;
}

/* ---- Doing -------------------------------------------------------------------------------------- */

struct doing {
    varve_store *store;
    const struct plan_step *steps; /* of all plans so far the states are told by the ledger's evidence */
    struct sweep_ledger *ledger;
    varve_commit *held[HELD];
    unsigned states[HELD]; /* that they have */
    unsigned held_count;
};

/* A step's evidence: a commit's id, and which state it has. */
static void put_evidence(uint8_t evidence[36], const varve_commit_id *id, unsigned state)
{
    memcpy(evidence, id->bytes, 32);
    memcpy(evidence + 32, &state, sizeof state);
}

static unsigned state_in(const struct sweep_ledger *ledger, unsigned step)
{
    unsigned state = 0;

    memcpy(&state, ledger->steps[step].evidence + 32, sizeof state);
    return state;
}

static varve_status commit(struct doing *doing, const struct plan_step *step, uint8_t evidence[36])
{
    const struct vv_layout *layout = doing->store->layout;
    struct vv_place *place = doing->store->place;
    struct vv_commit_facts parent = { .locator = 0 }, made = { .locator = 0 };
    struct vv_ref_move move = { .name = "main", .what = "commit", .to = &made.id };
    struct model_state *states = calloc(2, sizeof *states);
    struct vv_ref_facts ref;
    char message[16];
    bool rooted = true;
    varve_status rc = layout->ref_get(place, "main", &ref);

    VV_ASSERT(states != NULL);
    if (rc == VARVE_OK) {
        rooted = false;
        TRY(layout->facts(place, &ref.commit, &parent));
        state_of(state_in(doing->ledger, (unsigned)strtoul(parent.message, NULL, 10)), &states[0]);
        move.expected = &parent.id;
    } else if (rc != VARVE_NOT_FOUND) {
        goto out;
    }
    state_of(step->of, &states[1]);
    (void)snprintf(message, sizeof message, "%u", step->number);
    TRY(model_commit(layout, place, rooted ? NULL : &states[0], rooted ? NULL : &parent, &states[1], message,
                     &move, VARVE_DURABLE, &made));
    put_evidence(evidence, &made.id, step->of);
out:
    vv_commit_facts_release(&parent);
    vv_commit_facts_release(&made);
    free(states);
    return rc;
}

static varve_status tag(struct doing *doing, const struct plan_step *step, const varve_commit_id *of)
{
    struct vv_ref_move move = { .what = "create", .to = of, .force = true };

    (void)snprintf(move.name, sizeof move.name, "tags/t%u", step->number);
    return doing->store->layout->move_refs(doing->store->place, &move, 1, 5);
}

static varve_status remove_commit(struct doing *doing, const struct plan_step *step,
                                  const varve_commit_id *of)
{
    varve_status rc = VARVE_OK;

    if (step->kind == PLAN_HELD) {
        VV_ASSERT(doing->held_count < HELD);
        TRY(vv_commit_open_id(doing->store, of, &doing->held[doing->held_count]));
        doing->states[doing->held_count++] = state_in(doing->ledger, step->of);
    }
    TRY(doing->store->layout->remove(doing->store->place, of, 1, 6));
out:
    return rc;
}

static varve_status put_code(struct doing *doing, const struct plan_step *step)
{
    uint8_t hash[VV_HASH_SIZE];
    char code[16];

    const int size = snprintf(code, sizeof code, "code %u", step->of);
    vv_code_hash(code, (size_t)size, hash);
    return doing->store->layout->code_put(doing->store->place, hash, code, (size_t)size);
}

/* A step that needs one that failed is not begun. */
static bool can_begin(const struct doing *doing, const struct plan_step *step)
{
    return step->kind == PLAN_COMMIT || step->kind == PLAN_CODE ||
           sweep_expect(doing->ledger, step->of) == SWEEP_PRESENT;
}

static varve_status do_step(struct doing *doing, const struct plan_step *step)
{
    uint8_t evidence[36] = { 0 };
    varve_commit_id of = { { 0 } };
    varve_status rc = VARVE_OK;

    if (!can_begin(doing, step))
        return VARVE_OK;
    if (step->kind != PLAN_COMMIT && step->kind != PLAN_CODE)
        memcpy(of.bytes, doing->ledger->steps[step->of].evidence, sizeof of.bytes);
    sweep_begin(doing->ledger, step->number);
    /* What it makes is told beforehand: it may be there although nobody learns of it. */
    if (step->kind == PLAN_COMMIT) {
        put_evidence(evidence, &of, step->of);
        memcpy(doing->ledger->steps[step->number].evidence, evidence, sizeof evidence);
        rc = commit(doing, step, evidence);
    } else {
        memcpy(evidence, of.bytes, sizeof of.bytes);
        rc = step->kind == PLAN_TAG    ? tag(doing, step, &of)
             : step->kind == PLAN_CODE ? put_code(doing, step)
                                       : remove_commit(doing, step, &of);
    }
    return sweep_end(doing->ledger, step->number, rc, evidence, sizeof evidence);
}

/* What was held reads as it did, deleted or not. */
static varve_status let_go(struct doing *doing)
{
    struct past *past = calloc(1, sizeof *past);
    varve_status rc = VARVE_OK;

    VV_ASSERT(past != NULL);
    while (doing->held_count > 0) {
        varve_commit *held = doing->held[--doing->held_count];
        state_of(doing->states[doing->held_count], &past->commits[0].state);
        if (rc == VARVE_OK)
            rc = past_read_held(past, doing->store, held, 0);
        vv_commit_close(held);
    }
    free(past);
    return rc;
}

/* What is due first: it tells what fails, as closing does not. */
static varve_status close_store(struct doing *doing)
{
    varve_status rc = let_go(doing);
    bool more = true;

    while (rc == VARVE_OK && more)
        rc = doing->store->layout->tidy(doing->store->place, 1 << 20, &more);
    sweep_closing(doing->ledger);
    vv_store_close(doing->store);
    doing->store = NULL;
    return rc;
}

varve_status plan_run(const struct vv_vfs *vfs, const char *path, const struct plan_step *steps,
                      struct sweep_ledger *ledger, void (*ended)(void *context, unsigned step), void *context)
{
    struct doing doing = { .ledger = ledger };
    varve_status rc = open_store(vfs, path, 0, VARVE_LAYOUT_DEFAULT, &doing.store);

    for (; rc != VARVE_MEMORY && doing.store != NULL && steps->kind != PLAN_END; steps++) {
        varve_status status = VARVE_OK;
        if (steps->kind == PLAN_REOPEN) {
            status = close_store(&doing);
            rc = rc == VARVE_OK ? status : rc;
            sweep_reopened(ledger);
            status = open_store(vfs, path, 0, VARVE_LAYOUT_DEFAULT, &doing.store);
        } else {
            status = do_step(&doing, steps);
            if (ended != NULL)
                ended(context, steps->number);
        }
        rc = rc == VARVE_OK ? status : rc;
    }
    if (doing.store != NULL) {
        const varve_status status = close_store(&doing);
        rc = rc == VARVE_OK ? status : rc;
    }
    return rc;
}

/* ---- Looking ------------------------------------------------------------------------------------ */

struct seen {
    bool commit[SWEEP_STEPS];
};

static bool compare_commit(varve_store *store, const struct vv_commit_facts *facts,
                           struct sweep_ledger *ledger, struct seen *seen)
{
    struct model_state *state = calloc(1, sizeof *state);
    const unsigned step = (unsigned)strtoul(facts->message, NULL, 10);
    bool fine = true;

    VV_ASSERT(state != NULL);
    if (step == 0 || step >= SWEEP_STEPS || seen->commit[step])
        fine = sweep_deny(ledger, "there is a commit that nobody made: \"%s\"", facts->message);
    if (fine) {
        seen->commit[step] = true;
        state_of(state_in(ledger, step), state);
        if (model_compare(store->layout, store->place, &facts->id, state) != VARVE_OK)
            fine = sweep_deny(ledger, "the commit of step %u: %s", step, vv_words());
    }
    free(state);
    return fine;
}

static bool see_commits(varve_store *store, struct sweep_ledger *ledger, struct seen *seen)
{
    const uint64_t last = store->layout->last_number(store->place);
    bool fine = true;

    for (uint64_t number = 1; fine && number <= last; number++) {
        struct vv_commit_facts facts = { .locator = 0 };
        varve_commit_id id;
        varve_status rc = store->layout->find_number(store->place, number, &id);
        if (rc == VARVE_NOT_FOUND)
            continue;
        if (rc == VARVE_OK)
            rc = store->layout->facts(store->place, &id, &facts);
        fine = rc == VARVE_OK ? compare_commit(store, &facts, ledger, seen)
                              : sweep_deny(ledger, "commit number %u: %s", (unsigned)number, vv_words());
        vv_commit_facts_release(&facts);
    }
    return fine;
}

/* What a step and the removals of what it made come to. */
static enum sweep_expectation expect_commit(const struct plan_step *const *plans,
                                            const struct sweep_ledger *ledger, unsigned step)
{
    const enum sweep_expectation made = sweep_expect(ledger, step);

    for (; made != SWEEP_ABSENT && *plans != NULL; plans++)
        for (const struct plan_step *later = *plans; later->kind != PLAN_END; later++) {
            if ((later->kind != PLAN_REMOVE && later->kind != PLAN_HELD) || later->of != step)
                continue;
            const enum sweep_expectation removed = sweep_expect(ledger, later->number);
            if (removed != SWEEP_ABSENT)
                return removed == SWEEP_PRESENT ? SWEEP_ABSENT : SWEEP_EITHER;
        }
    return made;
}

static bool see_tag(varve_store *store, const struct plan_step *step, struct sweep_ledger *ledger)
{
    const enum sweep_expectation expected = sweep_expect(ledger, step->number);
    struct vv_ref_facts ref;
    char name[32];

    (void)snprintf(name, sizeof name, "tags/t%u", step->number);
    const varve_status rc = store->layout->ref_get(store->place, name, &ref);
    if (expected == SWEEP_PRESENT && rc != VARVE_OK)
        return sweep_deny(ledger, "%s was made and is gone: %s", name, vv_words());
    if (expected == SWEEP_ABSENT && rc == VARVE_OK)
        return sweep_deny(ledger, "%s is there, though it never was made", name);
    if (rc == VARVE_OK && memcmp(ref.commit.bytes, ledger->steps[step->of].evidence, 32) != 0)
        return sweep_deny(ledger, "%s names another commit", name);
    return true;
}

static bool see_code(varve_store *store, const struct plan_step *step, struct sweep_ledger *ledger)
{
    uint8_t hash[VV_HASH_SIZE];
    uint8_t *code = NULL;
    size_t found = 0;
    char wanted[16];

    const int size = snprintf(wanted, sizeof wanted, "code %u", step->of);
    vv_code_hash(wanted, (size_t)size, hash);
    const varve_status rc = store->layout->code_get(store->place, hash, &code, &found);
    free(code);
    if (sweep_expect(ledger, step->number) == SWEEP_PRESENT && rc != VARVE_OK)
        return sweep_deny(ledger, "code %u was put and is gone: %s", step->of, vv_words());
    return true;
}

/* The newest commit that must be there, or one that was made after it: the ref moves with the commit. */
static bool see_main(varve_store *store, const struct plan_step *const *plans, struct sweep_ledger *ledger,
                     const struct seen *seen)
{
    struct vv_ref_facts ref;
    struct vv_commit_facts facts = { .locator = 0 };
    unsigned newest = 0;

    (void)plans;
    for (unsigned step = 1; step < SWEEP_STEPS; step++)
        if (seen->commit[step])
            newest = step;
    varve_status rc = store->layout->ref_get(store->place, "main", &ref);
    if (newest == 0)
        return rc == VARVE_NOT_FOUND || sweep_deny(ledger, "main is there without a commit");
    if (rc == VARVE_OK)
        rc = store->layout->facts(store->place, &ref.commit, &facts);
    if (rc != VARVE_OK)
        return sweep_deny(ledger, "main, with commits: %s", vv_words());
    const unsigned at = (unsigned)strtoul(facts.message, NULL, 10);
    vv_commit_facts_release(&facts);
    return at == newest ||
           sweep_deny(ledger, "main stands on step %u, the newest commit is of %u", at, newest);
}

static bool see_all(varve_store *store, const struct plan_step *const *plans, struct sweep_ledger *ledger)
{
    struct seen seen = { .commit = { false } };
    bool fine = see_commits(store, ledger, &seen) && see_main(store, plans, ledger, &seen);

    for (const struct plan_step *const *plan = plans; fine && *plan != NULL; plan++)
        for (const struct plan_step *step = *plan; fine && step->kind != PLAN_END; step++) {
            if (step->kind == PLAN_TAG)
                fine = see_tag(store, step, ledger);
            if (step->kind == PLAN_CODE)
                fine = see_code(store, step, ledger);
            if (step->kind != PLAN_COMMIT)
                continue;
            const enum sweep_expectation expected = expect_commit(plans, ledger, step->number);
            if (expected == SWEEP_PRESENT && !seen.commit[step->number])
                fine = sweep_deny(ledger, "the commit of step %u was acknowledged and is gone", step->number);
            if (expected == SWEEP_ABSENT && seen.commit[step->number])
                fine = sweep_deny(ledger, "the commit of step %u is there and must not be", step->number);
        }
    return fine;
}

/* Under one opening. */
static bool look(const char *path, uint32_t flags, const struct plan_step *const *plans,
                 struct sweep_ledger *ledger)
{
    varve_store *store = NULL;

    if (open_store(&vv_vfs_system, path, flags, VARVE_LAYOUT_DEFAULT, &store) != VARVE_OK)
        return sweep_deny(ledger, "it does not open: %s", vv_words());
    const bool fine = see_all(store, plans, ledger);
    vv_store_close(store);
    return fine;
}

/* Nothing in the store's directory is half-made or half-deleted any more. */
static bool is_clean(const char *path, struct sweep_ledger *ledger)
{
    DIR *dir = opendir(path);
    bool fine = dir != NULL;

    for (const struct dirent *entry = fine ? readdir(dir) : NULL; fine && entry != NULL; entry = readdir(dir))
        if (strncmp(entry->d_name, ".tmp-", 5) == 0 || strncmp(entry->d_name, ".trash-", 7) == 0)
            fine = sweep_deny(ledger, "%s is left behind", entry->d_name);
    if (dir != NULL)
        (void)closedir(dir);
    return fine;
}

static void first_words(void *context, const varve_finding *finding)
{
    char *words = context;

    if (finding->severity == VARVE_DAMAGE && words[0] == '\0')
        (void)snprintf(words, 200, "%s: %s", finding->file == NULL ? "" : finding->file, finding->text);
}

bool plan_check(const char *path, const struct plan_step *const *plans, struct sweep_ledger *ledger)
{
    char words[200] = "";
    const varve_check_options options = { .size = sizeof options, .finding = first_words, .context = words };
    uint64_t damage = 0;

    if (!look(path, VARVE_STORE_READ_ONLY, plans, ledger) || !look(path, 0, plans, ledger))
        return false;
    if (vv_store_check(&vv_vfs_system, path, &options, &damage) != VARVE_OK)
        return sweep_deny(ledger, "the check fails: %s", vv_words());
    if (damage != 0)
        return sweep_deny(ledger, "the check finds damage: %s", words);
    return is_clean(path, ledger);
}
