/* Errors: the status says who must act, the words say what, where and what to do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/error.h"

static void an_errno_becomes_the_status_of_who_must_act(void **state)
{
    static const struct {
        int number;
        varve_status status;
    } cases[] = { { ENOSPC, VARVE_FULL },       { EDQUOT, VARVE_FULL },
                  { EFBIG, VARVE_FULL },        { ENOMEM, VARVE_MEMORY },
                  { EMFILE, VARVE_HOST_LIMIT }, { ENFILE, VARVE_HOST_LIMIT },
                  { EAGAIN, VARVE_HOST_LIMIT }, { EIO, VARVE_IO },
                  { EROFS, VARVE_IO },          { EACCES, VARVE_IO } };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(vv_fail_errno(cases[i].number, "open %s", "log"), cases[i].status);
        assert_int_equal(vv_words_errno(), cases[i].number);
        assert_memory_equal(vv_words(), "open log: ", 10);
        assert_int_equal(vv_fail_uncertain(cases[i].number, "sync"), VARVE_UNCERTAIN);
        assert_int_equal(vv_words_errno(), cases[i].number);
    }
    assert_int_equal(vv_fail_errno(ENOSPC, "write log at %d", 4096), VARVE_FULL);
    assert_string_equal(vv_words(),
                        "write log at 4096: No space left on device; free some space and try again");
    assert_int_equal(vv_fail(VARVE_CORRUPT, "log: bad"), VARVE_CORRUPT);
    assert_int_equal(vv_words_errno(), 0); /* the errno of an older failure is not kept */
}

static void who_knows_more_adds_it_in_front(void **state)
{
    varve_error error = { .status = VARVE_OK };

    (void)state;
    (void)vv_fail_errno(EIO, "read at %d", 7);
    assert_int_equal(vv_fail_within(VARVE_CORRUPT, "commit %s", "r12"), VARVE_CORRUPT);
    assert_string_equal(vv_words(), "commit r12: read at 7: Input/output error");
    assert_int_equal(vv_error_deliver(&error, VARVE_CORRUPT), VARVE_CORRUPT);
    assert_int_equal(error.status, VARVE_CORRUPT);
    assert_int_equal(error.system, EIO);
    assert_string_equal(error.message, vv_words());
    memset(&error, 0x5a, sizeof error);
    assert_int_equal(vv_error_deliver(&error, VARVE_OK), VARVE_OK);
    assert_int_equal(error.message[0], 0x5a); /* a success writes nothing */
    assert_int_equal(vv_error_deliver(NULL, VARVE_IO), VARVE_IO);
}

/* Words longer than their room are cut, whichever way they grew. */
static void words_never_leave_their_room(void **state)
{
    char text[2000];

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    (void)vv_fail(VARVE_IO, "%s", text);
    assert_int_equal(strlen(vv_words()), sizeof((varve_error *)0)->message - 1);
    (void)vv_fail_errno(EIO, "%s", text);
    assert_int_equal(strlen(vv_words()), sizeof((varve_error *)0)->message - 1);
    (void)vv_fail_within(VARVE_IO, "%s", text);
    assert_int_equal(strlen(vv_words()), sizeof((varve_error *)0)->message - 1);
}

static void *fail_elsewhere(void *context)
{
    (void)context;
    (void)vv_fail(VARVE_IO, "elsewhere");
    return NULL;
}

static void a_thread_keeps_its_own_words(void **state)
{
    pthread_t thread;

    (void)state;
    (void)vv_fail(VARVE_IO, "here");
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_string_equal(vv_words(), "here");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_errno_becomes_the_status_of_who_must_act),
        cmocka_unit_test(who_knows_more_adds_it_in_front),
        cmocka_unit_test(words_never_leave_their_room),
        cmocka_unit_test(a_thread_keeps_its_own_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
