/* Commits that go, and the space that they took up: random histories against a model. Whatever is retained reads as
 * it was made, byte for byte, and whatever was removed is not found, by any way of opening. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "model.h"
#include "opened.h"
#include "scratch.h"
#include "store/journal/journal.h"
#include "store/journal/place.h"
#include "store/journal/reclaim.h"

static const struct vv_layout *const journal = &vv_layout_journal;

enum { COMMITS = 600, BRANCHES = 4, TAGS = 8 };
static const size_t none = SIZE_MAX;

struct made {
    varve_commit_id id;
    varve_root root;
    struct model_state state;
    uint64_t number;
    size_t parent; /* as it was made */
    bool removed;
};
struct world {
    char path[SCRATCH_PATH];
    struct vv_dir dir;
    struct vv_place *place;
    uint64_t retain;
    unsigned damages;
    char words[400];
    struct made made[COMMITS];
    size_t count;
    size_t branch[BRANCHES], tag[TAGS]; /* none: there is no such ref */
    unsigned tags;
};

static void count_finding(void *context, const varve_finding *finding)
{
    struct world *w = context;

    if (finding->severity != VARVE_DAMAGE)
        return;
    w->damages++;
    snprintf(w->words, sizeof w->words, "%s: %s", finding->file == NULL ? "" : finding->file, finding->text);
}

static struct vv_layout_options options_of(struct world *w, bool read_only)
{
    return (struct vv_layout_options){ .vfs = &vv_vfs_system,
                                       .read_only = read_only,
                                       .durability = VARVE_DURABLE,
                                       .retain = w->retain,
                                       .finding = count_finding,
                                       .context = w };
}

static void open_place(struct world *w)
{
    const struct vv_layout_options options = options_of(w, false);
    const varve_status rc = vv_journal_open(&w->dir, &options, &opened_small, &w->place);

    if (rc != VARVE_OK || w->damages > 0)
        print_error("%s; %s\n", vv_words(), w->words);
    assert_int_equal(rc, VARVE_OK);
    assert_int_equal(w->damages, 0);
}

static void close_place(struct world *w)
{
    vv_journal_close(w->place);
    w->place = NULL;
}

static void forget_head(struct world *w)
{
    char path[SCRATCH_PATH + 8];

    snprintf(path, sizeof path, "%s/head", w->path);
    (void)unlink(path);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);

    scratch_new(w->path);
    for (unsigned i = 0; i < BRANCHES; i++)
        w->branch[i] = none;
    for (unsigned i = 0; i < TAGS; i++)
        w->tag[i] = none;
    assert_int_equal(vv_dir_open(&vv_vfs_system, w->path, &w->dir), VARVE_OK);
    assert_int_equal(vv_dir_create_at(&w->dir, ".varve"), VARVE_OK);
    const struct vv_layout_options options = options_of(w, false);
    assert_int_equal(vv_journal_create(&w->dir, &options, &opened_small), VARVE_OK);
    open_place(w);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    close_place(w);
    vv_dir_close(&w->dir);
    scratch_remove(w->path);
    free(w);
    return 0;
}

/* ---- What is done to it ----------------------------------------------------------------------- */

static void branch_name(unsigned branch, char name[256])
{
    snprintf(name, 256, branch == 0 ? "main" : "branch%u", branch);
}

/* Commit `after` on `base` (none: nothing), moving the branch (BRANCHES: no ref) from where it stands. */
static size_t commit_on(struct world *w, size_t base, unsigned branch, const struct model_state *after)
{
    struct vv_commit_facts parent = { .locator = 0 };
    struct vv_commit_facts facts = { .locator = 0 };
    struct vv_ref_move move = { .what = "commit", .to = &facts.id };
    struct made *made = &w->made[w->count];
    char message[32];

    assert_true(w->count < COMMITS);
    snprintf(message, sizeof message, "commit %zu", w->count);
    if (base != none)
        assert_int_equal(journal->facts(w->place, &w->made[base].id, &parent), VARVE_OK);
    if (branch < BRANCHES) {
        branch_name(branch, move.name);
        move.expected = w->branch[branch] == none ? NULL : &w->made[w->branch[branch]].id;
    }
    const varve_status rc = model_commit(journal, w->place, base == none ? NULL : &w->made[base].state,
                                         base == none ? NULL : &parent, after, message,
                                         branch < BRANCHES ? &move : NULL, VARVE_DURABLE, &facts);
    if (rc != VARVE_OK)
        print_error("commit %zu: %s\n", w->count, vv_words());
    assert_int_equal(rc, VARVE_OK);
    *made = (struct made){ .id = facts.id, .root = facts.root, .state = *after, .number = facts.number, .parent = base };
    vv_commit_facts_release(&parent);
    vv_commit_facts_release(&facts);
    if (branch < BRANCHES)
        w->branch[branch] = w->count;
    return w->count++;
}

static size_t commit_random(struct world *w, struct model_chance *chance, unsigned branch)
{
    struct model_state after;
    const size_t base = w->branch[branch];

    memset(&after, 0, sizeof after);
    if (base != none)
        after = w->made[base].state;
    for (unsigned i = 0; i < 3; i++)
        model_mutate(&after, chance);
    return commit_on(w, base, branch, &after);
}

static void move_ref(struct world *w, const char *name, size_t to, size_t *stands)
{
    struct vv_ref_move move = { .what = to == none ? "delete" : "restore", .force = true };

    snprintf(move.name, sizeof move.name, "%s", name);
    move.to = to == none ? NULL : &w->made[to].id;
    assert_int_equal(journal->move_refs(w->place, &move, 1, 77), VARVE_OK);
    *stands = to;
}

static bool is_named(const struct world *w, size_t commit)
{
    for (unsigned i = 0; i < BRANCHES; i++) {
        if (w->branch[i] == commit)
            return true;
    }
    for (unsigned i = 0; i < TAGS; i++) {
        if (w->tag[i] == commit)
            return true;
    }
    return false;
}

static void remove_commit(struct world *w, size_t commit)
{
    const varve_status rc = journal->remove(w->place, &w->made[commit].id, 1, 78);

    if (w->made[commit].removed) {
        assert_int_equal(rc, VARVE_NOT_FOUND);
    } else if (is_named(w, commit)) {
        assert_int_equal(rc, VARVE_MISUSE);
    } else {
        assert_int_equal(rc, VARVE_OK);
        w->made[commit].removed = true;
    }
}

static uint64_t reclaim(struct world *w)
{
    uint64_t freed = 0;
    const varve_status rc = journal->maintain(w->place, 0, NULL, NULL, &freed);

    if (rc != VARVE_OK)
        print_error("maintain: %s\n", vv_words());
    assert_int_equal(rc, VARVE_OK);
    return freed;
}

static uint64_t stored(struct world *w)
{
    struct vv_layout_stat stat;

    journal->stat(w->place, &stat);
    return stat.bytes_stored;
}

static size_t pick_retained(const struct world *w, struct model_chance *chance)
{
    for (unsigned tries = 0; tries < 50 && w->count > 0; tries++) {
        const size_t commit = model_chance(chance, (uint32_t)w->count);
        if (!w->made[commit].removed)
            return commit;
    }
    return none;
}

/* ---- What must hold --------------------------------------------------------------------------- */

static void assert_removed(struct world *w, size_t commit)
{
    const struct made *made = &w->made[commit];
    struct vv_commit_facts facts = { .locator = 0 };
    varve_commit_id found[2];
    size_t count = 9;

    assert_int_equal(journal->facts(w->place, &made->id, &facts), VARVE_NOT_FOUND);
    assert_int_equal(journal->find_id(w->place, made->id.bytes, 64, found, &count), VARVE_OK);
    assert_int_equal(count, 0);
    assert_int_equal(journal->find_number(w->place, made->number, found), VARVE_NOT_FOUND);
}

/* The commit names a parent; if that is gone, the nearest one before it that is not must be told. */
static void assert_ancestor(struct world *w, size_t commit)
{
    size_t before = w->made[commit].parent;
    varve_commit_id found;

    if (before == none)
        return;
    assert_int_equal(journal->ancestor(w->place, &w->made[before].id, &found), VARVE_OK);
    while (before != none && w->made[before].removed)
        before = w->made[before].parent;
    if (before == none)
        assert_true(vv_hash_is_zero(found.bytes));
    else
        assert_memory_equal(found.bytes, w->made[before].id.bytes, 32);
}

static void assert_retained(struct world *w, size_t commit)
{
    const struct made *made = &w->made[commit];
    varve_commit_id found[2];
    size_t count = 0;
    const varve_status rc = model_compare(journal, w->place, &made->id, &made->state);

    if (rc != VARVE_OK)
        print_error("commit %zu of %zu: %s\n", commit, w->count, vv_words());
    assert_int_equal(rc, VARVE_OK);
    assert_int_equal(journal->find_id(w->place, made->id.bytes, 64, found, &count), VARVE_OK);
    assert_int_equal(count, 1);
    assert_int_equal(journal->find_number(w->place, made->number, found), VARVE_OK);
    assert_memory_equal(found[0].bytes, made->id.bytes, 32);
    assert_ancestor(w, commit);
}

/* The newest retained commit of a root is what the root leads to; where there is none, it leads to nothing. */
static void assert_root(struct world *w, size_t commit)
{
    varve_commit_id found[2];
    size_t count = 0;
    size_t newest = none;

    for (size_t i = 0; i < w->count; i++) {
        if (!w->made[i].removed &&
            memcmp(w->made[i].root.bytes, w->made[commit].root.bytes, sizeof w->made[i].root.bytes) == 0)
            newest = i;
    }
    assert_int_equal(journal->find_root(w->place, w->made[commit].root.bytes, 64, found, &count), VARVE_OK);
    assert_int_equal(count, newest == none ? 0 : 1);
    if (newest != none)
        assert_memory_equal(found[0].bytes, w->made[newest].id.bytes, 32);
}

static void assert_refs(struct world *w)
{
    char name[256];
    struct vv_ref_facts ref;

    for (unsigned i = 0; i < BRANCHES + TAGS; i++) {
        const size_t at = i < BRANCHES ? w->branch[i] : w->tag[i - BRANCHES];
        if (i < BRANCHES)
            branch_name(i, name);
        else
            snprintf(name, sizeof name, "tags/%u", i - BRANCHES);
        const varve_status rc = journal->ref_get(w->place, name, &ref);
        assert_int_equal(rc, at == none ? VARVE_NOT_FOUND : VARVE_OK);
        if (at != none)
            assert_memory_equal(ref.commit.bytes, w->made[at].id.bytes, 32);
    }
}

/* Going from number to number finds what looking at every number does. */
static void assert_numbers(struct world *w)
{
    const struct vv_index *index = &w->place->index;
    uint64_t at = 0;
    uint64_t next = 0;
    uint8_t ids[2][32];
    uint64_t addresses[2];

    for (uint64_t number = 1; number <= index->last_number; number++) {
        assert_int_equal(vv_index_find_number(index, number, ids[0], &addresses[0]), VARVE_OK);
        if (addresses[0] == 0)
            continue;
        assert_int_equal(vv_index_next_number(index, at, &next, ids[1], &addresses[1]), VARVE_OK);
        assert_int_equal(next, number);
        assert_int_equal(addresses[1], addresses[0]);
        assert_memory_equal(ids[1], ids[0], 32);
        at = number;
    }
    assert_int_equal(vv_index_next_number(index, at, &next, ids[1], &addresses[1]), VARVE_OK);
    assert_int_equal(addresses[1], 0);
}

static void assert_world(struct world *w)
{
    struct vv_layout_stat stat;
    uint64_t retained = 0;

    for (size_t i = 0; i < w->count; i++) {
        retained += !w->made[i].removed;
        if (w->made[i].removed)
            assert_removed(w, i);
        else
            assert_retained(w, i);
        if (i % 5 == w->count % 5)
            assert_root(w, i);
    }
    assert_refs(w);
    assert_numbers(w);
    journal->stat(w->place, &stat);
    assert_int_equal(stat.commits, retained);
}

static void assert_no_damage(struct world *w)
{
    const struct vv_layout_options options = options_of(w, true);
    uint64_t damage = 9;

    w->damages = 0;
    assert_int_equal(journal->check(&w->dir, &options, 0, &damage), VARVE_OK);
    if (damage != 0)
        print_error("%s\n", w->words);
    assert_int_equal(damage, 0);
}

/* ---- Tests ------------------------------------------------------------------------------------ */

static void a_commit_that_a_ref_names_stays(void **state)
{
    struct world *w = *state;
    struct model_chance chance = { .state = 1 };

    for (unsigned i = 0; i < 3; i++)
        commit_random(w, &chance, 0);
    remove_commit(w, 2);
    assert_non_null(strstr(vv_words(), "main"));
    move_ref(w, "tags/0", 1, &w->tag[0]);
    remove_commit(w, 1);
    assert_non_null(strstr(vv_words(), "tags/0"));
    remove_commit(w, 0);
    remove_commit(w, 0);
    move_ref(w, "tags/0", none, &w->tag[0]);
    remove_commit(w, 1);
    assert_world(w);
    close_place(w);
    open_place(w);
    assert_world(w);
}

/* Must all commits be looked at, to find those that have the root of this one? */
static bool is_stale(struct world *w, size_t commit)
{
    uint8_t found[2][32];
    size_t count = 0;
    bool stale = false;

    assert_int_equal(
        vv_index_find_root(&w->place->index, w->made[commit].root.bytes, 64, found, &count, &stale),
        VARVE_OK);
    return stale;
}

/* A root leads to its newest commit; that one goes, and the one before is it again. */
static void a_root_leads_to_the_newest_that_is_left(void **state)
{
    struct world *w = *state;
    struct model_chance chance = { .state = 2 };

    const size_t first = commit_random(w, &chance, 0);
    const size_t other = commit_random(w, &chance, 0);
    const size_t again = commit_on(w, other, 0, &w->made[first].state);
    for (unsigned i = 0; i < 5; i++)
        commit_random(w, &chance, 0);
    assert_root(w, again);
    remove_commit(w, again);
    assert_root(w, first);
    for (unsigned i = 0; i < 5; i++) /* the removal is in the saved index then */
        commit_random(w, &chance, 0);
    assert_root(w, first);
    assert_true(is_stale(w, first));
    reclaim(w); /* which looks at all commits */
    assert_root(w, first);
    assert_false(is_stale(w, first));
    remove_commit(w, first);
    assert_root(w, first);
    reclaim(w);
    assert_root(w, first);
    assert_false(is_stale(w, first));
    assert_world(w);
}

/* The same commit made again, after it was removed: it is there, with a number of its own; and goes again. */
static void a_commit_can_be_made_again_after_it_was_removed(void **state)
{
    struct world *w = *state;
    struct model_chance chance = { .state = 3 };
    struct vv_commit_facts parent = { .locator = 0 };
    struct vv_commit_facts facts = { .locator = 0 };
    varve_commit_id found;

    commit_random(w, &chance, 0);
    const size_t made = commit_random(w, &chance, 0);
    move_ref(w, "main", 0, &w->branch[0]);
    for (unsigned round = 0; round < 4; round++) {
        remove_commit(w, made);
        if (round % 2 == 1) {
            close_place(w);
            open_place(w);
        }
        assert_int_equal(journal->facts(w->place, &w->made[0].id, &parent), VARVE_OK);
        assert_int_equal(model_commit(journal, w->place, &w->made[0].state, &parent, &w->made[made].state,
                                      "commit 1", NULL, VARVE_DURABLE, &facts),
                         VARVE_OK);
        vv_commit_facts_release(&parent);
        assert_memory_equal(facts.id.bytes, w->made[made].id.bytes, 32);
        assert_int_equal(journal->find_number(w->place, w->made[made].number, &found), VARVE_NOT_FOUND);
        assert_true(facts.number > w->made[made].number);
        w->made[made].number = facts.number;
        w->made[made].removed = false;
        vv_commit_facts_release(&facts);
        assert_world(w);
    }
}

static void step_of(struct world *w, struct model_chance *chance)
{
    const unsigned branch = model_chance(chance, BRANCHES);
    const size_t some = pick_retained(w, chance);
    char name[256];

    switch (model_chance(chance, 20)) {
    case 0:
    case 1:
    case 2:
        if (some != none)
            remove_commit(w, some);
        break;
    case 3:
        if (some == none)
            break;
        branch_name(branch, name);
        move_ref(w, name, some, &w->branch[branch]);
        break;
    case 4:
        if (some == none)
            break;
        snprintf(name, sizeof name, "tags/%u", w->tags % TAGS);
        move_ref(w, name, some, &w->tag[w->tags % TAGS]);
        w->tags++;
        break;
    case 5:
        if (w->branch[branch] == none || branch == 0)
            break;
        branch_name(branch, name);
        move_ref(w, name, none, &w->branch[branch]);
        break;
    case 6:
        if (w->count > 0)
            remove_commit(w, model_chance(chance, (uint32_t)w->count));
        break;
    case 7:
        close_place(w);
        if (model_chance(chance, 2) == 0)
            forget_head(w);
        open_place(w);
        break;
    case 8:
        reclaim(w);
        break;
    case 9:
    case 10: { /* some steps, and then something else in between */
        bool more = true;
        for (unsigned i = model_chance(chance, 12); more && i > 0; i--)
            assert_int_equal(journal->tidy(w->place, 1 + model_chance(chance, 5), &more), VARVE_OK);
        break;
    }
    default:
        commit_random(w, chance, branch);
    }
}

static void random_history(struct world *w, uint64_t seed)
{
    struct model_chance chance = { .state = seed };

    for (unsigned i = 0; i < 500; i++) {
        step_of(w, &chance);
        if (i % 25 == 0)
            assert_world(w);
    }
    assert_world(w);
    close_place(w);
    assert_no_damage(w);
    forget_head(w);
    open_place(w);
    assert_world(w);
}

static void random_histories_hold_what_is_retained(void **state)
{
    random_history(*state, 4711);
}

static void random_histories_hold_what_is_retained_2(void **state)
{
    random_history(*state, 4712);
}

static void random_histories_hold_what_is_retained_3(void **state)
{
    random_history(*state, 4713);
}

/* What was deleted gives its space back, from the middle of the log and from its front. */
static void deleted_commits_give_their_space_back(void **state)
{
    struct world *w = *state;
    struct model_chance chance = { .state = 5 };

    for (unsigned i = 0; i < 60; i++)
        commit_random(w, &chance, 0);
    const uint64_t before = stored(w);
    for (size_t i = 0; i < 59; i++) {
        if (i != 30)
            remove_commit(w, i);
    }
    const uint64_t freed = reclaim(w);
    print_message("%llu bytes, %llu freed, %llu left\n", (unsigned long long)before,
                  (unsigned long long)freed, (unsigned long long)stored(w));
    assert_true(freed > before / 2);
    assert_true(stored(w) < before / 2);
    assert_world(w);
    close_place(w);
    assert_no_damage(w);
    forget_head(w);
    open_place(w);
    assert_world(w);
    for (unsigned i = 0; i < 20; i++)
        commit_random(w, &chance, 0);
    assert_world(w);
}

/* Commits go on and on, the newest few are kept, and the store does not grow. */
static void a_store_that_keeps_few_stays_small(void **state)
{
    struct world *w = *state;
    struct model_chance chance = { .state = 6 };
    bool more = false;

    w->retain = 3;
    close_place(w);
    open_place(w);
    for (unsigned i = 0; i < 550; i++) {
        commit_random(w, &chance, 0);
        assert_int_equal(journal->tidy(w->place, 100, &more), VARVE_OK);
        if (i % 50 == 49) {
            reclaim(w);
            for (size_t k = 0; k + 3 < w->count; k++)
                w->made[k].removed = true;
            assert_world(w);
        }
        if (stored(w) > 40 * opened_small.log.segment) /* some 12 MB are written in all */
            fail_msg("after %u commits the store takes up %llu bytes", i, (unsigned long long)stored(w));
    }
    print_message("%llu bytes after 550 commits\n", (unsigned long long)stored(w));
    close_place(w);
    assert_no_damage(w);
    forget_head(w);
    open_place(w);
    assert_world(w);
}

static const struct vv_journal_limits medium = {
    .log = { .segment = 256 << 10, .ahead = 32 << 10, .files = 2 },
    .checkpoint_records = 64,
    .checkpoint_bytes = 1 << 20,
    .views = 2,
    .frames = 2,
};

/* However many commits there were once: a round looks at those that are there, and finds no others in its way. */
static void retention_costs_what_is_there(void **state)
{
    enum { RETAIN = 3, ROUNDS = 40, STEP = 500 };
    struct world *w = *state;
    struct model_state states[2];
    struct vv_commit_facts facts[2] = { { .locator = 0 }, { .locator = 0 } };
    struct vv_ref_move move = { .what = "commit", .name = "main" };
    uint64_t leaves = 0;
    uint64_t roots = 0;

    memset(states, 0, sizeof states);
    w->retain = RETAIN;
    close_place(w);
    const struct vv_layout_options options = options_of(w, false);
    assert_int_equal(vv_journal_open(&w->dir, &options, &medium, &w->place), VARVE_OK);
    for (unsigned i = 0; i < ROUNDS * STEP; i++) {
        const unsigned now = i % 2;
        const unsigned before = 1 - now;
        states[now].meta = i + 1;
        move.to = &facts[now].id;
        move.expected = i == 0 ? NULL : &facts[before].id;
        vv_commit_facts_release(&facts[now]);
        assert_int_equal(model_commit(journal, w->place, i == 0 ? NULL : &states[before],
                                      i == 0 ? NULL : &facts[before], &states[now], "", &move, VARVE_BUFFERED,
                                      &facts[now]),
                         VARVE_OK);
        if (i % STEP != STEP - 1)
            continue;
        const uint64_t looked = w->place->reclaim->looked;
        reclaim(w);
        const varve_commit_id id = facts[now].id;
        vv_commit_facts_release(&facts[now]); /* it may lie elsewhere now */
        assert_int_equal(journal->facts(w->place, &id, &facts[now]), VARVE_OK);
        assert_true(w->place->reclaim->looked - looked <= STEP + RETAIN);
        assert_int_equal(w->place->index.commits, RETAIN);
        assert_int_equal(vv_pagetree_count(&w->place->index.numbers, &leaves), VARVE_OK);
        assert_true(leaves + w->place->index.tail_count <= STEP + RETAIN);
        assert_int_equal(vv_trie_count(&w->place->index.roots, &roots), VARVE_OK);
        assert_true(roots + w->place->index.tail_count <= STEP + RETAIN);
        assert_numbers(w);
    }
    assert_true(w->place->reclaim->looked <= ROUNDS * (STEP + RETAIN));
    assert_int_equal(w->place->index.last_number, ROUNDS * STEP);
    assert_int_equal(model_compare(journal, w->place, &facts[1].id, &states[1]), VARVE_OK);
    vv_commit_facts_release(&facts[0]);
    vv_commit_facts_release(&facts[1]);
}

/* ---- What an opening takes -------------------------------------------------------------------- */

struct line { /* of commits, each with the state after the one before */
    struct world *w;
    struct model_state states[2];
    struct vv_commit_facts facts[2];
    unsigned count;
};

static void begin_line(struct line *line, struct world *w, uint64_t retain)
{
    *line = (struct line){ .w = w };
    w->retain = retain;
    close_place(w);
    const struct vv_layout_options options = options_of(w, false);
    assert_int_equal(vv_journal_open(&w->dir, &options, &vv_journal_limits, &w->place), VARVE_OK);
}

static void end_line(struct line *line)
{
    vv_commit_facts_release(&line->facts[0]);
    vv_commit_facts_release(&line->facts[1]);
}

static void commit_next(struct line *line)
{
    const unsigned now = line->count % 2;
    struct vv_commit_facts *facts = &line->facts[now];
    const struct vv_commit_facts *before = line->count == 0 ? NULL : &line->facts[1 - now];
    const struct vv_ref_move move = { .what = "commit",
                                      .name = "main",
                                      .to = &facts->id,
                                      .expected = before == NULL ? NULL : &before->id };

    line->states[now] = line->states[1 - now];
    line->states[now].meta = ++line->count;
    vv_commit_facts_release(facts);
    assert_int_equal(model_commit(journal, line->w->place, before == NULL ? NULL : &line->states[1 - now],
                                  before, &line->states[now], "", &move, VARVE_BUFFERED, facts),
                     VARVE_OK);
}

/* Retain what is to be retained. The last commit may lie elsewhere then. */
static void reclaim_line(struct line *line)
{
    struct vv_commit_facts *last = &line->facts[(line->count - 1) % 2];
    const varve_commit_id id = last->id;

    reclaim(line->w);
    vv_commit_facts_release(last);
    assert_int_equal(journal->facts(line->w->place, &id, last), VARVE_OK);
}

/* So many commits, and then as many as it takes until a checkpoint is made. */
static void commit_many(struct line *line, unsigned count, unsigned reclaim_every)
{
    for (unsigned i = 0; i < count || line->w->place->index.tail_count > 0; i++) {
        commit_next(line);
        if (reclaim_every != 0 && line->count % reclaim_every == 0)
            reclaim_line(line);
    }
}

static size_t nodes_of(const struct vv_node *node)
{
    size_t count = node == NULL ? 0 : 1;

    for (unsigned slot = 0; node != NULL && slot < VV_NODE_SLOTS; slot++)
        count += nodes_of(atomic_load(&node->child[slot]));
    return count;
}

static size_t nodes_in_memory(const struct vv_index *index)
{
    return nodes_of(index->ids.top.node) + nodes_of(index->roots.top.node) +
           nodes_of(index->numbers.top.node);
}

/* Of the index stays in memory what is near its tops, however many commits it has; and what was looked up, up to a
 * bound. */
static void the_index_in_memory_does_not_grow(void **state)
{
    enum { COUNT = 8000, TOPS = 2 * (1 + 16 + 256) + 1, LOADED = 1024 + 3 * VV_NODE_DEPTH_MAX };
    struct world *w = *state;
    struct line line;
    struct vv_commit_facts facts = { .locator = 0 };
    varve_commit_id id;

    begin_line(&line, w, 0);
    for (unsigned i = 0; i < COUNT; i++) {
        commit_next(&line);
        assert_true(nodes_in_memory(&w->place->index) <= TOPS + LOADED);
    }
    commit_many(&line, 1, 0);
    assert_true(nodes_in_memory(&w->place->index) <= TOPS);
    assert_true(line.count <= w->place->index.last_number);
    for (uint64_t number = 1; number <= line.count; number++) {
        assert_int_equal(journal->find_number(w->place, number, &id), VARVE_OK);
        assert_int_equal(journal->facts(w->place, &id, &facts), VARVE_OK);
        assert_int_equal(facts.number, number);
        vv_commit_facts_release(&facts);
        assert_true(nodes_in_memory(&w->place->index) <= TOPS + LOADED);
    }
    end_line(&line);
}

/* Of the sanitizers, whose allocators stand in for the C library's: absent without one. */
extern size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static size_t heap_in_use(void)
{
    if (__sanitizer_get_current_allocated_bytes != NULL)
        return __sanitizer_get_current_allocated_bytes();
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* An opening that made twice as many commits holds as much memory: those that are retained stay on the disk. */
static void assert_heap_is_flat(struct world *w, uint64_t retain, unsigned reclaim_every)
{
    enum { COUNT = 3000, MOST = 512 << 10 }; /* what a checkpoint takes rises, with the index's depth */
    struct line line;

    begin_line(&line, w, retain);
    commit_many(&line, COUNT, reclaim_every);
    const size_t once = heap_in_use();
    commit_many(&line, COUNT, reclaim_every);
    const size_t twice = heap_in_use();
    print_message("%zu KiB, and %zu KiB after %u commits\n", once >> 10, twice >> 10, line.count);
    assert_true(once > COUNT); /* it is told: so much is held at least */
    assert_true(twice <= once + MOST);
    end_line(&line);
}

static void an_opening_that_keeps_all_holds_no_more_for_more_commits(void **state)
{
    assert_heap_is_flat(*state, 0, 0);
}

static void an_opening_that_keeps_few_holds_no_more_for_more_commits(void **state)
{
    assert_heap_is_flat(*state, 64, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_commit_that_a_ref_names_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_root_leads_to_the_newest_that_is_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_commit_can_be_made_again_after_it_was_removed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(deleted_commits_give_their_space_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_store_that_keeps_few_stays_small, set_up, tear_down),
        cmocka_unit_test_setup_teardown(retention_costs_what_is_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_index_in_memory_does_not_grow, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_opening_that_keeps_all_holds_no_more_for_more_commits, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_opening_that_keeps_few_holds_no_more_for_more_commits, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(random_histories_hold_what_is_retained, set_up, tear_down),
        cmocka_unit_test_setup_teardown(random_histories_hold_what_is_retained_2, set_up, tear_down),
        cmocka_unit_test_setup_teardown(random_histories_hold_what_is_retained_3, set_up, tear_down),
    };

    scratch_in_memory(); /* thousands of stores: what a disk does with them is the crash suite's to ask */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
