/* Several processes at one store: a writer, and readers beside it that come, look, hold and are killed. Every commit
 * that a reader sees is whole, none that was acknowledged is missing, and who is killed leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/double.h"
#include "scratch.h"
#include "store/journal/log.h"
#include "store/journal/place.h"
#include "store/store.h"

enum { PAGES = 8, CELLS = PAGES * 1024, READERS = 3, KILLS = 12 };
#define NS_PER_MS UINT64_C(1000000)

/* What the processes tell each other, outside the store. */
struct board {
    _Atomic uint64_t acknowledged; /* number of the newest commit that a writer was told to be made */
    _Atomic bool stop;
    _Atomic uint64_t looks, reopened, held; /* how much was seen */
    char wrong[640];                        /* the first thing that should not have been */
    _Atomic bool is_wrong;
};
struct fixture {
    char path[SCRATCH_PATH];
    struct board *board;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    scratch_new(f->path);
    f->board = mmap(NULL, sizeof *f->board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(f->board, MAP_FAILED);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    (void)munmap(f->board, sizeof *f->board);
    scratch_remove(f->path);
    free(f);
    return 0;
}

static bool is(struct fixture *f, bool right, const char *what, const varve_error *error)
{
    if (!right && !atomic_exchange(&f->board->is_wrong, true))
        (void)snprintf(f->board->wrong, sizeof f->board->wrong, "%s: %s", what,
                       error == NULL ? "" : error->message);
    return right;
}

static varve_store *open_store(struct fixture *f, uint32_t flags)
{
    const varve_store_options options = { .size = sizeof options, .flags = flags, .wait_ms = 10000 };
    varve_store *store = NULL;
    varve_error error;

    is(f, varve_store_open(f->path, &options, &store, &error) == VARVE_OK, "open", &error);
    return store;
}

static varve_module_id image_id(void)
{
    varve_module_id id = { { 0 } };

    assert_int_equal(varve_module_id_of("cells", &id), VARVE_OK);
    return id;
}

/* ---- The writer ------------------------------------------------------------------------------- */

/* All cells of an image hold the commit's number: a state in which they differ is no commit's. */
static void write_on(struct fixture *f, unsigned seed)
{
    const varve_module_id id = image_id();
    const varve_image_options shape = { .size = sizeof shape, .name = "cells", .create_size = PAGES * 4096 };
    varve_commit_options how = { .size = sizeof how, .flags = VARVE_COMMIT_CHAIN };
    varve_store *store = open_store(f, 0);
    varve_session *session = NULL;
    varve_image *image = NULL;
    varve_error error;

    if (store == NULL ||
        !is(f, varve_session_begin(store, NULL, &session, &error) == VARVE_OK, "begin", &error))
        return;
    const varve_commit *base = varve_session_base(session);
    uint64_t number = base == NULL ? 0 : varve_commit_get(base)->number;
    is(f, number >= f->board->acknowledged, "an acknowledged commit is gone for the next writer", NULL);
    if (!is(f, varve_image_open(session, &id, &shape, &image, &error) == VARVE_OK, "image", &error))
        return;
    uint64_t *cells = varve_image_bytes(image);
    for (; !f->board->stop && !f->board->is_wrong; number++) {
        varve_commit *commit = NULL;
        for (size_t i = 0; i < CELLS / 2; i++)
            cells[i] = number + 1;
        how.durability = (number + seed) % 3 == 0 ? VARVE_BUFFERED : VARVE_DURABLE;
        if (!is(f, varve_session_commit(session, &how, &commit, &error) == VARVE_OK, "commit", &error))
            break;
        f->board->acknowledged = varve_commit_get(commit)->number;
        varve_commit_close(commit);
    }
    varve_session_abort(session);
    varve_store_close(store);
}

/* ---- The readers ------------------------------------------------------------------------------ */

static void look_at(struct fixture *f, varve_store *store, const varve_commit *commit)
{
    const varve_session_options options = {
        .size = sizeof options, .flags = VARVE_SESSION_READ_ONLY, .branch = "", .base = commit
    };
    const varve_module_id id = image_id();
    const uint64_t number = varve_commit_get(commit)->number;
    varve_session *session = NULL;
    varve_image *image = NULL;
    varve_error error;

    if (!is(f, varve_session_begin(store, &options, &session, &error) == VARVE_OK, "begin to read", &error))
        return;
    if (is(f, varve_image_open(session, &id, NULL, &image, &error) == VARVE_OK, "image to read", &error)) {
        const uint64_t *cells = varve_image_bytes(image);
        for (size_t i = 0; i < CELLS / 2; i++)
            if (cells[i] != number) {
                is(f, false, "a commit is not whole", NULL);
                break;
            }
    }
    varve_session_abort(session);
    f->board->looks++;
}

static void walk(struct fixture *f, varve_store *store, uint64_t newest)
{
    const varve_commit_info *info = NULL;
    varve_log *log = NULL;
    varve_error error;

    if (!is(f, varve_log_open(store, NULL, &log, &error) == VARVE_OK, "log", &error))
        return;
    for (uint64_t before = 0, i = 0; i < 40; i++) {
        const varve_status rc = varve_log_next(log, &info, &error);
        if (rc == VARVE_END)
            break;
        if (!is(f, rc == VARVE_OK, "log next", &error))
            break;
        is(f, before == 0 ? info->number >= newest : info->number + 1 == before, "the history has a gap",
           NULL);
        before = info->number;
    }
    varve_log_close(log);
}

static void compare(struct fixture *f, varve_store *store, varve_commit *old, varve_commit *new)
{
    const varve_change *change = NULL;
    varve_diff *diff = NULL;
    varve_error error;
    unsigned pages = 0;
    varve_status rc = VARVE_OK;

    if (varve_commit_get(old)->number == varve_commit_get(new)->number)
        return;
    if (!is(f, varve_diff_open(store, old, new, &diff, &error) == VARVE_OK, "diff", &error))
        return;
    while ((rc = varve_diff_next(diff, &change, &error)) == VARVE_OK)
        pages += change->kind == VARVE_CHANGE_PAGE;
    is(f, rc == VARVE_END && pages == PAGES, "what differs is read", &error);
    varve_diff_close(diff);
}

static void read_on(struct fixture *f, unsigned seed)
{
    varve_store *store = open_store(f, VARVE_STORE_READ_ONLY);
    varve_commit *old = NULL;
    varve_error error;

    for (unsigned round = seed; store != NULL && !f->board->stop && !f->board->is_wrong; round++) {
        varve_commit *commit = NULL;
        const uint64_t acknowledged = f->board->acknowledged;
        const varve_status rc = varve_commit_open(store, NULL, &commit, &error);
        if (rc == VARVE_NOT_FOUND && acknowledged == 0)
            continue;
        if (!is(f, rc == VARVE_OK, "open the newest", &error))
            break;
        is(f, varve_commit_get(commit)->number >= acknowledged, "an acknowledged commit is not seen", NULL);
        look_at(f, store, commit);
        walk(f, store, acknowledged);
        if (old != NULL) {
            compare(f, store, old, commit);
            look_at(f, store, old);
            f->board->held++;
        }
        if (old == NULL || round % 50 == 0) {
            varve_commit_close(old);
            old = commit;
            commit = NULL;
        }
        varve_commit_close(commit);
        if (round % 70 == 69) {
            varve_commit_close(old);
            old = NULL;
            varve_store_close(store);
            store = open_store(f, VARVE_STORE_READ_ONLY);
            f->board->reopened++;
        }
    }
    varve_commit_close(old);
    varve_store_close(store);
}

/* ---- Both --------------------------------------------------------------------------------------- */

static pid_t start(struct fixture *f, void (*run)(struct fixture *f, unsigned seed), unsigned seed)
{
    const pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        run(f, seed);
        _exit(0);
    }
    return child;
}

static void end(pid_t child, int signal)
{
    int status = 0;

    if (signal != 0)
        assert_int_equal(kill(child, signal), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (signal == 0)
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void make_store(struct fixture *f)
{
    const varve_store_options options = { .size = sizeof options, .flags = VARVE_STORE_CREATE };
    varve_store *store = NULL;

    assert_int_equal(varve_store_open(f->path, &options, &store, NULL), VARVE_OK);
    varve_store_close(store);
}

static void assert_right(const struct fixture *f)
{
    if (f->board->is_wrong)
        fail_msg("%s", f->board->wrong);
}

static void assert_undamaged(struct fixture *f)
{
    uint64_t damage = 0;

    assert_int_equal(varve_store_check(f->path, NULL, &damage, NULL), VARVE_OK);
    assert_int_equal(damage, 0);
}

static void readers_beside_a_writer_see_whole_commits(void **state)
{
    struct fixture *f = *state;
    pid_t readers[READERS];

    make_store(f);
    const pid_t writer = start(f, write_on, 0);
    for (unsigned i = 0; i < READERS; i++)
        readers[i] = start(f, read_on, 20 * i);
    vv_clock_sleep_ms(1500);
    f->board->stop = true;
    end(writer, 0);
    for (unsigned i = 0; i < READERS; i++)
        end(readers[i], 0);
    assert_right(f);
    print_message("%lu commits, looked at %lu times, %lu of them held; %lu readers opened anew\n",
                  (unsigned long)f->board->acknowledged, (unsigned long)f->board->looks,
                  (unsigned long)f->board->held, (unsigned long)f->board->reopened);
    assert_true(f->board->looks > 0 && f->board->held > 0);
    assert_undamaged(f);
}

/* Writers and readers are killed at any moment, and new ones come at once. */
static void who_is_killed_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    pid_t readers[READERS];

    make_store(f);
    pid_t writer = start(f, write_on, 0);
    for (unsigned i = 0; i < READERS; i++)
        readers[i] = start(f, read_on, 20 * i);
    for (unsigned i = 0; i < KILLS; i++) {
        vv_clock_sleep_ms(20 + 17 * i % 60);
        end(writer, SIGKILL);
        if (i % 3 == 0)
            end(readers[0], SIGKILL);
        writer = start(f, write_on, i);
        if (i % 3 == 0)
            readers[0] = start(f, read_on, i);
    }
    vv_clock_sleep_ms(50);
    f->board->stop = true;
    end(writer, 0);
    for (unsigned i = 0; i < READERS; i++)
        end(readers[i], 0);
    assert_right(f);
    assert_undamaged(f);
}

static void a_second_writer_is_refused_at_once(void **state)
{
    struct fixture *f = *state;
    varve_store *store = NULL;
    varve_error error;
    char words[64];
    uint64_t best = UINT64_MAX;

    make_store(f);
    const pid_t writer = start(f, write_on, 0);
    while (f->board->acknowledged == 0 && !f->board->is_wrong)
        vv_clock_sleep_ms(1);
    (void)snprintf(words, sizeof words, "process %ld is", (long)writer);
    for (unsigned i = 0; i < 5; i++) {
        const uint64_t begin = vv_clock_monotonic_ns();
        assert_int_equal(varve_store_open(f->path, NULL, &store, &error), VARVE_BUSY);
        const uint64_t took = vv_clock_monotonic_ns() - begin;
        best = took < best ? took : best;
        assert_non_null(strstr(error.message, words));
    }
    assert_true(best < 10 * NS_PER_MS);
    f->board->stop = true;
    end(writer, 0);
    assert_right(f);
}

/* ---- Generations ------------------------------------------------------------------------------ */

static void retire(struct vv_place *place)
{
    vv_place_take_turn(place);
    assert_int_equal(vv_place_may_retire(place), VARVE_OK);
    vv_place_retire(place, VV_LOG_START);
    vv_place_end_turn(place);
}

static void commit_one(varve_store *store, unsigned value)
{
    const varve_module_id id = image_id();
    const varve_image_options shape = { .size = sizeof shape, .name = "cells", .create_size = PAGES * 4096 };
    varve_session *session = NULL;
    varve_image *image = NULL;

    assert_int_equal(varve_session_begin(store, NULL, &session, NULL), VARVE_OK);
    assert_int_equal(varve_image_open(session, &id, &shape, &image, NULL), VARVE_OK);
    assert_int_equal(varve_image_write(image, 0, &value, sizeof value, NULL), VARVE_OK);
    assert_int_equal(varve_session_commit(session, NULL, NULL, NULL), VARVE_OK);
}

static void hold_on(struct fixture *f, unsigned seed)
{
    varve_store *store = open_store(f, VARVE_STORE_READ_ONLY);
    varve_commit *commit = NULL;

    (void)seed;
    is(f, varve_commit_open(store, NULL, &commit, NULL) == VARVE_OK, "hold", NULL);
    f->board->held = 1;
    for (;;)
        (void)pause();
}

/* What another process looks at is not dropped: until it lets go, or has looked anew, or is dead. */
static void what_a_reader_looks_at_stays(void **state)
{
    struct fixture *f = *state;
    varve_commit *commit = NULL, *newer = NULL;

    make_store(f);
    varve_store *writer = open_store(f, 0);
    struct vv_place *place = writer->place;
    commit_one(writer, 1);
    varve_store *reader = open_store(f, VARVE_STORE_READ_ONLY);
    assert_int_equal(varve_commit_open(reader, NULL, &commit, NULL), VARVE_OK);
    retire(place);
    assert_int_equal(vv_place_oldest_hold(place), 1); /* of this process nobody looks at it any more */
    assert_false(vv_place_droppable(place, 1));
    commit_one(writer, 2);
    assert_int_equal(varve_commit_open(reader, NULL, &newer, NULL), VARVE_OK);
    assert_int_equal(varve_commit_get(newer)->number, 2);
    assert_int_equal(newer->hold, 1);
    assert_false(vv_place_droppable(place, 1)); /* it has looked anew, and holds what it saw before */
    varve_commit_close(commit);
    assert_true(vv_place_droppable(place, 1));
    retire(place);
    assert_false(vv_place_droppable(place, 2));
    varve_commit_close(newer);
    assert_false(vv_place_droppable(place, 2)); /* it may look for something still */
    assert_int_equal(varve_commit_open(reader, NULL, &newer, NULL), VARVE_OK);
    assert_true(vv_place_droppable(place, 2));
    varve_commit_close(newer);
    varve_store_close(reader);

    const pid_t holder = start(f, hold_on, 0);
    while (f->board->held == 0)
        vv_clock_sleep_ms(1);
    retire(place);
    assert_false(vv_place_droppable(place, 3));
    end(holder, SIGKILL);
    assert_true(vv_place_droppable(place, 3));
    varve_store_close(writer);
    assert_right(f);
}

/* A reader learns from `head` which byte to lock; as long as that says the old one, what it leads to stays. */
static void what_head_still_leads_to_stays(void **state)
{
    struct fixture *f = *state;
    const varve_store_options options = { .size = sizeof options };
    struct vv_double faults;
    varve_store *writer = NULL;

    make_store(f);
    vv_double_init(&faults, &vv_vfs_system);
    assert_int_equal(vv_store_open(&faults.table, f->path, &options, &writer), VARVE_OK);
    struct vv_place *place = writer->place;
    commit_one(writer, 1);
    vv_double_arm(&faults, VV_DOUBLE_FAIL, 1, EIO);
    retire(place);
    assert_true(vv_double_fired(&faults));
    assert_int_equal(vv_place_generation(place), 1);
    assert_false(vv_place_droppable(place, 1));
    commit_one(writer, 2); /* tells it */
    assert_true(vv_place_droppable(place, 1));
    varve_store_close(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(readers_beside_a_writer_see_whole_commits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_is_killed_leaves_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_second_writer_is_refused_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_reader_looks_at_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_head_still_leads_to_stays, set_up, tear_down),
    };

    return cmocka_run_group_tests_name("processes", tests, NULL, NULL);
}
