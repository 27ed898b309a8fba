/* History: what a revision comes to in a store, and the walks back from it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "fake_store.h"
#include "store/revision.h"

/* r1 - r2 - r3 - r4 (main)     r2 changes b, the others a
 *             \- r5 - r6 (try) */
static void make_history(struct fake_store *f)
{
    fake_step(f, NULL, "a", 1);
    fake_step(f, NULL, "b", 2);
    fake_step(f, NULL, "a", 3);
    fake_step(f, NULL, "a", 4);
    varve_session *session = fake_begin_at(f, "r3", "try");
    fake_write(session, "a", 0, "x", 1);
    varve_commit_close(fake_commit(f, session, "a"));
    fake_step(f, "try", "a", 6);
}

/* The number of the commit that the text comes to; 0: NOT_FOUND. */
static uint64_t number_of(struct fake_store *f, const char *text)
{
    varve_commit *commit = NULL;
    const varve_status rc = varve_commit_open(f->store, text, &commit, NULL);

    assert_true(rc == VARVE_OK || rc == VARVE_NOT_FOUND);
    const uint64_t number = commit == NULL ? 0 : varve_commit_get(commit)->number;
    varve_commit_close(commit);
    return number;
}

static void move(struct fake_store *f, const char *name, const char *to, const char *expected, uint32_t flags,
                 varve_status want)
{
    varve_commit *commit = to == NULL ? NULL : fake_open(f, to);
    varve_commit *at = expected == NULL ? NULL : fake_open(f, expected);

    assert_int_equal(varve_ref_set(f->store, name, commit, at, flags, NULL), want);
    varve_commit_close(commit);
    varve_commit_close(at);
}

static void a_revision_comes_to_its_commit(void **state)
{
    struct fake_store *f = *state;
    char text[80], hex[65];

    assert_int_equal(number_of(f, NULL), 0);
    assert_non_null(strstr(vv_words(), "no commits yet"));
    make_history(f);
    move(f, "tags/v1", "r2", NULL, 0, VARVE_OK);
    move(f, "beef", "r5", NULL, 0, VARVE_OK);
    assert_int_equal(number_of(f, NULL), 4);
    assert_int_equal(number_of(f, "HEAD~1"), 3);
    assert_int_equal(number_of(f, "main^^^"), 1);
    assert_int_equal(number_of(f, "main~4"), 0);
    assert_int_equal(number_of(f, "main~18446744073709551615"), 0);
    assert_int_equal(number_of(f, "try"), 6);
    assert_int_equal(number_of(f, "try~2"), 3);
    assert_int_equal(number_of(f, "v1"), 2);
    assert_int_equal(number_of(f, "tags/v1^"), 1);
    assert_int_equal(number_of(f, "beef"), 5); /* a ref before an id */
    assert_int_equal(number_of(f, "r6"), 6);
    assert_int_equal(number_of(f, "r7"), 0);
    assert_int_equal(number_of(f, "r0"), 0);
    assert_int_equal(number_of(f, "mian"), 0);
    assert_non_null(strstr(vv_words(), "did you mean main?"));

    varve_commit *commit = fake_open(f, "r3");
    vv_hex_format(commit->facts.id.bytes, hex);
    assert_int_equal(number_of(f, hex), 3);
    (void)snprintf(text, sizeof text, "%.12s~1", hex);
    assert_int_equal(number_of(f, text), 2);
    vv_hex_format(commit->facts.root.bytes, hex);
    (void)snprintf(text, sizeof text, "root:%.20s", hex);
    assert_int_equal(number_of(f, text), 3);
    varve_commit_close(commit);
}

/* Deleted commits are stepped over; numbers and ids of theirs come to nothing. */
static void deleted_commits_are_stepped_over(void **state)
{
    struct fake_store *f = *state;
    varve_log_options options = { .size = sizeof options, .from = "try" };
    const varve_commit_info *info = NULL;
    varve_log *log = NULL;

    make_history(f);
    varve_commit *third = fake_open(f, "r3");
    assert_int_equal(varve_commit_delete(f->store, third, NULL), VARVE_OK);
    assert_int_equal(varve_commit_delete(f->store, third, NULL), VARVE_NOT_FOUND);
    varve_commit *head = fake_open(f, "main");
    assert_int_equal(varve_commit_delete(f->store, head, NULL), VARVE_MISUSE);
    assert_non_null(strstr(vv_words(), "main"));
    varve_commit_close(head);
    assert_int_equal(number_of(f, "r3"), 0);
    assert_int_equal(number_of(f, "main~1"), 2);
    assert_int_equal(number_of(f, "try~2"), 2);
    assert_int_equal(number_of(f, "try~4"), 0);
    assert_int_equal(varve_log_open(f->store, &options, &log, NULL), VARVE_OK);
    const uint64_t line[] = { 6, 5, 2, 1 };
    for (size_t i = 0; i < sizeof line / sizeof *line; i++) {
        assert_int_equal(varve_log_next(log, &info, NULL), VARVE_OK);
        assert_int_equal(info->number, line[i]);
    }
    assert_int_equal(varve_log_next(log, &info, NULL), VARVE_END);
    varve_log_close(log);
    options.until = "main";
    assert_int_equal(varve_log_open(f->store, &options, &log, NULL), VARVE_OK);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(varve_log_next(log, &info, NULL), VARVE_OK);
    assert_int_equal(varve_log_next(log, &info, NULL), VARVE_END);
    varve_log_close(log);
    varve_commit_close(third);
}

/* Make commits until two ids begin with the same four digits. */
static void a_prefix_of_several_ids_is_ambiguous(void **state)
{
    struct fake_store *f = *state;
    static bool seen[65536];
    varve_session *session = fake_begin(f, NULL);
    char text[8];

    for (unsigned i = 0; i < 65537; i++) {
        varve_commit_options options = { .size = sizeof options,
                                         .flags = VARVE_COMMIT_CHAIN | VARVE_COMMIT_EMPTY,
                                         .time_ns = 1 + i };
        varve_commit *commit = NULL;
        assert_int_equal(varve_session_commit(session, &options, &commit, NULL), VARVE_OK);
        const uint8_t *id = commit->facts.id.bytes;
        const unsigned start = (unsigned)id[0] << 8 | id[1];
        varve_commit_close(commit);
        if (!seen[start]) {
            seen[start] = true;
            continue;
        }
        varve_error error;
        (void)snprintf(text, sizeof text, "%04x", start);
        assert_int_equal(varve_commit_open(f->store, text, &commit, &error), VARVE_AMBIGUOUS);
        assert_int_equal(error.status, VARVE_AMBIGUOUS);
        assert_non_null(strstr(error.message, "give more digits"));
        break;
    }
    varve_session_abort(session);
}

static void a_ref_has_a_past(void **state)
{
    struct fake_store *f = *state;

    make_history(f);
    move(f, "main", "r2", "r4", 0, VARVE_OK); /* restore */
    assert_int_equal(number_of(f, "main"), 2);
    assert_int_equal(number_of(f, "main@{0}"), 2);
    assert_int_equal(number_of(f, "main@{1}"), 4);
    assert_int_equal(number_of(f, "HEAD@{2}"), 3);
    assert_int_equal(number_of(f, "main@{2}~1"), 2);
    assert_int_equal(number_of(f, "main@{4}"), 1);
    assert_int_equal(number_of(f, "main@{5}"), 0); /* it did not exist */
    assert_int_equal(number_of(f, "main@{6}"), 0);
    assert_int_equal(number_of(f, "main@{1970-01-01T00:00:03Z}"), 3);
    assert_int_equal(number_of(f, "main@{1970-01-01T00:00:03.5Z}"), 3);
    assert_int_equal(number_of(f, "main@{1970-01-01T00:00:00Z}"), 0);
    assert_int_equal(number_of(f, "main@{-1d}"), 4); /* before the restore, which happened now */
    move(f, "main", NULL, "r2", 0, VARVE_OK);
    assert_int_equal(number_of(f, "main"), 0);
    assert_int_equal(number_of(f, "main@{1}"), 2);
}

static void a_ref_moves_only_from_where_it_stands(void **state)
{
    struct fake_store *f = *state;
    varve_ref ref = { .size = sizeof ref };

    make_history(f);
    move(f, "main", "r1", "r3", 0, VARVE_CONFLICT);
    move(f, "main", "r1", NULL, 0, VARVE_CONFLICT);
    move(f, "main", "r1", NULL, VARVE_REF_FORCE, VARVE_OK);
    move(f, "new", "r1", "r1", 0, VARVE_CONFLICT);
    move(f, "new", "r1", NULL, 0, VARVE_OK);
    move(f, "tags/v1", "r1", NULL, 0, VARVE_OK);
    move(f, "tags/v1", "r2", NULL, 0, VARVE_CONFLICT);
    move(f, "tags/v1", "r2", "r1", 0, VARVE_EXISTS);
    move(f, "tags/v1", "r2", "r1", VARVE_REF_FORCE, VARVE_OK);
    move(f, "tags/v1", NULL, "r2", 0, VARVE_OK);
    move(f, "tags/v1", NULL, NULL, VARVE_REF_FORCE, VARVE_NOT_FOUND);
    move(f, "bad name", "r1", NULL, 0, VARVE_INVALID);
    move(f, "r12", "r1", NULL, 0, VARVE_INVALID);

    assert_int_equal(varve_ref_next(f->store, NULL, &ref, NULL), VARVE_OK);
    assert_string_equal(ref.name, "main");
    assert_int_equal(ref.moves, 5);
    assert_int_equal(varve_ref_next(f->store, ref.name, &ref, NULL), VARVE_OK);
    assert_string_equal(ref.name, "new");
    assert_int_equal(varve_ref_next(f->store, ref.name, &ref, NULL), VARVE_OK);
    assert_string_equal(ref.name, "try");
    assert_int_equal(varve_ref_next(f->store, ref.name, &ref, NULL), VARVE_END);
}

/* The numbers that a log tells, each followed by a blank; of moves, after their kinds. */
static void walk(struct fake_store *f, const varve_log_options *options, char text[128])
{
    const varve_commit_info *info = NULL;
    varve_log *log = NULL;
    varve_status rc = VARVE_OK;

    text[0] = '\0';
    assert_int_equal(varve_log_open(f->store, options, &log, NULL), VARVE_OK);
    while ((rc = varve_log_next(log, &info, NULL)) == VARVE_OK)
        (void)snprintf(text + strlen(text), 128 - strlen(text), "%s%u ", info->move, (unsigned)info->number);
    assert_int_equal(rc, VARVE_END);
    varve_log_close(log);
}

static void a_log_walks_back_to_the_genesis(void **state)
{
    struct fake_store *f = *state;
    varve_log_options options = { .size = sizeof options };
    varve_log *log = NULL;
    char text[128];

    make_history(f);
    walk(f, &options, text);
    assert_string_equal(text, "4 3 2 1 ");
    options.from = "try";
    walk(f, &options, text);
    assert_string_equal(text, "6 5 3 2 1 ");
    options.until = "main"; /* not an ancestor: they part at r3 */
    walk(f, &options, text);
    assert_string_equal(text, "6 5 ");
    options.until = "r2";
    walk(f, &options, text);
    assert_string_equal(text, "6 5 3 ");
    options.from = "r2";
    options.until = "try";
    walk(f, &options, text);
    assert_string_equal(text, "");
    options = (varve_log_options){ .size = sizeof options, .module = "b" };
    walk(f, &options, text);
    assert_string_equal(text, "2 ");
    options.module = "a";
    walk(f, &options, text);
    assert_string_equal(text, "4 3 1 ");
    options.module = "no such";
    assert_int_equal(varve_log_open(f->store, &options, &log, NULL), VARVE_INVALID);
    assert_null(log);
}

static void a_log_of_moves_shows_the_way_back(void **state)
{
    struct fake_store *f = *state;
    varve_log_options options = { .size = sizeof options, .moves = true };
    varve_log *log = NULL;
    char text[128];

    make_history(f);
    move(f, "main", "r1", "r4", 0, VARVE_OK);
    walk(f, &options, text);
    assert_string_equal(text, "restore1 commit4 commit3 commit2 commit1 ");
    move(f, "old", "r2", NULL, 0, VARVE_OK);
    move(f, "old", NULL, "r2", 0, VARVE_OK);
    options.from = "old";
    walk(f, &options, text);
    assert_string_equal(text, "delete0 create2 ");
    options.from = "trz";
    assert_int_equal(varve_log_open(f->store, &options, &log, NULL), VARVE_NOT_FOUND);
    assert_non_null(strstr(vv_words(), "did you mean try?"));
    options = (varve_log_options){ .size = sizeof options, .moves = true, .until = "r1" };
    assert_int_equal(varve_log_open(f->store, &options, &log, NULL), VARVE_MISUSE);
}

#define ON_FAKE(test) cmocka_unit_test_setup_teardown(test, fake_store_set_up, fake_store_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_FAKE(deleted_commits_are_stepped_over),      ON_FAKE(a_revision_comes_to_its_commit),
        ON_FAKE(a_prefix_of_several_ids_is_ambiguous),  ON_FAKE(a_ref_has_a_past),
        ON_FAKE(a_ref_moves_only_from_where_it_stands), ON_FAKE(a_log_walks_back_to_the_genesis),
        ON_FAKE(a_log_of_moves_shows_the_way_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
