/* The store's own thread: it begins when it is needed, does what is due, and is gone when the store is closed; without
 * it nothing happens by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scratch.h"
#include "store/layout.h"
#include "store/worker.h"
#include "varve.h"

enum { PATIENCE_MS = 20000, LOOKS_MS = 1300, LAST_STEPS = 8 };

static unsigned names_in(const char *path)
{
    DIR *dir = opendir(path);
    unsigned count = 0;

    if (dir == NULL)
        return 0;
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static unsigned threads_now(void)
{
    return names_in("/proc/self/task");
}

/* A thread that was joined may be listed for a moment still. */
static void expect_threads(unsigned count)
{
    for (unsigned waited = 0; threads_now() != count && waited < PATIENCE_MS; waited += 10)
        (void)usleep(10000);
    assert_int_equal(threads_now(), count);
}

/* ---- The worker alone --------------------------------------------------------------------------- */

/* What its tidy does and counts; there is but one, so that a layout can find it without a place. */
static struct {
    _Atomic unsigned calls, inside, most_inside;
    _Atomic unsigned more;  /* so many calls say that there is more to do */
    _Atomic unsigned fails; /* so many calls fail */
    unsigned settled;
    unsigned sleep_us;
} work;

static varve_status count_tidy(struct vv_place *place, uint64_t budget, bool *more)
{
    (void)place;
    assert_true(budget > 0);
    const unsigned inside = ++work.inside;
    if (inside > work.most_inside)
        work.most_inside = inside;
    (void)usleep(work.sleep_us);
    const unsigned call = ++work.calls;
    *more = call <= work.more;
    work.inside--;
    if (work.fails > 0) {
        work.fails--;
        return vv_fail(VARVE_IO, "told to fail");
    }
    return VARVE_OK;
}

static void count_settle(struct vv_place *place)
{
    (void)place;
    work.settled++;
}

static const struct vv_layout counting = { .tidy = count_tidy, .settle = count_settle };

static int set_up_work(void **state)
{
    (void)state;
    work.calls = work.inside = work.most_inside = work.more = work.fails = 0;
    work.settled = 0;
    work.sleep_us = 0;
    return 0;
}

static void expect_calls(unsigned count)
{
    for (unsigned waited = 0; work.calls < count && waited < PATIENCE_MS; waited += 10)
        (void)usleep(10000);
    assert_int_equal(work.calls, count);
}

static void one_that_was_never_made_does_nothing(void **state)
{
    struct vv_worker worker = { .layout = NULL };
    const unsigned before = threads_now();

    (void)state;
    vv_worker_need(&worker);
    vv_worker_changed(&worker);
    assert_int_equal(threads_now(), before);
    vv_worker_stop(&worker);
    assert_int_equal(work.calls, 0);
}

static void it_begins_when_it_is_needed(void **state)
{
    struct vv_worker worker = { .layout = NULL };
    const unsigned before = threads_now();

    (void)state;
    vv_worker_init(&worker, &counting, NULL);
    assert_int_equal(threads_now(), before);
    vv_worker_need(&worker);
    assert_int_equal(threads_now(), before + 1);
    vv_worker_stop(&worker);
    expect_threads(before);
    assert_int_equal(work.calls, 0);

    worker = (struct vv_worker){ .layout = NULL };
    vv_worker_init(&worker, &counting, NULL);
    vv_worker_stop(&worker);
    assert_int_equal(work.calls, 0);
}

/* In steps, until there is no more; and then not before something changes again. */
static void what_changed_is_tidied_to_its_end(void **state)
{
    struct vv_worker worker = { .layout = NULL };

    (void)state;
    work.more = 9;
    vv_worker_init(&worker, &counting, NULL);
    vv_worker_changed(&worker);
    expect_calls(10);
    (void)usleep(LOOKS_MS * 1000);
    assert_int_equal(work.calls, 10);
    vv_worker_changed(&worker);
    expect_calls(11);
    vv_worker_stop(&worker);
    assert_int_equal(work.calls, 11);
    assert_int_equal(work.settled, 1); /* when all else was done */
    assert_int_equal(work.most_inside, 1);
}

static void a_failure_is_tried_again_at_the_next_look(void **state)
{
    struct vv_worker worker = { .layout = NULL };

    (void)state;
    work.fails = 2;
    vv_worker_init(&worker, &counting, NULL);
    vv_worker_changed(&worker);
    expect_calls(3);
    (void)usleep(LOOKS_MS * 1000);
    assert_int_equal(work.calls, 3);
    vv_worker_stop(&worker);
    assert_int_equal(work.calls, 3);
}

/* Before its first look; and while it is at work that never ends. */
static void who_stops_it_does_a_bounded_part(void **state)
{
    struct vv_worker worker = { .layout = NULL };

    (void)state;
    work.more = UINT32_MAX;
    vv_worker_init(&worker, &counting, NULL);
    vv_worker_changed(&worker);
    vv_worker_stop(&worker);
    assert_int_equal(work.calls, LAST_STEPS);

    work.calls = 0;
    work.sleep_us = 20000;
    worker = (struct vv_worker){ .layout = NULL };
    vv_worker_init(&worker, &counting, NULL);
    vv_worker_changed(&worker);
    while (work.calls < 3)
        (void)usleep(1000);
    vv_worker_stop(&worker);
    const unsigned calls = work.calls;
    assert_true(calls >= 3 + LAST_STEPS);
    assert_int_equal(work.inside, 0);
    assert_int_equal(work.most_inside, 1); /* it was joined before */
    (void)usleep(100000);
    assert_int_equal(work.calls, calls);
}

static void *need_it(void *worker)
{
    for (unsigned i = 0; i < 1000; i++)
        vv_worker_changed(worker);
    return NULL;
}

static void many_need_it_and_there_is_one(void **state)
{
    enum { MANY = 8 };
    struct vv_worker worker = { .layout = NULL };
    const unsigned before = threads_now();
    pthread_t threads[MANY];

    (void)state;
    vv_worker_init(&worker, &counting, NULL);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, need_it, &worker), 0);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    expect_threads(before + 1);
    vv_worker_stop(&worker);
    expect_threads(before);
    assert_int_equal(work.most_inside, 1);
}

/* ---- A store's ---------------------------------------------------------------------------------- */

enum { SIZE = 1 << 20 };

struct fixture {
    char path[SCRATCH_PATH], images[SCRATCH_PATH + 16];
    unsigned threads; /* before any store was open */
    varve_store *store;
    varve_session *session;
    varve_error error;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    scratch_new(f->path);
    (void)snprintf(f->images, sizeof f->images, "%s/image", f->path);
    f->threads = threads_now();
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    scratch_remove(f->path);
    free(f);
    return 0;
}

/* A snapshot is due as soon as the log has grown by some bytes. */
static void open_store(struct fixture *f, uint32_t flags)
{
    varve_store_options options = VARVE_INIT(varve_store_options);

    options.flags = VARVE_STORE_CREATE | flags;
    options.snapshot_bytes = SIZE / 4;
    assert_int_equal(varve_store_open(f->path, &options, &f->store, &f->error), VARVE_OK);
}

static void begin(struct fixture *f)
{
    assert_int_equal(varve_session_begin(f->store, NULL, &f->session, &f->error), VARVE_OK);
}

static uint8_t *image_of(struct fixture *f)
{
    varve_image_options options = VARVE_INIT(varve_image_options);
    varve_module_id id;
    varve_image *image = NULL;

    assert_int_equal(varve_module_id_of("image", &id), VARVE_OK);
    options.create_size = SIZE;
    assert_int_equal(varve_image_open(f->session, &id, &options, &image, &f->error), VARVE_OK);
    return varve_image_bytes(image);
}

static void commit(struct fixture *f)
{
    static uint64_t seed = 88172645463325252;

    begin(f);
    uint8_t *bytes = image_of(f);
    for (size_t at = 0; at < SIZE; at += sizeof seed) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        memcpy(bytes + at, &seed, sizeof seed);
    }
    assert_int_equal(varve_session_commit(f->session, NULL, NULL, &f->error), VARVE_OK);
}

static void close_store(struct fixture *f)
{
    varve_store_close(f->store);
    expect_threads(f->threads);
}

static void without_threads_nothing_happens_by_itself(void **state)
{
    struct fixture *f = *state;

    open_store(f, VARVE_STORE_NO_THREADS);
    commit(f);
    commit(f);
    assert_int_equal(threads_now(), f->threads);
    (void)usleep(LOOKS_MS * 1000);
    assert_int_equal(names_in(f->images), 0);
    close_store(f);
    assert_int_equal(names_in(f->images), 0);
}

static void a_due_snapshot_is_made_by_itself(void **state)
{
    struct fixture *f = *state;

    open_store(f, 0);
    assert_int_equal(threads_now(), f->threads);
    commit(f);
    commit(f);
    assert_int_equal(threads_now(), f->threads + 1);
    for (unsigned waited = 0; names_in(f->images) == 0 && waited < PATIENCE_MS; waited += 20)
        (void)usleep(20000);
    assert_true(names_in(f->images) > 0);
    close_store(f);
}

static varve_status maintain(struct fixture *f, uint32_t flags)
{
    varve_maintain_options options = VARVE_INIT(varve_maintain_options);

    options.flags = flags;
    return varve_store_maintain(f->store, &options, NULL, &f->error);
}

static void a_snapshot_is_made_when_it_is_asked_for(void **state)
{
    struct fixture *f = *state;

    open_store(f, VARVE_STORE_NO_THREADS);
    commit(f);
    assert_int_equal(maintain(f, VARVE_MAINTAIN_FORK), VARVE_MISUSE);
    assert_int_equal(maintain(f, VARVE_MAINTAIN_SNAPSHOT | VARVE_MAINTAIN_DRY_RUN), VARVE_MISUSE);
    assert_int_equal(maintain(f, VARVE_MAINTAIN_DRY_RUN), VARVE_OK);
    assert_int_equal(maintain(f, 0), VARVE_OK);
    assert_int_equal(names_in(f->images), 0);
    assert_int_equal(maintain(f, VARVE_MAINTAIN_SNAPSHOT), VARVE_OK);
    assert_int_equal(names_in(f->images), 1);
    assert_int_equal(threads_now(), f->threads);
    close_store(f);
}

/* The next commit forks; closing sees the child to its end. */
static void a_forked_snapshot_waits_for_a_commit(void **state)
{
    struct fixture *f = *state;

    open_store(f, VARVE_STORE_NO_THREADS);
    commit(f);
    assert_int_equal(maintain(f, VARVE_MAINTAIN_SNAPSHOT | VARVE_MAINTAIN_FORK), VARVE_OK);
    assert_int_equal(names_in(f->images), 0);
    commit(f);
    close_store(f);
    assert_int_equal(names_in(f->images), 1);
}

/* A program that opens, commits and closes never lives to see the thread's first look. */
static void closing_does_what_is_due(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 4; i++) {
        open_store(f, 0);
        commit(f);
        close_store(f);
    }
    assert_true(names_in(f->images) > 0);
}

static void looking_a_commit_up_starts_no_thread(void **state)
{
    struct fixture *f = *state;
    varve_commit *found = NULL;

    open_store(f, 0);
    commit(f);
    close_store(f);
    open_store(f, 0);
    assert_int_equal(varve_commit_open(f->store, "main", &found, &f->error), VARVE_OK);
    varve_commit_close(found);
    begin(f);
    assert_int_equal(threads_now(), f->threads);
    (void)image_of(f); /* from here on files may need to be made anew */
    assert_int_equal(threads_now(), f->threads + 1);
    varve_session_abort(f->session);
    close_store(f);
}

static void a_reader_has_none(void **state)
{
    struct fixture *f = *state;
    varve_store_options options = VARVE_INIT(varve_store_options);

    open_store(f, 0);
    commit(f);
    close_store(f);
    options.flags = VARVE_STORE_READ_ONLY;
    assert_int_equal(varve_store_open(f->path, &options, &f->store, &f->error), VARVE_OK);
    begin(f);
    (void)image_of(f);
    assert_int_equal(threads_now(), f->threads);
    varve_session_abort(f->session);
    close_store(f);
}

/* The child has a copy of everything but the thread: it closes without waiting for it, and the parent goes on. */
static void a_child_is_forked_beside_it(void **state)
{
    struct fixture *f = *state;
    varve_commit *newest = NULL;
    int status = 0;

    open_store(f, 0);
    commit(f);
    for (unsigned i = 0; i < 20; i++) {
        commit(f);
        const pid_t child = fork();
        if (child == 0) {
            varve_store_close(f->store);
            _exit(0);
        }
        assert_true(child > 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        (void)usleep(30000);
    }
    commit(f);
    close_store(f);
    open_store(f, 0);
    assert_int_equal(varve_commit_open(f->store, "main", &newest, &f->error), VARVE_OK);
    assert_int_equal(varve_commit_get(newest)->number, 22);
    varve_commit_close(newest);
    close_store(f);
}

static void *do_nothing(void *context)
{
    return context;
}

#define ALONE(test) cmocka_unit_test_setup(test, set_up_work)
#define ON_STORE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALONE(one_that_was_never_made_does_nothing),
        ALONE(it_begins_when_it_is_needed),
        ALONE(what_changed_is_tidied_to_its_end),
        ALONE(a_failure_is_tried_again_at_the_next_look),
        ALONE(who_stops_it_does_a_bounded_part),
        ALONE(many_need_it_and_there_is_one),
        ON_STORE(without_threads_nothing_happens_by_itself),
        ON_STORE(a_due_snapshot_is_made_by_itself),
        ON_STORE(a_snapshot_is_made_when_it_is_asked_for),
        ON_STORE(a_forked_snapshot_waits_for_a_commit),
        ON_STORE(closing_does_what_is_due),
        ON_STORE(looking_a_commit_up_starts_no_thread),
        ON_STORE(a_reader_has_none),
        ON_STORE(a_child_is_forked_beside_it),
    };
    pthread_t first;

    /* A sanitizer may start a thread of its own with the first: it is not to be counted later. */
    if (pthread_create(&first, NULL, do_nothing, NULL) != 0 || pthread_join(first, NULL) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
