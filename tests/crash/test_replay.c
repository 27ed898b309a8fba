/* What a power loss leaves of a store, whatever it was doing: no promise is broken. Method: replay.h.
 *
 *   story     what was done to a store, deed by deed, and from which call on each deed is promised to last
 *   sequence  up to three operations from the table below, on a new store and on one with history; the points
 *             of the last one are looked at, those before being another sequence's
 *   judge     the store that is left opens, undamaged, and holds exactly the deeds up to some one of them, which is
 *             no earlier than the last promised and no later than the last begun; opening it again changes
 *             nothing; one more commit can be made and is there
 *   killed    before the power went, a process was killed at any of its calls, and another went on in what it had
 *             left in the page cache: what that one promises must last too
 *   twice     after a power loss a second one, at any call of whoever went on, who commits the very bytes that
 *             the first one took (J2)
 *   repair    a damaged store is repaired, by one who is killed and by the next too: what a power loss leaves of that is
 *             damaged, by its own word, as before, or repaired, and it is that from when a repair has returned
 *   little    some of each, for planted bugs
 * The journal is compiled in with its torture limits, so that a sequence meets checkpoints and new segments. With
 * --layout tree the same is done to that layout. */
#include <stdarg.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <ftw.h>
#include <limits.h>
#include <unistd.h>

#include "base/alloc.h"
#include "model.h"
#include "page/root.h"
#include "replay.h"
#include "scratch.h"
#include "store/journal/journal.h"
#include "store/journal/log.h"
#include "store/store.h"
#include "tally.h"

enum { DEEDS = 48, REFS = 16, OPERATIONS_MAX = 3, HUGE_PAGES = 18 };
#define NEVER UINT_MAX

/* ---- The story ---------------------------------------------------------------------------------- */

enum deed_kind { CREATED, COMMITTED, MOVED, REMOVED, PROMISED };
struct deed {
    enum deed_kind kind;
    unsigned begun, durable; /* calls that had been made; durable: NEVER, when it was not promised */
    unsigned step;           /* of a commit: its message */
    int parent;              /* deed, or -1 */
    struct model_state state;
    unsigned code; /* that it goes with; 0: none */
    char ref[16];  /* that it moves; "": none */
    int target;    /* MOVED: to this deed's commit; -1: the ref goes. REMOVED: this deed's commit */
};
struct story {
    struct deed deeds[DEEDS];
    unsigned count, steps;
    unsigned code_durable[DEEDS]; /* calls, by number of the code; 0: not put */
    unsigned codes;
};

struct run {
    const struct vv_vfs *vfs;
    struct replay *replay; /* NULL: nothing is recorded */
    struct story *story;
    varve_store *store;
    char path[SCRATCH_PATH + 32];
};

static _Noreturn void give_up(const char *what)
{
    (void)fprintf(stderr, "test_replay: %s: %s\n", what, vv_words());
    exit(2);
}

/* After a promise in a run that is not recorded everything is durable from the start. */
static unsigned now(const struct run *run)
{
    return run->replay == NULL ? 0 : replay_calls(run->replay);
}

static struct deed *begin_deed(struct run *run, enum deed_kind kind)
{
    struct story *story = run->story;

    VV_ASSERT(story->count < DEEDS);
    struct deed *deed = &story->deeds[story->count];
    *deed = (struct deed){ .kind = kind, .begun = now(run), .durable = NEVER, .parent = -1, .target = -1 };
    story->count++; /* a kill may come at any time from here on */
    return deed;
}

static void promise(struct run *run, struct deed *deed)
{
    deed->durable = run->replay == NULL ? 0 : replay_mark(run->replay);
}

/* Where a ref stands after so many deeds: the deed of the commit; -1: there is no such ref. */
static int stands(const struct story *story, unsigned count, const char *ref)
{
    int at = -1;

    for (unsigned i = 0; i < count; i++) {
        const struct deed *deed = &story->deeds[i];
        if (strcmp(deed->ref, ref) == 0)
            at = deed->kind == COMMITTED ? (int)i : deed->target;
    }
    return at;
}

static bool is_removed(const struct story *story, unsigned count, int commit)
{
    for (unsigned i = 0; i < count; i++)
        if (story->deeds[i].kind == REMOVED && story->deeds[i].target == commit)
            return true;
    return false;
}

static int deed_of_step(const struct story *story, unsigned count, unsigned step)
{
    for (unsigned i = 0; i < count; i++)
        if (story->deeds[i].kind == COMMITTED && story->deeds[i].step == step)
            return (int)i;
    return -1;
}

/* ---- Doing things to a store -------------------------------------------------------------------- */

static varve_layout layout_asked = VARVE_LAYOUT_JOURNAL;

static varve_status open_store(struct run *run, uint32_t flags)
{
    const varve_store_options options = { .size = sizeof options,
                                          .flags = flags | VARVE_STORE_NO_THREADS,
                                          .layout = layout_asked };

    run->store = NULL;
    return vv_store_open(run->vfs, run->path, &options, &run->store);
}

static void close_store(struct run *run)
{
    vv_store_close(run->store);
    run->store = NULL;
}

static varve_status be_open(struct run *run)
{
    varve_status rc = VARVE_OK;
    struct deed *deed = NULL;

    if (run->store != NULL)
        return VARVE_OK;
    if (run->story->count == 0)
        deed = begin_deed(run, CREATED);
    TRY(open_store(run, VARVE_STORE_CREATE));
    if (deed != NULL)
        promise(run, deed);
out:
    return rc;
}

/* The id of a deed's commit, which follows from what it says. */
static varve_status id_of(struct run *run, int deed, varve_commit_id *id)
{
    const uint64_t last = run->store->layout->last_number(run->store->place);

    for (uint64_t number = 1; number <= last; number++) {
        struct vv_commit_facts facts = { .locator = 0 };
        if (run->store->layout->find_number(run->store->place, number, id) != VARVE_OK ||
            run->store->layout->facts(run->store->place, id, &facts) != VARVE_OK)
            continue;
        const unsigned step = (unsigned)strtoul(facts.message, NULL, 10);
        vv_commit_facts_release(&facts);
        if (step == run->story->deeds[deed].step)
            return VARVE_OK;
    }
    return vv_fail(VARVE_NOT_FOUND, "step %u is not there", run->story->deeds[deed].step);
}

static varve_status publish(struct run *run, struct deed *deed, varve_durability durability)
{
    varve_status rc = VARVE_OK;
    varve_store *store = run->store;
    struct vv_commit_facts parent = { .locator = 0 };
    struct vv_commit_facts made = { .locator = 0 };
    struct vv_ref_move move = { .what = "commit", .to = &made.id };
    varve_commit_id parent_id;
    const struct deed *before = deed->parent < 0 ? NULL : &run->story->deeds[deed->parent];
    char message[16];

    (void)snprintf(message, sizeof message, "%u", deed->step);
    (void)snprintf(move.name, sizeof move.name, "%s", deed->ref);
    if (before != NULL) {
        TRY(id_of(run, deed->parent, &parent_id));
        TRY(store->layout->facts(store->place, &parent_id, &parent));
        move.expected = &parent.id;
    }
    TRY(model_commit(store->layout, store->place, before == NULL ? NULL : &before->state,
                     before == NULL ? NULL : &parent, &deed->state, message,
                     deed->ref[0] == '\0' ? NULL : &move, durability, &made));
    if (durability != VARVE_BUFFERED)
        promise(run, deed);
out:
    vv_commit_facts_release(&parent);
    vv_commit_facts_release(&made);
    return rc;
}

enum shape { ONE_PAGE, MANY_PAGES, HUGE };

/* What a commit changes: numbers below 256 make pages that compress, one frame of 64 to a few KiB. */
static void change_state(struct model_state *state, unsigned step, enum shape shape)
{
    const unsigned pages = shape == ONE_PAGE ? 1 : shape == MANY_PAGES ? MODEL_PAGES : HUGE_PAGES;

    state->meta = step;
    for (unsigned module = 0; module < (shape == MANY_PAGES ? 2 : 1); module++) {
        state->present[module] = true;
        state->size[module] = MODEL_PAGES;
        for (unsigned i = 0; i < pages; i++)
            state->page[module][(i + step) % MODEL_PAGES] =
                shape == HUGE ? (step * 64 + i + 1) << 8 : 1 + (step * 7 + i + 40 * module) % 250;
    }
}

static struct deed *begin_commit(struct run *run, const char *ref, enum shape shape)
{
    struct story *story = run->story;
    struct deed *deed = begin_deed(run, COMMITTED);

    deed->step = ++story->steps;
    deed->parent = stands(story, story->count - 1, "main");
    if (deed->parent >= 0)
        deed->state = story->deeds[deed->parent].state;
    change_state(&deed->state, deed->step, shape);
    (void)snprintf(deed->ref, sizeof deed->ref, "%s", ref);
    return deed;
}

static varve_status commit(struct run *run, enum shape shape, varve_durability durability)
{
    varve_status rc = VARVE_OK;

    TRY(be_open(run));
    TRY(publish(run, begin_commit(run, "main", shape), durability));
out:
    return rc;
}

static varve_status move_ref(struct run *run, const char *ref, int target)
{
    varve_status rc = VARVE_OK;
    struct vv_ref_move move = { .what = target < 0 ? "delete" : "restore", .force = true };
    varve_commit_id id;
    struct deed *deed = begin_deed(run, MOVED);

    deed->target = target;
    (void)snprintf(deed->ref, sizeof deed->ref, "%s", ref);
    (void)snprintf(move.name, sizeof move.name, "%s", ref);
    if (target >= 0) {
        TRY(id_of(run, target, &id));
        move.to = &id;
    }
    TRY(run->store->layout->move_refs(run->store->place, &move, 1, 1000));
    promise(run, deed);
out:
    return rc;
}

static varve_status op_create(struct run *run)
{
    close_store(run);
    return be_open(run);
}

static varve_status op_one(struct run *run)
{
    return commit(run, ONE_PAGE, VARVE_DURABLE);
}

static varve_status op_many(struct run *run)
{
    return commit(run, MANY_PAGES, VARVE_DURABLE);
}

static varve_status op_huge(struct run *run)
{
    return commit(run, HUGE, VARVE_DURABLE);
}

static size_t code_text(unsigned code, char text[1500])
{
    return (size_t)snprintf(text, 1500, "%01400u", code);
}

static varve_status put_code(struct run *run, unsigned code)
{
    char text[1500];
    uint8_t hash[VV_HASH_SIZE];
    const size_t size = code_text(code, text);

    vv_code_hash(text, size, hash);
    const varve_status rc = run->store->layout->code_put(run->store->place, hash, text, size);
    if (rc == VARVE_OK)
        run->story->code_durable[code] = run->replay == NULL ? 1 : 1 + replay_mark(run->replay);
    return rc;
}

static varve_status op_code(struct run *run)
{
    varve_status rc = VARVE_OK;

    TRY(be_open(run));
    const unsigned code = ++run->story->codes;
    TRY(put_code(run, code));
    struct deed *deed = begin_commit(run, "main", ONE_PAGE);
    deed->code = code;
    TRY(publish(run, deed, VARVE_DURABLE));
out:
    return rc;
}

static varve_status op_branch(struct run *run)
{
    varve_status rc = VARVE_OK;
    char ref[16];

    TRY(be_open(run));
    const int at = stands(run->story, run->story->count, "main");
    if (at < 0)
        return VARVE_OK;
    (void)snprintf(ref, sizeof ref, "b%u", run->story->count);
    rc = move_ref(run, ref, at);
out:
    return rc;
}

/* `main` goes back to the parent of where it stands. */
static varve_status op_restore(struct run *run)
{
    varve_status rc = VARVE_OK;

    TRY(be_open(run));
    const int at = stands(run->story, run->story->count, "main");
    const int to = at < 0 ? -1 : run->story->deeds[at].parent;
    if (to >= 0 && !is_removed(run->story, run->story->count, to))
        rc = move_ref(run, "main", to);
out:
    return rc;
}

/* The ref that moved last goes, `main` too. */
static varve_status op_delete(struct run *run)
{
    varve_status rc = VARVE_OK;
    const struct story *story = run->story;

    TRY(be_open(run));
    for (unsigned i = story->count; i-- > 0;) {
        if (story->deeds[i].ref[0] == '\0' || stands(story, story->count, story->deeds[i].ref) < 0)
            continue;
        rc = move_ref(run, story->deeds[i].ref, -1);
        break;
    }
out:
    return rc;
}

static bool is_named(const struct story *story, int commit)
{
    for (unsigned i = 0; i < story->count; i++)
        if (story->deeds[i].ref[0] != '\0' && stands(story, story->count, story->deeds[i].ref) == commit)
            return true;
    return false;
}

static varve_status remove_one(struct run *run, int commit)
{
    varve_status rc = VARVE_OK;
    varve_commit_id id;
    struct deed *deed = begin_deed(run, REMOVED);

    deed->target = commit;
    TRY(id_of(run, commit, &id));
    TRY(run->store->layout->remove(run->store->place, &id, 1, 1000));
    promise(run, deed);
out:
    return rc;
}

/* The two oldest commits that no ref names go out of the history. */
static varve_status op_remove(struct run *run)
{
    varve_status rc = VARVE_OK;
    const struct story *story = run->story;
    unsigned left = 2;

    TRY(be_open(run));
    for (unsigned i = 0; left > 0 && i < story->count; i++) {
        if (story->deeds[i].kind != COMMITTED || is_named(story, (int)i) ||
            is_removed(story, story->count, (int)i))
            continue;
        TRY(remove_one(run, (int)i));
        left--;
    }
out:
    return rc;
}

/* Background work until none is due: space is given back, images are brought up to date. */
static varve_status op_tidy(struct run *run)
{
    varve_status rc = VARVE_OK;
    bool more = true;

    TRY(be_open(run));
    while (more)
        TRY(run->store->layout->tidy(run->store->place, 1 << 20, &more));
out:
    return rc;
}

/* Both, after a commit that leaves one behind that can go. */
static varve_status op_reclaim(struct run *run)
{
    varve_status rc = VARVE_OK;

    TRY(commit(run, ONE_PAGE, VARVE_DURABLE));
    TRY(op_remove(run));
    TRY(op_tidy(run));
out:
    return rc;
}

/* As many as make a checkpoint due under the torture limits. */
static varve_status op_checkpoint(struct run *run)
{
    varve_status rc = VARVE_OK;

    for (unsigned i = 0; i < 3; i++)
        TRY(commit(run, ONE_PAGE, VARVE_DURABLE));
out:
    return rc;
}

static varve_status op_reopen(struct run *run)
{
    varve_status rc = VARVE_OK;

    TRY(be_open(run));
    close_store(run);
    rc = be_open(run);
out:
    return rc;
}

static varve_status op_buffered(struct run *run)
{
    varve_status rc = VARVE_OK;

    TRY(commit(run, ONE_PAGE, VARVE_BUFFERED));
    TRY(commit(run, ONE_PAGE, VARVE_BUFFERED));
out:
    return rc;
}

static varve_status persist(struct run *run)
{
    varve_status rc = VARVE_OK;

    TRY(be_open(run));
    struct deed *deed = begin_deed(run, PROMISED);
    TRY(run->store->layout->persist(run->store->place));
    promise(run, deed);
out:
    return rc;
}

static varve_status op_persist(struct run *run)
{
    varve_status rc = VARVE_OK;

    TRY(op_buffered(run));
    TRY(persist(run));
out:
    return rc;
}

/* The last commit once more, the same to the bit, on no branch: the store holds it already. */
static varve_status commit_again(struct run *run)
{
    varve_status rc = VARVE_OK;
    struct story *story = run->story;
    int at = -1;

    TRY(be_open(run));
    for (unsigned i = 0; i < story->count; i++)
        at = story->deeds[i].kind == COMMITTED ? (int)i : at;
    if (at < 0 || is_removed(story, story->count, at))
        return VARVE_OK;
    struct deed same = story->deeds[at];
    same.ref[0] = '\0';
    struct deed *deed = begin_deed(run, PROMISED);
    TRY(publish(run, &same, VARVE_DURABLE));
    promise(run, deed);
out:
    return rc;
}

static varve_status op_again(struct run *run)
{
    varve_status rc = VARVE_OK;

    TRY(be_open(run));
    TRY(publish(run, begin_commit(run, "", ONE_PAGE), VARVE_BUFFERED));
    TRY(commit_again(run));
out:
    return rc;
}

/* `main` is moved to where it stands. */
static varve_status move_nowhere(struct run *run)
{
    varve_status rc = VARVE_OK;

    TRY(be_open(run));
    const int at = stands(run->story, run->story->count, "main");
    if (at >= 0)
        rc = move_ref(run, "main", at);
out:
    return rc;
}

/* On a store with history the older file of a pair is written over where it lies. */
static varve_status op_snapshot(struct run *run)
{
    varve_status rc = VARVE_OK;

    TRY(commit(run, ONE_PAGE, VARVE_DURABLE));
    TRY(run->store->layout->snapshot(run->store->place, false));
out:
    return rc;
}

struct operation {
    const char *name;
    varve_status (*run)(struct run *run);
};
static const struct operation operations[] = {
    { "create", op_create },   { "one", op_one },           { "many", op_many },
    { "huge", op_huge },       { "code", op_code },         { "branch", op_branch },
    { "restore", op_restore }, { "delete", op_delete },     { "checkpoint", op_checkpoint },
    { "reopen", op_reopen },   { "buffered", op_buffered }, { "persist", op_persist },
    { "again", op_again },     { "remove", op_remove },     { "tidy", op_tidy },
    { "reclaim", op_reclaim }, { "snapshot", op_snapshot },
};
enum { OPERATIONS = sizeof operations / sizeof *operations };

/* ---- Judging ------------------------------------------------------------------------------------ */

/* What is found in a store. */
struct sight {
    unsigned steps[DEEDS];
    unsigned count;
    struct {
        char name[16];
        unsigned step;
    } refs[REFS];
    unsigned ref_count;
};

static bool deny(char denial[512], const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool deny(char denial[512], const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(denial, 512, format, args);
    va_end(args);
    return false;
}

/* Its bytes are read and compared from step `deep` on; those before were, when this store was looked at first. */
static bool see_commit(struct run *run, const varve_commit_id *id, unsigned deep, struct sight *sight,
                       char denial[512])
{
    struct vv_commit_facts facts = { .locator = 0 };
    const struct story *story = run->story;

    if (run->store->layout->facts(run->store->place, id, &facts) != VARVE_OK)
        return deny(denial, "facts: %s", vv_words());
    const unsigned step = (unsigned)strtoul(facts.message, NULL, 10);
    vv_commit_facts_release(&facts);
    const int deed = deed_of_step(story, story->count, step);
    if (deed < 0)
        return deny(denial, "a commit is there that nobody made: %u", step);
    if (step >= deep &&
        model_compare(run->store->layout, run->store->place, id, &story->deeds[deed].state) != VARVE_OK)
        return deny(denial, "commit %u: %s", step, vv_words());
    sight->steps[sight->count++] = step;
    return true;
}

static bool see_refs(struct run *run, struct sight *sight, char denial[512])
{
    const struct vv_layout *layout = run->store->layout;
    struct vv_ref_facts ref;
    varve_status rc = layout->ref_next(run->store->place, "", &ref);

    for (; rc == VARVE_OK; rc = layout->ref_next(run->store->place, ref.name, &ref)) {
        struct vv_commit_facts facts = { .locator = 0 };
        if (vv_hash_is_zero(ref.commit.bytes))
            continue;
        if (layout->facts(run->store->place, &ref.commit, &facts) != VARVE_OK)
            return deny(denial, "ref %s: %s", ref.name, vv_words());
        VV_ASSERT(sight->ref_count < REFS);
        (void)snprintf(sight->refs[sight->ref_count].name, 16, "%.15s", ref.name);
        sight->refs[sight->ref_count++].step = (unsigned)strtoul(facts.message, NULL, 10);
        vv_commit_facts_release(&facts);
    }
    return rc == VARVE_END ? true : deny(denial, "refs: %s", vv_words());
}

static bool see(struct run *run, unsigned deep, struct sight *sight, char denial[512])
{
    const struct vv_layout *layout = run->store->layout;
    const uint64_t last = layout->last_number(run->store->place);
    struct vv_layout_stat stat;

    *sight = (struct sight){ .count = 0 };
    layout->stat(run->store->place, &stat);
    if (stat.damaged)
        return deny(denial, "the store says that acknowledged bytes are damaged");
    if (last > DEEDS)
        return deny(denial, "the last number is %llu", (unsigned long long)last);
    for (uint64_t number = 1; number <= last; number++) {
        varve_commit_id id;
        const varve_status rc = layout->find_number(run->store->place, number, &id);
        if (rc == VARVE_NOT_FOUND)
            continue;
        if (rc != VARVE_OK)
            return deny(denial, "number %llu: %s", (unsigned long long)number, vv_words());
        if (!see_commit(run, &id, deep, sight, denial))
            return false;
    }
    return see_refs(run, sight, denial);
}

static bool is_seen(const struct sight *sight, unsigned step)
{
    for (unsigned i = 0; i < sight->count; i++)
        if (sight->steps[i] == step)
            return true;
    return false;
}

/* Is what is seen what the first `count` deeds make? */
static bool fits(const struct story *story, unsigned count, const struct sight *sight)
{
    unsigned commits = 0;
    unsigned refs = 0;

    for (unsigned i = 0; i < count; i++) {
        const struct deed *deed = &story->deeds[i];
        if (deed->kind != COMMITTED)
            continue;
        const bool stays = !is_removed(story, count, (int)i);
        if (is_seen(sight, deed->step) != stays)
            return false;
        commits += stays;
    }
    for (unsigned i = 0; i < sight->ref_count; i++) {
        const int at = stands(story, count, sight->refs[i].name);
        if (at < 0 || story->deeds[at].step != sight->refs[i].step)
            return false;
    }
    for (unsigned i = 0; i < count; i++) { /* each ref that stands, once: at the deed that moved it last */
        const char *ref = story->deeds[i].ref;
        bool last = ref[0] != '\0';
        for (unsigned k = i + 1; k < count; k++)
            last = last && strcmp(story->deeds[k].ref, ref) != 0;
        refs += last && stands(story, count, ref) >= 0;
    }
    return commits == sight->count && refs == sight->ref_count;
}

/* The deeds that are there after `calls` calls: between the last promised and the last begun; -1: none fit. */
static int deeds_seen(const struct story *story, unsigned calls, const struct sight *sight, char denial[512])
{
    unsigned least = 0;
    unsigned most = 0;

    for (unsigned i = 0; i < story->count; i++) {
        if (story->deeds[i].durable <= calls)
            least = i + 1;
        if (story->deeds[i].begun <= calls)
            most = i + 1;
    }
    for (unsigned count = most + 1; count-- > least;)
        if (fits(story, count, sight))
            return (int)count;
    (void)deny(
        denial,
        "%u commits and %u refs are there, which is no story of at least %u and at most %u of %u deeds",
        sight->count, sight->ref_count, least, most, story->count);
    return -1;
}

static bool see_codes(struct run *run, unsigned calls, unsigned deeds, char denial[512])
{
    const struct story *story = run->story;

    for (unsigned code = 1; code <= story->codes; code++) {
        bool wanted = story->code_durable[code] != 0 && story->code_durable[code] - 1 <= calls;
        char text[1500];
        uint8_t hash[VV_HASH_SIZE];
        uint8_t *found = NULL;
        size_t size = 0;
        for (unsigned i = 0; i < deeds; i++)
            wanted = wanted || story->deeds[i].code == code;
        if (!wanted)
            continue;
        vv_code_hash(text, code_text(code, text), hash);
        const varve_status rc = run->store->layout->code_get(run->store->place, hash, &found, &size);
        vv_free(found);
        if (rc != VARVE_OK)
            return deny(denial, "code %u: %s", code, vv_words());
    }
    return true;
}

/* The sum of what lies beneath a directory, in any order. */
static uint64_t sum_of_files;
static int sum_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    uint8_t hash[VV_HASH_SIZE];
    uint64_t part = 0;
    struct vv_hasher hasher;

    vv_hasher_init(&hasher, VV_HASH_RECORD);
    vv_hasher_put(&hasher, path + walk->base, strlen(path + walk->base));
    if (kind == FTW_F && status->st_size > 0) {
        FILE *file = fopen(path, "re");
        uint8_t *bytes = malloc((size_t)status->st_size);
        if (file == NULL || bytes == NULL || fread(bytes, 1, (size_t)status->st_size, file) == 0)
            give_up("read");
        vv_hasher_put(&hasher, bytes, (size_t)status->st_size);
        free(bytes);
        (void)fclose(file);
    }
    vv_hasher_end(&hasher, hash);
    memcpy(&part, hash, sizeof part);
    sum_of_files += part;
    return 0;
}

static uint64_t sum_of(const char *path)
{
    sum_of_files = 0;
    if (nftw(path, sum_one, 8, FTW_PHYS) != 0)
        give_up("sum");
    return sum_of_files;
}

static void keep_damage(void *context, const varve_finding *finding)
{
    if (finding->severity == VARVE_DAMAGE)
        (void)snprintf(context, 300, "%s: %s", finding->file == NULL ? "" : finding->file, finding->text);
}

/* fsck finds nothing, and opening again changes nothing. */
static bool is_settled(struct run *run, char denial[512])
{
    uint64_t damage = 0;
    char words[300] = "";
    const varve_check_options options = { .size = sizeof options, .finding = keep_damage, .context = words };
    const uint64_t before = sum_of(run->path);

    if (vv_store_check(run->vfs, run->path, &options, &damage) != VARVE_OK)
        return deny(denial, "the check fails: %s", vv_words());
    if (damage != 0)
        return deny(denial, "the check finds damage: %s", words);
    if (open_store(run, 0) != VARVE_OK)
        return deny(denial, "it does not open a second time: %s", vv_words());
    close_store(run);
    return sum_of(run->path) == before ? true : deny(denial, "opening it again changes it");
}

/* One more commit, which is there when the store is opened again, and all else with it. */
static bool goes_on(struct run *run, char denial[512])
{
    struct sight sight;

    run->story->steps = 900;
    if (commit(run, ONE_PAGE, VARVE_DURABLE) != VARVE_OK)
        return deny(denial, "one more commit: %s", vv_words());
    close_store(run);
    if (open_store(run, 0) != VARVE_OK)
        return deny(denial, "it does not open after one more commit: %s", vv_words());
    return see(run, 900, &sight, denial) && (fits(run->story, run->story->count, &sight) ||
                                             deny(denial, "after one more commit something else is there"));
}

/* Open what is left, as who comes next would. How many deeds are there; -1 and why not. */
static int open_what_is_left(struct run *run, unsigned calls, char denial[512])
{
    struct sight sight;
    int deeds = -1;
    const struct story *story = run->story;
    varve_status rc = open_store(run, 0);

    if (rc == VARVE_NOT_FOUND && (story->count == 0 || story->deeds[0].durable > calls))
        rc = open_store(run, VARVE_STORE_CREATE);
    if (rc != VARVE_OK)
        (void)deny(denial, "it does not open: %s", vv_words());
    else if (see(run, 0, &sight, denial))
        deeds = deeds_seen(story, calls, &sight, denial);
    if (deeds >= 0 && !see_codes(run, calls, (unsigned)deeds, denial))
        deeds = -1;
    return deeds;
}

static struct run run_at(const char *world, const struct vv_vfs *vfs, struct replay *replay,
                         struct story *story)
{
    struct run run = { .vfs = vfs, .replay = replay, .story = story };

    (void)snprintf(run.path, sizeof run.path, "%s/store", world);
    return run;
}

static bool judge(void *context, const char *world, unsigned calls, char denial[512])
{
    static struct story story;
    story = *(const struct story *)context;
    struct run run = run_at(world, &vv_vfs_system, NULL, &story);

    const int deeds = open_what_is_left(&run, calls, denial);
    close_store(&run);
    bool right = deeds >= 0 && is_settled(&run, denial);
    if (right) {
        story.count = (unsigned)deeds == 0 ? 1 : (unsigned)deeds; /* it was made by now, whoever made it */
        story.deeds[0].kind = deeds == 0 ? CREATED : story.deeds[0].kind;
        right = goes_on(&run, denial);
    }
    close_store(&run);
    return right;
}

/* ---- Sequences ---------------------------------------------------------------------------------- */

struct setting {
    struct replay *replay, *again;
    struct story *story;                         /* shared, for a child that is killed */
    char world[SCRATCH_PATH], old[SCRATCH_PATH]; /* `old`: a store with history, to be copied */
    struct story old_story;
    struct replay_report report;
    bool brief;
    uint64_t enough; /* violations; 0: go on */
    unsigned chances;
};

static bool is_dull(const char *path)
{
    return strcmp(path, "store/.varve/lock") == 0; /* words for people */
}

static bool is_hint(const char *path)
{
    return strcmp(path, "store/head") == 0;
}

static void start(struct setting *setting, bool old)
{
    char from[SCRATCH_PATH + 8];
    char to[SCRATCH_PATH + 8];

    (void)snprintf(from, sizeof from, "%s/store", setting->old);
    (void)snprintf(to, sizeof to, "%s/store", setting->world);
    scratch_remove(to);
    memset(setting->story, 0, sizeof *setting->story);
    if (old) {
        scratch_copy(from, to);
        *setting->story = setting->old_story;
    }
    replay_begin(setting->replay, setting->world);
}

static void make_history(struct setting *setting)
{
    struct run run = run_at(setting->old, &vv_vfs_system, NULL, &setting->old_story);
    varve_status (*const steps[])(struct run *) = { op_many,       op_code,     op_branch,   op_one,
                                                    op_checkpoint, op_snapshot, op_snapshot, op_one };

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (steps[i](&run) != VARVE_OK)
            give_up("a store with history");
    close_store(&run);
}

static void replay_points(struct setting *setting, const char *name, unsigned first)
{
    const struct replay_scope scope = { .name = name,
                                        .first = first,
                                        .chances = setting->chances,
                                        .brief = setting->brief,
                                        .enough = setting->enough,
                                        .is_dull = is_dull,
                                        .is_hint = is_hint };

    replay_run(setting->replay, &scope, judge, setting->story, &setting->report);
}

/* Run operations, recorded, and look at the points of the last one. */
static void run_sequence(struct setting *setting, bool old, const unsigned *sequence, unsigned length)
{
    struct vv_double d;
    char name[100];
    unsigned first = 0;
    int used = snprintf(name, sizeof name, "%s", old ? "old" : "new");

    start(setting, old);
    vv_double_init(&d, &vv_vfs_system);
    replay_attach(setting->replay, &d);
    struct run run = run_at(setting->world, &d.table, setting->replay, setting->story);
    for (unsigned i = 0; i < length; i++) {
        used += snprintf(name + used, sizeof name - (size_t)used, " %s", operations[sequence[i]].name);
        first = i + 1 == length ? replay_calls(setting->replay) : first;
        if (operations[sequence[i]].run(&run) != VARVE_OK)
            give_up(name);
    }
    close_store(&run);
    replay_points(setting, name, first);
}

static void sequences_of(struct setting *setting, unsigned length, unsigned one_in)
{
    unsigned sequence[OPERATIONS_MAX] = { 0 };
    unsigned total = 1;

    for (unsigned i = 0; i < length; i++)
        total *= OPERATIONS;
    for (unsigned number = 0; number < 2 * total; number++) {
        unsigned rest = number / 2;
        for (unsigned i = 0; i < length; i++, rest /= OPERATIONS)
            sequence[length - 1 - i] = rest % OPERATIONS;
        if ((number * UINT32_C(2654435761) >> 8) % one_in == 0)
            run_sequence(setting, number % 2 == 1, sequence, length);
    }
}

/* ---- Killed, then the power goes ---------------------------------------------------------------- */

static varve_status then_reput(struct run *run)
{
    varve_status rc = VARVE_OK;

    TRY(be_open(run));
    const unsigned code = run->story->codes == 0 ? ++run->story->codes : run->story->codes;
    TRY(put_code(run, code));
out:
    return rc;
}

static varve_status then_look(struct run *run)
{
    return be_open(run);
}

static const struct operation afterwards[] = {
    { "commit", op_one },
    { "persist", persist },
    { "the same again", commit_again },
    { "move nowhere", move_nowhere },
    { "the code again", then_reput },
    { "look", then_look },
};

/* Another process goes on where one was killed: what it finds there, it may build upon. */
static void go_on(struct setting *setting, const char *name, const struct operation *afterwards_one)
{
    struct vv_double d;
    struct sight sight;
    char denial[512] = "";
    struct story *story = setting->story;
    const unsigned first = replay_calls(setting->replay);

    vv_double_init(&d, &vv_vfs_system);
    replay_attach(setting->replay, &d);
    struct run run = run_at(setting->world, &d.table, setting->replay, story);
    varve_status rc = open_store(&run, 0);
    if (rc == VARVE_NOT_FOUND && (story->count == 0 || story->deeds[0].durable == NEVER)) {
        story->count = 0;
        rc = be_open(&run);
    }
    const int deeds =
        rc == VARVE_OK && see(&run, 0, &sight, denial) ? deeds_seen(story, first, &sight, denial) : -1;
    if (deeds < 0) {
        (void)fprintf(stderr, "%s: %s\n", name, denial[0] == '\0' ? vv_words() : denial);
        setting->report.violations++;
        close_store(&run);
        return;
    }
    story->count = deeds == 0 ? 1 : (unsigned)deeds;
    story->steps = 500;
    if (afterwards_one->run(&run) != VARVE_OK)
        give_up(name);
    close_store(&run);
    replay_points(setting, name, first);
}

/* One operation, killed before its nth call. Whether there was such a call. */
static bool kill_at(struct setting *setting, bool old, const struct operation *operation, unsigned nth)
{
    start(setting, old);
    const pid_t child = fork();
    if (child == -1)
        give_up("fork");
    if (child == 0) {
        struct vv_double d;
        vv_double_init(&d, &vv_vfs_system);
        replay_attach(setting->replay, &d);
        vv_double_arm(&d, VV_DOUBLE_KILL, nth, 0);
        struct run run = run_at(setting->world, &d.table, setting->replay, setting->story);
        (void)operation->run(&run);
        close_store(&run);
        _exit(0);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child)
        give_up("waitpid");
    return WIFSIGNALED(status);
}

/* All kills of one operation from its nth call on, each followed by one or all who go on. */
static void killed_in(struct setting *setting, bool old, const struct operation *operation, unsigned nth,
                      unsigned one_in)
{
    const unsigned count = sizeof afterwards / sizeof *afterwards;
    char name[100];

    for (unsigned number = nth * count;
         (setting->enough == 0 || setting->report.violations < setting->enough) &&
         kill_at(setting, old, operation, number / count);
         number += one_in) {
        const struct operation *after = &afterwards[number % count];
        (void)snprintf(name, sizeof name, "%s %s killed at %u, %s", old ? "old" : "new", operation->name,
                       number / count, after->name);
        go_on(setting, name, after);
    }
}

/* What makes a store, and what puts its first code, has no like elsewhere: all of it, always. The calls that make a
 * store are looked at once. */
static void killed_first(struct setting *setting, unsigned one_in)
{
    (void)kill_at(setting, false, &operations[0], 0); /* never */
    const unsigned made = replay_calls(setting->replay);

    for (unsigned which = 0; which < OPERATIONS; which++) {
        const struct operation *operation = &operations[which];
        const bool all = operation->run == op_create || operation->run == op_code;
        killed_in(setting, false, operation, operation->run == op_create ? 1 : made + 1, all ? 1 : one_in);
        killed_in(setting, true, operation, 1, one_in);
    }
}

/* ---- The power goes twice ----------------------------------------------------------------------- */

/* Instead of judging: go on from here, making the very commits that are lost, and lose the power again. */
static bool go_on_and_lose(void *context, const char *world, unsigned calls, char denial[512])
{
    struct setting *setting = context;
    static struct story story;
    struct vv_double d;
    char name[64];
    story = *setting->story;
    struct run run = run_at(world, &vv_vfs_system, NULL, &story);

    int deeds = open_what_is_left(&run, calls, denial);
    close_store(&run);
    if (deeds < 0)
        return false;
    const struct story lost = story;
    story.count = deeds == 0 ? 1 : (unsigned)deeds;
    for (unsigned i = 0; i < story.count; i++)
        story.deeds[i].begun = story.deeds[i].durable = 0;
    for (unsigned i = 0; i < DEEDS; i++)
        story.code_durable[i] = story.code_durable[i] == 0 || story.code_durable[i] - 1 > calls ? 0 : 1;
    replay_begin(setting->again, world);
    vv_double_init(&d, &vv_vfs_system);
    replay_attach(setting->again, &d);
    run.vfs = &d.table;
    run.replay = setting->again;
    if (open_store(&run, 0) != VARVE_OK)
        return deny(denial, "%s", vv_words());
    /* The first lost one again, byte for byte, if it was a commit; and one that is new. */
    if (lost.count > story.count && lost.deeds[story.count].kind == COMMITTED) {
        struct deed *deed = begin_deed(&run, COMMITTED);
        *deed = lost.deeds[story.count - 1];
        deed->begun = replay_calls(setting->again);
        deed->durable = NEVER;
        if ((deed->code != 0 && put_code(&run, deed->code) != VARVE_OK) ||
            publish(&run, deed, VARVE_DURABLE) != VARVE_OK)
            return deny(denial, "the lost commit again: %s", vv_words());
    }
    story.steps = 700;
    if (commit(&run, ONE_PAGE, VARVE_DURABLE) != VARVE_OK)
        return deny(denial, "one more commit: %s", vv_words());
    close_store(&run);
    (void)snprintf(name, sizeof name, "%s", "a second power loss");
    char first_loss[512];
    (void)snprintf(first_loss, sizeof first_loss, "%s", replay_current());
    const struct replay_scope scope = { .name = name, .chances = 2, .is_dull = is_dull, .is_hint = is_hint };
    const uint64_t before = setting->report.violations;
    replay_run(setting->again, &scope, judge, &story, &setting->report);
    setting->report.workloads--;
    if (setting->report.violations != before)
        return deny(denial, "the first power loss of these: %s", first_loss);
    return true;
}

static void lose_twice_after(struct setting *setting, bool old, const unsigned *sequence, unsigned length,
                             unsigned one_in)
{
    struct vv_double d;
    const struct replay_scope scope = { .name = old ? "twice, old" : "twice, new",
                                        .one_in = one_in,
                                        .enough = setting->enough,
                                        .is_dull = is_dull,
                                        .is_hint = is_hint };

    start(setting, old);
    vv_double_init(&d, &vv_vfs_system);
    replay_attach(setting->replay, &d);
    struct run run = run_at(setting->world, &d.table, setting->replay, setting->story);
    for (unsigned i = 0; i < length; i++)
        if (operations[sequence[i]].run(&run) != VARVE_OK)
            give_up("twice");
    close_store(&run);
    replay_run(setting->replay, &scope, go_on_and_lose, setting, &setting->report);
}

static void power_lost_twice(struct setting *setting, unsigned one_in)
{
    static const unsigned lists[][3] = { { 10, 1, 10 }, { 1, 10, 8 }, { 10, 10, 2 }, { 11, 10, 4 } };

    for (unsigned i = 0; i < 2 * sizeof lists / sizeof *lists; i++)
        lose_twice_after(setting, i % 2 == 1, lists[i / 2], 3, one_in);
}

/* ---- Repaired, and the power goes --------------------------------------------------------------- */

enum wound_kind { HEADER, PAGES, BLOCK, CHECKPOINT, SEGMENT, CODE };
static const struct wound {
    const char *name;
    enum wound_kind kind;
    unsigned step; /* the record of this commit; CHECKPOINT: the one that it goes by */
} wounds[] = {
    { "header", HEADER, 5 },         { "pages", PAGES, 1 },     { "block", BLOCK, 4 }, { "newest", HEADER, 9 },
    { "checkpoint", CHECKPOINT, 9 }, { "segment", SEGMENT, 0 }, { "code", CODE, 1 },
};
enum { WOUNDS = sizeof wounds / sizeof *wounds };

/* What can be read of a store that may be damaged. */
struct outlook {
    bool damaged; /* as the check tells */
    bool reads[DEEDS], codes[DEEDS];
    int stands[DEEDS]; /* the ref that this deed moves: the deed of its commit; -1: there is no such ref */
};
struct repairs {
    const struct story *story;
    struct outlook least, before, after; /* `least`: when nothing lasts that was not promised */
    unsigned promised;                   /* calls that had been made when the repair returned */
};

static varve_status wound_log(const struct vv_dir *dir, const struct wound *wound, uint64_t address)
{
    static const uint8_t zeros[VV_RECORD_ALIGN];
    varve_status rc = VARVE_OK;
    struct vv_log log;
    struct vv_file file = VV_FILE_NONE;
    struct vv_record record;
    char name[VV_SEGMENT_NAME];
    uint64_t start = 0;
    uint8_t byte = 0;

    TRY(vv_log_open(&log, dir, true, &vv_journal_limits.log));
    rc = vv_log_record(&log, address, 0, &record);
    if (rc == VARVE_OK && wound->kind == CHECKPOINT) {
        address = record.checkpoint;
        rc = vv_log_record(&log, address, 0, &record);
    }
    vv_log_file_name(&log, address, name);
    vv_log_close(&log);
    TRY(rc);
    VV_ASSERT(vv_segment_parse(name, &start));
    if (wound->kind == SEGMENT) {
        TRY(vv_dir_unlink(dir, name));
        rc = vv_dir_sync(dir);
        goto out;
    }
    const uint64_t at = wound->kind == PAGES ? vv_record_pages_at(&record) + 5 : address + 40;
    TRY(vv_file_open(dir, name, VV_OPEN_WRITE, &file));
    TRY(vv_file_read(&file, &byte, 1, at - start));
    byte ^= 0x40;
    TRY(wound->kind == BLOCK ? vv_file_write(&file, zeros, sizeof zeros, address - start)
                             : vv_file_write(&file, &byte, 1, at - start));
    TRY(vv_file_sync(&file));
out:
    vv_file_close(&file);
    return rc;
}

static varve_status wound_code(const struct run *run, unsigned code)
{
    varve_status rc = VARVE_OK;
    struct vv_dir pool = VV_DIR_NONE;
    struct vv_file file = VV_FILE_NONE;
    uint8_t hash[VV_HASH_SIZE];
    char text[1500];
    char path[SCRATCH_PATH + 64];
    char name[65];

    vv_code_hash(text, code_text(code, text), hash);
    vv_hex_format(hash, name);
    (void)snprintf(path, sizeof path, "%s/.varve/code", run->path);
    TRY(vv_dir_open(run->vfs, path, &pool));
    TRY(vv_file_open(&pool, name, VV_OPEN_WRITE, &file));
    TRY(vv_file_write(&file, "?", 1, 700));
    TRY(vv_file_sync(&file));
out:
    vv_file_close(&file);
    vv_dir_close(&pool);
    return rc;
}

/* Damage that lasts, to what was promised. */
static void inflict(struct run *run, const struct wound *wound)
{
    varve_status rc = VARVE_OK;
    struct vv_dir dir = VV_DIR_NONE;
    struct run reader = { .vfs = &vv_vfs_system, .story = run->story };
    struct vv_commit_facts facts = { .locator = VV_LOG_START };
    varve_commit_id id;

    memcpy(reader.path, run->path, sizeof reader.path);
    if (wound->kind != SEGMENT && wound->kind != CODE) {
        TRY(open_store(&reader, VARVE_STORE_READ_ONLY));
        TRY(id_of(&reader, deed_of_step(run->story, run->story->count, wound->step), &id));
        TRY(reader.store->layout->facts(reader.store->place, &id, &facts));
    }
    TRY(vv_dir_open(run->vfs, run->path, &dir));
    TRY(wound->kind == CODE ? wound_code(run, wound->step) : wound_log(&dir, wound, facts.locator));
out:
    vv_dir_close(&dir);
    vv_commit_facts_release(&facts);
    close_store(&reader);
    if (rc != VARVE_OK)
        give_up(wound->name);
}

static bool is_gone(varve_status rc)
{
    return rc == VARVE_CORRUPT || rc == VARVE_NOT_FOUND;
}

/* One commit: it reads as it was made, or it is lost and says so. */
static bool look_at_commit(struct run *run, uint64_t number, struct outlook *outlook, char denial[512])
{
    const struct vv_layout *layout = run->store->layout;
    struct vv_commit_facts facts = { .locator = 0 };
    varve_commit_id id;
    varve_status rc = layout->find_number(run->store->place, number, &id);

    if (rc == VARVE_OK)
        rc = layout->facts(run->store->place, &id, &facts);
    if (rc == VARVE_OK) {
        const int deed =
            deed_of_step(run->story, run->story->count, (unsigned)strtoul(facts.message, NULL, 10));
        vv_commit_facts_release(&facts);
        if (deed < 0)
            return deny(denial, "number %llu is a commit that nobody made", (unsigned long long)number);
        rc = model_compare(layout, run->store->place, &id, &run->story->deeds[deed].state);
        outlook->reads[deed] = rc == VARVE_OK;
    }
    return rc == VARVE_OK || is_gone(rc) ||
           deny(denial, "number %llu: %s", (unsigned long long)number, vv_words());
}

static int deed_of_id(struct run *run, const varve_commit_id *wanted)
{
    for (unsigned i = 0; i < run->story->count; i++) {
        varve_commit_id id;
        if (run->story->deeds[i].kind == COMMITTED && id_of(run, (int)i, &id) == VARVE_OK &&
            memcmp(&id, wanted, sizeof id) == 0)
            return (int)i;
    }
    return DEEDS; /* of a commit that cannot be read */
}

static void look_at_refs(struct run *run, struct outlook *outlook)
{
    for (unsigned i = 0; i < run->story->count; i++) {
        struct vv_ref_facts ref;
        const char *name = run->story->deeds[i].ref;
        outlook->stands[i] = -1;
        if (name[0] != '\0' && run->store->layout->ref_get(run->store->place, name, &ref) == VARVE_OK)
            outlook->stands[i] = deed_of_id(run, &ref.commit);
    }
}

static void look_at_codes(struct run *run, struct outlook *outlook)
{
    for (unsigned code = 1; code <= run->story->codes; code++) {
        char text[1500];
        uint8_t hash[VV_HASH_SIZE];
        uint8_t *found = NULL;
        size_t size = 0;
        vv_code_hash(text, code_text(code, text), hash);
        outlook->codes[code] =
            run->store->layout->code_get(run->store->place, hash, &found, &size) == VARVE_OK;
        vv_free(found);
    }
}

/* All that can be read, which writes nothing. */
static bool look(struct run *run, struct outlook *outlook, char denial[512])
{
    char words[300] = "";
    const varve_check_options options = { .size = sizeof options, .finding = keep_damage, .context = words };
    uint64_t damage = 0;
    bool fine = true;

    *outlook = (struct outlook){ .damaged = false };
    if (open_store(run, VARVE_STORE_READ_ONLY) != VARVE_OK)
        return deny(denial, "it does not open: %s", vv_words());
    const uint64_t last = run->store->layout->last_number(run->store->place);
    for (uint64_t number = 1; fine && number <= last; number++)
        fine = look_at_commit(run, number, outlook, denial);
    look_at_refs(run, outlook);
    look_at_codes(run, outlook);
    close_store(run);
    if (fine && vv_store_check(run->vfs, run->path, &options, &damage) != VARVE_OK)
        fine = deny(denial, "the check fails: %s", vv_words());
    outlook->damaged = damage > 0;
    return fine;
}

static bool is_same(const struct outlook *a, const struct outlook *b)
{
    return a->damaged == b->damaged && memcmp(a->reads, b->reads, sizeof a->reads) == 0 &&
           memcmp(a->codes, b->codes, sizeof a->codes) == 0 &&
           memcmp(a->stands, b->stands, sizeof a->stands) == 0;
}

/* Damaged, and each thing in it as it was before the repair, or before what was not promised then. */
static bool is_as_before(const struct outlook *left, const struct repairs *repairs)
{
    const struct outlook *least = &repairs->least;
    const struct outlook *before = &repairs->before;
    bool fine = left->damaged;

    for (unsigned i = 0; i < DEEDS; i++)
        fine = fine && (left->reads[i] == least->reads[i] || left->reads[i] == before->reads[i]) &&
               (left->codes[i] == least->codes[i] || left->codes[i] == before->codes[i]) &&
               (left->stands[i] == least->stands[i] || left->stands[i] == before->stands[i]);
    return fine;
}

static varve_status repair(const struct run *run, char words[300])
{
    const varve_check_options options = {
        .size = sizeof options, .flags = VARVE_CHECK_REPAIR, .finding = keep_damage, .context = words
    };
    uint64_t damage = 0;
    const varve_status rc = vv_store_check(run->vfs, run->path, &options, &damage);

    return rc == VARVE_OK && damage > 0 ? vv_fail(VARVE_CORRUPT, "damage is left: %s", words) : rc;
}

/* The story of a repaired store: what is not there was removed, refs moved. */
static void tell_repair(struct run *run, const struct outlook *outlook)
{
    const unsigned count = run->story->count;

    for (unsigned i = 0; i < count; i++) {
        const struct deed *deed = &run->story->deeds[i];
        if (deed->ref[0] != '\0' &&
            stands(run->story, run->story->count, deed->ref) != outlook->stands[i]) {
            struct deed *moved = begin_deed(run, MOVED);
            memcpy(moved->ref, deed->ref, sizeof moved->ref);
            moved->target = outlook->stands[i];
        }
        if (deed->kind == COMMITTED && !outlook->reads[i])
            begin_deed(run, REMOVED)->target = (int)i;
    }
}

/* Repair what is left; it keeps what could be read, finds nothing to do a second time, and is a store like any other. */
static bool can_be_repaired(struct run *run, const struct outlook *left, struct outlook *after, char denial[512])
{
    char words[300] = "";

    if (repair(run, words) != VARVE_OK)
        return deny(denial, "a repair of what is left: %s", vv_words());
    if (!look(run, after, denial))
        return false;
    if (after->damaged)
        return deny(denial, "repaired, and damaged all the same");
    for (unsigned i = 0; i < DEEDS; i++)
        if (left->reads[i] && !after->reads[i])
            return deny(denial, "the repair takes step %u, which was whole", run->story->deeds[i].step);
    const uint64_t sum = sum_of(run->path);
    if (repair(run, words) != VARVE_OK || sum_of(run->path) != sum)
        return deny(denial, "a second repair finds something to do");
    tell_repair(run, after);
    if (!goes_on(run, denial))
        return false;
    close_store(run);
    return is_settled(run, denial);
}

static bool judge_repair(void *context, const char *world, unsigned calls, char denial[512])
{
    const struct repairs *repairs = context;
    static struct story story;
    struct outlook left, after;
    story = *repairs->story;
    struct run run = run_at(world, &vv_vfs_system, NULL, &story);

    bool right = look(&run, &left, denial);
    const bool repaired = right && is_same(&left, &repairs->after);
    if (right && !repaired && calls >= repairs->promised)
        right = deny(denial, "it was repaired, and is not");
    if (right && !repaired && !is_as_before(&left, repairs))
        right = deny(denial, left.damaged ? "it is neither as before the repair nor as after"
                                          : "the damage is hidden");
    right = right && can_be_repaired(&run, &left, &after, denial);
    if (right && (repaired || is_same(&left, &repairs->before)) && !is_same(&after, &repairs->after))
        right = deny(denial, "another repair ends in another store");
    close_store(&run);
    return right;
}

static void do_look(struct setting *setting, struct outlook *outlook)
{
    struct run run = run_at(setting->world, &vv_vfs_system, NULL, setting->story);
    char denial[512] = "";

    if (look(&run, outlook, denial))
        return;
    (void)fprintf(stderr, "test_replay: %s\n", denial);
    exit(2);
}

/* In a child, so that nothing is closed: a commit of a segment of its own, which was not promised. */
static void leave_a_tail(struct setting *setting)
{
    const pid_t child = fork();
    int status = 0;

    if (child == -1)
        give_up("fork");
    if (child == 0) {
        struct vv_double d;
        vv_double_init(&d, &vv_vfs_system);
        replay_attach(setting->replay, &d);
        struct run run = run_at(setting->world, &d.table, setting->replay, setting->story);
        _exit(commit(&run, HUGE, VARVE_BUFFERED) == VARVE_OK ? 0 : 1);
    }
    if (waitpid(child, &status, 0) != child || status != 0)
        give_up("a tail");
}

/* In a child: a repair that is killed before its nth call. Whether it made so many. */
static bool repair_killed(struct setting *setting, unsigned nth)
{
    const pid_t child = fork();
    int status = 0;

    if (child == -1)
        give_up("fork");
    if (child == 0) {
        struct vv_double d;
        char words[300] = "";
        vv_double_init(&d, &vv_vfs_system);
        replay_attach(setting->replay, &d);
        vv_double_arm(&d, VV_DOUBLE_KILL, nth, 0);
        const struct run run = run_at(setting->world, &d.table, setting->replay, setting->story);
        (void)repair(&run, words);
        _exit(0);
    }
    if (waitpid(child, &status, 0) != child)
        give_up("waitpid");
    return WIFSIGNALED(status);
}

struct repair_case {
    const struct wound *wound;
    bool tail;    /* behind a commit that was never promised */
    unsigned nth; /* repaired by one who is killed before his nth call, and then by another; 0: by one */
};

/* Repair a damaged store, and lose the power; every so-manieth state is judged. False: who is to be killed makes fewer
 * calls. */
static bool repair_and_lose(struct setting *setting, const struct repair_case *one, unsigned one_in)
{
    static struct repairs repairs;
    struct vv_double d;
    char name[100];
    char words[300] = "";

    start(setting, true);
    vv_double_init(&d, &vv_vfs_system);
    replay_attach(setting->replay, &d);
    struct run run = run_at(setting->world, &d.table, setting->replay, setting->story);
    repairs = (struct repairs){ .story = setting->story };
    inflict(&run, one->wound);
    do_look(setting, &repairs.least);
    if (!repairs.least.damaged)
        give_up("the damage is not seen");
    if (one->tail) {
        start(setting, true);
        leave_a_tail(setting);
        inflict(&run, one->wound);
    }
    do_look(setting, &repairs.before);
    const unsigned first = replay_calls(setting->replay);
    if (one->nth > 0 && !repair_killed(setting, one->nth))
        return false;
    (void)snprintf(name, sizeof name, "repair %s%s, killed at %u", one->wound->name,
                   one->tail ? " with a tail" : "", one->nth);
    if (repair(&run, words) != VARVE_OK)
        give_up(name);
    repairs.promised = replay_mark(setting->replay);
    do_look(setting, &repairs.after);
    const struct replay_scope scope = { .name = name,
                                        .first = first,
                                        .chances = setting->chances,
                                        .one_in = one_in,
                                        .brief = setting->brief,
                                        .enough = setting->enough,
                                        .is_dull = is_dull,
                                        .is_hint = is_hint };
    replay_run(setting->replay, &scope, judge_repair, &repairs, &setting->report);
    return true;
}

/* Every wound; of the kills of each every so-manieth. */
static void repaired(struct setting *setting, unsigned kills, unsigned states)
{
    for (unsigned i = 0; i < 2 * WOUNDS; i++) {
        struct repair_case one = { .wound = &wounds[i / 2], .tail = i % 2 == 1 };
        (void)repair_and_lose(setting, &one, states);
        one.nth = 1 + i % kills;
        while (repair_and_lose(setting, &one, states))
            one.nth += kills;
    }
}

/* ---- For planted bugs --------------------------------------------------------------------------- */

/* Of a tree: a state of a new store is judged in a twentieth of the time, and shows each sync that is missing; what only
 * history has is deletion. The whole of `killed` takes a quarter of an hour: this is what makes the first commit, killed
 * before its calls, every seventh pair of a call and of one who goes on. */
static void look_at_a_little_of_a_tree(struct setting *setting)
{
    enum { CREATE = 0, ONE = 1, REMOVE = 13, ONE_IN = 7 };

    for (unsigned i = 0; i < OPERATIONS; i++)
        run_sequence(setting, false, &i, 1);
    setting->brief = true;
    run_sequence(setting, true, &(unsigned){ REMOVE }, 1);
    (void)kill_at(setting, false, &operations[CREATE], 0); /* never */
    killed_in(setting, false, &operations[ONE], replay_calls(setting->replay) + 1, ONE_IN);
    setting->brief = false;
}

/* A little of everything, in seconds: what tools/plant.py lets judge one planted bug after the other. */
static void look_at_a_little(struct setting *setting)
{
    static const unsigned lists[][2] = { { 0, 1 }, { 4, 4 }, { 8, 8 }, { 3, 11 } };

    setting->enough = 40;
    if (layout_asked == VARVE_LAYOUT_TREE) {
        look_at_a_little_of_a_tree(setting);
        return;
    }
    sequences_of(setting, 1, 1);
    setting->brief = true;
    for (unsigned i = 0; i < 2 * sizeof lists / sizeof *lists; i++)
        run_sequence(setting, i % 2 == 1, lists[i / 2], 2);
    killed_first(setting, 97);
    setting->brief = false;
    lose_twice_after(setting, true, &(unsigned){ 10 }, 1, 5);
    if (layout_asked == VARVE_LAYOUT_JOURNAL)
        (void)repair_and_lose(setting, &(struct repair_case){ .wound = &wounds[0] }, 1);
}

/* ---- The program -------------------------------------------------------------------------------- */

static void tell_and_die(int number)
{
    static const char words[] = "died at: ";
    const char *where = replay_current();

    if (write(2, words, sizeof words - 1) > 0 && write(2, where, strlen(where)) > 0 && write(2, "\n", 1) > 0)
        (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void print_report(const char *what, const struct replay_report *report, unsigned *passed,
                         unsigned *failed)
{
    (void)printf("%-10s %9llu %9llu %9llu %9llu %9llu %10llu\n", what, (unsigned long long)report->workloads,
                 (unsigned long long)report->calls, (unsigned long long)report->tried,
                 (unsigned long long)report->distinct, (unsigned long long)report->checked,
                 (unsigned long long)report->violations);
    tally("replay", report->checked, report->violations);
    *(report->violations == 0 && report->checked > 0 ? passed : failed) += 1;
}

static void begin_setting(struct setting *setting)
{
    memset(setting, 0, sizeof *setting);
    setting->chances = 4;
    setting->replay = replay_new();
    setting->again = replay_new();
    setting->story =
        mmap(NULL, sizeof *setting->story, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (setting->story == MAP_FAILED)
        give_up("mmap");
    scratch_new(setting->world);
    scratch_new(setting->old);
    make_history(setting);
}

static void end_setting(struct setting *setting)
{
    scratch_remove(setting->world);
    scratch_remove(setting->old);
    replay_free(setting->replay);
    replay_free(setting->again);
    (void)munmap(setting->story, sizeof *setting->story);
}

static bool is_asked_for(int argc, char **argv, const char *part)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], part) == 0)
            return true;
    return argc < 2;
}

/* Of how many one is looked at: one of `usual` in a quick run, all from that scale on. */
static unsigned one_in(unsigned usual, unsigned scale)
{
    return scale >= usual ? 1 : usual / scale;
}

int main(int argc, char **argv)
{
    static struct setting setting;
    static const char *const lengths[] = { "one", "two", "three" };
    const char *text = getenv("VARVE_TEST_SCALE");
    const unsigned scale = text == NULL || atol(text) < 1 ? 1 : (unsigned)atol(text);
    unsigned passed = 0;
    unsigned failed = 0;

    scratch_in_memory();
    (void)signal(SIGABRT, tell_and_die);
    (void)signal(SIGSEGV, tell_and_die);
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], "--layout") == 0 && strcmp(argv[i + 1], "tree") == 0)
            layout_asked = VARVE_LAYOUT_TREE;
    begin_setting(&setting);
    (void)printf("in %s\n%-10s %9s %9s %9s %9s %9s %10s\n", setting.world, "part", "workloads", "calls",
                 "tried", "distinct", "checked", "violations");
    for (unsigned length = 1; length <= OPERATIONS_MAX; length++) {
        if (!is_asked_for(argc, argv, lengths[length - 1]))
            continue;
        setting.report = (struct replay_report){ .workloads = 0 };
        setting.brief = length > 1 && scale == 1; /* how each operation tears is shown by `one` */
        const unsigned pairs = layout_asked == VARVE_LAYOUT_JOURNAL ? 8 : 32; /* the others make many calls */
        sequences_of(&setting, length, length < 2 ? 1 : one_in(length == 2 ? pairs : 512, scale));
        setting.brief = false;
        print_report(lengths[length - 1], &setting.report, &passed, &failed);
    }
    if (is_asked_for(argc, argv, "killed")) {
        setting.report = (struct replay_report){ .workloads = 0 };
        setting.brief = true;
        killed_first(&setting, one_in(23, scale));
        setting.brief = false;
        print_report("killed", &setting.report, &passed, &failed);
    }
    if (is_asked_for(argc, argv, "twice")) {
        setting.report = (struct replay_report){ .workloads = 0 };
        power_lost_twice(&setting, one_in(144, scale));
        print_report("twice", &setting.report, &passed, &failed);
    }
    if (is_asked_for(argc, argv, "repair") && layout_asked == VARVE_LAYOUT_JOURNAL) {
        setting.report = (struct replay_report){ .workloads = 0 };
        setting.brief = scale == 1;
        repaired(&setting, one_in(8, scale), one_in(6, scale));
        setting.brief = false;
        print_report("repair", &setting.report, &passed, &failed);
    }
    if (is_asked_for(argc, argv, "little")) {
        setting.report = (struct replay_report){ .workloads = 0 };
        look_at_a_little(&setting);
        print_report("little", &setting.report, &passed, &failed);
    }
    end_setting(&setting);
    (void)printf("%u passed, %u failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
