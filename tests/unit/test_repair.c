/* Repair: whatever byte of a store is damaged, what could be read before it can be read after it, what could not is told
 * and gone, refs stand on what is whole, the store is written again, and a second repair finds nothing to do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model.h"
#include "opened.h"
#include "page/root.h"
#include "scratch.h"
#include "store/journal/journal.h"
#include "store/journal/repair.h"

static const struct vv_layout *const journal = &vv_layout_journal;

/* Power stays on here, and damage is done by the thousand: nothing waits for the disk. */
static int no_sync(const struct vv_vfs *self, int fd)
{
    (void)self;
    (void)fd;
    return 0;
}
static void no_forget(const struct vv_vfs *self, int fd)
{
    (void)self;
    (void)fd;
}
static struct vv_vfs quick;

enum { COMMITS = 24, FILES = 16, FINDINGS = 256 };
struct made {
    varve_commit_id id;
    size_t parent; /* SIZE_MAX: none */
    struct model_state state;
    bool before, after; /* it could be read before the repair, and after it */
    bool told;          /* as dropped */
    bool removed;       /* in good order, before any damage */
};
struct fixture {
    char path[SCRATCH_PATH];
    struct vv_dir dir;
    struct vv_place *place;
    struct made made[COMMITS];
    size_t count;
    char words[400];        /* of the last of them */
    size_t main, side;      /* where they stand */
    size_t stride;          /* the larger, the fewer bytes are flipped */
    bool keeps_all;         /* no space is given back after a repair, for more damage is to come */
    unsigned gone;          /* refs that were deleted */
    uint64_t freed;         /* by reclaims after repairs */
    unsigned reclaims;      /* that gave anything back */
    unsigned damages, left; /* findings of that severity; those that were not repaired */
    char names[FILES][32];
    uint8_t *bytes[FILES];
    size_t sizes[FILES], files;
};

static void take_finding(void *context, const varve_finding *finding)
{
    struct fixture *f = context;

    assert_non_null(finding->text);
    if (finding->severity != VARVE_DAMAGE)
        return;
    f->damages++;
    snprintf(f->words, sizeof f->words, "%s: %s", finding->file == NULL ? "" : finding->file, finding->text);
    f->left += !finding->repaired;
    for (size_t i = 0; finding->commit != NULL && i < f->count; i++)
        if (memcmp(finding->commit, &f->made[i].id, 32) == 0 &&
            (strstr(finding->text, "a commit is dropped") != NULL ||
             strstr(finding->text, "commit r") == finding->text))
            f->made[i].told = true;
}

static struct vv_layout_options options_of(struct fixture *f)
{
    return (struct vv_layout_options){
        .vfs = &quick, .durability = VARVE_DURABLE, .finding = take_finding, .context = f
    };
}

static void open_place(struct fixture *f)
{
    const struct vv_layout_options options = options_of(f);

    f->damages = f->left = 0;
    if (vv_journal_open(&f->dir, &options, &opened_small, &f->place) != VARVE_OK)
        fail_msg("it does not open: %s", vv_words());
}

static void close_place(struct fixture *f)
{
    vv_journal_close(f->place);
    f->place = NULL;
}

static varve_status commit(struct fixture *f, size_t base, const struct model_state *after,
                           const char *branch, varve_commit_id *id)
{
    varve_status rc = VARVE_OK;
    struct vv_commit_facts parent = { .locator = 0 };
    struct vv_commit_facts facts = { .locator = 0 };
    struct vv_ref_move move = { .what = "commit", .to = &facts.id };
    struct vv_ref_facts ref;
    char message[32];

    snprintf(message, sizeof message, "%s %u", branch, (unsigned)after->meta);
    snprintf(move.name, sizeof move.name, "%s", branch);
    if (base != SIZE_MAX)
        TRY(journal->facts(f->place, &f->made[base].id, &parent));
    if (journal->ref_get(f->place, branch, &ref) == VARVE_OK)
        move.expected = &ref.commit;
    TRY(model_commit(journal, f->place, base == SIZE_MAX ? NULL : &f->made[base].state,
                     base == SIZE_MAX ? NULL : &parent, after, message, &move, VARVE_DURABLE, &facts));
    *id = facts.id;
out:
    vv_commit_facts_release(&parent);
    vv_commit_facts_release(&facts);
    return rc;
}

static void add_commit(struct fixture *f, size_t base, const char *branch, struct model_chance *chance)
{
    struct made *made = &f->made[f->count];

    memset(&made->state, 0, sizeof made->state);
    if (base != SIZE_MAX)
        made->state = f->made[base].state;
    model_mutate(&made->state, chance);
    made->state.meta = (uint32_t)f->count + 1;
    made->parent = base;
    assert_int_equal(commit(f, base, &made->state, branch, &made->id), VARVE_OK);
    f->count++;
}

static int copy_file(void *context, const char *name)
{
    struct fixture *f = context;

    if (strcmp(name, ".varve") == 0)
        return 0;
    assert_true(f->files < FILES);
    snprintf(f->names[f->files], sizeof f->names[0], "%s", name);
    assert_int_equal(vv_dir_read(&f->dir, name, 1 << 24, &f->bytes[f->files], &f->sizes[f->files]), VARVE_OK);
    f->files++;
    return 0;
}

static int remove_log(void *context, const char *name)
{
    struct fixture *f = context;
    uint64_t start = 0;

    if (vv_segment_parse(name, &start))
        assert_int_equal(vv_dir_unlink(&f->dir, name), VARVE_OK);
    return 0;
}

/* The store as it was made. */
static void put_back(struct fixture *f)
{
    close_place(f);
    assert_int_equal(vv_dir_each(&f->dir, remove_log, f), VARVE_OK);
    for (size_t i = 0; i < f->files; i++)
        assert_int_equal(vv_dir_publish(&f->dir, f->names[i], f->bytes[i], f->sizes[i]), VARVE_OK);
}

/* A line of commits with a branch off its middle, a tag, and an opening in between. */
static void make_history(struct fixture *f)
{
    struct model_chance chance = { .state = 5 };

    scratch_new(f->path);
    assert_int_equal(vv_dir_open(&quick, f->path, &f->dir), VARVE_OK);
    assert_int_equal(vv_dir_create_at(&f->dir, ".varve"), VARVE_OK);
    const struct vv_layout_options options = options_of(f);
    assert_int_equal(vv_journal_create(&f->dir, &options, &opened_small), VARVE_OK);
    open_place(f);
    for (size_t i = 0; i < 5; i++)
        add_commit(f, i == 0 ? SIZE_MAX : i - 1, "main", &chance);
    struct vv_ref_move tag = { .name = "tags/v1", .to = &f->made[3].id, .what = "create" };
    assert_int_equal(journal->move_refs(f->place, &tag, 1, 7), VARVE_OK);
    struct vv_ref_move side = { .name = "side", .to = &f->made[2].id, .what = "create" };
    assert_int_equal(journal->move_refs(f->place, &side, 1, 7), VARVE_OK);
    close_place(f);
    open_place(f);
    for (size_t i = 5; i < 12; i++) {
        if (i % 3 == 2)
            add_commit(f, i == 5 ? 2 : i - 3, "side", &chance);
        else
            add_commit(f, i == 6 ? 4 : i % 3 == 0 ? i - 2 : i - 1, "main", &chance);
    }
    f->main = 10;
    f->side = 11;
    close_place(f);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->stride = 1;
    make_history(f);
    assert_int_equal(vv_dir_each(&f->dir, copy_file, f), VARVE_OK);
    *state = f;
    return 0;
}

/* The same, with most of it deleted, and its space given back: whole segments are gone, commits are kept, there are
 * holes; and a few commits behind that. */
static int set_up_reclaimed(void **state)
{
    static const size_t removed[] = { 0, 1, 2, 4, 5, 6, 7, 8 };
    struct fixture *f = calloc(1, sizeof *f);
    struct model_chance chance = { .state = 77 };
    uint64_t freed = 0;

    f->stride = 2;
    make_history(f);
    open_place(f);
    for (size_t i = 0; i < sizeof removed / sizeof *removed; i++) {
        assert_int_equal(journal->remove(f->place, &f->made[removed[i]].id, 1, 9), VARVE_OK);
        f->made[removed[i]].removed = true;
    }
    assert_int_equal(journal->maintain(f->place, 0, NULL, NULL, &freed), VARVE_OK);
    assert_true(freed > 0);
    for (size_t i = 12; i < 15; i++)
        add_commit(f, i == 12 ? 10 : i - 1, "main", &chance);
    f->main = 14;
    assert_int_equal(journal->remove(f->place, &f->made[12].id, 1, 9), VARVE_OK);
    f->made[12].removed = true;
    assert_int_equal(journal->maintain(f->place, 0, NULL, NULL, &freed), VARVE_OK);
    add_commit(f, 14, "main", &chance);
    f->main = 15;
    close_place(f);
    assert_int_equal(vv_dir_each(&f->dir, copy_file, f), VARVE_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    close_place(f);
    for (size_t i = 0; i < f->files; i++)
        vv_free(f->bytes[i]);
    vv_dir_close(&f->dir);
    scratch_remove(f->path);
    free(f);
    return 0;
}

static void poke(struct fixture *f, size_t file, uint64_t offset, const void *bytes, size_t size)
{
    struct vv_file opened = VV_FILE_NONE;

    assert_int_equal(vv_file_open(&f->dir, f->names[file], VV_OPEN_WRITE, &opened), VARVE_OK);
    assert_int_equal(vv_file_write(&opened, bytes, size, offset), VARVE_OK);
    vv_file_close(&opened);
}

static bool reads(struct fixture *f, size_t i)
{
    const varve_status rc = model_compare(journal, f->place, &f->made[i].id, &f->made[i].state);

    if (rc != VARVE_OK && rc != VARVE_CORRUPT && rc != VARVE_NOT_FOUND)
        fail_msg("commit %zu: %s", i, vv_words());
    return rc == VARVE_OK;
}

/* The nearest of itself and its ancestors that can be read; SIZE_MAX: none. */
static size_t nearest(const struct fixture *f, size_t i)
{
    while (i != SIZE_MAX && !f->made[i].after)
        i = f->made[i].parent;
    return i;
}

static void assert_ref(struct fixture *f, const char *name, size_t was, const char *where)
{
    struct vv_ref_facts ref;
    const varve_status rc = journal->ref_get(f->place, name, &ref);
    size_t at = SIZE_MAX;

    for (size_t i = 0; rc == VARVE_OK && i < f->count; i++)
        if (memcmp(&ref.commit, &f->made[i].id, 32) == 0)
            at = i;
    if (at == nearest(f, was))
        return;
    /* Where the trail of parents is lost, or the ref's last move is: somewhere it stood, whole. */
    if (at != SIZE_MAX && f->made[at].after && at < was)
        return;
    if (rc == VARVE_NOT_FOUND) { /* nothing of it is left */
        f->gone++;
        return;
    }
    fail_msg("%s: %s stands at %zu, was at %zu", where, name, at, was);
}

static void repair(struct fixture *f, bool *done)
{
    const struct vv_layout_options options = options_of(f);

    f->damages = f->left = 0;
    for (size_t i = 0; i < f->count; i++)
        f->made[i].told = false;
    assert_int_equal(vv_journal_repair(&f->dir, &options, &opened_small, 0, done), VARVE_OK);
    assert_int_equal(f->left, 0);
}

/* What opening and checking say afterwards, with and without head; and that it goes on. */
static void assert_sound(struct fixture *f, const char *where)
{
    struct vv_layout_options options = options_of(f);
    uint64_t damage = 0;

    for (unsigned headless = 0; headless < 2; headless++) {
        if (headless == 1)
            assert_int_equal(vv_dir_unlink(&f->dir, "head"), VARVE_OK);
        open_place(f);
        if (f->damages != 0)
            fail_msg("%s: damage is told after the repair (%u)", where, headless);
        for (size_t i = 0; i < f->count; i++)
            if (reads(f, i) != f->made[i].after)
                fail_msg("%s: commit %zu reads %s (%u): %s", where, i, f->made[i].after ? "no more" : "again",
                         headless, vv_words());
        close_place(f);
    }
    options.read_only = true;
    f->damages = 0;
    assert_int_equal(vv_journal_check(&f->dir, &options, 0, &damage), VARVE_OK);
    if (damage != 0)
        fail_msg("%s: the check finds damage after the repair: %s", where, f->words);
}

/* Space can be given back, after every second commit that is left and that nothing names is deleted. */
static void assert_gives_back(struct fixture *f, const char *where)
{
    uint64_t freed = 0;

    for (size_t i = 0; i < f->count; i += 2)
        if (f->made[i].after && journal->remove(f->place, &f->made[i].id, 1, 9) == VARVE_OK)
            f->made[i].after = false;
    if (journal->maintain(f->place, 0, NULL, NULL, &freed) != VARVE_OK)
        fail_msg("%s: no space is given back after the repair: %s", where, vv_words());
    f->freed += freed;
    f->reclaims += freed > 0;
}

static void assert_goes_on(struct fixture *f, const char *where)
{
    struct model_state more;
    struct vv_ref_facts ref;
    varve_commit_id id;
    size_t base = SIZE_MAX;

    open_place(f);
    if (journal->ref_get(f->place, "main", &ref) == VARVE_OK)
        for (size_t i = 0; i < f->count; i++)
            if (memcmp(&ref.commit, &f->made[i].id, 32) == 0)
                base = i;
    memset(&more, 0, sizeof more);
    if (base != SIZE_MAX)
        more = f->made[base].state;
    more.meta = 1000;
    if (commit(f, base, &more, "main", &id) != VARVE_OK)
        fail_msg("%s: nothing can be committed after the repair: %s", where, vv_words());
    assert_int_equal(model_compare(journal, f->place, &id, &more), VARVE_OK);
    close_place(f);
    open_place(f);
    assert_int_equal(f->damages, 0);
    assert_int_equal(model_compare(journal, f->place, &id, &more), VARVE_OK);
    if (!f->keeps_all)
        assert_gives_back(f, where);
    assert_int_equal(model_compare(journal, f->place, &id, &more), VARVE_OK);
    close_place(f);
    assert_sound(f, where);
}

/* Damage was done: repair it and judge. */
static bool judge(struct fixture *f, const char *where, bool refs)
{
    bool done = false;
    size_t lost = 0;

    open_place(f);
    for (size_t i = 0; i < f->count; i++)
        f->made[i].before = reads(f, i);
    close_place(f);
    repair(f, &done);
    const bool repaired = done;
    open_place(f);
    for (size_t i = 0; i < f->count; i++) {
        f->made[i].after = reads(f, i);
        lost += !f->made[i].after && !f->made[i].removed;
        if (f->made[i].before && !f->made[i].after && !f->made[i].told)
            fail_msg("%s: commit %zu is gone, and nobody told", where, i);
        if (f->made[i].removed && f->made[i].after)
            fail_msg("%s: commit %zu was deleted, and is back", where, i);
        if (!f->made[i].before && f->made[i].after)
            continue;
        if (f->made[i].before != f->made[i].after)
            fail_msg("%s: commit %zu could be read before: %s", where, i, f->words);
    }
    if (refs) {
        assert_ref(f, "main", f->main, where);
        assert_ref(f, "side", f->side, where);
        assert_ref(f, "tags/v1", 3, where);
    }
    close_place(f);
    if (refs && !repaired)
        assert_int_equal(lost, 0);
    assert_sound(f, where);
    repair(f, &done);
    if (done || f->damages != 0)
        fail_msg("%s: a second repair finds something to do: %s", where, f->words);
    assert_goes_on(f, where);
    return repaired;
}

/* Flip a byte of every file, one after the other: all near every record's start, and some of the rest. */
static void every_damaged_byte_is_repaired(void **state)
{
    struct fixture *f = *state;
    unsigned flips = 0, repaired = 0;
    char where[64];

    for (size_t file = 0; file < f->files; file++) {
        for (size_t offset = 0; offset < f->sizes[file];
             offset += f->stride * (offset % 4096 < 700 ? 23 : 509)) {
            const uint8_t flipped = f->bytes[file][offset] ^ 0x10;
            put_back(f);
            poke(f, file, offset, &flipped, 1);
            snprintf(where, sizeof where, "%s %zu", f->names[file], offset);
            repaired += judge(f, where, true);
            flips++;
        }
    }
    print_message("%u bytes flipped, %u of them repaired, %u refs deleted; %u times %llu bytes given back\n",
                  flips, repaired, f->gone, f->reclaims, (unsigned long long)f->freed);
}

static void damage_where_space_was_given_back_is_repaired(void **state)
{
    every_damaged_byte_is_repaired(state);
}

/* Pages of the log turned to zeros or to noise, one, two in a row, or all to the end of the file. */
static void whole_stretches_are_repaired(void **state)
{
    struct fixture *f = *state;
    struct model_chance chance = { .state = 9 };
    uint8_t noise[4096];
    unsigned count = 0, repaired = 0;
    uint64_t start = 0;
    char where[64];

    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)model_chance(&chance, 256);
    for (size_t file = 0; file < f->files; file++) {
        if (!vv_segment_parse(f->names[file], &start))
            continue;
        for (size_t offset = 0; offset < f->sizes[file]; offset += 4096) {
            for (unsigned kind = 0; kind < 4; kind++) {
                uint8_t zeros[4096] = { 0 };
                const size_t end = kind == 3 ? f->sizes[file] : offset + (kind == 2 ? 8192 : 4096);
                put_back(f);
                for (size_t at = offset; at < end && at < f->sizes[file]; at += 4096)
                    poke(f, file, at, kind % 2 == 0 ? noise : zeros, 4096);
                snprintf(where, sizeof where, "%s %zu (%u)", f->names[file], offset, kind);
                repaired += judge(f, where, true);
                count++;
            }
        }
    }
    print_message("%u stretches lost, %u of them repaired, %u refs deleted; %u times %llu bytes given back\n",
                  count, repaired, f->gone, f->reclaims, (unsigned long long)f->freed);
}

static void stretches_where_space_was_given_back_are_repaired(void **state)
{
    whole_stretches_are_repaired(state);
}

/* Damage after a repair is repaired again, and what the first gave up stays given up. */
static void a_repair_can_follow_another(void **state)
{
    struct fixture *f = *state;
    unsigned pairs = 0;
    char where[64];

    for (size_t file = 0; file < f->files; file++) {
        uint64_t start = 0;
        if (!vv_segment_parse(f->names[file], &start))
            continue;
        for (size_t offset = 100; offset + 8192 < f->sizes[file]; offset += 4096 + 300) {
            const uint8_t first = f->bytes[file][offset] ^ 0x40;
            const uint8_t second = f->bytes[file][offset + 4096] ^ 0x40;
            put_back(f);
            poke(f, file, offset, &first, 1);
            snprintf(where, sizeof where, "%s %zu, first", f->names[file], offset);
            f->keeps_all = true;
            (void)judge(f, where, true);
            f->keeps_all = false;
            poke(f, file, offset + 4096, &second, 1);
            snprintf(where, sizeof where, "%s %zu, second", f->names[file], offset);
            (void)judge(f, where, false);
            pairs++;
        }
    }
    print_message("%u pairs of damage\n", pairs);
}

static void a_repair_can_follow_another_there_too(void **state)
{
    a_repair_can_follow_another(state);
}

int main(void)
{
    quick = vv_vfs_system;
    quick.sync = quick.sync_dir = no_sync;
    quick.forget = no_forget;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_damaged_byte_is_repaired, set_up, tear_down),
        cmocka_unit_test_setup_teardown(whole_stretches_are_repaired, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_repair_can_follow_another, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_where_space_was_given_back_is_repaired, set_up_reclaimed,
                                        tear_down),
        cmocka_unit_test_setup_teardown(stretches_where_space_was_given_back_are_repaired, set_up_reclaimed,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_repair_can_follow_another_there_too, set_up_reclaimed, tear_down),
    };

    scratch_in_memory(); /* thousands of stores: what a disk does with them is the crash suite's to ask */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
