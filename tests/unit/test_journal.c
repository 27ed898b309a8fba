/* The journal through the contract of a layout, against a model: whatever is committed is read again, after any
 * number of openings, from any commit; and whatever is damaged is told, while the rest is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/double.h"
#include "model.h"
#include "scratch.h"
#include "store/codepool.h"
#include "store/journal/head.h"
#include "store/journal/journal.h"

static const struct vv_layout *const journal = &vv_layout_journal;

/* Everything small, so that segments, checkpoints and caches turn over all the time. */
static const struct vv_journal_limits small = {
    .log = { .segment = 32 << 10, .ahead = 8 << 10 },
    .checkpoint_records = 3,
    .checkpoint_bytes = 64 << 10,
    .views = 2,
    .frames = 2,
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
    f->limits = &small;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_committed_is_read_from_any_commit, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
