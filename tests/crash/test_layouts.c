/* A store of any layout, through its own API: killed before and in the middle of every call that changes the disk, each
 * call and allocation failed, recovery the same, and the power lost with any part of what was pending.
 *
 *   layouts LAYOUT [ROW | -ROW]...     rows of the table at the end (sweep.h), and `power` (replay.h)
 *
 *   plan     what is done: an opening after the other, deeds in each; what a layout cannot do (`can`) is left out
 *   story    what was done, as a list of histories: which commits are there and where refs stand. A layout that is
 *            durable at commit begins one with each deed and promises it when that ends well; another one begins one
 *            with each persist, and with each move or removal, which it may keep before it is promised
 *   judge    what is left is one of the histories, whole: none before the last that was promised, none that failed;
 *            every commit in it reads as it was made, promised bytecode too, and fsck finds nothing
 * A commit's message lists the steps that lead to it, and its state follows from that. What is special about one layout
 * (limits, files that must not change, debris) is in its own test beside this one. */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "model.h"
#include "page/root.h"
#include "replay.h"
#include "scratch.h"
#include "store/store.h"
#include "sweep.h"
#include "tally.h"

static varve_layout layout_id;
static const char *layout_name;

/* ---- Plans -------------------------------------------------------------------------------------- */

/* COMMIT n: on main, as step n. Refs are moved to the commit of a step. */
enum deed_kind { END, OPEN, COMMIT, PERSIST, TAG, UNTAG, SIDE, RESTORE, REMOVE, CODE, TIDY };
struct deed {
    enum deed_kind kind;
    unsigned step;
};

static const struct deed of_old[] = { { OPEN, 0 },    { COMMIT, 1 }, { COMMIT, 2 },  { COMMIT, 3 },  { CODE, 1 },
                                      { PERSIST, 0 }, { TAG, 2 },    { PERSIST, 0 }, { COMMIT, 4 },  { PERSIST, 0 },
                                      { TIDY, 0 },    { OPEN, 0 },   { COMMIT, 5 },  { PERSIST, 0 }, { END, 0 } };
static const struct deed of_create[] = { { OPEN, 0 }, { COMMIT, 1 }, { PERSIST, 0 }, { END, 0 } };
static const struct deed of_commit[] = {
    { OPEN, 0 }, { COMMIT, 6 }, { COMMIT, 7 }, { PERSIST, 0 }, { COMMIT, 8 }, { PERSIST, 0 }, { END, 0 }
};
static const struct deed of_refs[] = { { OPEN, 0 },    { SIDE, 3 },   { PERSIST, 0 }, { RESTORE, 4 }, { PERSIST, 0 },
                                       { UNTAG, 0 },   { PERSIST, 0 }, { COMMIT, 6 },  { CODE, 2 },    { PERSIST, 0 },
                                       { TAG, 1 },     { PERSIST, 0 }, { END, 0 } };
static const struct deed of_remove[] = { { OPEN, 0 },    { REMOVE, 3 },  { PERSIST, 0 }, { REMOVE, 1 },
                                         { PERSIST, 0 }, { COMMIT, 6 },  { PERSIST, 0 }, { TIDY, 0 },
                                         { COMMIT, 7 },  { PERSIST, 0 }, { END, 0 } };
static const struct deed of_reopened[] = { { OPEN, 0 },    { COMMIT, 6 }, { PERSIST, 0 }, { OPEN, 0 },
                                           { COMMIT, 7 },  { PERSIST, 0 }, { END, 0 } };
static const struct deed of_recovery[] = { { OPEN, 0 }, { COMMIT, 6 }, { PERSIST, 0 }, { END, 0 } };

/* ---- The story ---------------------------------------------------------------------------------- */

enum { STEPS = 12, HISTORIES = 32, MESSAGE = 64, CODES = 3, REFS = 3, NO_STEP = 0, GOING_ON = STEPS - 1 };
static const char *const ref_names[REFS] = { "main", "tags/t", "side" };

struct history {
    bool made; /* the store itself */
    bool has[STEPS];
    unsigned stands[REFS]; /* NO_STEP: there is no such ref */
    bool failed;           /* it must not be what is left */
    unsigned begun, durable; /* calls, where they are counted; durable: UINT_MAX when it was not promised */
};
/* In shared memory: children do and judge. */
struct story {
    struct history now; /* as the open store tells it */
    struct history histories[HISTORIES];
    unsigned count, promised; /* of `histories` */
    bool failed;              /* some deed has */
    varve_commit_id ids[STEPS];
    unsigned code_durable[CODES]; /* calls, and 1; 0: not promised */
};
static struct replay *counting; /* the calls; NULL: nobody does */

static void begin_story(struct story *story)
{
    memset(story, 0, sizeof *story);
    story->count = 1;
}

static struct history *begin(struct story *story, const struct history *then)
{
    VV_ASSERT(story->count < HISTORIES);
    struct history *history = &story->histories[story->count];
    *history = *then;
    history->begun = counting == NULL ? 0 : replay_calls(counting);
    history->durable = UINT_MAX;
    history->failed = false;
    story->count++; /* a kill may come at any time from here on */
    return history;
}

static void end(struct story *story, struct history *history, bool promises, varve_status rc)
{
    history->failed = rc != VARVE_OK && rc != VARVE_UNCERTAIN;
    if (rc != VARVE_OK || !promises)
        return;
    history->durable = counting == NULL ? 0 : replay_mark(counting);
    story->promised = (unsigned)(history - story->histories);
}

/* What a commit with this message must hold. */
static void state_of(const char *message, struct model_state *state)
{
    memset(state, 0, sizeof *state);
    for (const char *at = message; *at != '\0';) {
        char *rest = NULL;
        struct model_chance chance = { .state = 3000 + strtoul(at, &rest, 10) };
        for (unsigned i = 0; i < 4; i++)
            model_mutate(state, &chance);
        at = *rest == ' ' ? rest + 1 : rest;
    }
}

static unsigned step_of(const char *message)
{
    const char *last = strrchr(message, ' ');

    return (unsigned)strtoul(last == NULL ? message : last + 1, NULL, 10);
}

/* ---- Doing and telling -------------------------------------------------------------------------- */

static bool is_durable(const varve_store *store)
{
    return (store->layout->can & VV_CAN_DURABLE) != 0;
}

static varve_status open_store(const struct vv_vfs *vfs, const char *path, uint32_t flags, varve_store **store)
{
    const varve_store_options options = { .size = sizeof options,
                                          .flags = flags | VARVE_STORE_NO_THREADS,
                                          .snapshot_bytes = 8 << 10,
                                          .layout = (flags & VARVE_STORE_CREATE) != 0 ? layout_id
                                                                                      : VARVE_LAYOUT_DEFAULT };

    *store = NULL;
    return vv_store_open(vfs, path, &options, store);
}

static varve_status commit(struct story *story, varve_store *store, unsigned step)
{
    varve_status rc = VARVE_OK;
    const unsigned from = story->now.stands[0];
    struct vv_commit_facts parent = { .locator = 0 };
    struct vv_commit_facts made = { .locator = 0 };
    struct vv_ref_move move = { .name = "main", .what = "commit", .to = &made.id };
    struct history then = story->now;
    struct history *history = NULL;
    struct model_state base = { .meta = 0 };
    struct model_state after;
    char message[MESSAGE];

    (void)snprintf(message, sizeof message, "%u", step);
    if (from != NO_STEP) {
        TRY(store->layout->facts(store->place, &story->ids[from], &parent));
        state_of(parent.message, &base);
        move.expected = &parent.id;
        (void)snprintf(message, sizeof message, "%.40s %u", parent.message, step);
    }
    state_of(message, &after);
    then.has[step] = true;
    then.stands[0] = step;
    if (is_durable(store))
        history = begin(story, &then);
    rc = model_commit(store->layout, store->place, &base, from == NO_STEP ? NULL : &parent, &after, message, &move,
                      is_durable(store) ? VARVE_DURABLE : VARVE_BUFFERED, &made);
    if (history != NULL)
        end(story, history, true, rc);
    if (rc == VARVE_OK) {
        story->ids[step] = made.id;
        story->now = then;
    }
out:
    vv_commit_facts_release(&parent);
    vv_commit_facts_release(&made);
    return rc;
}

static varve_status persist(struct story *story, varve_store *store)
{
    struct history *history = begin(story, &story->now);
    const varve_status rc = store->layout->persist(store->place);

    end(story, history, true, rc);
    return rc;
}

static varve_status move_ref(struct story *story, varve_store *store, unsigned ref, unsigned step)
{
    struct vv_ref_move move = { .what = step == NO_STEP ? "delete" : "restore",
                                .to = step == NO_STEP ? NULL : &story->ids[step],
                                .force = true };
    struct history then = story->now;

    if (step == NO_STEP ? then.stands[ref] == NO_STEP : !then.has[step])
        return VARVE_OK; /* an earlier deed failed */
    (void)snprintf(move.name, sizeof move.name, "%s", ref_names[ref]);
    then.stands[ref] = step;
    struct history *history = begin(story, &then);
    const varve_status rc = store->layout->move_refs(store->place, &move, 1, 1000);
    end(story, history, is_durable(store), rc);
    if (rc == VARVE_OK)
        story->now = then;
    return rc;
}

static varve_status remove_commit(struct story *story, varve_store *store, unsigned step)
{
    struct history then = story->now;

    for (unsigned ref = 0; ref < REFS; ref++)
        if (!then.has[step] || then.stands[ref] == step)
            return VARVE_OK;
    then.has[step] = false;
    struct history *history = begin(story, &then);
    const varve_status rc = store->layout->remove(store->place, &story->ids[step], 1, 1000);
    end(story, history, is_durable(store), rc);
    if (rc == VARVE_OK)
        story->now = then;
    return rc;
}

static size_t code_text(unsigned code, char text[1500], uint8_t hash[VV_HASH_SIZE])
{
    const size_t size = (size_t)snprintf(text, 1500, "%01400u", code);

    vv_code_hash(text, size, hash);
    return size;
}

static varve_status put_code(struct story *story, varve_store *store, unsigned code)
{
    char text[1500];
    uint8_t hash[VV_HASH_SIZE];
    const size_t size = code_text(code, text, hash);
    const varve_status rc = store->layout->code_put(store->place, hash, text, size);

    if (rc == VARVE_OK)
        story->code_durable[code] = counting == NULL ? 1 : 1 + replay_mark(counting);
    return rc;
}

static varve_status tidy(varve_store *store)
{
    varve_status rc = VARVE_OK;
    uint64_t freed = 0;
    bool more = true;

    TRY(store->layout->maintain(store->place, 0, NULL, NULL, &freed));
    while (more)
        TRY(store->layout->tidy(store->place, 1 << 20, &more));
out:
    return rc;
}

static varve_status do_deed(struct story *story, varve_store *store, const struct deed *deed)
{
    const unsigned can = store->layout->can;

    switch (deed->kind) {
    case COMMIT:
        return commit(story, store, deed->step);
    case PERSIST:
        return is_durable(store) ? VARVE_OK : persist(story, store);
    case TAG:
        return move_ref(story, store, 1, deed->step);
    case UNTAG:
        return move_ref(story, store, 1, NO_STEP);
    case SIDE:
        return (can & VV_CAN_BRANCH) == 0 ? VARVE_OK : move_ref(story, store, 2, deed->step);
    case RESTORE:
        return move_ref(story, store, 0, deed->step);
    case REMOVE:
        return (can & VV_CAN_DELETE) == 0 ? VARVE_OK : remove_commit(story, store, deed->step);
    case CODE:
        return put_code(story, store, deed->step);
    case TIDY:
        return tidy(store);
    default:
        return VARVE_OK;
    }
}

static bool read_history(varve_store *store, struct history *found, varve_commit_id ids[STEPS], char denial[512]);

/* Where the story goes on: with what was promised last; after a failure, with what the store says. Whether that may be
 * is the check's to say. */
static varve_status go_on_with(struct story *story, varve_store *store)
{
    char denial[512] = "";

    if (!story->failed) {
        story->now = story->histories[story->promised];
        return VARVE_OK;
    }
    return read_history(store, &story->now, story->ids, denial) ? VARVE_OK
                                                                 : vv_fail(VARVE_CORRUPT, "reopened: %s", denial);
}

static varve_status open_by_plan(struct story *story, const struct vv_vfs *vfs, const char *path, varve_store **store)
{
    varve_status rc = VARVE_OK;
    struct history *history = NULL;

    if (!story->histories[story->promised].made) {
        history = begin(story, &(struct history){ .made = true });
        rc = open_store(vfs, path, VARVE_STORE_CREATE, store);
        end(story, history, true, rc);
    } else {
        rc = open_store(vfs, path, 0, store);
    }
    return rc != VARVE_OK ? rc : go_on_with(story, *store);
}

static void close_by_plan(varve_store **store, struct sweep_ledger *ledger)
{
    if (ledger != NULL)
        sweep_closing(ledger);
    vv_store_close(*store);
    *store = NULL;
}

/* All deeds of a plan, those behind one that failed too. `ledger` may be NULL. */
static varve_status run_plan(const struct deed *plan, struct story *story, const struct vv_vfs *vfs, const char *path,
                             struct sweep_ledger *ledger)
{
    varve_status first = VARVE_OK;
    varve_store *store = NULL;

    for (unsigned i = 0; plan[i].kind != END; i++) {
        varve_status rc = VARVE_OK;
        if (plan[i].kind != OPEN && store == NULL)
            continue;
        if (plan[i].kind == OPEN) {
            close_by_plan(&store, ledger);
            if (ledger != NULL)
                sweep_reopened(ledger);
        }
        if (ledger != NULL)
            sweep_begin(ledger, i);
        rc = plan[i].kind == OPEN ? open_by_plan(story, vfs, path, &store) : do_deed(story, store, &plan[i]);
        if (ledger != NULL)
            (void)sweep_end(ledger, i, rc, NULL, 0);
        story->failed = story->failed || rc != VARVE_OK;
        first = first == VARVE_OK ? rc : first;
    }
    close_by_plan(&store, ledger);
    return first;
}

/* ---- Judging ------------------------------------------------------------------------------------ */

static bool deny(char denial[512], const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool deny(char denial[512], const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(denial, 512, format, arguments);
    va_end(arguments);
    return false;
}

/* What the store says, as a history; each commit reads as its message says. */
static bool read_history(varve_store *store, struct history *found, varve_commit_id ids[STEPS], char denial[512])
{
    const struct vv_layout *layout = store->layout;
    const uint64_t last = layout->last_number(store->place);
    struct vv_ref_facts ref;

    memset(found, 0, sizeof *found);
    found->made = true;
    for (uint64_t number = 1; number <= last; number++) {
        struct vv_commit_facts facts = { .locator = 0 };
        struct model_state expected;
        varve_commit_id id;
        const varve_status rc = layout->find_number(store->place, number, &id);
        if (rc == VARVE_NOT_FOUND)
            continue;
        if (rc != VARVE_OK || layout->facts(store->place, &id, &facts) != VARVE_OK)
            return deny(denial, "commit %u: %s", (unsigned)number, vv_words());
        const unsigned step = step_of(facts.message);
        state_of(facts.message, &expected);
        vv_commit_facts_release(&facts);
        if (step == NO_STEP || step >= STEPS || found->has[step])
            return deny(denial, "commit %u is none that was made", (unsigned)number);
        if (model_compare(layout, store->place, &id, &expected) != VARVE_OK)
            return deny(denial, "step %u: %s", step, vv_words());
        found->has[step] = true;
        ids[step] = id;
    }
    for (varve_status rc = layout->ref_next(store->place, "", &ref); rc != VARVE_END;
         rc = layout->ref_next(store->place, ref.name, &ref)) {
        unsigned which = 0;
        if (rc != VARVE_OK)
            return deny(denial, "refs: %s", vv_words());
        if (vv_id_is_zero(&ref.commit))
            continue;
        while (which < REFS && strcmp(ref.name, ref_names[which]) != 0)
            which++;
        if (which == REFS)
            return deny(denial, "ref %s is none that was made", ref.name);
        for (unsigned step = 1; step < STEPS; step++)
            if (found->has[step] && vv_id_equal(&ids[step], &ref.commit))
                found->stands[which] = step;
        if (found->stands[which] == NO_STEP)
            return deny(denial, "ref %s names a commit that is not there", ref.name);
    }
    return true;
}

static bool equal(const struct history *a, const struct history *b)
{
    return a->made == b->made && memcmp(a->has, b->has, sizeof a->has) == 0 &&
           memcmp(a->stands, b->stands, sizeof a->stands) == 0;
}

/* `calls`: how many had been made when this was left; UINT_MAX: all. */
static bool may_be(const struct story *story, const struct history *found, unsigned calls)
{
    unsigned least = 0;

    for (unsigned i = 0; i < story->count; i++)
        if (calls == UINT_MAX ? i <= story->promised : story->histories[i].durable <= calls)
            least = i;
    if (!story->histories[least].made && equal(found, &(struct history){ .made = true }))
        return true; /* whoever looked at what an interrupted create left has made it */
    for (unsigned i = least; i < story->count; i++)
        if (!story->histories[i].failed && story->histories[i].begun <= calls && equal(&story->histories[i], found))
            return true;
    return false;
}

static const char *words_of(const struct history *history, char words[160])
{
    int used = snprintf(words, 160, "main %u, tag %u, side %u:", history->stands[0], history->stands[1],
                        history->stands[2]);

    for (unsigned i = 0; i < STEPS; i++)
        if (history->has[i] && used < 150)
            used += snprintf(words + used, 160 - (size_t)used, " %u", i);
    return words;
}

static bool judge_codes(const struct story *story, varve_store *store, unsigned calls, char denial[512])
{
    for (unsigned code = 0; code < CODES; code++) {
        char text[1500];
        uint8_t hash[VV_HASH_SIZE];
        uint8_t *found = NULL;
        size_t size = 0;
        if (story->code_durable[code] == 0 || (calls != UINT_MAX && story->code_durable[code] - 1 > calls))
            continue;
        const size_t wanted = code_text(code, text, hash);
        const varve_status rc = store->layout->code_get(store->place, hash, &found, &size);
        const bool same = rc == VARVE_OK && size == wanted && memcmp(found, text, size) == 0;
        vv_free(found);
        if (!same)
            return deny(denial, "code %u: %s", code, rc == VARVE_OK ? "it is other bytes" : vv_words());
    }
    return true;
}

static bool judge_open(const struct story *story, varve_store *store, unsigned calls, struct history *found,
                       varve_commit_id ids[STEPS], char denial[512])
{
    struct vv_layout_stat stat = { 0 };
    char words[160];

    store->layout->stat(store->place, &stat);
    if (stat.damaged)
        return deny(denial, "the store says that it is damaged");
    if (!read_history(store, found, ids, denial) || !judge_codes(story, store, calls, denial))
        return false;
    for (unsigned step = 1; step < STEPS; step++)
        if (found->has[step] && !vv_id_is_zero(&story->ids[step]) && !vv_id_equal(&ids[step], &story->ids[step]))
            return deny(denial, "step %u has another id than was told", step);
    return may_be(story, found, calls) ||
           deny(denial, "nobody made this history: %s", words_of(found, words));
}

/* Another commit, and a persist: they are there when the store is opened again, with all that was. */
static bool goes_on(const struct history *found, const varve_commit_id ids[STEPS], varve_store **store,
                    const char *path, char denial[512])
{
    static struct story next;
    static varve_commit_id again[STEPS];
    struct history seen;

    begin_story(&next);
    next.now = next.histories[0] = *found;
    memcpy(next.ids, ids, sizeof next.ids);
    if (commit(&next, *store, GOING_ON) != VARVE_OK || (!is_durable(*store) && persist(&next, *store) != VARVE_OK))
        return deny(denial, "going on: %s", vv_words());
    vv_store_close(*store);
    if (open_store(&vv_vfs_system, path, 0, store) != VARVE_OK)
        return deny(denial, "opened after going on: %s", vv_words());
    return judge_open(&next, *store, UINT_MAX, &seen, again, denial);
}

/* Open as who comes next would, and compare; `and_go_on`: with one more commit. */
static bool judge(const struct story *story, const char *path, unsigned calls, bool and_go_on, char denial[512])
{
    static varve_commit_id ids[STEPS];
    const varve_check_options options = { .size = sizeof options };
    struct history found = { .made = false };
    varve_store *store = NULL;
    uint64_t damage = 0;

    memset(ids, 0, sizeof ids);
    const varve_status rc = open_store(&vv_vfs_system, path, 0, &store);
    if (rc == VARVE_NOT_FOUND && may_be(story, &found, calls)) {
        /* Its making was cut short: then it can be made. */
        if (open_store(&vv_vfs_system, path, VARVE_STORE_CREATE, &store) != VARVE_OK)
            return deny(denial, "making it after an interrupted create: %s", vv_words());
        vv_store_close(store);
        return true;
    }
    if (rc != VARVE_OK)
        return deny(denial, "the store does not open: %s", vv_words());
    bool fine = judge_open(story, store, calls, &found, ids, denial);
    if (fine && and_go_on)
        fine = goes_on(&found, ids, &store, path, denial);
    vv_store_close(store);
    if (fine && (vv_store_check(&vv_vfs_system, path, &options, &damage) != VARVE_OK || damage != 0))
        fine = deny(denial, "fsck finds %u damages: %s", (unsigned)damage, vv_words());
    return fine;
}

/* ---- Kills and faults --------------------------------------------------------------------------- */

static struct {
    struct story prepared, told;
} *shared;

static varve_status prepare_old(const char *path, struct sweep_ledger *ledger, void *context)
{
    (void)ledger;
    (void)context;
    begin_story(&shared->prepared);
    return run_plan(of_old, &shared->prepared, &vv_vfs_system, path, NULL);
}

/* What was promised before is where a row begins. */
static void begin_anew(struct story *story)
{
    story->histories[0] = story->histories[story->promised];
    story->histories[0].begun = story->histories[0].durable = 0;
    story->count = 1;
    story->promised = 0;
    for (unsigned i = 0; i < CODES; i++)
        story->code_durable[i] = story->code_durable[i] != 0;
}

static varve_status run(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger, void *context)
{
    if (context == of_create)
        begin_story(&shared->told);
    else
        shared->told = shared->prepared;
    begin_anew(&shared->told);
    return run_plan(context, &shared->told, vfs, path, ledger);
}

static varve_status reopen(const struct vv_vfs *vfs, const char *path, void *context)
{
    varve_store *store = NULL;
    const varve_status rc = open_store(vfs, path, 0, &store);

    (void)context;
    vv_store_close(store);
    return rc;
}

static bool check(const char *path, struct sweep_ledger *ledger, void *context)
{
    char denial[512] = "";

    (void)context;
    return judge(&shared->told, path, UINT_MAX, false, denial) || sweep_deny(ledger, "%s", denial);
}

/* Caches and words: a sync of them that failed may be passed over. */
static bool is_hint(const char *name)
{
    static const char *const hints[] = { "head", "image", "history.end", ".varve/lock", ".varve/images",
                                         ".varve/history.end" };

    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
        if (strncmp(name, hints[i], strlen(hints[i])) == 0)
            return true;
    return false;
}

/* ---- The power goes ----------------------------------------------------------------------------- */

static _Noreturn void give_up(const char *what)
{
    (void)fprintf(stderr, "test_layouts: %s: %s\n", what, vv_words());
    exit(2);
}

static bool judge_left(void *context, const char *world, unsigned calls, char denial[512])
{
    char path[SCRATCH_PATH + 32];

    (void)snprintf(path, sizeof path, "%s/store", world);
    return judge(context, path, calls, true, denial);
}

static bool is_dull(const char *path)
{
    return strcmp(path, "store/.varve/lock") == 0; /* words for people */
}

static bool is_head(const char *path)
{
    return strcmp(path, "store/head") == 0;
}

/* One plan, recorded, on a new store or on the old one; then every so-manieth state that may be left of it. */
static void lose_power(const struct deed *plan, const char *name, unsigned one_in, struct replay_report *report)
{
    const struct replay_scope scope = { .name = name,
                                        .chances = 2,
                                        .one_in = one_in,
                                        .enough = 40,
                                        .is_dull = is_dull,
                                        .is_hint = is_head };
    char world[SCRATCH_PATH];
    char path[SCRATCH_PATH + 32];
    struct vv_double d;
    struct story *story = &shared->told;
    const uint64_t checked = report->checked;
    const uint64_t found = report->violations;

    scratch_new(world);
    (void)snprintf(path, sizeof path, "%s/store", world);
    begin_story(story);
    if (plan != of_create && run_plan(of_old, story, &vv_vfs_system, path, NULL) != VARVE_OK)
        give_up("a store with history");
    begin_anew(story);
    struct replay *replay = replay_new();
    replay_begin(replay, world);
    vv_double_init(&d, &vv_vfs_system);
    replay_attach(replay, &d);
    counting = replay;
    if (run_plan(plan, story, &d.table, path, NULL) != VARVE_OK)
        give_up(name);
    counting = NULL;
    replay_run(replay, &scope, judge_left, story, report);
    (void)printf("power: %-12s %u calls, %llu states checked, %llu violations\n", name, replay_calls(replay),
                 (unsigned long long)(report->checked - checked), (unsigned long long)(report->violations - found));
    replay_free(replay);
    scratch_remove(world);
}

static int power(void)
{
    struct replay_report report = { .workloads = 0 };
    const char *text = getenv("VARVE_TEST_SCALE");
    const unsigned scale = text == NULL || atol(text) < 1 ? 1 : (unsigned)atol(text);
    const bool is_journal = layout_id == VARVE_LAYOUT_JOURNAL; /* few calls; the others make many for a commit */
    const unsigned one_in = is_journal || scale >= 12 ? 1 : 12 / scale;

    scratch_in_memory();
    lose_power(of_create, "create", one_in, &report);
    lose_power(of_commit, "commit", one_in, &report);
    lose_power(of_refs, "refs", one_in, &report);
    lose_power(of_remove, "remove", one_in, &report);
    lose_power(of_reopened, "reopened", one_in, &report);
    tally("replay", report.checked, report.violations);
    return report.violations == 0 && report.checked > 0 ? 0 : 1;
}

/* ---- The program -------------------------------------------------------------------------------- */

static bool choose(const char *name)
{
    static const struct vv_layout *const all[] = { &vv_layout_journal, &vv_layout_flat, &vv_layout_chain,
                                                   &vv_layout_tree };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strcmp(all[i]->name, name) == 0) {
            layout_id = all[i]->id;
            layout_name = all[i]->name;
            return true;
        }
    }
    return false;
}

#define PLAN(plan) (void *)(uintptr_t)(plan)

int main(int argc, char **argv)
{
    const struct sweep_op ops[] = {
        { "create", NULL, run, check, NULL, is_hint, PLAN(of_create) },
        { "commit", prepare_old, run, check, NULL, is_hint, PLAN(of_commit) },
        { "refs", prepare_old, run, check, NULL, is_hint, PLAN(of_refs) },
        { "remove", prepare_old, run, check, NULL, is_hint, PLAN(of_remove) },
        { "reopened", prepare_old, run, check, NULL, is_hint, PLAN(of_reopened) },
        { "recovery", prepare_old, run, check, reopen, is_hint, PLAN(of_recovery) },
    };

    if (argc < 2 || !choose(argv[1])) {
        (void)fprintf(stderr, "layouts LAYOUT [ROW | -ROW | power]...: there is no such layout\n");
        return 2;
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        give_up("mmap");
    const bool powers = argc > 2 && strcmp(argv[2], "power") == 0;
    bool all = true; /* nothing is named but what is left out */
    for (int i = 2; i < argc; i++)
        all = all && argv[i][0] == '-';
    sweep_repeats(&shared->told, sizeof shared->told);
    int code = powers ? 0 : sweep_main(argc - 1, argv + 1, ops, sizeof ops / sizeof *ops);
    if (powers || all)
        code = power() == 0 ? code : 1;
    return code;
}
