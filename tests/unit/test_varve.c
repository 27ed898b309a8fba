/* The door: what a caller can get wrong is MISUSE with words, and touches nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scratch.h"
#include "varve.h"

struct fixture {
    char path[SCRATCH_PATH];
    varve_store *store;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const varve_store_options options = { .size = sizeof options, .flags = VARVE_STORE_CREATE };

    scratch_new(f->path);
    *state = f;
    return varve_store_open(f->path, &options, &f->store, NULL) == VARVE_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    varve_store_close(f->store);
    scratch_remove(f->path);
    free(f);
    return 0;
}

static varve_module_id id_of(const char *name)
{
    varve_module_id id;

    assert_int_equal(varve_module_id_of(name, &id), VARVE_OK);
    return id;
}

static varve_session *begin(struct fixture *f)
{
    varve_session *session = NULL;

    assert_int_equal(varve_session_begin(f->store, NULL, &session, NULL), VARVE_OK);
    return session;
}

static varve_image *image_of(varve_session *session, const char *name, uint64_t create_size)
{
    const varve_image_options options = { .size = sizeof options, .name = name, .create_size = create_size };
    const varve_module_id id = id_of(name);
    varve_image *image = NULL;

    assert_int_equal(varve_image_open(session, &id, &options, &image, NULL), VARVE_OK);
    return image;
}

/* What a program does: fill, commit, look again. */
static void memory_comes_back_as_it_was_committed(void **state)
{
    struct fixture *f = *state;
    varve_session *session = begin(f);
    varve_commit *commit = NULL;
    char text[6] = "";

    strcpy(varve_image_bytes(image_of(session, "notes", 8192)), "hello");
    assert_int_equal(varve_session_commit(session, NULL, &commit, NULL), VARVE_OK);
    assert_int_equal(varve_commit_get(commit)->number, 1);
    varve_commit_close(commit);
    varve_store_close(f->store);
    assert_int_equal(varve_store_open(f->path, NULL, &f->store, NULL), VARVE_OK);
    session = begin(f);
    varve_image *image = image_of(session, "notes", 0);
    assert_string_equal(varve_image_bytes(image), "hello");
    assert_int_equal(varve_image_size(image), 8192);
    assert_int_equal(varve_image_read(image, 0, text, sizeof text, NULL), VARVE_OK);
    assert_string_equal(text, "hello");
    varve_session_abort(session);
}

/* One word of a page, another one in each commit: the page is stored whole once in some 60 commits, not in every eighth,
 * and every version comes back. */
static void a_page_that_changes_in_every_commit_is_stored_whole_seldom(void **state)
{
    enum { COMMITS = 60, WORDS = 512 };
    struct fixture *f = *state;
    varve_session *session = begin(f);
    uint64_t *words = varve_image_bytes(image_of(session, "page", 4096));
    uint64_t versions[COMMITS + 1][WORDS], bytes = 0;
    varve_commit *commit = NULL;

    for (uint64_t i = 0; i < WORDS; i++)
        words[i] = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    for (int i = 0; i <= COMMITS; i++) {
        const varve_commit_options options = { .size = sizeof options,
                                               .flags = VARVE_COMMIT_CHAIN,
                                               .durability = VARVE_BUFFERED };
        words[i * 37 % WORDS] = ~words[i * 37 % WORDS];
        memcpy(versions[i], words, sizeof versions[i]);
        assert_int_equal(varve_session_commit(session, &options, &commit, NULL), VARVE_OK);
        bytes += i == 0 ? 0 : varve_commit_get(commit)->bytes_written;
        varve_commit_close(commit);
    }
    assert_true(bytes < COMMITS * 750);
    varve_session_abort(session);
    varve_store_close(f->store);
    assert_int_equal(varve_store_open(f->path, NULL, &f->store, NULL), VARVE_OK);
    for (int i = 0; i <= COMMITS; i++) {
        varve_session_options options = { .size = sizeof options, .branch = "" };
        char number[16];
        snprintf(number, sizeof number, "r%d", i + 1);
        assert_int_equal(varve_commit_open(f->store, number, &commit, NULL), VARVE_OK);
        options.base = commit;
        assert_int_equal(varve_session_begin(f->store, &options, &session, NULL), VARVE_OK);
        assert_memory_equal(varve_image_bytes(image_of(session, "page", 0)), versions[i], sizeof versions[i]);
        varve_session_abort(session);
        varve_commit_close(commit);
    }
}

/* Every row breaks a rule once; the error says MISUSE (or what the rule's own status is) and has words. */
static void what_breaks_a_rule_is_misuse_with_words(void **state)
{
    struct fixture *f = *state;
    varve_session *session = begin(f);
    varve_image *image = image_of(session, "i", 4096);
    const varve_module_id id = id_of("i");
    varve_error e = { .status = VARVE_OK };
    varve_store *store = NULL;
    varve_session *other = NULL;
    varve_commit *commit = NULL;
    varve_log *log = NULL;
    varve_diff *diff = NULL;
    varve_image *opened = NULL;
    varve_root root;
    uint32_t savepoint = 0;
    const void *value = NULL;
    const char *key = NULL;
    size_t size = 0;
    uint64_t damage = 0;
    void *proof = NULL;
    char long_key[300];
    uint8_t big[4097] = { 0 };
    memset(long_key, 'k', sizeof long_key - 1);
    long_key[sizeof long_key - 1] = '\0';

#define BAD_OPTIONS(type, field, what) (&(type){ .size = sizeof(type), .field = (what) })
#define ROW(call)                                 \
    {                                             \
#call, (memset(&e, 0, sizeof e), call), e \
    }
    const struct {
        const char *call;
        varve_status rc;
        varve_error error;
    } rows[] = {
        ROW(varve_store_open(NULL, NULL, &store, &e)),
        ROW(varve_store_open(f->path, NULL, NULL, &e)),
        ROW(varve_store_open(f->path, &(varve_store_options){ .size = 0 }, &store, &e)),
        ROW(varve_store_open(f->path, BAD_OPTIONS(varve_store_options, flags, 1u << 30), &store, &e)),
        ROW(varve_store_open(f->path, BAD_OPTIONS(varve_store_options, flags, 3), &store, &e)),
        ROW(varve_store_open(f->path, BAD_OPTIONS(varve_store_options, layout, (varve_layout)9), &store, &e)),
        ROW(varve_store_stat(NULL, &VARVE_INIT(varve_store_info), &e)),
        ROW(varve_store_stat(f->store, NULL, &e)),
        ROW(varve_store_stat(f->store, &(varve_store_info){ .size = 0 }, &e)),
        ROW(varve_store_persist(NULL, &e)),
        ROW(varve_store_check(NULL, NULL, &damage, &e)),
        ROW(varve_store_check(f->path, NULL, NULL, &e)),
        ROW(varve_store_check(f->path, BAD_OPTIONS(varve_check_options, flags, 8), &damage, &e)),
        ROW(varve_commit_open(NULL, NULL, &commit, &e)),
        ROW(varve_commit_open(f->store, NULL, NULL, &e)),
        ROW(varve_log_open(NULL, NULL, &log, &e)),
        ROW(varve_log_open(f->store, NULL, NULL, &e)),
        ROW(varve_log_next(NULL, NULL, &e)),
        ROW(varve_ref_set(f->store, NULL, NULL, NULL, 0, &e)),
        ROW(varve_ref_set(NULL, "x", NULL, NULL, 0, &e)),
        ROW(varve_ref_set(f->store, "x", NULL, NULL, 4, &e)),
        ROW(varve_ref_next(f->store, NULL, NULL, &e)),
        ROW(varve_session_begin(NULL, NULL, &other, &e)),
        ROW(varve_session_begin(f->store, NULL, NULL, &e)),
        ROW(varve_session_begin(f->store, BAD_OPTIONS(varve_session_options, flags, 64), &other, &e)),
        ROW(varve_session_begin(f->store, BAD_OPTIONS(varve_session_options, branch, ""), &other, &e)),
        ROW(varve_session_commit(NULL, NULL, NULL, &e)),
        ROW(varve_session_commit(session, BAD_OPTIONS(varve_commit_options, flags, 64), NULL, &e)),
        ROW(varve_session_commit(session, BAD_OPTIONS(varve_commit_options, durability, (varve_durability)7),
                                 NULL, &e)),
        ROW(varve_session_root(NULL, &root, &e)),
        ROW(varve_session_root(session, NULL, &e)),
        ROW(varve_session_savepoint(session, NULL, &e)),
        ROW(varve_session_rollback(session, 0, &e)),
        ROW(varve_session_rollback(session, 1, &e)),
        ROW(varve_session_release(session, 1, &e)),
        ROW(varve_session_set_meta(session, NULL, "v", 1, &e)),
        ROW(varve_session_set_meta(session, "", "v", 1, &e)),
        ROW(varve_session_set_meta(session, long_key, "v", 1, &e)),
        ROW(varve_session_set_meta(session, "varve:chance", "v", 1, &e)),
        ROW(varve_session_set_meta(session, "k", NULL, 1, &e)),
        ROW(varve_session_set_meta(session, "k", big, sizeof big, &e)),
        ROW(varve_session_get_meta(session, "k", NULL, &size, &e)),
        ROW(varve_session_get_meta(session, "varve:chance", &value, &size, &e)),
        ROW(varve_session_next_meta(session, NULL, NULL, &e)),
        ROW(varve_session_next_meta(NULL, NULL, &key, &e)),
        ROW(varve_session_module(session, NULL, &VARVE_INIT(varve_module_info), &e)),
        ROW(varve_session_module(session, &id, NULL, &e)),
        ROW(varve_session_next_module(session, NULL, &(varve_module_info){ .size = 3 }, &e)),
        ROW(varve_session_remove(session, NULL, &e)),
        ROW(varve_image_open(NULL, &id, NULL, &opened, &e)),
        ROW(varve_image_open(session, NULL, NULL, &opened, &e)),
        ROW(varve_image_open(session, &id, NULL, NULL, &e)),
        ROW(varve_image_open(session, &id, BAD_OPTIONS(varve_image_options, create_size, 5000), &opened, &e)),
        ROW(varve_image_open(session, &id, BAD_OPTIONS(varve_image_options, name, "j"), &opened, &e)),
        ROW(varve_image_open(session, &id, BAD_OPTIONS(varve_image_options, address, (void *)17), &opened,
                             &e)),
        ROW(varve_image_grow(NULL, 8192, &e)),
        ROW(varve_image_grow(image, 4097, &e)),
        ROW(varve_image_grow(image, 0, &e)),
        ROW(varve_image_read(image, 4096, big, 1, &e)),
        ROW(varve_image_read(image, UINT64_MAX, big, 2, &e)),
        ROW(varve_image_read(image, 0, NULL, 1, &e)),
        ROW(varve_image_write(image, 4000, big, 97, &e)),
        ROW(varve_image_write(NULL, 0, big, 1, &e)),
        ROW(varve_diff_open(f->store, NULL, NULL, &diff, &e)),
        ROW(varve_diff_next(NULL, NULL, &e)),
        ROW(varve_prove(session, NULL, 0, &proof, &size, &e)),
        ROW(varve_prove(session, &id, 1, &proof, &size, &e)),
        ROW(varve_prove(session, &id, 0, NULL, &size, &e)),
        ROW(varve_proof_check(NULL, 0, &root, &VARVE_INIT(varve_claim), &e)),
        ROW(varve_proof_check(big, 1, NULL, &VARVE_INIT(varve_claim), &e)),
        ROW(varve_proof_check(big, 1, &root, NULL, &e)),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].rc != VARVE_MISUSE || rows[i].error.status != VARVE_MISUSE ||
            rows[i].error.message[0] == '\0')
            fail_msg("%s: %s: %s", rows[i].call, varve_status_name(rows[i].rc), rows[i].error.message);
    }
    assert_int_equal(varve_session_savepoint(session, &savepoint, NULL), VARVE_OK);
    varve_session_abort(session);
    varve_session_abort(NULL);
    varve_store_close(NULL);
    varve_commit_close(NULL);
    varve_log_close(NULL);
    varve_diff_close(NULL);
    varve_free(NULL);
    assert_null(varve_commit_get(NULL));
    assert_null(varve_session_base(NULL));
    assert_null(varve_image_bytes(NULL));
    assert_int_equal(varve_image_size(NULL), 0);
}

static void other_failures_have_their_own_status(void **state)
{
    struct fixture *f = *state;
    varve_session *session = begin(f);
    const varve_module_id none = id_of("none");
    varve_commit *commit = NULL;
    varve_image *image = NULL;
    const void *value = NULL;
    size_t size = 0;
    uint8_t bytes[32];
    varve_module_id id;
    varve_root root = { { 0 } };
    varve_claim claim = { .size = sizeof claim };

    assert_int_equal(varve_commit_open(f->store, "HEAD", &commit, NULL), VARVE_NOT_FOUND);
    assert_int_equal(varve_commit_open(f->store, "a b", &commit, NULL), VARVE_INVALID);
    assert_int_equal(varve_image_open(session, &none, NULL, &image, NULL), VARVE_NOT_FOUND);
    assert_int_equal(varve_session_remove(session, &none, NULL), VARVE_NOT_FOUND);
    assert_int_equal(varve_session_module(session, &none, &VARVE_INIT(varve_module_info), NULL),
                     VARVE_NOT_FOUND);
    assert_int_equal(varve_session_get_meta(session, "k", &value, &size, NULL), VARVE_NOT_FOUND);
    assert_int_equal(varve_module_id_of("1x", &id), VARVE_INVALID);
    assert_int_equal(varve_module_id_of(NULL, &id), VARVE_MISUSE);
    assert_int_equal(varve_hex_parse("xyz", bytes), VARVE_INVALID);
    assert_int_equal(varve_hex_parse(NULL, bytes), VARVE_MISUSE);
    assert_int_equal(varve_proof_check("VPRF", 4, &root, &claim, NULL), VARVE_INVALID);
    image = image_of(session, "i", 4096);
    const varve_image_options small = { .size = sizeof small, .create_size = 4096, .reserve = 8192 };
    const varve_module_id second = id_of("second");
    assert_int_equal(varve_image_open(session, &second, &small, &image, NULL), VARVE_OK);
    assert_int_equal(varve_image_grow(image, 8192, NULL), VARVE_OK);
    assert_int_equal(varve_image_grow(image, 12288, NULL), VARVE_LIMIT);
    assert_int_equal(varve_session_remove(session, &second, NULL), VARVE_OK);
    assert_int_equal(varve_image_write(image, 0, "x", 1, NULL), VARVE_MISUSE);
    varve_session_abort(session);
}

/* A caller that knows fewer fields, one that knows more and leaves them zero, and one that uses what we do not know. */
static void structs_of_other_versions_are_met(void **state)
{
    struct fixture *f = *state;
    struct {
        varve_session_options known;
        uint64_t future;
    } newer = { .known.size = sizeof newer };
    struct {
        varve_store_info known;
        uint64_t future;
    } told = { .known.size = sizeof told, .future = 7 };
    varve_session *session = NULL;
    varve_store_info older;

    assert_int_equal(varve_session_begin(f->store, &newer.known, &session, NULL), VARVE_OK);
    varve_session_abort(session);
    newer.future = 1;
    assert_int_equal(varve_session_begin(f->store, &newer.known, &session, NULL), VARVE_MISUSE);
    assert_null(session);
    newer.known.size = offsetof(varve_session_options, vm);
    newer.known.vm = (varve_vm *)f; /* beyond its size: not looked at */
    assert_int_equal(varve_session_begin(f->store, &newer.known, &session, NULL), VARVE_OK);
    varve_session_abort(session);

    assert_int_equal(varve_store_stat(f->store, &told.known, NULL), VARVE_OK);
    assert_int_equal(told.future, 0);
    assert_int_equal(told.known.size, sizeof told);
    assert_int_equal(told.known.layout, VARVE_LAYOUT_JOURNAL);
    memset(&older, 0xee, sizeof older);
    older.size = offsetof(varve_store_info, commits);
    assert_int_equal(varve_store_stat(f->store, &older, NULL), VARVE_OK);
    assert_int_equal(older.format, 1);
    assert_int_equal(older.commits, UINT64_C(0xeeeeeeeeeeeeeeee));
}

struct intruder {
    varve_session *session;
    varve_status rc;
};

static void *intrude(void *context)
{
    struct intruder *intruder = context;
    varve_root root;

    for (int i = 0; i < 100000 && intruder->rc == VARVE_OK; i++)
        intruder->rc = varve_session_root(intruder->session, &root, NULL);
    return NULL;
}

static void two_threads_in_one_session_are_told(void **state)
{
    struct fixture *f = *state;
    struct intruder a = { .session = begin(f), .rc = VARVE_OK };
    struct intruder b = a;
    pthread_t thread;

    (void)image_of(a.session, "i", 1 << 20);
    assert_int_equal(pthread_create(&thread, NULL, intrude, &b), 0);
    (void)intrude(&a);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(a.rc == VARVE_MISUSE || b.rc == VARVE_MISUSE);
    varve_session_abort(a.session);
}

enum { WORKERS = 4, ROUNDS = 25 };

struct worker {
    varve_store *store;
    unsigned number;
    const char *wrong;
};

/* Commit to a branch of one's own what all share, look at what others do, and check that nothing gets mixed up. */
static const char *work(const struct worker *w)
{
    const varve_module_id id = id_of("shared");
    const char branch[] = { 'b', (char)('0' + w->number), '\0' };
    const varve_commit_options named = { .size = sizeof named, .branch = branch };
    const varve_session_options begin_options = { .size = sizeof begin_options, .branch = branch };
    varve_session *session = NULL;

    if (varve_session_begin(w->store, NULL, &session, NULL) != VARVE_OK)
        return "begin on main";
    for (unsigned round = 0; round < ROUNDS; round++) {
        varve_image *image = NULL;
        varve_commit *commit = NULL;
        varve_diff *diff = NULL;
        const varve_change *change = NULL;
        if (varve_image_open(session, &id, NULL, &image, NULL) != VARVE_OK)
            return "open";
        unsigned *cells = varve_image_bytes(image);
        if (cells[0] != 7 || cells[1024 * (w->number + 1)] != round)
            return "the image holds what it should not";
        cells[1024 * (w->number + 1)]++;
        if (varve_session_commit(session, round == 0 ? &named : NULL, &commit, NULL) != VARVE_OK)
            return "commit";
        varve_commit *main = NULL;
        if (varve_commit_open(w->store, "main", &main, NULL) != VARVE_OK ||
            varve_diff_open(w->store, main, commit, &diff, NULL) != VARVE_OK ||
            varve_diff_next(diff, &change, NULL) != VARVE_OK || change->index != w->number + 1 ||
            varve_diff_next(diff, &change, NULL) != VARVE_END)
            return "the difference from main";
        varve_diff_close(diff);
        varve_commit_close(main);
        varve_commit_close(commit);
        if (varve_session_begin(w->store, &begin_options, &session, NULL) != VARVE_OK)
            return "begin on the branch";
    }
    varve_session_abort(session);
    return NULL;
}

static void *work_on_thread(void *context)
{
    struct worker *w = context;

    w->wrong = work(w);
    return NULL;
}

static void sessions_on_many_threads_do_not_meet(void **state)
{
    struct fixture *f = *state;
    varve_session *session = begin(f);
    struct worker workers[WORKERS];
    pthread_t threads[WORKERS];

    *(unsigned *)varve_image_bytes(image_of(session, "shared", 64 * 4096)) = 7;
    assert_int_equal(varve_session_commit(session, NULL, NULL, NULL), VARVE_OK);
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){ .store = f->store, .number = i };
        assert_int_equal(pthread_create(&threads[i], NULL, work_on_thread, &workers[i]), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_ptr_equal(workers[i].wrong, NULL);
    varve_store_info info = { .size = sizeof info };
    assert_int_equal(varve_store_stat(f->store, &info, NULL), VARVE_OK);
    assert_int_equal(info.commits, 1 + WORKERS * ROUNDS);
    assert_int_equal(info.refs, 1 + WORKERS);
    assert_int_equal(info.sessions_open, 0);
}

static void a_page_and_an_absence_are_proved_by_the_root_alone(void **state)
{
    struct fixture *f = *state;
    varve_session *session = begin(f);
    const varve_module_id there = id_of("i"), absent = id_of("none");
    varve_claim claim = { .size = sizeof claim };
    varve_root root;
    void *proof = NULL;
    size_t size = 0;

    strcpy((char *)varve_image_bytes(image_of(session, "i", 3 * 4096)) + 2 * 4096, "proved");
    assert_int_equal(varve_session_root(session, &root, NULL), VARVE_OK);
    for (int committed = 0; committed < 2; committed++) {
        assert_int_equal(varve_prove(session, &there, 2, &proof, &size, NULL), VARVE_OK);
        assert_int_equal(varve_proof_check(proof, size, &root, &claim, NULL), VARVE_OK);
        assert_true(claim.present);
        assert_int_equal(claim.page, 2);
        assert_int_equal(claim.memory_size, 3 * 4096);
        assert_string_equal(claim.bytes, "proved");
        root.bytes[0] ^= 1;
        assert_int_equal(varve_proof_check(proof, size, &root, &claim, NULL), VARVE_INVALID);
        root.bytes[0] ^= 1;
        varve_free(proof);
        assert_int_equal(varve_prove(session, &absent, 0, &proof, &size, NULL), VARVE_OK);
        assert_int_equal(varve_proof_check(proof, size, &root, &claim, NULL), VARVE_OK);
        assert_false(claim.present);
        assert_memory_equal(&claim.module, &absent, sizeof absent);
        varve_free(proof);
        if (committed == 0) {
            assert_int_equal(varve_session_commit(session, NULL, NULL, NULL), VARVE_OK);
            session = begin(f);
        }
    }
    varve_session_abort(session);
}

static void modules_are_listed_in_the_order_of_their_ids(void **state)
{
    struct fixture *f = *state;
    varve_session *session = begin(f);
    varve_module_info info = { .size = sizeof info }, again = { .size = sizeof again };
    varve_module_id last = { { 0 } };
    unsigned count = 0;

    for (char name[] = "a"; name[0] <= 'z'; name[0]++)
        (void)image_of(session, name, 4096);
    assert_int_equal(varve_session_commit(session, NULL, NULL, NULL), VARVE_OK);
    session = begin(f);
    const varve_module_id m = id_of("m");
    assert_int_equal(varve_session_remove(session, &m, NULL), VARVE_OK);
    (void)image_of(session, "new", 8192);
    varve_status rc = varve_session_next_module(session, NULL, &info, NULL);
    for (; rc == VARVE_OK; count++) {
        assert_true(count == 0 || memcmp(&last, &info.id, sizeof last) < 0);
        assert_string_not_equal(info.name, "m");
        assert_int_equal(info.memory_size, strcmp(info.name, "new") == 0 ? 8192 : 4096);
        assert_int_equal(varve_session_module(session, &info.id, &again, NULL), VARVE_OK);
        assert_memory_equal(&info, &again, sizeof info);
        last = info.id;
        rc = varve_session_next_module(session, &last, &info, NULL);
    }
    assert_int_equal(rc, VARVE_END);
    assert_int_equal(count, 26);
    varve_session_abort(session);
}

/* Pointers kept inside an image at a fixed address are good in the next process, and in the next session. */
static void an_image_can_be_mapped_where_it_was(void **state)
{
    struct fixture *f = *state;
    void *address = (void *)(UINT64_C(0x20) << 40);
    const varve_module_id id = id_of("list");
    const varve_image_options options = {
        .size = sizeof options, .name = "list", .create_size = 4096, .reserve = 1 << 20, .address = address
    };

    for (int round = 0; round < 3; round++) {
        varve_session *session = begin(f);
        varve_image *image = NULL;
        assert_int_equal(varve_image_open(session, &id, &options, &image, NULL), VARVE_OK);
        assert_ptr_equal(varve_image_bytes(image), address);
        void **cell = varve_image_bytes(image);
        assert_ptr_equal(cell[0], round == 0 ? NULL : &cell[round]);
        cell[0] = &cell[round + 1];
        assert_int_equal(varve_session_commit(session, NULL, NULL, NULL), VARVE_OK);
    }
}

static void names_and_versions_are_told(void **state)
{
    uint32_t features = 77;
    uint8_t bytes[32], again[32];
    char text[65];

    (void)state;
    assert_non_null(strchr(varve_version(&features), '.'));
    assert_int_equal(features & ~(uint32_t)(VARVE_HAS_VM | VARVE_HAS_MEMORY64), 0);
    assert_string_equal(varve_version(NULL), varve_version(&features));
    assert_string_equal(varve_status_name(VARVE_OUT_OF_GAS), "OUT_OF_GAS");
    assert_string_equal(varve_status_name(VARVE_OK), "OK");
    assert_string_equal(varve_status_name((varve_status)99), "UNKNOWN");
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)(i * 37);
    varve_hex_format(bytes, text);
    assert_int_equal(strlen(text), 64);
    assert_int_equal(varve_hex_parse(text, again), VARVE_OK);
    assert_memory_equal(bytes, again, sizeof bytes);
}

#define ON_STORE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_STORE(memory_comes_back_as_it_was_committed),
        ON_STORE(a_page_that_changes_in_every_commit_is_stored_whole_seldom),
        ON_STORE(what_breaks_a_rule_is_misuse_with_words),
        ON_STORE(other_failures_have_their_own_status),
        ON_STORE(structs_of_other_versions_are_met),
        ON_STORE(two_threads_in_one_session_are_told),
        ON_STORE(sessions_on_many_threads_do_not_meet),
        ON_STORE(a_page_and_an_absence_are_proved_by_the_root_alone),
        ON_STORE(modules_are_listed_in_the_order_of_their_ids),
        ON_STORE(an_image_can_be_mapped_where_it_was),
        cmocka_unit_test(names_and_versions_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
