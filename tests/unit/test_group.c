/* Commits that are made at once: one write and one sync for all of them; and whatever becomes of those, each is told
 * the truth. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/double.h"
#include "crowd.h"
#include "scratch.h"
#include "store/journal/journal.h"
#include "store/journal/place.h"

static const struct vv_layout *const journal = &vv_layout_journal;

static const struct vv_journal_limits limits = {
    .log = { .segment = 64 << 10, .ahead = 32 << 10, .files = 2 },
    .checkpoint_records = 200,
    .checkpoint_bytes = 1 << 20,
    .views = 8,
    .frames = 8,
};

struct fixture {
    char path[SCRATCH_PATH];
    struct vv_double d;
    struct vv_dir dir;
    struct vv_place *place;
    struct crowd_member members[CROWD_MAX];
    unsigned writes, syncs; /* of the log, since counted anew */
};

static void count_call(void *context, const struct vv_double_event *event)
{
    struct fixture *f = context;

    f->writes += event->call == VV_CALL_WRITE;
    f->syncs += event->call == VV_CALL_SYNC;
}

static void open_place(struct fixture *f)
{
    const struct vv_layout_options options = { .vfs = &f->d.table, .durability = VARVE_DURABLE };

    assert_int_equal(vv_journal_open(&f->dir, &options, &limits, &f->place), VARVE_OK);
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
    vv_double_init(&f->d, &vv_vfs_system);
    f->d.record = count_call;
    f->d.context = f;
    assert_int_equal(vv_dir_open(&f->d.table, f->path, &f->dir), VARVE_OK);
    const struct vv_layout_options options = { .vfs = &f->d.table, .durability = VARVE_DURABLE };
    assert_int_equal(vv_journal_create(&f->dir, &options, &limits), VARVE_OK);
    open_place(f);
    for (unsigned i = 0; i < CROWD_MAX; i++) {
        f->members[i] = (struct crowd_member){ .number = i + 1, .durability = VARVE_DURABLE };
        (void)snprintf(f->members[i].branch, sizeof f->members[i].branch, "b%u", i);
    }
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    close_place(f);
    for (unsigned i = 0; i < CROWD_MAX; i++)
        vv_commit_facts_release(&f->members[i].facts);
    vv_dir_close(&f->dir);
    scratch_remove(f->path);
    free(f);
    return 0;
}

/* Another opening's OPEN record is not to be counted with what a test counts. */
static void announce(struct fixture *f)
{
    vv_place_take_turn(f->place);
    assert_int_equal(vv_place_announce(f->place, VV_ROOM_ORDINARY), VARVE_OK);
    vv_place_end_turn(f->place);
    f->writes = f->syncs = 0;
}

static void commit_all(struct fixture *f, size_t count)
{
    crowd_commit(journal, f->place, f->members, count);
}

static void assert_there(struct fixture *f, const struct crowd_member *member)
{
    struct model_state state;
    struct vv_ref_facts ref;

    crowd_state(member->number, member->big, &state);
    assert_int_equal(model_compare(journal, f->place, &member->facts.id, &state), VARVE_OK);
    assert_int_equal(journal->ref_get(f->place, member->branch, &ref), VARVE_OK);
    assert_memory_equal(&ref.commit, &member->facts.id, sizeof ref.commit);
}

static void assert_all_there(struct fixture *f, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (f->members[i].status != VARVE_OK)
            print_error("member %zu: %s\n", i, f->members[i].words);
        assert_int_equal(f->members[i].status, VARVE_OK);
        assert_there(f, &f->members[i]);
    }
    close_place(f);
    open_place(f);
    for (size_t i = 0; i < count; i++)
        assert_there(f, &f->members[i]);
    assert_int_equal(journal->last_number(f->place), count);
}

static void a_group_is_one_write_and_one_sync(void **state)
{
    struct fixture *f = *state;
    bool seen[CROWD_MAX + 1] = { false };

    announce(f);
    commit_all(f, 6);
    assert_int_equal(f->syncs, 1);
    assert_int_equal(f->writes, 2); /* the records, and the hint for readers */
    for (size_t i = 0; i < 6; i++)
        seen[f->members[i].facts.number] = true;
    for (size_t i = 1; i <= 6; i++)
        assert_true(seen[i]);
    assert_all_there(f, 6);
}

/* Who need not wait for a sync goes along with who must; alone they only write. */
static void buffered_commits_go_along(void **state)
{
    struct fixture *f = *state;

    announce(f);
    for (size_t i = 0; i < 3; i++)
        f->members[i].durability = VARVE_BUFFERED;
    commit_all(f, 3);
    assert_int_equal(f->syncs, 0);
    assert_int_equal(f->writes, 2);
    assert_true(f->place->chain.synced < f->place->chain.end);
    for (size_t i = 0; i < 3; i++) {
        struct crowd_member *member = &f->members[i];
        vv_commit_facts_release(&member->facts);
        member->number += 10;
        (void)snprintf(member->branch, sizeof member->branch, "c%zu", i);
    }
    f->members[1].durability = VARVE_DURABLE;
    commit_all(f, 3);
    assert_int_equal(f->syncs, 1);
    assert_int_equal(f->place->chain.synced, f->place->chain.end);
}

/* One branch, two commits from where it stands: one moves it, the other one waits for that and is refused. */
static void of_two_on_one_branch_one_is_refused(void **state)
{
    struct fixture *f = *state;

    (void)snprintf(f->members[1].branch, sizeof f->members[1].branch, "%s", f->members[0].branch);
    commit_all(f, 3);
    const size_t loser = f->members[0].status == VARVE_OK ? 1 : 0;
    assert_int_equal(f->members[loser].status, VARVE_CONFLICT);
    assert_non_null(strstr(f->members[loser].words, "exists already"));
    assert_there(f, &f->members[1 - loser]);
    assert_there(f, &f->members[2]);
    assert_int_equal(journal->last_number(f->place), 2);
}

/* The same commit from two threads is one commit, and both branches name it. */
static void the_same_commit_at_once_is_one(void **state)
{
    struct fixture *f = *state;

    f->members[1].number = f->members[0].number;
    commit_all(f, 2);
    assert_there(f, &f->members[0]);
    assert_there(f, &f->members[1]);
    assert_memory_equal(&f->members[0].facts.id, &f->members[1].facts.id, sizeof f->members[0].facts.id);
    assert_int_equal(journal->last_number(f->place), 1);
}

/* What does not fit into the segment is another group. */
static void a_group_lies_in_one_segment(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < CROWD_MAX; i++)
        f->members[i].big = MODEL_PAGES;
    commit_all(f, CROWD_MAX);
    assert_true(f->place->log.count > 1);
    assert_all_there(f, CROWD_MAX);
}

/* Every call of a group fails in turn, at once or half-way. Each member is told; what was not told to be made is not
 * there, and what is tried again is there once: nothing that was left of the group joins it. */
static void a_group_that_fails_is_told_to_all(void **state)
{
    struct fixture *f = *state;
    static const enum vv_double_mode modes[] = { VV_DOUBLE_FAIL, VV_DOUBLE_HALF, VV_DOUBLE_STICK };
    unsigned failed = 0, uncertain = 0;

    for (unsigned i = 0; i < 3 * 12; i++) {
        const unsigned first = 100 * (i + 1);
        announce(f);
        const uint64_t before = journal->last_number(f->place);
        for (size_t k = 0; k < 4; k++) {
            struct crowd_member *member = &f->members[k];
            vv_commit_facts_release(&member->facts);
            member->number = first + (unsigned)k;
            (void)snprintf(member->branch, sizeof member->branch, "n%u", member->number);
        }
        vv_double_arm(&f->d, modes[i % 3], 1 + i / 3, ENOSPC);
        commit_all(f, 4);
        const bool fired = vv_double_fired(&f->d);
        vv_double_arm(&f->d, VV_DOUBLE_PASS, 0, 0);
        const varve_status told = f->members[0].status;
        unsigned made = 0;
        if (!fired)
            assert_int_equal(told, VARVE_OK);
        for (size_t k = 0; k < 4; k++) {
            const struct crowd_member *member = &f->members[k];
            struct vv_ref_facts ref;
            const bool there = member->status == VARVE_OK;
            made += there;
            assert_int_equal(journal->ref_get(f->place, member->branch, &ref),
                             there ? VARVE_OK : VARVE_NOT_FOUND);
            if (there)
                assert_there(f, member);
        }
        assert_int_equal(journal->last_number(f->place), before + made);
        assert_true(fired || made == 4);
        failed += told == VARVE_FULL;
        uncertain += f->place->poisoned;
        if (told == VARVE_FULL &&
            made == 0) { /* the first of them again, alone: to the byte what lay there */
            crowd_commit(journal, f->place, f->members, 1);
            assert_int_equal(f->members[0].status, VARVE_OK);
            close_place(f);
            open_place(f);
            assert_int_equal(journal->last_number(f->place), before + 1);
            assert_there(f, &f->members[0]);
        } else if (f->place->poisoned) { /* until it is opened again */
            crowd_commit(journal, f->place, f->members, 1);
            assert_int_equal(f->members[0].status, VARVE_UNCERTAIN);
            close_place(f);
            open_place(f);
        }
    }
    print_message("%u groups failed, of %u nobody knew\n", failed, uncertain);
    assert_true(failed > 0 && uncertain > 0);
}

/* ---- Turns beside groups ------------------------------------------------------------------------ */

/* Somebody who commits until he is told to end, each time on a new branch. */
struct committer {
    struct fixture *f;
    unsigned number;
    _Atomic bool *over;
    varve_status status;
};

static void *commit_on_and_on(void *context)
{
    struct committer *c = context;
    struct model_state before, after;

    crowd_state(0, 0, &before);
    for (unsigned i = 1; c->status == VARVE_OK && !*c->over; i++) {
        struct vv_commit_facts facts = { .number = 0 };
        struct vv_ref_move move = { .what = "commit", .to = &facts.id };
        (void)snprintf(move.name, sizeof move.name, "t%u-%u", c->number, i);
        crowd_state(c->number << 16 | i, 0, &after);
        c->status = model_commit(journal, c->f->place, &before, NULL, &after, "", &move, VARVE_DURABLE, &facts);
        vv_commit_facts_release(&facts);
    }
    return NULL;
}

static uint64_t commits_made(struct vv_place *place)
{
    pthread_mutex_lock(&place->mutex);
    const uint64_t count = place->commit_count;
    pthread_mutex_unlock(&place->mutex);
    return count;
}

/* Commits that never cease keep nobody out: a turn waits for the group at hand, and not for the next ones. */
static void a_turn_waits_for_one_group(void **state)
{
    enum { COMMITTERS = 3, TURNS = 60, UNDERWAY = 2 * COMMITTERS };
    struct fixture *f = *state;
    struct committer committers[COMMITTERS];
    pthread_t threads[COMMITTERS];
    _Atomic bool over = false;
    uint64_t most = 0;

    for (unsigned i = 0; i < COMMITTERS; i++) {
        committers[i] = (struct committer){ .f = f, .number = i + 1, .over = &over };
        assert_int_equal(pthread_create(&threads[i], NULL, commit_on_and_on, &committers[i]), 0);
    }
    for (unsigned turn = 0; turn < TURNS; turn++) {
        const uint64_t before = commits_made(f->place);
        while (commits_made(f->place) < before + COMMITTERS) /* until they are at it again */
            (void)sched_yield();
        const uint64_t asked = commits_made(f->place);
        vv_place_take_turn(f->place);
        const uint64_t waited = commits_made(f->place) - asked;
        vv_place_end_turn(f->place);
        most = waited > most ? waited : most;
    }
    over = true;
    for (unsigned i = 0; i < COMMITTERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(committers[i].status, VARVE_OK);
    }
    assert_in_range(most, 0, UNDERWAY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_group_is_one_write_and_one_sync, set_up, tear_down),
        cmocka_unit_test_setup_teardown(buffered_commits_go_along, set_up, tear_down),
        cmocka_unit_test_setup_teardown(of_two_on_one_branch_one_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_same_commit_at_once_is_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_group_lies_in_one_segment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_group_that_fails_is_told_to_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_turn_waits_for_one_group, set_up, tear_down),
    };

    return cmocka_run_group_tests_name("group", tests, NULL, NULL);
}
