/* The journal through the contract of a layout, against a model: whatever is committed is read again, after any
 * number of openings, from any commit; and whatever is damaged is told, while the rest is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/double.h"
#include "model.h"
#include "opened.h"
#include "scratch.h"
#include "store/codepool.h"
#include "store/journal/head.h"
#include "store/journal/journal.h"
#include "store/journal/place.h"

static const struct vv_layout *const journal = &vv_layout_journal;

/* As shipped, also in a build that shrinks those. */
static const struct vv_journal_limits large = {
    .log = { .segment = 64 << 20, .ahead = 1 << 20, .files = 2 },
    .checkpoint_records = 256,
    .checkpoint_bytes = 4 << 20,
    .views = 8,
    .frames = 64,
};

enum { COMMITS = 400 };
struct made {
    varve_commit_id id;
    struct model_state state;
    uint64_t number;
};
struct fixture {
    char path[SCRATCH_PATH];
    struct vv_dir dir;
    const struct vv_journal_limits *limits;
    struct vv_place *place;
    unsigned notes, warnings, damages;
    char words[512]; /* of the last damage */
    struct made made[COMMITS];
    size_t count;
};

static void count_finding(void *context, const varve_finding *finding)
{
    struct fixture *f = context;

    f->notes += finding->severity == VARVE_NOTE;
    f->warnings += finding->severity == VARVE_WARNING;
    f->damages += finding->severity == VARVE_DAMAGE;
    if (finding->severity == VARVE_DAMAGE)
        snprintf(f->words, sizeof f->words, "%s: %s", finding->file == NULL ? "" : finding->file,
                 finding->text);
}

static struct vv_layout_options options_of(struct fixture *f, bool read_only)
{
    return (struct vv_layout_options){ .vfs = &vv_vfs_system,
                                       .read_only = read_only,
                                       .durability = VARVE_DURABLE,
                                       .finding = count_finding,
                                       .context = f };
}

static varve_status try_open(struct fixture *f, bool read_only)
{
    const struct vv_layout_options options = options_of(f, read_only);

    f->notes = f->warnings = f->damages = 0;
    return vv_journal_open(&f->dir, &options, f->limits, &f->place);
}

static void open_place(struct fixture *f)
{
    assert_int_equal(try_open(f, false), VARVE_OK);
}

static void close_place(struct fixture *f)
{
    vv_journal_close(f->place);
    f->place = NULL;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    scratch_new(f->path);
    f->limits = &opened_small;
    assert_int_equal(vv_dir_open(&vv_vfs_system, f->path, &f->dir), VARVE_OK);
    assert_int_equal(vv_dir_create_at(&f->dir, ".varve"), VARVE_OK);
    const struct vv_layout_options options = options_of(f, false);
    assert_int_equal(vv_journal_create(&f->dir, &options, f->limits), VARVE_OK);
    open_place(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    close_place(f);
    vv_dir_close(&f->dir);
    scratch_remove(f->path);
    free(f);
    return 0;
}

/* Commit `after` on commit `base` (SIZE_MAX: none) and move `branch` from there (NULL: no ref). */
static varve_status commit_as(struct fixture *f, size_t base, const struct model_state *after,
                              const char *branch, struct made *made)
{
    varve_status rc = VARVE_OK;
    struct vv_commit_facts parent = { .locator = 0 };
    struct vv_commit_facts facts = { .locator = 0 };
    struct vv_ref_move move = { .what = "commit", .to = &facts.id };
    char message[32];

    snprintf(message, sizeof message, "commit %zu", f->count);
    if (base != SIZE_MAX) {
        TRY(journal->facts(f->place, &f->made[base].id, &parent));
        move.expected = &parent.id;
    }
    if (branch != NULL)
        snprintf(move.name, sizeof move.name, "%s", branch);
    TRY(model_commit(journal, f->place, base == SIZE_MAX ? NULL : &f->made[base].state,
                     base == SIZE_MAX ? NULL : &parent, after, message, branch == NULL ? NULL : &move,
                     VARVE_DURABLE, &facts));
    made->id = facts.id;
    made->number = facts.number;
    made->state = *after;
out:
    vv_commit_facts_release(&parent);
    vv_commit_facts_release(&facts);
    return rc;
}

static varve_status commit(struct fixture *f, size_t base, const struct model_state *after,
                           const char *branch)
{
    const varve_status rc = commit_as(f, base, after, branch, &f->made[f->count]);

    f->count += rc == VARVE_OK;
    return rc;
}

static void assert_reads(struct fixture *f, size_t commit_index)
{
    const varve_status rc =
        model_compare(journal, f->place, &f->made[commit_index].id, &f->made[commit_index].state);

    if (rc != VARVE_OK)
        print_error("commit %zu: %s\n", commit_index, vv_words());
    assert_int_equal(rc, VARVE_OK);
}

static void assert_ref(struct fixture *f, const char *name, size_t commit_index)
{
    struct vv_ref_facts ref;

    assert_int_equal(journal->ref_get(f->place, name, &ref), VARVE_OK);
    assert_memory_equal(ref.commit.bytes, f->made[commit_index].id.bytes, 32);
}

/* ---- Model ------------------------------------------------------------------------------------ */

static void assert_found(struct fixture *f, size_t commit_index)
{
    const struct made *made = &f->made[commit_index];
    varve_commit_id found[2];
    size_t count = 0;

    assert_int_equal(journal->find_id(f->place, made->id.bytes, 64, found, &count), VARVE_OK);
    assert_int_equal(count, 1);
    assert_memory_equal(found[0].bytes, made->id.bytes, 32);
    assert_int_equal(journal->find_number(f->place, made->number, &found[0]), VARVE_OK);
    assert_memory_equal(found[0].bytes, made->id.bytes, 32);
}

/* Prefixes of one digit, compared with a count by hand: none, one, or two that are different and both fit. */
static void assert_prefixes(struct fixture *f)
{
    for (unsigned digit = 0; digit < 16; digit++) {
        const uint8_t key[32] = { (uint8_t)(digit << 4) };
        varve_commit_id found[2];
        size_t fitting = 0;
        size_t count = 0;
        for (size_t i = 0; i < f->count; i++)
            fitting += f->made[i].id.bytes[0] >> 4 == (int)digit;
        assert_int_equal(journal->find_id(f->place, key, 1, found, &count), VARVE_OK);
        assert_int_equal(count, fitting > 2 ? 2 : fitting);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(found[i].bytes[0] >> 4, digit);
        if (count == 2)
            assert_memory_not_equal(found[0].bytes, found[1].bytes, 32);
    }
}

/* Random commits on random branches from random old commits, the store closed and opened at random; in the end
 * every commit reads as the model says, in any order, and every branch stands where it was put. */
static void what_was_committed_is_read_from_any_commit(void **state)
{
    struct fixture *f = *state;
    struct model_chance chance = { .state = 42 };
    size_t heads[4] = { SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX };

    while (f->count < 200) {
        const uint32_t branch = model_chance(&chance, 4);
        char name[16];
        snprintf(name, sizeof name, "b%u", branch);
        struct model_state next = { .meta = 0 };
        if (heads[branch] != SIZE_MAX)
            next = f->made[heads[branch]].state;
        model_mutate(&next, &chance);
        if (model_chance(&chance, 9) == 0 && f->count > 0) { /* detached, from anywhere */
            const size_t base = model_chance(&chance, (uint32_t)f->count);
            next = f->made[base].state;
            model_mutate(&next, &chance);
            assert_int_equal(commit(f, base, &next, NULL), VARVE_OK);
        } else {
            assert_int_equal(commit(f, heads[branch], &next, name), VARVE_OK);
            heads[branch] = f->count - 1;
        }
        assert_reads(f, f->count - 1);
        assert_reads(f, model_chance(&chance, (uint32_t)f->count));
        if (model_chance(&chance, 5) == 0) {
            close_place(f);
            open_place(f);
            assert_int_equal(f->notes + f->warnings + f->damages, 0);
        }
    }
    for (unsigned round = 0; round < 2; round++) {
        for (size_t i = 0; i < f->count; i++) {
            assert_reads(f, i);
            assert_found(f, i);
        }
        assert_prefixes(f);
        for (unsigned branch = 0; branch < 4; branch++) {
            char name[16];
            snprintf(name, sizeof name, "b%u", branch);
            assert_ref(f, name, heads[branch]);
        }
        assert_int_equal(journal->last_number(f->place), f->count);
        close_place(f);
        if (round == 0)
            assert_int_equal(vv_dir_unlink(&f->dir, "head"), VARVE_OK); /* (J7) */
        open_place(f);
        assert_int_equal(f->notes + f->warnings + f->damages, 0);
    }
}

/* With the sizes that are shipped: 700 chained commits, two checkpoints, opened again. */
static void shipped_sizes_work_as_small_ones(void **state)
{
    struct fixture *f = *state;
    struct model_chance chance = { .state = 7 };
    struct model_state next = { .meta = 1 };

    close_place(f);
    f->limits = &vv_journal_limits;
    open_place(f);
    for (size_t i = 0; i < COMMITS; i++) {
        model_mutate(&next, &chance);
        next.meta = (uint32_t)i + 1; /* no two states alike */
        assert_int_equal(commit(f, i == 0 ? SIZE_MAX : i - 1, &next, "main"), VARVE_OK);
    }
    close_place(f);
    open_place(f);
    for (size_t i = 0; i < COMMITS; i += 7)
        assert_reads(f, i);
    assert_ref(f, "main", COMMITS - 1);
}

/* ---- Refs ------------------------------------------------------------------------------------- */

static varve_status move_ref(struct fixture *f, const char *name, size_t expected, size_t to, bool force)
{
    struct vv_ref_move move = { .what = "create", .force = force };

    snprintf(move.name, sizeof move.name, "%s", name);
    move.expected = expected == SIZE_MAX ? NULL : &f->made[expected].id;
    move.to = to == SIZE_MAX ? NULL : &f->made[to].id;
    return journal->move_refs(f->place, &move, 1, 77);
}

static void commit_line(struct fixture *f, size_t count)
{
    struct model_chance chance = { .state = 3 };
    struct model_state next = { .meta = 0 };

    for (size_t i = 0; i < count; i++) {
        model_mutate(&next, &chance);
        next.meta = (uint32_t)f->count + 1;
        assert_int_equal(commit(f, f->count == 0 ? SIZE_MAX : f->count - 1, &next, "main"), VARVE_OK);
    }
}

/* Space goes when nobody is left who looked before it was retired; and a generation outlives the process. */
static void what_was_retired_stays_for_those_who_looked_before(void **state)
{
    struct fixture *f = *state;
    struct vv_place *place = f->place;

    commit_line(f, 2);
    const uint64_t first = journal->hold(place);
    const uint64_t again = journal->hold(place);
    assert_int_equal(first, 0);
    assert_int_equal(vv_place_oldest_hold(place), 0);
    for (uint64_t generation = 1; generation <= 5; generation++) {
        assert_int_equal(vv_place_may_retire(place), VARVE_OK);
        vv_place_retire(place, VV_LOG_START);
        assert_int_equal(vv_place_generation(place), generation);
        assert_false(vv_place_droppable(place, generation));
    }
    const uint64_t later = journal->hold(place);
    assert_int_equal(later, 5);
    journal->drop(place, first);
    assert_false(vv_place_droppable(place, 1));
    journal->drop(place, again);
    assert_int_equal(vv_place_oldest_hold(place), 5);
    assert_true(vv_place_droppable(place, 5));
    assert_int_equal(vv_place_may_retire(place), VARVE_OK);
    vv_place_retire(place, VV_LOG_START);
    assert_true(vv_place_droppable(place, 5));
    assert_false(vv_place_droppable(place, 6));
    journal->drop(place, later);
    assert_true(vv_place_droppable(place, 6));
    assert_reads(f, 0); /* the caches are empty, the log is what it was */
    commit_line(f, 20); /* a checkpoint says it too */
    close_place(f);
    assert_int_equal(unlinkat(f->dir.fd, "head", 0), 0);
    open_place(f);
    assert_int_equal(vv_place_generation(f->place), 6);
}

static void a_ref_moves_only_from_where_it_stands(void **state)
{
    struct fixture *f = *state;
    struct vv_ref_facts ref;

    commit_line(f, 3);
    const struct model_state other = { .meta = 9 };
    struct made unused;
    assert_int_equal(commit_as(f, 1, &other, "main", &unused), VARVE_CONFLICT);
    assert_int_equal(journal->last_number(f->place), 3); /* nothing was made */
    assert_ref(f, "main", 2);
    assert_int_equal(move_ref(f, "main", 1, 0, false), VARVE_CONFLICT);
    assert_int_equal(move_ref(f, "main", SIZE_MAX, 0, false), VARVE_CONFLICT);
    assert_int_equal(move_ref(f, "tag", 0, 0, false), VARVE_CONFLICT); /* it is not there */
    assert_int_equal(move_ref(f, "tag", SIZE_MAX, 0, false), VARVE_OK);
    assert_int_equal(move_ref(f, "tag", 0, 2, false), VARVE_OK);
    assert_int_equal(move_ref(f, "tag", 0, 1, true), VARVE_OK);
    assert_int_equal(move_ref(f, "tag", 1, SIZE_MAX, false), VARVE_OK);
    assert_int_equal(journal->ref_get(f->place, "tag", &ref), VARVE_NOT_FOUND);
    assert_int_equal(move_ref(f, "tag", SIZE_MAX, 2, false), VARVE_OK);
    const struct vv_ref_move unknown = { .name = "x", .to = &(varve_commit_id){ { 1 } }, .what = "create" };
    assert_int_equal(journal->move_refs(f->place, &unknown, 1, 0), VARVE_NOT_FOUND);
    const struct vv_ref_move twice[2] = { { .name = "y", .to = &f->made[0].id, .what = "create" },
                                          { .name = "y", .to = &f->made[1].id, .what = "create" } };
    assert_int_equal(journal->move_refs(f->place, twice, 2, 0), VARVE_MISUSE);
}

/* Moves of one ref, newest first, as "FROM>TO" by commit, "-" for none. */
static void tell_moves(struct fixture *f, const char *name, char *text)
{
    struct vv_move_facts move = { .locator = 0 };
    uint64_t locator = 0;

    *text = '\0';
    do {
        size_t from = 0;
        size_t to = 0;
        assert_int_equal(journal->ref_move(f->place, name, locator, &move), VARVE_OK);
        while (from < f->count && memcmp(f->made[from].id.bytes, move.from.bytes, 32) != 0)
            from++;
        while (to < f->count && memcmp(f->made[to].id.bytes, move.to.bytes, 32) != 0)
            to++;
        text += sprintf(text, "%c>%c ", from == f->count ? '-' : (char)('0' + from),
                        to == f->count ? '-' : (char)('0' + to));
        locator = move.previous;
    } while (locator != 0);
}

static void a_ref_tells_its_moves_after_it_was_deleted_too(void **state)
{
    struct fixture *f = *state;
    struct vv_ref_facts ref;
    struct vv_move_facts move;
    char text[256];

    commit_line(f, 4);
    for (unsigned round = 0; round < 2; round++) {
        const size_t was = round == 0 ? SIZE_MAX : 0;
        assert_int_equal(move_ref(f, "a/b", was, 2, false), VARVE_OK);
        commit_line(f, 2); /* a checkpoint falls between */
        assert_int_equal(move_ref(f, "a/b", 2, SIZE_MAX, false), VARVE_OK);
        close_place(f);
        open_place(f);
        assert_int_equal(move_ref(f, "a/b", SIZE_MAX, 0, false), VARVE_OK);
    }
    tell_moves(f, "a/b", text);
    assert_string_equal(text, "->0 2>- 0>2 ->0 2>- ->2 ");
    tell_moves(f, "main", text);
    assert_string_equal(text, "6>7 5>6 4>5 3>4 2>3 1>2 0>1 ->0 ");
    assert_int_equal(journal->ref_get(f->place, "a/b", &ref), VARVE_OK);
    assert_int_equal(ref.moves, 6);
    assert_int_equal(journal->ref_move(f->place, "never", 0, &move), VARVE_END);
    assert_int_equal(journal->ref_next(f->place, NULL, &ref), VARVE_OK);
    assert_string_equal(ref.name, "a/b");
    assert_int_equal(journal->ref_next(f->place, ref.name, &ref), VARVE_OK);
    assert_string_equal(ref.name, "main");
    assert_int_equal(journal->ref_next(f->place, ref.name, &ref), VARVE_END);
}

/* The id says what a commit is: made a second time it is the first, and only the ref moves. */
static void a_commit_that_is_there_already_is_that_commit(void **state)
{
    struct fixture *f = *state;
    struct made again = { .number = 0 };
    struct vv_commit_facts parent = { .locator = 0 };
    struct vv_commit_facts facts = { .locator = 0 };
    struct vv_ref_move move = { .name = "other", .what = "commit", .to = &f->made[0].id };

    commit_line(f, 3);
    assert_int_equal(move_ref(f, "other", SIZE_MAX, 0, false), VARVE_OK);
    assert_int_equal(journal->facts(f->place, &f->made[0].id, &parent), VARVE_OK);
    move.expected = &parent.id;
    move.to = &f->made[1].id;
    assert_int_equal(model_commit(journal, f->place, &f->made[0].state, &parent, &f->made[1].state,
                                  "commit 1", &move, VARVE_DURABLE, &facts),
                     VARVE_OK);
    assert_memory_equal(facts.id.bytes, f->made[1].id.bytes, 32);
    assert_int_equal(facts.number, f->made[1].number);
    assert_int_equal(journal->last_number(f->place), 3);
    assert_ref(f, "other", 1);
    assert_ref(f, "main", 2);
    (void)again;
    vv_commit_facts_release(&parent);
    vv_commit_facts_release(&facts);
}

/* States repeat: a root leads to the newest commit that has it, before and after checkpoints. */
static void a_root_leads_to_its_newest_commit(void **state)
{
    struct fixture *f = *state;
    const struct model_state a = { .meta = 1 };
    const struct model_state b = { .meta = 2 };
    struct vv_commit_facts facts;
    varve_commit_id found[2];
    size_t count = 0;

    for (size_t i = 0; i < 9; i++) {
        assert_int_equal(commit(f, i == 0 ? SIZE_MAX : i - 1, i % 2 == 0 ? &a : &b, "main"), VARVE_OK);
        assert_int_equal(journal->facts(f->place, &f->made[i].id, &facts), VARVE_OK);
        assert_int_equal(journal->find_root(f->place, facts.root.bytes, 64, found, &count), VARVE_OK);
        assert_int_equal(count, 1);
        assert_memory_equal(found[0].bytes, f->made[i].id.bytes, 32);
        vv_commit_facts_release(&facts);
    }
    const uint8_t none[32] = { 0 };
    assert_int_equal(journal->find_root(f->place, none, 0, found, &count), VARVE_OK);
    assert_int_equal(count, 2);
}

/* ---- Openings, debris, damage ----------------------------------------------------------------- */

static void poke(struct fixture *f, const char *name, uint64_t offset, const void *bytes, size_t size)
{
    struct vv_file file = VV_FILE_NONE;

    assert_int_equal(vv_file_open(&f->dir, name, VV_OPEN_WRITE, &file), VARVE_OK);
    assert_int_equal(vv_file_write(&file, bytes, size, offset), VARVE_OK);
    vv_file_close(&file);
}

static void peek(struct fixture *f, const char *name, uint64_t offset, void *bytes, size_t size)
{
    struct vv_file file = VV_FILE_NONE;

    assert_int_equal(vv_file_open(&f->dir, name, VV_OPEN_READ, &file), VARVE_OK);
    assert_int_equal(vv_file_read(&file, bytes, size, offset), VARVE_OK);
    vv_file_close(&file);
}

/* Opening to look changes no byte and no length, whatever was left behind. */
static void looking_writes_nothing(void **state)
{
    struct fixture *f = *state;
    struct vv_double d;

    commit_line(f, 5);
    close_place(f);
    vv_double_init(&d, &vv_vfs_system);
    vv_double_arm(&d, VV_DOUBLE_PASS, 0, 0);
    struct vv_layout_options options = options_of(f, false);
    options.vfs = &d.table;
    struct vv_dir dir = VV_DIR_NONE;
    assert_int_equal(vv_dir_open(&d.table, f->path, &dir), VARVE_OK);
    assert_int_equal(vv_journal_open(&dir, &options, f->limits, &f->place), VARVE_OK);
    for (size_t i = 0; i < f->count; i++)
        assert_reads(f, i);
    close_place(f);
    vv_dir_close(&dir);
    assert_int_equal(d.count, 0);
}

/* A commit is one write and one sync, and the hint for readers; the first of an opening has its OPEN record's in
 * front. */
static void a_commit_is_one_write_and_one_sync(void **state)
{
    struct fixture *f = *state;
    struct vv_double d;
    const struct model_state first = { .meta = 100 };
    const struct model_state second = { .meta = 101 };

    commit_line(f, 1);
    close_place(f);
    vv_double_init(&d, &vv_vfs_system);
    struct vv_layout_options options = options_of(f, false);
    options.vfs = &d.table;
    struct vv_dir dir = VV_DIR_NONE;
    assert_int_equal(vv_dir_open(&d.table, f->path, &dir), VARVE_OK);
    assert_int_equal(vv_journal_open(&dir, &options, &large, &f->place), VARVE_OK);
    vv_double_arm(&d, VV_DOUBLE_PASS, 0, 0);
    assert_int_equal(commit(f, 0, &first, "main"), VARVE_OK);
    vv_double_arm(&d, VV_DOUBLE_PASS, 0, 0);
    assert_int_equal(commit(f, 1, &second, "main"), VARVE_OK);
    assert_int_equal(d.count, 3);
    close_place(f);
    vv_dir_close(&dir);
}

/* (J2) Records k and k + 1 were not acknowledged; k is torn, k + 1 landed whole. After reopening, the same session
 * makes a byte-identical k; the stale k + 1 must not join it again. */
static void a_phantom_commit_does_not_join_the_chain(void **state)
{
    struct fixture *f = *state;
    const char *name = "log.0000000000001000";
    struct model_state next[2] = { { .meta = 50 }, { .meta = 51 } };
    struct vv_commit_facts facts[2];
    uint8_t phantom[4096];
    uint8_t torn[4096];

    close_place(f);
    f->limits = &large;
    open_place(f);
    commit_line(f, 2);
    /* k and k + 1, buffered, so that neither says that the other was synced. */
    for (size_t i = 0; i < 2; i++) {
        struct vv_commit_facts parent;
        struct vv_ref_move move = { .name = "main", .what = "commit", .expected = &parent.id };
        assert_int_equal(journal->facts(f->place, &f->made[1 + i].id, &parent), VARVE_OK);
        assert_int_equal(model_commit(journal, f->place, &f->made[1 + i].state, &parent, &next[i], "k", &move,
                                      VARVE_BUFFERED, &facts[i]),
                         VARVE_OK);
        f->made[2 + i].id = facts[i].id;
        f->made[2 + i].state = next[i];
        vv_commit_facts_release(&parent);
    }
    f->count = 4;
    const uint64_t k = facts[0].locator - VV_LOG_START;
    const uint64_t k1 = facts[1].locator - VV_LOG_START;
    assert_int_equal(k1, k + 4096);
    vv_commit_facts_release(&facts[0]);
    vv_commit_facts_release(&facts[1]);
    /* What the disk holds after the crash: k torn, k + 1 whole, no head. */
    peek(f, name, k, torn, sizeof torn);
    peek(f, name, k1, phantom, sizeof phantom);
    close_place(f);
    assert_int_equal(vv_dir_unlink(&f->dir, "head"), VARVE_OK);
    memset(torn + 300, 0, sizeof torn - 300); /* the header landed, not all of the rest */
    poke(f, name, k, torn, sizeof torn);
    /* Cut: neither is there, and that is no damage. */
    open_place(f);
    assert_int_equal(f->damages, 0);
    assert_int_equal(f->notes, 1);
    assert_int_equal(journal->last_number(f->place), 2);
    assert_int_equal(journal->facts(f->place, &f->made[3].id, &facts[1]), VARVE_NOT_FOUND);
    /* The same k again. Put the stale k + 1 wherever it could follow. */
    struct made again;
    f->count = 2;
    struct vv_commit_facts parent;
    struct vv_ref_move move = { .name = "main", .what = "commit", .expected = &parent.id };
    assert_int_equal(journal->facts(f->place, &f->made[1].id, &parent), VARVE_OK);
    assert_int_equal(model_commit(journal, f->place, &f->made[1].state, &parent, &next[0], "k", &move,
                                  VARVE_DURABLE, &facts[0]),
                     VARVE_OK);
    assert_memory_equal(facts[0].id.bytes, f->made[2].id.bytes,
                        32); /* the same session made the same commit */
    const uint64_t end = facts[0].locator - VV_LOG_START + 4096;
    vv_commit_facts_release(&parent);
    vv_commit_facts_release(&facts[0]);
    close_place(f);
    assert_int_equal(vv_dir_unlink(&f->dir, "head"), VARVE_OK);
    (void)again;
    for (unsigned lies = 0; lies < 2; lies++) {
        if (lies == 1) { /* one that even claims to lie there, with a header sum to match */
            struct vv_record record;
            assert_int_equal(vv_record_decode(phantom, k1 + VV_LOG_START, &record), VARVE_OK);
            record.address = end + VV_LOG_START;
            vv_record_encode(&record, phantom);
        }
        poke(f, name, end, phantom, sizeof phantom);
        open_place(f);
        assert_int_equal(f->damages, 0);
        assert_int_equal(journal->last_number(f->place), 3);
        assert_int_equal(journal->facts(f->place, &f->made[3].id, &facts[1]), VARVE_NOT_FOUND);
        close_place(f);
    }
    open_place(f);
}

/* The planted bug: if the next opening laid down the same k without an OPEN record before it, the stale k + 1
 * would join again. So the test above can fail. */
static void without_an_open_record_the_phantom_would_join(void **state)
{
    struct fixture *f = *state;
    const char *name = "log.0000000000001000";
    struct vv_commit_facts parent;
    struct vv_commit_facts facts[2];
    const uint8_t zeros[4096] = { 0 };
    uint8_t record[4096];

    close_place(f);
    f->limits = &large;
    open_place(f);
    commit_line(f, 2);
    assert_int_equal(journal->facts(f->place, &f->made[1].id, &parent), VARVE_OK);
    for (unsigned i = 0; i < 2; i++) {
        const struct model_state next = { .meta = 60 + i };
        assert_int_equal(model_commit(journal, f->place, &f->made[1].state, &parent, &next, "k", NULL,
                                      VARVE_BUFFERED, &facts[i]),
                         VARVE_OK);
    }
    const uint64_t k = facts[0].locator - VV_LOG_START;
    peek(f, name, k, record, sizeof record);
    close_place(f);
    assert_int_equal(vv_dir_unlink(&f->dir, "head"), VARVE_OK);
    poke(f, name, k, zeros, sizeof zeros);
    open_place(f);
    assert_int_equal(journal->last_number(f->place), 2);
    close_place(f);
    poke(f, name, k, record, sizeof record);
    open_place(f);
    assert_int_equal(journal->last_number(f->place), 4);
    vv_commit_facts_release(&parent);
    vv_commit_facts_release(&facts[0]);
    vv_commit_facts_release(&facts[1]);
}

/* Put behind the last record a copy of it that says something else, with a header sum to match, and open. */
static void open_behind(struct fixture *f, uint64_t address, uint8_t *bytes, struct vv_record *record)
{
    const char *name = "log.0000000000001000";

    close_place(f);
    (void)vv_dir_unlink(&f->dir, "head"); /* it would start behind */
    record->address = address;
    vv_record_encode(record, bytes);
    poke(f, name, address - VV_LOG_START, bytes, record->size);
    open_place(f);
}

/* (J2) A record joins when its sequence, the sum before it and its epoch all fit; each alone keeps it out, also from an
 * OPEN record, which brings an epoch of its own. A state that has another root than its commit says is none. */
static void a_record_joins_only_when_all_of_it_fits(void **state)
{
    struct fixture *f = *state;
    struct vv_commit_facts facts;
    struct vv_record last, next;
    uint8_t bytes[16384];

    close_place(f);
    f->limits = &large;
    open_place(f);
    commit_line(f, 2);
    assert_int_equal(journal->facts(f->place, &f->made[1].id, &facts), VARVE_OK);
    const uint64_t at = facts.locator;
    vv_commit_facts_release(&facts);
    peek(f, "log.0000000000001000", at - VV_LOG_START, bytes, sizeof bytes);
    assert_int_equal(vv_record_decode(bytes, at, &last), VARVE_OK);
    assert_in_range(last.size, sizeof(uint64_t), sizeof bytes);
    for (unsigned wrong = 0; wrong < 5; wrong++) {
        next = last;
        next.sequence = last.sequence + 1;
        memcpy(next.previous, last.sum, sizeof next.previous);
        next.id[0] ^= 1;
        next.root[0] ^= 1;
        next.number++;
        if (wrong == 0)
            next.sequence++;
        if (wrong == 1 || wrong == 3)
            next.previous[0] ^= 1;
        if (wrong == 2)
            next.epoch[0] ^= 1;
        if (wrong == 3) {
            next.kind = VV_RECORD_OPEN;
            next.facts_size = next.directory_size = next.pages_size = 0;
            next.epoch[0] ^= 1;
            vv_record_sum("", 0, next.facts_sum);
            memcpy(next.directory_sum, next.facts_sum, VV_SUM);
            memcpy(next.pages_sum, next.facts_sum, VV_SUM);
            memset(next.id, 0, sizeof next.id);
            memset(next.root, 0, sizeof next.root);
            next.parent = next.checkpoint = next.number = 0;
            next.size = vv_record_padded(&next);
        }
        open_behind(f, at + last.size, bytes, &next);
        assert_int_equal(f->damages, 0);
        assert_int_equal(f->notes, wrong == 4 ? 0 : 1); /* debris, but for the last */
        assert_int_equal(journal->last_number(f->place), wrong == 4 ? 3 : 2);
        peek(f, "log.0000000000001000", at - VV_LOG_START, bytes, sizeof bytes);
    }
    memcpy(facts.id.bytes, next.id, sizeof facts.id.bytes);
    const varve_commit_id id = facts.id;
    struct vv_state view;
    assert_int_equal(journal->facts(f->place, &id, &facts), VARVE_OK);
    assert_int_equal(journal->view(f->place, &facts, &view), VARVE_CORRUPT);
    vv_commit_facts_release(&facts);
}

/* (J2) Each opening draws an epoch of its own before its first append. */
static void every_opening_has_an_epoch_of_its_own(void **state)
{
    struct fixture *f = *state;
    struct vv_commit_facts facts;
    struct vv_record record[2];
    uint8_t bytes[VV_RECORD_HEADER];

    close_place(f);
    f->limits = &large;
    for (size_t i = 0; i < 2; i++) {
        open_place(f);
        commit_line(f, 1);
        assert_int_equal(journal->facts(f->place, &f->made[i].id, &facts), VARVE_OK);
        peek(f, "log.0000000000001000", facts.locator - VV_LOG_START, bytes, sizeof bytes);
        assert_int_equal(vv_record_decode(bytes, facts.locator, &record[i]), VARVE_OK);
        vv_commit_facts_release(&facts);
        close_place(f);
    }
    assert_memory_not_equal(record[0].epoch, record[1].epoch, sizeof record[0].epoch);
    open_place(f);
}

/* BUFFERED commits are in the log at once; a killed process loses none of them. */
static void buffered_commits_survive_a_killed_process(void **state)
{
    struct fixture *f = *state;
    struct vv_double d;
    struct vv_commit_facts facts;
    varve_commit_id ids[20];
    struct model_state states[20];
    struct model_state next = { .meta = 1 };
    struct model_chance chance = { .state = 5 };
    struct vv_layout_options options = options_of(f, false);
    struct vv_dir dir = VV_DIR_NONE;
    struct vv_place *place = NULL;
    struct vv_commit_facts parent = { .locator = 0 };

    close_place(f);
    vv_double_init(&d, &vv_vfs_system);
    options.vfs = &d.table;
    assert_int_equal(vv_dir_open(&d.table, f->path, &dir), VARVE_OK);
    assert_int_equal(vv_journal_open(&dir, &options, f->limits, &place), VARVE_OK);
    for (size_t i = 0; i < 20; i++) {
        const struct model_state before = next;
        model_mutate(&next, &chance);
        assert_int_equal(model_commit(journal, place, i == 0 ? NULL : &before, i == 0 ? NULL : &parent, &next,
                                      "buffered", NULL, VARVE_BUFFERED, &facts),
                         VARVE_OK);
        ids[i] = facts.id;
        states[i] = next;
        vv_commit_facts_release(&parent);
        parent = facts;
    }
    vv_commit_facts_release(&parent);
    /* Killed: nothing that it does from here on reaches the disk. */
    vv_double_arm(&d, VV_DOUBLE_STICK, 1, 5);
    vv_journal_close(place);
    vv_dir_close(&dir);
    open_place(f);
    assert_int_equal(f->damages, 0);
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(model_compare(journal, f->place, &ids[i], &states[i]), VARVE_OK);
}

static void count_sync(void *context, const struct vv_double_event *event)
{
    *(unsigned *)context += event->call == VV_CALL_SYNC;
}

/* What was BUFFERED is synced when somebody asks for it: by persist, also after the process that made it was killed;
 * and by the same commit made once more, DURABLE this time. */
static void buffered_commits_become_durable_when_asked(void **state)
{
    struct fixture *f = *state;
    struct vv_double d;
    struct vv_commit_facts facts;
    const struct model_state some = { .meta = 1 };
    struct vv_layout_options options = options_of(f, false);
    struct vv_dir dir = VV_DIR_NONE;
    unsigned syncs = 0;

    close_place(f);
    vv_double_init(&d, &vv_vfs_system);
    d.record = count_sync;
    d.context = &syncs;
    options.vfs = &d.table;
    assert_int_equal(vv_dir_open(&d.table, f->path, &dir), VARVE_OK);
    for (unsigned opening = 0; opening < 2; opening++) {
        assert_int_equal(vv_journal_open(&dir, &options, f->limits, &f->place), VARVE_OK);
        if (opening == 1) { /* nothing but a killed process's commit is there yet */
            syncs = 0;
            assert_int_equal(journal->persist(f->place), VARVE_OK);
            assert_int_equal(syncs, 1);
            assert_int_equal(journal->persist(f->place), VARVE_OK);
            assert_int_equal(syncs, 1);
        }
        for (unsigned durable = 0; durable < 2; durable++) {
            syncs = 0;
            assert_int_equal(model_commit(journal, f->place, NULL, NULL, &some,
                                          opening == 0 ? "first" : "second", NULL,
                                          durable ? VARVE_DURABLE : VARVE_BUFFERED, &facts),
                             VARVE_OK);
            vv_commit_facts_release(&facts);
            if (durable)
                assert_int_equal(syncs, 1);
            if (opening == 0)
                break;
        }
        vv_double_arm(&d, opening == 0 ? VV_DOUBLE_STICK : VV_DOUBLE_PASS, opening == 0 ? 1 : 0, 5);
        close_place(f);
        vv_double_arm(&d, VV_DOUBLE_PASS, 0, 0);
    }
    vv_dir_close(&dir);
    open_place(f);
}

/* The record that a byte of the log belongs to. */
struct owner {
    uint64_t address;
    unsigned kind; /* 0: none */
};

struct copy {
    char names[16][32];
    uint8_t *bytes[16];
    size_t sizes[16];
    size_t count;
    struct fixture *f;
};

static int copy_file(void *context, const char *name)
{
    struct copy *copy = context;

    if (strcmp(name, ".varve") == 0)
        return 0;
    assert_true(copy->count < 16);
    snprintf(copy->names[copy->count], sizeof copy->names[0], "%s", name);
    assert_int_equal(
        vv_dir_read(&copy->f->dir, name, 1 << 24, &copy->bytes[copy->count], &copy->sizes[copy->count]),
        VARVE_OK);
    copy->count++;
    return 0;
}

/* Commits whose records lie before the damage need nothing of it; but the commit of a checkpoint is read with it. */
static void assert_older_ones_are_read(struct fixture *f, const struct owner *owner)
{
    struct vv_commit_facts facts;

    if (owner->kind == 0)
        return;
    for (size_t i = 0; i < f->count; i++) {
        if (journal->facts(f->place, &f->made[i].id, &facts) != VARVE_OK)
            continue;
        const uint64_t address = facts.locator;
        vv_commit_facts_release(&facts);
        if (address >= owner->address || (owner->kind == 4 && address + 8192 > owner->address))
            continue;
        if (model_compare(journal, f->place, &f->made[i].id, &f->made[i].state) != VARVE_OK)
            fail_msg("damage at %llu took commit %zu at %llu with it: %s", (unsigned long long)owner->address,
                     i, (unsigned long long)address, vv_words());
    }
}

/* One byte of the log or of head was changed: does the store say so, and does it read whatever it still can? */
static void assert_damage_is_told(struct fixture *f, const char *name, uint64_t offset, bool padding,
                                  const struct owner *owner, size_t *refused)
{
    size_t lost = 0;
    uint64_t damage = 0;

    /* What opening need not read, the check reads; and it comes first, for a head is healed by who opens to write. */
    const struct vv_layout_options options = options_of(f, true);
    f->notes = f->warnings = f->damages = 0;
    assert_int_equal(vv_journal_check(&f->dir, &options, 0, &damage), VARVE_OK);
    assert_int_equal(damage, f->damages);
    const unsigned mentioned = f->damages + f->warnings + f->notes;

    assert_int_equal(try_open(f, false), VARVE_OK);
    const unsigned told = f->damages;
    for (size_t i = 0; i < f->count; i++) {
        const varve_status read = model_compare(journal, f->place, &f->made[i].id, &f->made[i].state);
        if (read != VARVE_OK && read != VARVE_CORRUPT && read != VARVE_NOT_FOUND)
            fail_msg("%s %llu: commit %zu: %s", name, (unsigned long long)offset, i, vv_words());
        lost += read != VARVE_OK;
    }
    assert_older_ones_are_read(f, owner);
    struct vv_layout_stat stat;
    journal->stat(f->place, &stat);
    if (stat.damaged) { /* nothing more is written to it */
        const struct model_state more = { .meta = 999 };
        struct made unused;
        assert_int_equal(commit_as(f, SIZE_MAX, &more, NULL, &unused), VARVE_CORRUPT);
        ++*refused;
    }
    assert_true(told == 0 || stat.damaged);
    close_place(f);
    if (lost > 0 && damage == 0)
        fail_msg("%s %llu: %zu commits lost, and the check finds nothing", name, (unsigned long long)offset,
                 lost);
    if (mentioned == 0)
        fail_msg("%s %llu: changed, and the check finds nothing", name, (unsigned long long)offset);
    if (!padding && damage == 0 && strcmp(name, "head") != 0)
        fail_msg("%s %llu: used bytes changed, and that is no damage", name, (unsigned long long)offset);
}

static struct owner owner_of(const struct copy *copy, size_t file, size_t offset)
{
    struct owner owner = { .kind = 0 };
    uint64_t start = 0;
    struct vv_record record;

    if (!vv_segment_parse(copy->names[file], &start))
        return owner;
    for (size_t at = 0; at <= offset; at += 4096) {
        if (vv_record_decode(copy->bytes[file] + at, start + at, &record) == VARVE_OK &&
            record.address + record.size > start + offset)
            owner = (struct owner){ .address = record.address, .kind = record.kind };
    }
    return owner;
}

/* What stands where the log was closed is no part of any record either. */
static bool is_padding(const struct copy *copy, size_t file, size_t offset)
{
    return copy->bytes[file][offset] == 0 || memcmp(copy->bytes[file] + offset / 4096 * 4096, "vEnd", 4) == 0;
}

/* Flip a byte of every file of a small store, one after the other: all used bytes near every record's start and
 * every 7th of the rest. */
static void every_damaged_byte_is_told_and_the_rest_is_read(void **state)
{
    struct fixture *f = *state;
    struct copy copy = { .f = f };
    size_t refused = 0;
    size_t flips = 0;
    size_t head = 0;

    commit_line(f, 8);
    assert_int_equal(move_ref(f, "tag", SIZE_MAX, 3, false), VARVE_OK);
    close_place(f);
    assert_int_equal(vv_dir_each(&f->dir, copy_file, &copy), VARVE_OK);
    while (strcmp(copy.names[head], "head") != 0)
        head++;
    for (size_t file = 0; file < copy.count; file++) {
        for (size_t offset = 0; offset < copy.sizes[file]; offset += offset % 4096 < 700 ? 13 : 509) {
            const uint8_t flipped = copy.bytes[file][offset] ^ 0x10;
            poke(f, copy.names[file], offset, &flipped, 1);
            const struct owner owner = owner_of(&copy, file, offset);
            assert_damage_is_told(f, copy.names[file], offset, is_padding(&copy, file, offset), &owner,
                                  &refused);
            poke(f, copy.names[file], offset, &copy.bytes[file][offset], 1);
            poke(f, "head", 0, copy.bytes[head], copy.sizes[head]);
            flips++;
        }
    }
    print_message("%zu bytes flipped, %zu of them refused writing\n", flips, refused);
    for (size_t file = 0; file < copy.count; file++)
        vv_free(copy.bytes[file]);
    open_place(f);
    assert_int_equal(f->damages, 0);
}

/* Without head the whole log is read: a broken header in the middle is jumped over, commits on both sides of it
 * open, and only those that need what lay there do not: until the next checkpoint of their line. */
static void commits_behind_a_broken_header_open(void **state)
{
    struct fixture *f = *state;
    struct copy copy = { .f = f };
    struct vv_commit_facts facts;
    uint64_t addresses[12];

    commit_line(f, 12);
    for (size_t i = 0; i < f->count; i++) {
        assert_int_equal(journal->facts(f->place, &f->made[i].id, &facts), VARVE_OK);
        addresses[i] = facts.locator;
        vv_commit_facts_release(&facts);
    }
    close_place(f);
    assert_int_equal(vv_dir_unlink(&f->dir, "head"), VARVE_OK);
    assert_int_equal(vv_dir_each(&f->dir, copy_file, &copy), VARVE_OK);
    for (size_t broken = 0; broken + 1 < f->count; broken++) {
        size_t file = 0;
        uint64_t start = 0;
        while (!vv_segment_parse(copy.names[file], &start) || addresses[broken] < start ||
               addresses[broken] >= start + copy.sizes[file])
            file++;
        const size_t offset = (size_t)(addresses[broken] - start) + 20;
        const uint8_t flipped = copy.bytes[file][offset] ^ 1;
        poke(f, copy.names[file], offset, &flipped, 1);
        open_place(f);
        assert_int_equal(f->damages, 1);
        assert_non_null(strstr(f->words, copy.names[file]));
        size_t lost = 0;
        for (size_t i = 0; i < f->count; i++) {
            const varve_status rc = model_compare(journal, f->place, &f->made[i].id, &f->made[i].state);
            assert_true(rc == VARVE_OK || (i >= broken && i < broken + 8));
            assert_true(rc == VARVE_OK || rc == VARVE_CORRUPT || rc == VARVE_NOT_FOUND);
            lost += rc != VARVE_OK;
        }
        assert_in_range(lost, 1, 8);
        assert_ref(f, "main", f->count - 1);
        close_place(f);
        poke(f, copy.names[file], offset, &copy.bytes[file][offset], 1);
    }
    for (size_t file = 0; file < copy.count; file++)
        vv_free(copy.bytes[file]);
    open_place(f);
    assert_int_equal(f->damages, 0);
}

/* What `head` says was acknowledged and is not there is damage, even when nothing follows it. */
/* A record that is whole but for its padding, as a power loss may leave the last one. It is taken, and what is appended
 * behind it touches none of it. */
static void a_last_record_without_its_padding_stays(void **state)
{
    struct fixture *f = *state;
    struct model_state big = { .present = { true }, .size = { MODEL_PAGES } };
    struct vv_commit_facts facts;
    const struct model_state more = { .meta = 7 };
    struct vv_file file = VV_FILE_NONE;
    uint64_t start = 0, damage = 0;
    char name[VV_SEGMENT_NAME];
    struct vv_log *log = &f->place->log;

    commit_line(f, 1);
    for (unsigned i = 0; i < MODEL_PAGES; i++)
        big.page[0][i] = 77777 + 256 * i;
    assert_int_equal(commit(f, SIZE_MAX, &big, "other"), VARVE_OK);
    assert_int_equal(journal->facts(f->place, &f->made[1].id, &facts), VARVE_OK);
    vv_log_file_name(log, facts.locator, name);
    assert_true(vv_segment_parse(name, &start));
    const uint64_t used = facts.locator - start + facts.bytes_written;
    vv_commit_facts_release(&facts);
    assert_true(used % 4096 != 0);
    close_place(f);
    assert_int_equal(unlinkat(f->dir.fd, "head", 0), 0);
    assert_int_equal(vv_file_open(&f->dir, name, VV_OPEN_WRITE, &file), VARVE_OK);
    assert_int_equal(vv_file_truncate(&file, used), VARVE_OK);
    vv_file_close(&file);
    const struct vv_layout_options options = options_of(f, true);
    assert_int_equal(vv_journal_check(&f->dir, &options, 0, &damage), VARVE_OK);
    assert_int_equal(damage, 0);
    open_place(f);
    assert_int_equal(commit(f, 0, &more, "main"), VARVE_OK);
    close_place(f);
    open_place(f);
    for (size_t i = 0; i < f->count; i++)
        assert_reads(f, i);
}

/* Closing leaves the next opening no long tail to read. */
static void what_is_closed_with_a_tail_opens_flat(void **state)
{
    struct fixture *f = *state;
    struct vv_journal_limits flat = large;

    flat.close_records = 4;
    f->limits = &flat;
    close_place(f);
    open_place(f);
    commit_line(f, 3);
    close_place(f);
    open_place(f);
    assert_int_equal(f->place->index.tail_count, 3); /* few: not worth a checkpoint */
    commit_line(f, 9);
    close_place(f);
    open_place(f);
    assert_int_equal(f->place->index.tail_count, 0);
    for (size_t i = 0; i < f->count; i++)
        assert_reads(f, i);
    f->limits = &opened_small;
}

/* The system's calls, with a count of the bytes that are read. */
struct reading {
    struct vv_vfs table;
    uint64_t bytes;
};

static int count_read(const struct vv_vfs *self, int fd, void *data, size_t size, uint64_t offset, size_t *got)
{
    struct reading *reading = (struct reading *)(uintptr_t)self; /* its first member */
    const int number = vv_vfs_system.read(&vv_vfs_system, fd, data, size, offset, got);

    reading->bytes += *got;
    return number;
}

/* What a process that was killed had persisted is missed when it is gone: nothing in the log behind it says that it was
 * promised, so `head` must. Without the persist it was never there. */
static void what_was_persisted_is_missed_after_a_kill(void **state)
{
    struct fixture *f = *state;
    const uint8_t zeros[4096] = { 0 };
    const struct model_state some = { .meta = 1 };
    struct vv_double d;
    struct vv_layout_options options = options_of(f, false);
    struct vv_dir dir = VV_DIR_NONE;

    vv_double_init(&d, &vv_vfs_system);
    options.vfs = &d.table;
    for (unsigned persisted = 0; persisted < 2; persisted++) {
        struct vv_commit_facts facts;
        char name[VV_SEGMENT_NAME];
        uint64_t start = 0;

        close_place(f);
        assert_int_equal(vv_dir_open(&d.table, f->path, &dir), VARVE_OK);
        assert_int_equal(vv_journal_open(&dir, &options, f->limits, &f->place), VARVE_OK);
        assert_int_equal(model_commit(journal, f->place, NULL, NULL, &some, persisted == 0 ? "lost" : "promised",
                                      NULL, VARVE_BUFFERED, &facts),
                         VARVE_OK);
        if (persisted == 1)
            assert_int_equal(journal->persist(f->place), VARVE_OK);
        vv_log_file_name(&f->place->log, facts.locator, name);
        assert_true(vv_segment_parse(name, &start));
        vv_double_arm(&d, VV_DOUBLE_STICK, 1, 5);
        close_place(f);
        vv_double_arm(&d, VV_DOUBLE_PASS, 0, 0);
        vv_dir_close(&dir);
        poke(f, name, facts.locator - start, zeros, sizeof zeros);
        vv_commit_facts_release(&facts);
        open_place(f);
        assert_int_equal(f->damages, persisted);
    }
}

/* Another store in its place, whose first segment is as long as shipped. */
static void renew_large(struct fixture *f)
{
    const struct vv_layout_options options = options_of(f, false);

    close_place(f);
    assert_int_equal(vv_dir_unlink(&f->dir, "log.0000000000001000"), VARVE_OK);
    assert_int_equal(vv_dir_unlink(&f->dir, "log.0000000000009000"), VARVE_OK);
    assert_int_equal(vv_dir_unlink(&f->dir, "head"), VARVE_OK);
    f->limits = &large;
    assert_int_equal(vv_journal_create(&f->dir, &options, f->limits), VARVE_OK);
    open_place(f);
}

/* How much opening reads. Nothing is damaged; there are `notes`. */
static uint64_t bytes_of_opening(struct fixture *f, unsigned notes)
{
    struct reading reading = { .table = vv_vfs_system };
    struct vv_layout_options options = options_of(f, false);
    struct vv_dir dir = VV_DIR_NONE;

    reading.table.read = count_read;
    options.vfs = &reading.table;
    f->notes = f->damages = 0;
    assert_int_equal(vv_dir_open(&reading.table, f->path, &dir), VARVE_OK);
    assert_int_equal(vv_journal_open(&dir, &options, f->limits, &f->place), VARVE_OK);
    close_place(f);
    vv_dir_close(&dir);
    assert_int_equal(f->damages, 0);
    assert_int_equal(f->notes, notes);
    return reading.bytes;
}

/* A writer that leaves says where the log ends, and the zeros behind are not read; where it did not come to that, or
 * what it said is damaged, all of them are. */
static void a_closed_log_is_not_looked_through(void **state)
{
    struct fixture *f = *state;
    const char *name = "log.0000000000001000";
    enum { FEW = 160 << 10 }; /* the records are the most of it */
    const uint8_t zeros[4096] = { 0 };
    uint8_t block[4096];

    renew_large(f);
    for (unsigned round = 0; round < 3; round++) {
        commit_line(f, 2);
        const uint64_t end = f->place->chain.end - VV_LOG_START;
        close_place(f);
        assert_in_range(bytes_of_opening(f, 0), 1, FEW);
        assert_in_range(bytes_of_opening(f, 0), 1, FEW); /* looking changed nothing */
        peek(f, name, end, block, sizeof block);
        for (size_t i = 0; i < sizeof block; i = i < VV_CLOSING ? i + 5 : i * 3) {
            block[i] ^= 0x10;
            poke(f, name, end, block, sizeof block);
            assert_true(bytes_of_opening(f, 1) > large.log.ahead / 2);
            block[i] ^= 0x10;
        }
        poke(f, name, end, zeros, sizeof zeros);
        assert_true(bytes_of_opening(f, 0) > large.log.ahead / 2);
        poke(f, name, end, block, sizeof block);
        assert_in_range(bytes_of_opening(f, 0), 1, FEW);
        assert_int_equal(vv_dir_unlink(&f->dir, "head"), VARVE_OK); /* which must agree */
        assert_true(bytes_of_opening(f, 0) > large.log.ahead / 2);
        open_place(f);
    }
    for (size_t i = 0; i < f->count; i++)
        assert_reads(f, i);
}

/* What was acknowledged after a close is missed when it is gone, though `head` is as it was at the close: by opening,
 * for the next record has replaced what stood there; and where the disk took that record back, by a check. */
static void what_follows_a_close_is_missed(void **state)
{
    struct fixture *f = *state;
    const char *name = "log.0000000000001000";
    const struct vv_layout_options options = options_of(f, true);
    const uint8_t zeros[4096] = { 0 };
    uint8_t closing[4096];
    uint8_t old[2 * VV_HEAD_SLOT], new[2 * VV_HEAD_SLOT];
    uint64_t damage = 0;

    renew_large(f);
    commit_line(f, 2);
    const uint64_t end = f->place->chain.end - VV_LOG_START;
    close_place(f);
    peek(f, name, end, closing, sizeof closing);
    peek(f, "head", 0, old, sizeof old);
    open_place(f);
    commit_line(f, 2);
    close_place(f);
    peek(f, "head", 0, new, sizeof new);

    poke(f, "head", 0, old, sizeof old);
    open_place(f);
    assert_int_equal(f->damages, 0);
    assert_reads(f, 3);
    close_place(f);
    poke(f, name, end, zeros, sizeof zeros);
    poke(f, "head", 0, old, sizeof old);
    open_place(f);
    assert_int_equal(f->damages, 1);
    assert_int_equal(vv_place_writable(f->place), VARVE_CORRUPT);
    close_place(f);
    poke(f, name, end, closing, sizeof closing);
    poke(f, "head", 0, new, sizeof new);
    open_place(f);
    assert_int_equal(f->damages, 1);
    close_place(f);
    poke(f, "head", 0, old, sizeof old);
    assert_int_equal(vv_journal_check(&f->dir, &options, 0, &damage), VARVE_OK);
    assert_true(damage > 0);
    poke(f, "head", 0, new, sizeof new);
    open_place(f);
}

static void a_lost_end_is_damage_when_head_knows_of_it(void **state)
{
    struct fixture *f = *state;
    struct vv_commit_facts facts;
    char name[VV_SEGMENT_NAME];
    uint64_t start = 0;
    const uint8_t zeros[4096] = { 0 };
    struct copy copy = { .f = f };

    commit_line(f, 5);
    assert_int_equal(journal->facts(f->place, &f->made[4].id, &facts), VARVE_OK);
    close_place(f);
    assert_int_equal(vv_dir_each(&f->dir, copy_file, &copy), VARVE_OK);
    for (size_t file = 0; file < copy.count; file++) {
        if (vv_segment_parse(copy.names[file], &start) && start <= facts.locator &&
            facts.locator < start + copy.sizes[file]) {
            snprintf(name, sizeof name, "%s", copy.names[file]);
            poke(f, name, facts.locator - start, zeros, sizeof zeros);
        }
        vv_free(copy.bytes[file]);
    }
    vv_commit_facts_release(&facts);
    open_place(f);
    assert_int_equal(f->damages, 1);
    assert_reads(f, 3);
    close_place(f);
    /* Nobody knows of it any more: then it was never there. */
    assert_int_equal(vv_dir_unlink(&f->dir, "head"), VARVE_OK);
    open_place(f);
    assert_int_equal(f->damages, 0);
    assert_int_equal(journal->last_number(f->place), 4);
}

static void a_log_that_is_gone_is_told(void **state)
{
    struct fixture *f = *state;

    close_place(f);
    assert_int_equal(vv_dir_unlink(&f->dir, "log.0000000000001000"), VARVE_OK);
    open_place(f); /* what is left is spare space behind it */
    assert_int_equal(f->damages, 1);
    assert_int_equal(vv_place_writable(f->place), VARVE_CORRUPT);
    close_place(f);
    assert_int_equal(vv_dir_unlink(&f->dir, "log.0000000000009000"), VARVE_OK);
    assert_int_equal(try_open(f, false), VARVE_CORRUPT);
    const struct vv_layout_options options = options_of(f, false);
    assert_int_equal(vv_journal_create(&f->dir, &options, f->limits), VARVE_OK);
    open_place(f);
}

/* After a sync that failed nothing is written; what was durable is read on. Reopened, all goes on. */
static void a_failed_sync_poisons_until_reopened(void **state)
{
    struct fixture *f = *state;
    struct vv_double d;
    struct vv_layout_options options = options_of(f, false);
    struct vv_dir dir = VV_DIR_NONE;
    struct vv_layout_stat stat;
    const struct model_state later = { .meta = 71 };
    struct made unused;

    close_place(f);
    vv_double_init(&d, &vv_vfs_system);
    options.vfs = &d.table;
    assert_int_equal(vv_dir_open(&d.table, f->path, &dir), VARVE_OK);
    assert_int_equal(vv_journal_open(&dir, &options, &large, &f->place), VARVE_OK);
    commit_line(f, 9);                       /* zeros were written ahead by now */
    vv_double_arm(&d, VV_DOUBLE_FAIL, 2, 5); /* the sync behind the write */
    assert_int_equal(commit_as(f, 8, &later, "main", &unused), VARVE_UNCERTAIN);
    assert_int_equal(commit_as(f, 8, &later, "main", &unused), VARVE_UNCERTAIN);
    assert_int_equal(move_ref(f, "x", SIZE_MAX, 0, false), VARVE_UNCERTAIN);
    journal->stat(f->place, &stat);
    assert_true(stat.poisoned);
    assert_reads(f, 8);
    assert_int_equal(d.count, 2); /* not one call more that changes anything */
    close_place(f);
    vv_dir_close(&dir);
    open_place(f);
    assert_reads(f, 8);
}

/* A disk whose sync failed once: the system goes on to show what was written, and calls later syncs successful; but
 * the bytes are lost, as shows when it forgets what it remembers. */
struct lossy {
    struct vv_vfs table;
    bool armed, lost;
    uint64_t offset;
    size_t size;
};

static int lossy_write(const struct vv_vfs *self, int fd, const void *data, size_t size, uint64_t offset,
                       size_t *put)
{
    struct lossy *lossy = (struct lossy *)(uintptr_t)self;

    if (lossy->armed) {
        lossy->offset = offset;
        lossy->size = size;
    }
    return vv_vfs_system.write(&vv_vfs_system, fd, data, size, offset, put);
}

static int lossy_sync(const struct vv_vfs *self, int fd)
{
    struct lossy *lossy = (struct lossy *)(uintptr_t)self;

    if (lossy->armed) {
        lossy->armed = false;
        lossy->lost = true;
        return 5;
    }
    return vv_vfs_system.sync(&vv_vfs_system, fd);
}

static void lossy_forget(const struct vv_vfs *self, int fd)
{
    struct lossy *lossy = (struct lossy *)(uintptr_t)self;
    static const uint8_t zeros[65536];
    size_t put = 0;

    if (lossy->lost)
        (void)vv_vfs_system.write(&vv_vfs_system, fd, zeros, lossy->size, lossy->offset, &put);
}

/* Nothing is built on a record whose sync failed, even when the system still shows it (P4). */
static void a_record_that_is_only_remembered_is_not_built_upon(void **state)
{
    struct fixture *f = *state;
    struct lossy lossy = { .table = vv_vfs_system };
    struct vv_layout_options options = options_of(f, false);
    struct vv_dir dir = VV_DIR_NONE;
    struct made unused;

    lossy.table.write = lossy_write;
    lossy.table.sync = lossy_sync;
    lossy.table.forget = lossy_forget;
    close_place(f);
    assert_int_equal(vv_dir_open(&lossy.table, f->path, &dir), VARVE_OK);
    options.vfs = &lossy.table;
    assert_int_equal(vv_journal_open(&dir, &options, &large, &f->place), VARVE_OK);
    commit_line(f, 3);
    const struct model_state next = { .meta = 90 };
    lossy.armed = true;
    assert_int_equal(commit_as(f, 2, &next, "main", &unused), VARVE_UNCERTAIN);
    close_place(f);
    assert_int_equal(vv_journal_open(&dir, &options, &large, &f->place), VARVE_OK);
    assert_int_equal(journal->last_number(f->place), 4); /* the system shows it */
    const struct model_state other = { .meta = 91 };
    assert_int_equal(commit_as(f, 2, &other, NULL, &unused), VARVE_UNCERTAIN);
    close_place(f);
    assert_int_equal(vv_journal_open(&dir, &options, &large, &f->place), VARVE_OK);
    assert_int_equal(journal->last_number(f->place), 3); /* what the disk has */
    assert_int_equal(commit(f, 2, &other, "main"), VARVE_OK);
    close_place(f);
    open_place(f);
    assert_int_equal(f->damages, 0);
    assert_reads(f, 3);
    vv_dir_close(&dir);
}

enum { THREADS = 4, THREAD_COMMITS = 40 };
struct worker {
    struct fixture *f;
    unsigned number;
    struct model_state states[THREAD_COMMITS];
    varve_commit_id ids[THREAD_COMMITS];
    bool fine;
};

/* A line of commits on a branch of its own; after each, an older one is read. */
static void *work(void *context)
{
    struct worker *worker = context;
    struct vv_place *place = worker->f->place;
    struct model_chance chance = { .state = 900 + worker->number };
    struct vv_commit_facts parent = { .locator = 0 };
    char message[16];

    snprintf(message, sizeof message, "thread %u", worker->number);
    for (size_t i = 0; i < THREAD_COMMITS; i++) {
        struct vv_commit_facts made;
        struct vv_ref_move move = { .what = "commit",
                                    .expected = i == 0 ? NULL : &parent.id,
                                    .to = &made.id };
        snprintf(move.name, sizeof move.name, "t%u", worker->number);
        if (i > 0)
            worker->states[i] = worker->states[i - 1];
        model_mutate(&worker->states[i], &chance);
        worker->states[i].meta = (uint32_t)(i + 1);
        if (model_commit(journal, place, i == 0 ? NULL : &worker->states[i - 1], i == 0 ? NULL : &parent,
                         &worker->states[i], message, &move, VARVE_DURABLE, &made) != VARVE_OK)
            return NULL;
        worker->ids[i] = made.id;
        vv_commit_facts_release(&parent);
        parent = made;
        const size_t old = model_chance(&chance, (uint32_t)i + 1);
        if (model_compare(journal, place, &worker->ids[old], &worker->states[old]) != VARVE_OK)
            return NULL;
    }
    vv_commit_facts_release(&parent);
    worker->fine = true;
    return NULL;
}

static void threads_commit_and_read_at_once(void **state)
{
    struct fixture *f = *state;
    static struct worker workers[THREADS];
    pthread_t threads[THREADS];

    for (unsigned i = 0; i < THREADS; i++) {
        memset(&workers[i], 0, sizeof workers[i]);
        workers[i].f = f;
        workers[i].number = i;
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    close_place(f);
    open_place(f);
    for (unsigned i = 0; i < THREADS; i++) {
        assert_true(workers[i].fine);
        for (size_t k = 0; k < THREAD_COMMITS; k++)
            assert_int_equal(model_compare(journal, f->place, &workers[i].ids[k], &workers[i].states[k]),
                             VARVE_OK);
    }
    assert_int_equal(journal->last_number(f->place), THREADS * THREAD_COMMITS);
}

/* Let every allocation of a commit fail in turn: nothing was made, or all of it; and the store goes on. */
static void a_commit_without_memory_is_no_commit(void **state)
{
    struct fixture *f = *state;
    struct model_chance chance = { .state = 11 };
    size_t failures = 0;

    commit_line(f, 4);
    for (unsigned nth = 1;; nth++) {
        struct model_state next = f->made[f->count - 1].state;
        model_mutate(&next, &chance);
        next.meta = 1000 + nth;
        const uint64_t before = journal->last_number(f->place);
        vv_alloc_fail_at(nth);
        const varve_status rc = commit(f, f->count - 1, &next, "main");
        const bool failed = vv_alloc_disarm();
        if (rc != VARVE_OK) {
            assert_int_equal(rc, VARVE_MEMORY);
            assert_int_equal(journal->last_number(f->place), before);
            failures++;
        }
        assert_reads(f, f->count - 1);
        assert_ref(f, "main", f->count - 1);
        if (!failed || f->count == COMMITS)
            break;
    }
    assert_true(failures > 20);
    close_place(f);
    open_place(f);
    for (size_t i = 0; i < f->count; i++)
        assert_reads(f, i);
}

/* The same for commits of one kind, whose allocations come in the same order: so memory also runs out behind the one
 * instant, where the new state learns where its pages lie. It is read again from the log then, not kept without. */
static void a_commit_that_outlives_its_memory_is_read_from_the_log(void **state)
{
    struct fixture *f = *state;
    struct model_state next = { .present[0] = true, .size[0] = MODEL_PAGES };
    size_t reached = 0;

    assert_int_equal(commit(f, SIZE_MAX, &next, "main"), VARVE_OK);
    for (unsigned nth = 1; reached < 10; nth++) {
        assert_true(f->count < COMMITS);
        next = f->made[f->count - 1].state;
        for (unsigned page = 0; page < 3; page++)
            next.page[0][page] = 3 * nth + page;
        vv_alloc_fail_at(nth);
        const varve_status rc = commit(f, f->count - 1, &next, "main");
        reached = vv_alloc_disarm() ? 0 : reached + 1;
        assert_true(rc == VARVE_OK || rc == VARVE_MEMORY);
        assert_reads(f, f->count - 1);
    }
    assert_in_range(f->count, 20, COMMITS);
}

/* The commit's own checkpoint, the ones it names, or none: every way to a state gives the same. */
static void a_state_is_the_same_by_every_way(void **state)
{
    struct fixture *f = *state;
    static const struct vv_journal_limits never = {
        .log = { .segment = 32 << 10, .ahead = 8 << 10, .files = 2 },
        .checkpoint_records = 1u << 30,
        .checkpoint_bytes = UINT64_MAX,
        .views = 1,
        .frames = 1,
    };

    close_place(f);
    f->limits = &never;
    open_place(f);
    commit_line(f, 10); /* none of them has a checkpoint */
    close_place(f);
    f->limits = &opened_small;
    open_place(f);
    commit_line(f, 10); /* now they have */
    for (size_t i = f->count; i-- > 0;)
        assert_reads(f, i);
    close_place(f);
    open_place(f);
    for (size_t i = f->count; i-- > 0;)
        assert_reads(f, i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_committed_is_read_from_any_commit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(shipped_sizes_work_as_small_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_retired_stays_for_those_who_looked_before, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_ref_moves_only_from_where_it_stands, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_ref_tells_its_moves_after_it_was_deleted_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_commit_that_is_there_already_is_that_commit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_root_leads_to_its_newest_commit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(looking_writes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_commit_is_one_write_and_one_sync, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_phantom_commit_does_not_join_the_chain, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_an_open_record_the_phantom_would_join, set_up, tear_down),
        cmocka_unit_test_setup_teardown(buffered_commits_survive_a_killed_process, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_record_joins_only_when_all_of_it_fits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_opening_has_an_epoch_of_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(buffered_commits_become_durable_when_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_damaged_byte_is_told_and_the_rest_is_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(commits_behind_a_broken_header_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_last_record_without_its_padding_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_closed_with_a_tail_opens_flat, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_persisted_is_missed_after_a_kill, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_closed_log_is_not_looked_through, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_follows_a_close_is_missed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lost_end_is_damage_when_head_knows_of_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_log_that_is_gone_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failed_sync_poisons_until_reopened, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_record_that_is_only_remembered_is_not_built_upon, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(threads_commit_and_read_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_commit_without_memory_is_no_commit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_commit_that_outlives_its_memory_is_read_from_the_log, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_state_is_the_same_by_every_way, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
