/* The contract of a layout (store/layout.h), for any of them: the same operations give the same roots and memories.
 *
 *   layout_suite [--layout NAME] [--seed N [--count N]]
 *
 * Bits of `can` say what a layout does; what it does not it must refuse as UNSUPPORTED, with nothing changed. With
 * --seed only the driver runs: operations at random against what past.h remembers, and the seed of a failure is
 * printed. Another layout is one more row of `rows`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "past.h"
#include "page/hash.h"
#include "scratch.h"
#include "store/session.h"
#include "tally.h"

static const struct {
    const char *name;
    varve_layout layout;
} rows[] = {
    { "journal", VARVE_LAYOUT_JOURNAL },
    { "flat", VARVE_LAYOUT_FLAT },
    { "tree", VARVE_LAYOUT_TREE },
    { "chain", VARVE_LAYOUT_CHAIN },
};
static varve_layout layout = VARVE_LAYOUT_JOURNAL;

struct fixture {
    char root[SCRATCH_PATH], path[SCRATCH_PATH + 16];
    varve_store *store;
    struct past past;
};

static varve_status open_with(struct fixture *f, uint32_t flags)
{
    const varve_store_options options = { .size = sizeof options,
                                          .flags = flags,
                                          .snapshot_bytes = 8 << 10,
                                          .layout = (flags & VARVE_STORE_CREATE) != 0
                                                        ? layout
                                                        : VARVE_LAYOUT_DEFAULT };

    return vv_store_open(&vv_vfs_system, f->path, &options, &f->store);
}

/* What lasts from persist on is persisted: tests here are of what every layout does. */
static void close_store(struct fixture *f)
{
    if (f->store != NULL && !f->store->read_only && (f->store->layout->can & VV_CAN_DURABLE) == 0)
        assert_int_equal(f->store->layout->persist(f->store->place), VARVE_OK);
    vv_store_close(f->store);
    f->store = NULL;
}

static void reopen(struct fixture *f, uint32_t flags)
{
    close_store(f);
    assert_int_equal(open_with(f, flags), VARVE_OK);
}

static bool can(const struct fixture *f, unsigned what)
{
    return (f->store->layout->can & what) != 0;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    scratch_new(f->root);
    (void)snprintf(f->path, sizeof f->path, "%s/store", f->root);
    f->past.chance.state = 3;
    assert_int_equal(open_with(f, VARVE_STORE_CREATE), VARVE_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    close_store(f);
    scratch_remove(f->root);
    free(f);
    return 0;
}

static varve_status commit(struct fixture *f, const char *branch, unsigned from)
{
    return past_commit(&f->past, f->store, branch, from,
                       can(f, VV_CAN_DURABLE) ? VARVE_DURABLE : VARVE_BUFFERED);
}

static void make_line(struct fixture *f, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(commit(f, "main", PAST_COMMITS), VARVE_OK);
}

static void assert_all_there(struct fixture *f)
{
    if (past_read_only(&f->past, f->store) != VARVE_OK)
        fail_msg("%s", vv_words());
}

static void assert_sound(struct fixture *f)
{
    const varve_check_options options = { .size = sizeof options };
    uint64_t damage = 1;

    close_store(f);
    assert_int_equal(vv_store_check(&vv_vfs_system, f->path, &options, &damage), VARVE_OK);
    assert_int_equal(damage, 0);
    assert_int_equal(open_with(f, 0), VARVE_OK);
}

/* ---- What every layout does --------------------------------------------------------------------- */

/* Ids follow from states, parents, times and messages; so a line of commits has these in every layout. */
static void the_same_operations_give_the_same_ids(void **state)
{
    static const char wanted[] = "F952677819FC82781193F71B01480066DE760A1EC34D4D69FF48B616C62318AB";
    struct fixture *f = *state;
    struct vv_hasher hasher;
    uint8_t hash[VV_HASH_SIZE];
    char hex[65];

    make_line(f, 12);
    vv_hasher_init(&hasher, VV_HASH_RECORD);
    for (unsigned i = 0; i < f->past.commit_count; i++)
        vv_hasher_put(&hasher, f->past.commits[i].id.bytes, 32);
    vv_hasher_end(&hasher, hash);
    vv_hex_format(hash, hex);
    assert_string_equal(hex, wanted);
}

static void every_commit_reads_as_it_was_made(void **state)
{
    struct fixture *f = *state;

    make_line(f, 9);
    assert_all_there(f);
    reopen(f, VARVE_STORE_READ_ONLY);
    assert_all_there(f);
    for (unsigned i = 0; i < f->past.commit_count; i++)
        assert_int_equal(past_read_images(&f->past, f->store, i), VARVE_OK);
    reopen(f, 0);
    assert_sound(f);
}

static void commits_are_found_by_id_root_and_number(void **state)
{
    struct fixture *f = *state;
    const struct vv_layout *layout_of = f->store->layout;
    varve_commit_id found[2];
    varve_commit_id one;
    size_t count = 0;

    make_line(f, 5);
    assert_int_equal(layout_of->last_number(f->store->place), 5);
    for (unsigned i = 0; i < 5; i++) {
        const uint8_t *id = f->past.commits[i].id.bytes;
        struct vv_commit_facts facts = { .locator = 0 };
        assert_int_equal(layout_of->find_id(f->store->place, id, 64, found, &count), VARVE_OK);
        assert_int_equal(count, 1);
        assert_memory_equal(found[0].bytes, id, 32);
        assert_int_equal(layout_of->find_number(f->store->place, i + 1, &one), VARVE_OK);
        assert_memory_equal(one.bytes, id, 32);
        assert_int_equal(layout_of->facts(f->store->place, &f->past.commits[i].id, &facts), VARVE_OK);
        assert_int_equal(layout_of->find_root(f->store->place, facts.root.bytes, 64, found, &count),
                         VARVE_OK);
        assert_int_equal(count, 1);
        assert_memory_equal(found[0].bytes, id, 32);
        vv_commit_facts_release(&facts);
    }
    assert_int_equal(layout_of->find_number(f->store->place, 6, &one), VARVE_NOT_FOUND);
    memset(one.bytes, 0xee, sizeof one.bytes);
    assert_int_equal(layout_of->find_id(f->store->place, one.bytes, 64, found, &count), VARVE_OK);
    assert_int_equal(count, 0);
}

/* The branch stands elsewhere than its committer thinks: nothing is made. */
static void a_branch_that_moved_refuses_the_commit(void **state)
{
    struct fixture *f = *state;
    struct past behind;

    make_line(f, 2);
    behind = f->past;
    make_line(f, 1);
    behind.chance.state++; /* another commit than the one that was made meanwhile */
    assert_int_equal(past_commit(&behind, f->store, "main", PAST_COMMITS, VARVE_BUFFERED), VARVE_CONFLICT);
    assert_all_there(f);
    reopen(f, 0);
    assert_all_there(f);
}

static void buffered_commits_last_after_persist(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(past_commit(&f->past, f->store, "main", PAST_COMMITS, VARVE_BUFFERED), VARVE_OK);
    assert_all_there(f);
    assert_int_equal(f->store->layout->persist(f->store->place), VARVE_OK);
    reopen(f, 0);
    assert_all_there(f);
}

static void code_is_kept_by_its_hash(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(past_code(&f->past, f->store), VARVE_OK);
    f->past.code_count--;
    assert_int_equal(past_code(&f->past, f->store), VARVE_OK); /* the same once more */
    assert_int_equal(past_read_code(f->store, 1), VARVE_NOT_FOUND);
    reopen(f, VARVE_STORE_READ_ONLY);
    assert_int_equal(past_read_code(f->store, 0), VARVE_OK);
}

static void a_reader_changes_nothing(void **state)
{
    struct fixture *f = *state;

    make_line(f, 3);
    reopen(f, VARVE_STORE_READ_ONLY);
    assert_int_equal(commit(f, "main", PAST_COMMITS), VARVE_MISUSE);
    assert_int_equal(past_ref(&f->past, f->store, "tags/t", 1), VARVE_MISUSE);
    assert_int_equal(past_code(&f->past, f->store), VARVE_MISUSE);
    assert_all_there(f);
}

static void background_work_changes_no_answer(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 10; i++) {
        make_line(f, 1);
        assert_int_equal(past_tidy(f->store, 1 << 16), VARVE_OK);
        assert_all_there(f);
    }
    assert_sound(f);
    assert_all_there(f);
}

/* ---- What some do ------------------------------------------------------------------------------- */

static void branches_and_tags_are_refs(void **state)
{
    struct fixture *f = *state;
    struct vv_move_facts move;
    const struct vv_layout *layout_of = f->store->layout;

    make_line(f, 4);
    if (!can(f, VV_CAN_BRANCH)) {
        assert_int_equal(past_ref(&f->past, f->store, "side", 1), VARVE_UNSUPPORTED);
        assert_int_equal(commit(f, "side", 1), VARVE_UNSUPPORTED);
        assert_all_there(f);
        return;
    }
    assert_int_equal(past_ref(&f->past, f->store, "side", 1), VARVE_OK);
    assert_int_equal(commit(f, "side", PAST_COMMITS), VARVE_OK);
    assert_int_equal(commit(f, "fresh", 2), VARVE_OK);
    assert_int_equal(past_ref(&f->past, f->store, "tags/one", 0), VARVE_OK);
    assert_int_equal(past_ref(&f->past, f->store, "main", 2), VARVE_OK); /* back, and on from there */
    assert_int_equal(commit(f, "main", PAST_COMMITS), VARVE_OK);
    assert_int_equal(past_ref_gone(&f->past, f->store, "side"), VARVE_OK);
    reopen(f, 0);
    assert_all_there(f);
    assert_int_equal(layout_of->ref_move(f->store->place, "side", 0, &move), VARVE_OK); /* its log stays */
    assert_string_equal(move.what, "delete");
    assert_int_equal(layout_of->ref_move(f->store->place, "side", move.previous, &move), VARVE_OK);
    assert_string_equal(move.what, "commit");
    assert_memory_equal(move.to.bytes, f->past.commits[4].id.bytes, 32);
    assert_sound(f);
}

static void a_deleted_commit_is_gone_and_held_ones_stay(void **state)
{
    struct fixture *f = *state;
    varve_commit *held = NULL;
    varve_commit_id found;

    make_line(f, 6);
    if (!can(f, VV_CAN_DELETE)) {
        assert_int_equal(past_remove(&f->past, f->store, 2), VARVE_UNSUPPORTED);
        assert_all_there(f);
        return;
    }
    assert_int_equal(past_remove(&f->past, f->store, 5), VARVE_MISUSE); /* main names it */
    assert_int_equal(vv_commit_open_id(f->store, &f->past.commits[2].id, &held), VARVE_OK);
    assert_int_equal(past_remove(&f->past, f->store, 2), VARVE_OK);
    assert_int_equal(past_remove(&f->past, f->store, 3), VARVE_OK);
    assert_int_equal(past_read(&f->past, f->store, 2), VARVE_NOT_FOUND);
    assert_int_equal(f->store->layout->ancestor(f->store->place, &f->past.commits[3].id, &found), VARVE_OK);
    assert_memory_equal(found.bytes, f->past.commits[1].id.bytes, 32);
    assert_int_equal(past_tidy(f->store, 1 << 20), VARVE_OK);
    assert_int_equal(past_read_held(&f->past, f->store, held, 2), VARVE_OK);
    vv_commit_close(held);
    assert_int_equal(past_tidy(f->store, 1 << 20), VARVE_OK);
    assert_all_there(f);
    reopen(f, 0);
    assert_all_there(f);
    assert_int_equal(past_read(&f->past, f->store, 3), VARVE_NOT_FOUND);
    assert_sound(f);
    assert_all_there(f);
}

static varve_status begin(struct fixture *f, uint32_t flags, varve_session **session)
{
    const varve_session_options options = { .size = sizeof options, .flags = flags };

    return vv_session_begin(f->store, &options, session);
}

static void sessions_that_may_commit_are_one_or_many(void **state)
{
    struct fixture *f = *state;
    varve_session *first = NULL, *second = NULL, *looks = NULL;

    make_line(f, 2);
    assert_int_equal(begin(f, 0, &first), VARVE_OK);
    assert_int_equal(begin(f, VARVE_SESSION_READ_ONLY, &looks), VARVE_OK); /* beside any other */
    if (can(f, VV_CAN_SESSIONS)) {
        assert_int_equal(begin(f, 0, &second), VARVE_OK);
        vv_session_abort(second);
    } else {
        assert_int_equal(begin(f, 0, &second), VARVE_UNSUPPORTED);
        assert_non_null(strstr(vv_words(), f->store->layout->name));
        assert_non_null(strstr(vv_words(), "tree and journal"));
    }
    vv_session_abort(first);
    assert_int_equal(begin(f, 0, &first), VARVE_OK); /* its place is free again */
    vv_session_abort(first);
    vv_session_abort(looks);
    assert_all_there(f);
}

static void a_commit_is_as_durable_as_the_layout_can(void **state)
{
    struct fixture *f = *state;
    const varve_store_options durable = { .size = sizeof durable, .durability = VARVE_DURABLE };
    const varve_commit_options at_once = { .size = sizeof at_once,
                                           .durability = VARVE_DURABLE,
                                           .flags = VARVE_COMMIT_EMPTY };
    const bool lasts = can(f, VV_CAN_DURABLE);
    varve_session *session = NULL;
    varve_commit *commit_made = NULL;
    bool ended = false;

    make_line(f, 2);
    assert_int_equal(begin(f, 0, &session), VARVE_OK);
    assert_int_equal(vv_session_commit(session, &at_once, &commit_made, &ended), lasts ? VARVE_OK : VARVE_UNSUPPORTED);
    assert_int_equal(vv_store_configure(f->store, &durable), lasts ? VARVE_OK : VARVE_UNSUPPORTED);
    if (!lasts) {
        assert_non_null(strstr(vv_words(), "persist"));
        assert_false(ended); /* nothing was made, and the session is whole */
        vv_session_abort(session);
        assert_all_there(f);
        return;
    }
    assert_true(ended);
    vv_commit_close(commit_made);
}

/* What was never persisted is gone after a restart where commits do not last by themselves, and nothing else is. */
static void what_was_not_persisted_is_gone_after_a_restart(void **state)
{
    struct fixture *f = *state;
    struct past persisted;

    make_line(f, 4);
    assert_int_equal(f->store->layout->persist(f->store->place), VARVE_OK);
    persisted = f->past;
    make_line(f, 3);
    assert_all_there(f);
    vv_store_close(f->store); /* as a process that ends without persisting */
    assert_int_equal(open_with(f, 0), VARVE_OK);
    if (!can(f, VV_CAN_DURABLE))
        f->past = persisted;
    assert_all_there(f);
    assert_sound(f);
    make_line(f, 3);
    assert_all_there(f);
    assert_int_equal(f->store->layout->persist(f->store->place), VARVE_OK);
    reopen(f, 0);
    assert_all_there(f);
    for (unsigned i = 0; i < f->past.commit_count; i++)
        assert_int_equal(past_read_images(&f->past, f->store, i), VARVE_OK);
}

static varve_status count_file(void *context, const struct vv_file_facts *file)
{
    unsigned *count = context;

    (*count)++;
    assert_true(file->path[0] != '\0' && file->path[0] != '/' && file->what[0] != '\0' && file->links >= 1);
    assert_null(strstr(file->path, ".varve"));
    return VARVE_OK;
}

static void every_file_has_a_purpose(void **state)
{
    struct fixture *f = *state;
    unsigned count = 0;

    make_line(f, 5);
    assert_int_equal(f->store->layout->files(f->store->place, count_file, &count), VARVE_OK);
    assert_true(count > 0);
}

/* ---- At random ---------------------------------------------------------------------------------- */

enum { HELD = 3, BRANCHES = 4 };

struct drive {
    struct fixture *f;
    struct model_chance chance;
    struct {
        varve_commit *commit;
        unsigned number;
    } held[HELD];
    const char *doing;
};

static varve_status drive_commit(struct drive *d)
{
    struct past *past = &d->f->past;
    const unsigned branch = can(d->f, VV_CAN_BRANCH) ? model_chance(&d->chance, BRANCHES) : 0;
    char name[16] = "main";
    unsigned from = PAST_COMMITS;

    d->doing = "commit";
    if (branch > 0)
        (void)snprintf(name, sizeof name, "b%u", branch);
    if (past->commit_count > 0) {
        from = model_chance(&d->chance, past->commit_count);
        if (past->commits[from].deleted)
            from = PAST_COMMITS;
    }
    return past_commit(past, d->f->store, name, from,
                       can(d->f, VV_CAN_DURABLE) && model_chance(&d->chance, 3) > 0 ? VARVE_DURABLE
                                                                                    : VARVE_BUFFERED);
}

/* Any commit that is there and, when asked, that no ref names; PAST_COMMITS: there is none. */
static unsigned any_commit(struct drive *d, bool unnamed)
{
    const struct past *past = &d->f->past;

    for (unsigned tries = 0; tries < 20 && past->commit_count > 0; tries++) {
        const unsigned commit_number = model_chance(&d->chance, past->commit_count);
        if (!past->commits[commit_number].deleted && !(unnamed && past_is_named(past, commit_number)))
            return commit_number;
    }
    return PAST_COMMITS;
}

static varve_status drive_ref(struct drive *d)
{
    char name[16];
    const unsigned to = any_commit(d, false);
    const unsigned which = model_chance(&d->chance, 6);

    d->doing = "ref";
    (void)snprintf(name, sizeof name, which < 3 ? "tags/t%u" : "b%u", which % 3 + 1);
    if (past_stands(&d->f->past, name) < PAST_COMMITS && model_chance(&d->chance, 3) == 0)
        return past_ref_gone(&d->f->past, d->f->store, name);
    return to == PAST_COMMITS ? VARVE_OK : past_ref(&d->f->past, d->f->store, name, to);
}

static varve_status drive_remove(struct drive *d)
{
    const unsigned victim = any_commit(d, true);

    d->doing = "delete";
    return victim == PAST_COMMITS ? VARVE_OK : past_remove(&d->f->past, d->f->store, victim);
}

static varve_status drive_hold(struct drive *d)
{
    varve_status rc = VARVE_OK;
    const unsigned place = model_chance(&d->chance, HELD);
    const unsigned number = any_commit(d, false);

    d->doing = "hold";
    if (d->held[place].commit != NULL) {
        rc = past_read_held(&d->f->past, d->f->store, d->held[place].commit, d->held[place].number);
        vv_commit_close(d->held[place].commit);
        d->held[place].commit = NULL;
    } else if (number < PAST_COMMITS) {
        d->held[place].number = number;
        rc = vv_commit_open_id(d->f->store, &d->f->past.commits[number].id, &d->held[place].commit);
    }
    return rc;
}

static void let_go(struct drive *d)
{
    for (unsigned i = 0; i < HELD; i++) {
        vv_commit_close(d->held[i].commit);
        d->held[i].commit = NULL;
    }
}

static varve_status drive_gc(struct drive *d)
{
    const struct vv_layout *layout_of = d->f->store->layout;
    uint64_t freed = 0;

    d->doing = "gc";
    return layout_of->maintain(d->f->store->place, 0, NULL, NULL, &freed);
}

static varve_status drive_one(struct drive *d)
{
    switch (model_chance(&d->chance, 16)) {
    case 0:
        d->doing = "reopen";
        let_go(d);
        close_store(d->f);
        return open_with(d->f, 0);
    case 1:
        d->doing = "tidy";
        return past_tidy(d->f->store, UINT64_C(1) << (12 + model_chance(&d->chance, 10)));
    case 2:
        return drive_gc(d);
    case 3:
    case 4:
        return can(d->f, VV_CAN_BRANCH) ? drive_ref(d) : VARVE_OK;
    case 5:
    case 6:
    case 7:
        return can(d->f, VV_CAN_DELETE) ? drive_remove(d) : VARVE_OK;
    case 8:
        d->doing = "persist";
        return d->f->store->layout->persist(d->f->store->place);
    case 9:
        d->doing = "code";
        return d->f->past.code_count < PAST_CODES ? past_code(&d->f->past, d->f->store) : VARVE_OK;
    case 10:
    case 11:
        return drive_hold(d);
    case 12:
        d->doing = "read";
        return past_read_only(&d->f->past, d->f->store);
    default:
        return d->f->past.commit_count < PAST_COMMITS ? drive_commit(d) : VARVE_OK;
    }
}

/* Operations at random on a new store. False, with words: the store says something else than it must. */
static bool drive(uint64_t seed, unsigned count)
{
    void *state = NULL;
    bool well = true;

    (void)set_up(&state);
    struct drive d = { .f = state, .chance = { .state = seed } };
    d.f->past.chance.state = seed + 1000;
    for (unsigned i = 0; well && i < count; i++) {
        well = drive_one(&d) == VARVE_OK;
        if (!well)
            print_error("--seed %llu: operation %u, %s: %s\n", (unsigned long long)seed, i, d.doing,
                        vv_words());
    }
    if (well && (past_read_only(&d.f->past, d.f->store) != VARVE_OK)) {
        print_error("--seed %llu: in the end: %s\n", (unsigned long long)seed, vv_words());
        well = false;
    }
    let_go(&d);
    if (well)
        assert_sound(d.f);
    (void)tear_down(&state);
    return well;
}

static void operations_at_random_leave_what_they_must(void **state)
{
    const char *text = getenv("VARVE_TEST_SCALE");
    const uint64_t scale = text == NULL || atol(text) < 1 ? 1 : (uint64_t)atol(text);
    unsigned failed = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 40 * scale; seed++)
        failed += !drive(seed, 150);
    tally("drive", 40 * scale * 150, failed);
    assert_int_equal(failed, 0);
}

static uint64_t number_after(int argc, char **argv, const char *flag, uint64_t otherwise)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], flag) == 0)
            return strtoull(argv[i + 1], NULL, 10);
    return otherwise;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(the_same_operations_give_the_same_ids),
        TEST(every_commit_reads_as_it_was_made),
        TEST(commits_are_found_by_id_root_and_number),
        TEST(a_branch_that_moved_refuses_the_commit),
        TEST(buffered_commits_last_after_persist),
        TEST(code_is_kept_by_its_hash),
        TEST(a_reader_changes_nothing),
        TEST(background_work_changes_no_answer),
        TEST(branches_and_tags_are_refs),
        TEST(a_deleted_commit_is_gone_and_held_ones_stay),
        TEST(sessions_that_may_commit_are_one_or_many),
        TEST(a_commit_is_as_durable_as_the_layout_can),
        TEST(what_was_not_persisted_is_gone_after_a_restart),
        TEST(every_file_has_a_purpose),
        cmocka_unit_test(operations_at_random_leave_what_they_must),
    };
    size_t row = 0;

    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], "--layout") == 0)
            while (row < sizeof rows / sizeof *rows && strcmp(rows[row].name, argv[i + 1]) != 0)
                row++;
    if (row == sizeof rows / sizeof *rows) {
        (void)fprintf(stderr, "there is no such layout\n");
        return 2;
    }
    layout = rows[row].layout;
    scratch_in_memory();
    const uint64_t seed = number_after(argc, argv, "--seed", 0);
    if (seed != 0)
        return drive(seed, (unsigned)number_after(argc, argv, "--count", 150)) ? 0 : 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
