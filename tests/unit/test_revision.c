/* Revisions: what the grammar takes, and what it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "store/revision.h"

static void every_form_of_the_grammar_is_parsed(void **state)
{
    static const struct {
        const char *text;
        struct vv_revision want;
    } rows[] = {
        { "HEAD", { .kind = VV_BASE_HEAD, .name = "HEAD" } },
        { "HEAD^", { .kind = VV_BASE_HEAD, .name = "HEAD", .parents = 1 } },
        { "HEAD~3^~", { .kind = VV_BASE_HEAD, .name = "HEAD", .parents = 5 } },
        { "HEAD@{1}", { .kind = VV_BASE_HEAD, .name = "HEAD", .when_kind = VV_WHEN_MOVES, .when = 1 } },
        { "main", { .kind = VV_BASE_NAME, .name = "main" } },
        { "main~0", { .kind = VV_BASE_NAME, .name = "main" } },
        { "tags/v1", { .kind = VV_BASE_NAME, .name = "tags/v1" } },
        { "a@b", { .kind = VV_BASE_NAME, .name = "a@b" } },
        { "main@{2}~1",
          { .kind = VV_BASE_NAME, .name = "main", .when_kind = VV_WHEN_MOVES, .when = 2, .parents = 1 } },
        { "main@{-10m}",
          { .kind = VV_BASE_NAME, .name = "main", .when_kind = VV_WHEN_AGO, .when = 600000000000 } },
        { "main@{-2h}",
          { .kind = VV_BASE_NAME, .name = "main", .when_kind = VV_WHEN_AGO, .when = 7200000000000 } },
        { "main@{-3d}",
          { .kind = VV_BASE_NAME, .name = "main", .when_kind = VV_WHEN_AGO, .when = 259200000000000 } },
        { "main@{1970-01-01T00:00:01.5Z}",
          { .kind = VV_BASE_NAME, .name = "main", .when_kind = VV_WHEN_TIME, .when = 1500000000 } },
        { "r12", { .kind = VV_BASE_NUMBER, .name = "r12", .number = 12 } },
        { "r12~", { .kind = VV_BASE_NUMBER, .name = "r12", .number = 12, .parents = 1 } },
        { "beef", { .kind = VV_BASE_NAME, .name = "beef", .hex = { 0xbe, 0xef }, .digits = 4 } },
        { "BEEF1", { .kind = VV_BASE_NAME, .name = "BEEF1", .hex = { 0xbe, 0xef, 0x10 }, .digits = 5 } },
        { "bee", { .kind = VV_BASE_NAME, .name = "bee" } },
        { "root:0aFf", { .kind = VV_BASE_ROOT, .hex = { 0x0a, 0xff }, .digits = 4 } },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct vv_revision got;
        assert_int_equal(vv_revision_parse(rows[i].text, &got), VARVE_OK);
        assert_int_equal(got.kind, rows[i].want.kind);
        assert_string_equal(got.name, rows[i].want.name);
        assert_memory_equal(got.hex, rows[i].want.hex, sizeof got.hex);
        assert_int_equal(got.digits, rows[i].want.digits);
        assert_true(got.number == rows[i].want.number);
        assert_int_equal(got.when_kind, rows[i].want.when_kind);
        assert_true(got.when == rows[i].want.when);
        assert_true(got.parents == rows[i].want.parents);
    }
}

static void what_is_no_revision_is_refused_with_its_place(void **state)
{
    static const char *const rows[] = {
        "",
        "~",
        "^",
        "@{1}",
        "@",

        "main@{",
        "main@{}",
        "main@{1",
        "main@{x}",
        "main@{-10}",
        "main@{-m}",
        "main@{-1y}",
        "main@{2026-13-01T00:00:00Z}",
        "r1@{1}",
        "beef~x",
        "main^2x",
        "main~1main",
        "root:",
        "root:123",
        "root:xyz1",
        "a..b",
        "a b",
        "-x",
        ".x",
        "x.lock",
        "x/",
        "x//y",
        "a:b",
        "main@{1}@{2}",
        "r99999999999999999999",
        "main~99999999999999999999",
        "main~18446744073709551615~1",
        "main@{-9999999999d}",
        "root:00000000000000000000000000000000000000000000000000000000000000000",
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct vv_revision got;
        if (vv_revision_parse(rows[i], &got) != VARVE_INVALID)
            fail_msg("\"%s\" was taken", rows[i]);
        assert_non_null(strstr(vv_words(), "revision"));
    }
}

/* The table of git-check-ref-format(1), rule by rule, and our own. */
static void a_ref_has_a_name_that_git_takes(void **state)
{
    static const char *const good[] = { "main", "a/b/c", "tags/v1.0", "x@y",     "r",
                                        "r1a",  "head",  "v-1",       "\xc3\xa9" };
    static const char *const bad[] = {
        "",       ".a",       "a/.b",
        "a.lock", "a.lock/b", "a..b",
        "a b",    "a~b",      "a^b",
        "a:b",    "a?b",      "a*b",
        "a[b",    "/a",       "a/",
        "a//b",   "a.",       "a@{b",
        "@",      "a\\b",     "a\tb",
        "-a",     "HEAD",     "r0",
        "r12",    "a\x7f",    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF",
        "tags/",  "tags/HEAD", "tags/r12",
        "tags/@", "tags/-a",   "tags/0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF",
    };
    char longest[257];

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (vv_ref_name_check(good[i]) != VARVE_OK)
            fail_msg("\"%s\" was refused", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (vv_ref_name_check(bad[i]) != VARVE_INVALID)
            fail_msg("\"%s\" was taken", bad[i]);
    memset(longest, 'x', 256);
    longest[256] = '\0';
    assert_int_equal(vv_ref_name_check(longest), VARVE_INVALID);
    assert_int_equal(vv_ref_name_check(longest + 1), VARVE_OK);
}

static void a_module_has_a_name_of_letters_and_digits(void **state)
{
    static const char *const good[] = { "a", "_", "sqlite3.wasm-1_x" };
    static const char *const bad[] = {
        "",    "1a",  "-a",       ".a",
        "a b", "a/b", "\xc3\xa9", "abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
    };
    char longest[129];

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(vv_module_name_check(good[i]), VARVE_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(vv_module_name_check(bad[i]), VARVE_INVALID);
    memset(longest, 'x', 128);
    longest[128] = '\0';
    assert_int_equal(vv_module_name_check(longest), VARVE_INVALID);
    assert_int_equal(vv_module_name_check(longest + 1), VARVE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_of_the_grammar_is_parsed),
        cmocka_unit_test(what_is_no_revision_is_refused_with_its_place),
        cmocka_unit_test(a_ref_has_a_name_that_git_takes),
        cmocka_unit_test(a_module_has_a_name_of_letters_and_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
