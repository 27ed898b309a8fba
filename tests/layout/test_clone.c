/* Cloning: from each layout into each, all that is retained, with the same ids, roots, refs and bytes; and
 * what is left when it is stopped, killed or refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/double.h"
#include "past.h"
#include "scratch.h"
#include "store/clone.h"

struct fixture {
    char root[SCRATCH_PATH], from[SCRATCH_PATH + 16], to[SCRATCH_PATH + 16];
    varve_store *store, *copy;
    struct past past;
};

static varve_status open_at(const char *path, varve_layout layout, uint32_t flags, varve_store **store)
{
    const varve_store_options options = { .size = sizeof options,
                                          .flags = flags | VARVE_STORE_NO_THREADS,
                                          .layout = layout,
                                          .snapshot_bytes = 8 << 10 };

    return vv_store_open(&vv_vfs_system, path, &options, store);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    scratch_new(f->root);
    (void)snprintf(f->from, sizeof f->from, "%s/from", f->root);
    (void)snprintf(f->to, sizeof f->to, "%s/to", f->root);
    f->past.chance.state = 5;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    vv_store_close(f->copy);
    vv_store_close(f->store);
    scratch_remove(f->root);
    free(f);
    return 0;
}

/* A past with all that the layout can do: branches, a deleted commit, a ref that went back. */
static void make_past(struct fixture *f, varve_layout layout, bool line)
{
    assert_int_equal(open_at(f->from, layout, VARVE_STORE_CREATE, &f->store), VARVE_OK);
    const unsigned can = f->store->layout->can;

    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(past_commit(&f->past, f->store, "main", PAST_COMMITS, VARVE_BUFFERED), VARVE_OK);
    assert_int_equal(past_ref(&f->past, f->store, "tags/one", 2), VARVE_OK);
    assert_int_equal(past_ref(&f->past, f->store, "main", 6), VARVE_OK);
    assert_int_equal(past_commit(&f->past, f->store, "main", PAST_COMMITS, VARVE_BUFFERED), VARVE_OK);
    if ((can & VV_CAN_BRANCH) != 0 && !line)
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(past_commit(&f->past, f->store, "side", 4, VARVE_BUFFERED), VARVE_OK);
    if ((can & VV_CAN_DELETE) != 0)
        assert_int_equal(past_remove(&f->past, f->store, 3), VARVE_OK);
    assert_int_equal(f->store->layout->persist(f->store->place), VARVE_OK);
}

static varve_status copy_to(struct fixture *f, varve_layout layout, varve_progress_fn progress, void *context)
{
    const varve_clone_options options = {
        .size = sizeof options, .layout = layout, .progress = progress, .context = context
    };

    return vv_store_clone(f->store, &vv_vfs_system, f->to, &options);
}

static void assert_sound(const char *path)
{
    const varve_check_options options = { .size = sizeof options };
    uint64_t damage = 1;

    assert_int_equal(vv_store_check(&vv_vfs_system, path, &options, &damage), VARVE_OK);
    assert_int_equal(damage, 0);
}

static void assert_same(struct fixture *f, varve_store *store)
{
    if (past_read_only(&f->past, store) != VARVE_OK)
        fail_msg("%s", vv_words());
    for (unsigned i = 0; i < f->past.commit_count; i++)
        if (!f->past.commits[i].deleted)
            assert_int_equal(past_read_images(&f->past, store, i), VARVE_OK);
}

/* `~` steps over what was deleted in the source as it does there. */
static void assert_same_ancestors(struct fixture *f)
{
    for (unsigned i = 0; i < f->past.commit_count; i++) {
        varve_commit_id here, there;
        assert_int_equal(f->store->layout->ancestor(f->store->place, &f->past.commits[i].id, &here),
                         VARVE_OK);
        assert_int_equal(f->copy->layout->ancestor(f->copy->place, &f->past.commits[i].id, &there), VARVE_OK);
        assert_memory_equal(&here, &there, sizeof here);
    }
}

static void assert_same_count(struct fixture *f)
{
    struct vv_layout_stat here = { 0 }, there = { 0 };

    f->store->layout->stat(f->store->place, &here);
    f->copy->layout->stat(f->copy->place, &there);
    assert_int_equal(here.commits, there.commits);
    assert_true(here.commits > 0);
}

/* A source that nobody writes to is copied as files, of which those that never change are shared. */
static void assert_files_copied(struct fixture *f)
{
    const varve_clone_options options = { .size = sizeof options };
    char again[sizeof f->to + 8];
    varve_store *copy = NULL;

    (void)snprintf(again, sizeof again, "%s.again", f->to);
    vv_store_close(f->store);
    assert_int_equal(open_at(f->from, VARVE_LAYOUT_DEFAULT, VARVE_STORE_READ_ONLY, &f->store), VARVE_OK);
    assert_int_equal(vv_store_clone(f->store, &vv_vfs_system, again, &options), VARVE_OK);
    assert_sound(again);
    assert_int_equal(open_at(again, VARVE_LAYOUT_DEFAULT, 0, &copy), VARVE_OK);
    assert_same(f, copy);
    vv_store_close(copy);
    /* What becomes of the one does not touch the other. */
    vv_store_close(f->store);
    assert_int_equal(open_at(f->from, VARVE_LAYOUT_DEFAULT, 0, &f->store), VARVE_OK);
    struct past on = f->past;
    assert_int_equal(past_commit(&on, f->store, "main", PAST_COMMITS, VARVE_BUFFERED), VARVE_OK);
    assert_int_equal(f->store->layout->persist(f->store->place), VARVE_OK);
    assert_int_equal(open_at(again, VARVE_LAYOUT_DEFAULT, 0, &copy), VARVE_OK);
    assert_same(f, copy);
    vv_store_close(copy);
    assert_sound(again);
}

static void each_layout_clones_into_each(void **state)
{
    unsigned pairs = 0;

    (void)state;
    for (varve_layout from = VARVE_LAYOUT_FLAT; from <= VARVE_LAYOUT_JOURNAL; from++)
        for (varve_layout to = VARVE_LAYOUT_FLAT; to <= VARVE_LAYOUT_JOURNAL; to++) {
            void *inner = NULL;
            (void)set_up(&inner);
            struct fixture *f = inner;
            make_past(f, from, (vv_layout_with(to)->can & VV_CAN_BRANCH) == 0);
            if (copy_to(f, to, NULL, NULL) != VARVE_OK)
                fail_msg("%s to %s: %s", vv_layout_with(from)->name, vv_layout_with(to)->name, vv_words());
            assert_same(f, f->store);
            assert_sound(f->to);
            assert_int_equal(open_at(f->to, to, 0, &f->copy), VARVE_OK);
            assert_same(f, f->copy);
            assert_same_ancestors(f);
            assert_same_count(f);
            if (from == to)
                assert_files_copied(f);
            /* It is a store like any other. */
            assert_int_equal(past_commit(&f->past, f->copy, "main", PAST_COMMITS, VARVE_BUFFERED), VARVE_OK);
            assert_same(f, f->copy);
            (void)tear_down(&inner);
            pairs++;
        }
    print_message("%u ordered pairs of layouts\n", pairs);
    assert_int_equal(pairs, 16);
}

static int stop_late(void *context, const varve_progress *progress)
{
    unsigned *calls = context;

    assert_string_equal(progress->unit, "commits");
    return ++*calls == 5;
}

static void a_clone_that_was_stopped_is_no_store(void **state)
{
    struct fixture *f = *state;
    unsigned calls = 0;

    make_past(f, VARVE_LAYOUT_JOURNAL, false);
    assert_int_equal(copy_to(f, VARVE_LAYOUT_DEFAULT, stop_late, &calls), VARVE_CANCELLED);
    assert_int_equal(open_at(f->to, VARVE_LAYOUT_DEFAULT, 0, &f->copy), VARVE_NOT_FOUND);
    assert_non_null(strstr(vv_words(), "not finished"));
    assert_int_equal(open_at(f->to, VARVE_LAYOUT_DEFAULT, VARVE_STORE_CREATE, &f->copy), VARVE_NOT_FOUND);
    assert_int_equal(copy_to(f, VARVE_LAYOUT_DEFAULT, NULL, NULL), VARVE_EXISTS);
    assert_same(f, f->store);
    scratch_remove(f->to);
    assert_int_equal(copy_to(f, VARVE_LAYOUT_DEFAULT, NULL, NULL), VARVE_OK);
    assert_int_equal(open_at(f->to, VARVE_LAYOUT_DEFAULT, 0, &f->copy), VARVE_OK);
    assert_same(f, f->copy);
}

static void count_finding(void *context, const varve_finding *finding)
{
    unsigned *count = context;

    assert_int_equal(finding->severity, VARVE_DAMAGE);
    assert_non_null(finding->commit);
    (*count)++;
}

/* The files of one version go, of a commit in the middle and of the one that main names: all others are copied. */
static void what_is_damaged_is_left_out_when_that_is_asked_for(void **state)
{
    struct fixture *f = *state;
    const varve_clone_options salvage = { .size = sizeof salvage,
                                          .flags = VARVE_CLONE_SALVAGE,
                                          .layout = VARVE_LAYOUT_JOURNAL,
                                          .finding = count_finding };
    varve_clone_options options = salvage;
    unsigned left_out = 0, told = 0;
    char path[sizeof f->from + 256];

    assert_int_equal(open_at(f->from, VARVE_LAYOUT_FLAT, VARVE_STORE_CREATE, &f->store), VARVE_OK);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(past_commit(&f->past, f->store, "main", PAST_COMMITS, VARVE_BUFFERED), VARVE_OK);
    assert_int_equal(f->store->layout->persist(f->store->place), VARVE_OK);
    for (unsigned i = 2; i <= 5; i += 3) { /* a version that came with this commit */
        struct vv_commit_facts facts = { .locator = 0 };
        struct vv_state commit_state;
        assert_int_equal(f->store->layout->facts(f->store->place, &f->past.commits[i].id, &facts), VARVE_OK);
        assert_int_equal(f->store->layout->view(f->store->place, &facts, &commit_state), VARVE_OK);
        struct vv_module *module = NULL;
        varve_module_id last = { { 0 } };
        char name[65], hex[65];
        uint8_t leaf[VV_HASH_SIZE];
        for (bool gone = false; !gone;) {
            assert_int_equal(vv_state_next(&commit_state, &last, &module), VARVE_OK);
            assert_non_null(module);
            last = module->id;
            assert_int_equal(vv_module_leaf(module, leaf), VARVE_OK);
            vv_hex_format(module->id.bytes, name);
            vv_hex_format(leaf, hex);
            (void)snprintf(path, sizeof path, "%s/%s_%s", f->from, name, hex);
            gone = unlink(path) == 0;
        }
        vv_state_release(&commit_state);
        vv_commit_facts_release(&facts);
    }
    vv_store_close(f->store);
    assert_int_equal(open_at(f->from, VARVE_LAYOUT_DEFAULT, VARVE_STORE_READ_ONLY, &f->store), VARVE_OK);
    options.flags = 0;
    assert_int_equal(vv_store_clone(f->store, &vv_vfs_system, f->to, &options), VARVE_CORRUPT);
    assert_int_not_equal(access(f->to, F_OK), 0);

    options = salvage;
    options.context = &told;
    assert_int_equal(vv_store_clone(f->store, &vv_vfs_system, f->to, &options), VARVE_OK);
    assert_int_equal(open_at(f->to, VARVE_LAYOUT_DEFAULT, 0, &f->copy), VARVE_OK);
    unsigned newest = PAST_COMMITS;
    for (unsigned i = 0; i < 6; i++) {
        const varve_status rc = past_read(&f->past, f->store, i); /* as far as the source has it */
        assert_int_equal(past_read(&f->past, f->copy, i), rc == VARVE_OK ? VARVE_OK : VARVE_NOT_FOUND);
        left_out += rc != VARVE_OK;
        newest = rc == VARVE_OK ? i : newest;
    }
    struct vv_ref_facts ref;
    assert_int_equal(f->copy->layout->ref_get(f->copy->place, "main", &ref), VARVE_OK);
    assert_memory_equal(&ref.commit, &f->past.commits[newest].id, sizeof ref.commit);
    assert_true(left_out >= 2 && newest < 5);
    assert_int_equal(told, left_out + 1); /* and main, which went back */
    vv_store_close(f->copy);
    f->copy = NULL;
    assert_sound(f->to);
}

static void branches_are_refused_before_the_first_byte_where_there_is_one_line(void **state)
{
    struct fixture *f = *state;

    make_past(f, VARVE_LAYOUT_JOURNAL, false);
    assert_int_equal(copy_to(f, VARVE_LAYOUT_CHAIN, NULL, NULL), VARVE_UNSUPPORTED);
    assert_non_null(strstr(vv_words(), "side"));
    assert_int_not_equal(access(f->to, F_OK), 0);
}

static void what_is_there_already_stays(void **state)
{
    struct fixture *f = *state;

    make_past(f, VARVE_LAYOUT_JOURNAL, false);
    assert_int_equal(open_at(f->to, VARVE_LAYOUT_JOURNAL, VARVE_STORE_CREATE, &f->copy), VARVE_OK);
    assert_int_equal(copy_to(f, VARVE_LAYOUT_DEFAULT, NULL, NULL), VARVE_BUSY);
    vv_store_close(f->copy);
    f->copy = NULL;
    assert_int_equal(copy_to(f, VARVE_LAYOUT_DEFAULT, NULL, NULL), VARVE_EXISTS);
    assert_same(f, f->store);
}

/* Killed before each call that changes the disk: what is there is no store, or all of it. Faults: an error,
 * and the same. */
static void a_clone_is_whole_or_no_store(void **state)
{
    struct fixture *f = *state;
    const varve_clone_options options = { .size = sizeof options, .layout = VARVE_LAYOUT_DEFAULT };
    unsigned points = 0, whole = 0;

    make_past(f, VARVE_LAYOUT_JOURNAL, false);
    for (unsigned nth = 1;; nth++) {
        int status = 0;
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct vv_double d;
            vv_double_init(&d, &vv_vfs_system);
            vv_double_arm(&d, nth % 2 == 0 ? VV_DOUBLE_KILL : VV_DOUBLE_FAIL, nth, EIO);
            const varve_status rc = vv_store_clone(f->store, &d.table, f->to, &options);
            /* A call that nobody depends on, such as the hint's, may fail and be passed over. */
            _exit(!vv_double_fired(&d) ? 2 : rc == VARVE_OK ? 3 : 4);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) >= 2);
        const varve_status rc = open_at(f->to, VARVE_LAYOUT_DEFAULT, 0, &f->copy);
        if (rc == VARVE_OK) {
            assert_same(f, f->copy);
            whole++;
        } else {
            assert_int_equal(rc, VARVE_NOT_FOUND);
            assert_false(WIFEXITED(status) && WEXITSTATUS(status) < 4);
        }
        vv_store_close(f->copy);
        f->copy = NULL;
        if (access(f->to, F_OK) == 0)
            scratch_remove(f->to);
        points++;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
            break;
    }
    print_message("%u points, %u whole\n", points, whole);
    assert_true(points > 20 && whole > 0 && whole < points);
    assert_same(f, f->store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        cmocka_unit_test(each_layout_clones_into_each),
        TEST(a_clone_that_was_stopped_is_no_store),
        TEST(what_is_damaged_is_left_out_when_that_is_asked_for),
        TEST(branches_are_refused_before_the_first_byte_where_there_is_one_line),
        TEST(what_is_there_already_stays),
        TEST(a_clone_is_whole_or_no_store),
    };

    scratch_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
