/* Many threads in one store: whatever they do at once, every commit reads as it was made, and all are there. Run it
 * under the thread sanitizer, too: -Db_sanitize=thread. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "scratch.h"
#include "varve.h"

enum { THREADS = 4, PAGES = 24, REMEMBERED = 32, ROUNDS = 400 };
#define TIME_LIMIT_NS UINT64_C(1500000000)

struct shared {
    varve_store *store;
    uint64_t deadline;
    _Atomic uint64_t commits, refs;
    _Atomic bool contended; /* somebody lost the race for the branch of all */
};
struct thread {
    struct shared *shared;
    unsigned number;
    uint32_t chance;
    pthread_t handle;
    const char *wrong; /* what should not have been; NULL: nothing */
    varve_error error;
    struct {
        char id[65];
        unsigned cell, value;
    } made[REMEMBERED]; /* commits of this thread, and one thing that each of them holds */
    size_t count;
};

static unsigned roll(struct thread *t, unsigned below)
{
    t->chance = t->chance * 1664525u + 1013904223u;
    return (t->chance >> 8) % below;
}

static bool is(struct thread *t, const char *what, bool right)
{
    if (!right && t->wrong == NULL)
        t->wrong = what;
    return right;
}

static varve_module_id image_id(void)
{
    varve_module_id id = { { 0 } };

    if (varve_module_id_of("shared", &id) != VARVE_OK)
        memset(&id, 0, sizeof id);
    return id;
}

static unsigned *cells_of(varve_session *session, struct thread *t)
{
    const varve_module_id id = image_id();
    varve_image *image = NULL;

    if (!is(t, "open the image", varve_image_open(session, &id, NULL, &image, &t->error) == VARVE_OK))
        return NULL;
    return varve_image_bytes(image);
}

static void remember(struct thread *t, const varve_commit *commit, unsigned cell, unsigned value)
{
    const size_t at = t->count < REMEMBERED ? t->count++ : roll(t, REMEMBERED);

    varve_hex_format(varve_commit_get(commit)->id.bytes, t->made[at].id);
    t->made[at].cell = cell;
    t->made[at].value = value;
}

/* Change one cell on `branch` and commit; a branch that all share may have moved on meanwhile. */
static void commit_somewhere(struct thread *t, const char *branch)
{
    const varve_session_options options = { .size = sizeof options, .branch = branch };
    const varve_commit_options how = { .size = sizeof how,
                                       .flags = VARVE_COMMIT_EMPTY,
                                       .durability = roll(t, 4) == 0 ? VARVE_DURABLE : VARVE_BUFFERED,
                                       .message = branch };
    const unsigned cell = roll(t, PAGES) * 1024 + t->number, value = t->chance;
    varve_session *session = NULL;
    varve_commit *commit = NULL;
    uint32_t savepoint = 0;

    if (!is(t, "begin", varve_session_begin(t->shared->store, &options, &session, &t->error) == VARVE_OK))
        return;
    unsigned *cells = cells_of(session, t);
    if (cells == NULL)
        goto out;
    cells[cell] = value;
    is(t, "savepoint", varve_session_savepoint(session, &savepoint, &t->error) == VARVE_OK);
    cells[cell] ^= 1;
    is(t, "rollback", varve_session_rollback(session, savepoint, &t->error) == VARVE_OK);
    is(t, "what was rolled back", cells[cell] == value);
    const varve_status rc = varve_session_commit(session, &how, &commit, &t->error);
    if (rc == VARVE_CONFLICT && strcmp(branch, "main") == 0) {
        t->shared->contended = true;
        goto out;
    }
    if (!is(t, "commit", rc == VARVE_OK))
        goto out;
    session = NULL;
    t->shared->commits++;
    remember(t, commit, cell, value);
    varve_commit_close(commit);
out:
    varve_session_abort(session);
}

static void make_branch(struct thread *t, unsigned round)
{
    varve_commit *commit = NULL;
    char name[32];

    (void)snprintf(name, sizeof name, "t%u/b%u", t->number, round);
    if (!is(t, "open main", varve_commit_open(t->shared->store, "main", &commit, &t->error) == VARVE_OK))
        return;
    is(t, "make a branch", varve_ref_set(t->shared->store, name, commit, NULL, 0, &t->error) == VARVE_OK);
    t->shared->refs++;
    varve_commit_close(commit);
    commit_somewhere(t, name);
}

/* A session on a commit that this thread made, read through the image and proved. */
static void read_an_old_commit(struct thread *t)
{
    if (t->count == 0)
        return;
    const size_t at = roll(t, (unsigned)t->count);
    varve_session_options options = { .size = sizeof options,
                                      .flags = VARVE_SESSION_READ_ONLY,
                                      .branch = "" };
    varve_claim claim = { .size = sizeof claim };
    varve_session *session = NULL;
    varve_commit *commit = NULL;
    const varve_module_id id = image_id();
    const unsigned cell = t->made[at].cell;
    void *proof = NULL;
    size_t size = 0;
    unsigned proved = 0;

    if (!is(t, "open an old commit",
            varve_commit_open(t->shared->store, t->made[at].id, &commit, &t->error) == VARVE_OK))
        return;
    options.base = commit;
    is(t, "begin on it", varve_session_begin(t->shared->store, &options, &session, &t->error) == VARVE_OK);
    if (session != NULL) {
        is(t, "prove", varve_prove(session, &id, cell / 1024, &proof, &size, &t->error) == VARVE_OK);
        is(t, "check the proof",
           proof != NULL && varve_proof_check(proof, size, &varve_commit_get(commit)->root, &claim,
                                              &t->error) == VARVE_OK);
        memcpy(&proved, claim.bytes + cell % 1024 * sizeof proved, sizeof proved);
        is(t, "what an old commit proves", proved == t->made[at].value);
        const unsigned *cells = cells_of(session, t);
        is(t, "what an old commit holds", cells != NULL && cells[cell] == t->made[at].value);
    }
    varve_free(proof);
    varve_session_abort(session);
    varve_commit_close(commit);
}

static void look_around(struct thread *t)
{
    varve_store_info info = { .size = sizeof info };
    varve_ref ref = { .size = sizeof ref };
    varve_log *log = NULL;
    const varve_commit_info *commit = NULL;

    is(t, "stat", varve_store_stat(t->shared->store, &info, &t->error) == VARVE_OK);
    is(t, "first ref", varve_ref_next(t->shared->store, NULL, &ref, &t->error) == VARVE_OK);
    is(t, "log", varve_log_open(t->shared->store, NULL, &log, &t->error) == VARVE_OK);
    for (unsigned i = 0; i < 8 && log != NULL; i++) {
        const varve_status rc = varve_log_next(log, &commit, &t->error);
        is(t, "log next", rc == VARVE_OK || rc == VARVE_END);
        if (rc != VARVE_OK)
            break;
    }
    varve_log_close(log);
    if (roll(t, 4) == 0)
        is(t, "persist", varve_store_persist(t->shared->store, &t->error) == VARVE_OK);
}

static void *run(void *context)
{
    struct thread *t = context;

    for (unsigned round = 0; round < ROUNDS && t->wrong == NULL; round++) {
        if (vv_clock_monotonic_ns() > t->shared->deadline)
            break;
        switch (roll(t, 8)) {
        case 0:
            make_branch(t, round);
            break;
        case 1:
            look_around(t);
            break;
        case 2:
        case 3:
        case 4:
            read_an_old_commit(t);
            break;
        default:
            commit_somewhere(t, "main");
        }
    }
    return NULL;
}

static void threads_that_do_all_at_once_do_not_meet(void **state)
{
    char path[SCRATCH_PATH];
    const varve_store_options create = { .size = sizeof create, .flags = VARVE_STORE_CREATE };
    const varve_image_options image = { .size = sizeof image, .name = "shared", .create_size = PAGES * 4096 };
    const varve_module_id id = image_id();
    struct shared shared = { .commits = 1, .refs = 1 };
    static struct thread threads[THREADS];
    varve_store_info info = { .size = sizeof info };
    varve_session *session = NULL;
    varve_image *made = NULL;
    uint64_t damage = 0;

    (void)state;
    scratch_new(path);
    assert_int_equal(varve_store_open(path, &create, &shared.store, NULL), VARVE_OK);
    assert_int_equal(varve_session_begin(shared.store, NULL, &session, NULL), VARVE_OK);
    assert_int_equal(varve_image_open(session, &id, &image, &made, NULL), VARVE_OK);
    assert_int_equal(varve_session_commit(session, NULL, NULL, NULL), VARVE_OK);
    shared.deadline = vv_clock_monotonic_ns() + TIME_LIMIT_NS;
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){ .shared = &shared, .number = i, .chance = 77 * (i + 1) };
        assert_int_equal(pthread_create(&threads[i].handle, NULL, run, &threads[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i].handle, NULL), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        if (threads[i].wrong != NULL)
            print_error("thread %u: %s: %s\n", i, threads[i].wrong, threads[i].error.message);
        assert_ptr_equal(threads[i].wrong, NULL);
    }
    assert_int_equal(varve_store_stat(shared.store, &info, NULL), VARVE_OK);
    assert_int_equal(info.commits, shared.commits);
    assert_int_equal(info.refs, shared.refs);
    assert_int_equal(info.sessions_open, 0);
    varve_store_close(shared.store);

    assert_int_equal(varve_store_check(path, NULL, &damage, NULL), VARVE_OK);
    assert_int_equal(damage, 0);
    assert_int_equal(varve_store_open(path, NULL, &shared.store, NULL), VARVE_OK);
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i].shared = &shared;
        for (unsigned round = 0; round < 8; round++)
            read_an_old_commit(&threads[i]);
        assert_ptr_equal(threads[i].wrong, NULL);
    }
    varve_store_close(shared.store);
    scratch_remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_that_do_all_at_once_do_not_meet),
    };

    return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
