/* Differences: told in order, each once, at the cost of what differs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "fake_store.h"

/* "+name 8192", "=name page 1 xa"... : all that is told, one line each. */
static void tell(struct fake_store *f, const varve_commit *from, const varve_commit *to, char *text,
                 size_t size)
{
    static const char *const kinds[] = { "", "added", "removed", "code", "size", "global", "page", "meta" };
    const varve_change *change = NULL;
    varve_diff *diff = NULL;
    varve_status rc = VARVE_OK;

    text[0] = '\0';
    assert_int_equal(varve_diff_open(f->store, from, to, &diff, NULL), VARVE_OK);
    while ((rc = varve_diff_next(diff, &change, NULL)) == VARVE_OK) {
        char line[128];
        const char *before = change->before == NULL ? "-" : change->before;
        const char *after = change->after == NULL ? "-" : change->after;
        if (change->kind == VARVE_CHANGE_PAGE)
            (void)snprintf(line, sizeof line, "page %s %u %c%c\n", change->name, (unsigned)change->index,
                           before[0], after[0]);
        else if (change->kind == VARVE_CHANGE_META)
            (void)snprintf(line, sizeof line, "meta %s %.*s %.*s\n", change->key,
                           (int)(change->before == NULL ? 1 : change->before_size), before,
                           (int)(change->after == NULL ? 1 : change->after_size), after);
        else
            (void)snprintf(line, sizeof line, "%s %s %u %u\n", kinds[change->kind], change->name,
                           (unsigned)change->before_size, (unsigned)change->after_size);
        assert_true(strlen(text) + strlen(line) < size);
        strcat(text, line);
    }
    assert_int_equal(rc, VARVE_END);
    assert_int_equal(varve_diff_next(diff, &change, NULL), VARVE_END);
    varve_diff_close(diff);
}

static void each_kind_of_change_is_told_once(void **state)
{
    struct fake_store *f = *state;
    varve_session *session = fake_begin(f, NULL);
    char text[1024];

    fake_write(session, "a", 0, "x", 1);
    fake_write(session, "a", 4096, "y", 1);
    fake_meta(session, "k", "1");
    fake_meta(session, "l", "2");
    varve_commit *first = fake_commit(f, session, "first");
    session = fake_begin(f, NULL);
    fake_write(session, "a", 4096, "z", 1);
    fake_write(session, "a", 3 * 4096, "w", 1);
    fake_meta(session, "k", "");
    fake_meta(session, "l", "3");
    fake_meta(session, "m", "4");
    varve_commit *second = fake_commit(f, session, "second");
    session = fake_begin(f, NULL);
    const varve_module_id a = fake_id("a");
    assert_int_equal(varve_session_remove(session, &a, NULL), VARVE_OK);
    varve_commit *third = fake_commit(f, session, "third");

    tell(f, NULL, first, text, sizeof text);
    assert_string_equal(text, "added a 0 8192\npage a 0 -x\npage a 1 -y\nmeta k - 1\nmeta l - 2\n");
    tell(f, first, second, text, sizeof text);
    assert_string_equal(text,
                        "size a 8192 16384\npage a 1 yz\npage a 3 -w\nmeta k 1 -\nmeta l 2 3\nmeta m - 4\n");
    tell(f, second, first, text, sizeof text);
    assert_string_equal(text,
                        "size a 16384 8192\npage a 1 zy\npage a 3 w-\nmeta k - 1\nmeta l 3 2\nmeta m 4 -\n");
    tell(f, second, third, text, sizeof text);
    assert_string_equal(text, "removed a 16384 0\npage a 0 x-\npage a 1 z-\npage a 3 w-\n");
    tell(f, first, first, text, sizeof text);
    assert_string_equal(text, "");
    varve_commit_close(first);
    varve_commit_close(second);
    varve_commit_close(third);
}

static void code_and_instance_state_are_changes_of_their_own(void **state)
{
    struct fake_store *f = *state;
    varve_session *session = fake_begin(f, NULL);
    const varve_module_id a = fake_id("a");
    struct vv_working *working = NULL;
    struct vv_module *fields = NULL;
    char text[256];

    fake_write(session, "a", 0, "x", 1);
    varve_commit *first = fake_commit(f, session, "first");
    session = fake_begin(f, NULL);
    assert_int_equal(vv_session_working(session, &a, &working), VARVE_OK);
    assert_int_equal(vv_module_clone(working->fields, &fields), VARVE_OK);
    fields->owner[0] = 1;
    assert_int_equal(vv_session_replace(session, working, fields, NULL, 0), VARVE_OK);
    assert_int_equal(vv_session_set_instance(session, working, "abc", 3), VARVE_OK);
    varve_commit *second = fake_commit(f, session, "second");
    tell(f, first, second, text, sizeof text);
    assert_string_equal(text, "code a 32 32\nglobal a 0 3\n");
    varve_commit_close(first);
    varve_commit_close(second);
}

/* One page of one of 40 images differs: no other page is read. */
static void a_difference_costs_what_differs(void **state)
{
    struct fake_store *f = *state;
    varve_session *session = fake_begin(f, NULL);
    char name[8], text[256];

    for (int i = 0; i < 40; i++) {
        (void)snprintf(name, sizeof name, "i%d", i);
        for (uint64_t page = 0; page < 20; page++)
            fake_write(session, name, page * 4096, "x", 1);
    }
    varve_commit *first = fake_commit(f, session, "first");
    session = fake_begin(f, NULL);
    fake_write(session, "i7", 9 * 4096, "y", 1);
    varve_commit *second = fake_commit(f, session, "second");
    (void)fake_place_reads(f->place);
    tell(f, first, second, text, sizeof text);
    assert_string_equal(text, "page i7 9 xy\n");
    assert_int_equal(fake_place_reads(f->place), 2);
    varve_commit_close(first);
    varve_commit_close(second);
}

/* Random memories: what is told, put over the first, gives the second; modules come in the order of their ids, pages in
 * theirs. */
static void a_difference_leads_from_one_state_to_the_other(void **state)
{
    enum { IMAGES = 6, PAGES = 8 };
    struct fake_store *f = *state;
    static uint8_t model[IMAGES][PAGES * VV_PAGE_SIZE], other[IMAGES][PAGES * VV_PAGE_SIZE];
    varve_commit *commits[2] = { NULL };

    srand(7);
    for (int round = 0; round < 30; round++) {
        varve_session *session = fake_begin(f, NULL);
        memcpy(other, model, sizeof model);
        for (int i = 0; i < 10; i++) {
            const int image = rand() % IMAGES;
            const uint64_t offset = (uint64_t)(rand() % (int)sizeof model[0]);
            char name[8];
            (void)snprintf(name, sizeof name, "m%d", image);
            model[image][offset] = (uint8_t)(rand() % 3);
            fake_write(session, name, offset, &model[image][offset], 1);
        }
        fake_meta(session, "round", round % 2 == 0 ? "even" : "odd");
        varve_commit_close(commits[0]);
        commits[0] = commits[1];
        commits[1] = fake_commit(f, session, "round");

        const varve_change *change = NULL;
        varve_module_id last = { { 0 } };
        uint64_t last_page = 0;
        varve_diff *diff = NULL;
        assert_int_equal(varve_diff_open(f->store, commits[0], commits[1], &diff, NULL), VARVE_OK);
        while (varve_diff_next(diff, &change, NULL) == VARVE_OK) {
            if (change->kind != VARVE_CHANGE_PAGE)
                continue;
            const int order = memcmp(&last, &change->module, sizeof last);
            assert_true(order < 0 || (order == 0 && change->index > last_page) || last_page == 0);
            last = change->module;
            last_page = change->index;
            uint8_t *page = other[atoi(change->name + 1)] + change->index * VV_PAGE_SIZE;
            if (change->before != NULL)
                assert_memory_equal(page, change->before, VV_PAGE_SIZE);
            memset(page, 0, VV_PAGE_SIZE);
            if (change->after != NULL)
                memcpy(page, change->after, VV_PAGE_SIZE);
        }
        varve_diff_close(diff);
        assert_memory_equal(model, other, sizeof model);
    }
    varve_commit_close(commits[0]);
    varve_commit_close(commits[1]);
}

static void a_difference_survives_every_failing_allocation(void **state)
{
    struct fake_store *f = *state;
    varve_session *session = fake_begin(f, NULL);
    char text[256];

    fake_write(session, "a", 0, "x", 1);
    fake_write(session, "b", 0, "y", 1);
    varve_commit *commit = fake_commit(f, session, "first");
    for (unsigned nth = 1;; nth++) {
        const varve_change *change = NULL;
        varve_diff *diff = NULL;
        vv_alloc_fail_at(nth);
        varve_status rc = varve_diff_open(f->store, NULL, commit, &diff, NULL);
        while (rc == VARVE_OK)
            rc = varve_diff_next(diff, &change, NULL);
        const bool failed = vv_alloc_disarm();
        varve_diff_close(diff);
        assert_int_equal(rc, failed ? VARVE_MEMORY : VARVE_END);
        if (!failed)
            break;
    }
    tell(f, NULL, commit, text, sizeof text);
    assert_int_equal(strlen(text), strlen("added a 0 8192\npage a 0 -x\n") * 2);
    varve_commit_close(commit);
}

#define ON_FAKE(test) cmocka_unit_test_setup_teardown(test, fake_store_set_up, fake_store_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_FAKE(each_kind_of_change_is_told_once),
        ON_FAKE(code_and_instance_state_are_changes_of_their_own),
        ON_FAKE(a_difference_costs_what_differs),
        ON_FAKE(a_difference_leads_from_one_state_to_the_other),
        ON_FAKE(a_difference_survives_every_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
