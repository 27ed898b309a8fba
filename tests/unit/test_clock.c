/* Clock: times survive being written, and what is no time is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

#include "base/clock.h"

static const struct {
    int64_t ns;
    const char *text;
} pairs[] = {
    { 0, "1970-01-01T00:00:00.000000000Z" },
    { 1, "1970-01-01T00:00:00.000000001Z" },
    { -1, "1969-12-31T23:59:59.999999999Z" },
    { INT64_C(951782400000000000), "2000-02-29T00:00:00.000000000Z" },
    { INT64_C(1795219141000000000), "2026-11-20T23:59:01.000000000Z" },
    { INT64_C(4107542399123456789), "2100-02-28T23:59:59.123456789Z" },
    { INT64_MAX, "2262-04-11T23:47:16.854775807Z" },
    { INT64_MIN, "1677-09-21T00:12:43.145224192Z" },
};

static void known_times_are_written_and_read(void **state)
{
    char text[31];
    int64_t ns = 0;

    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        vv_time_format(pairs[i].ns, text);
        assert_string_equal(text, pairs[i].text);
        assert_int_equal(vv_time_parse(pairs[i].text, &ns), VARVE_OK);
        assert_true(ns == pairs[i].ns);
    }
}

/* Times all over 64 bits, a step that is no round number. */
static void any_time_survives_the_round_trip(void **state)
{
    char text[31];
    int64_t ns = 0;

    (void)state;
    for (uint64_t i = 0; i < 20000; i++) {
        const int64_t time = (int64_t)(i * UINT64_C(0x9e3779b97f4a7c15));
        vv_time_format(time, text);
        assert_int_equal(strlen(text), 30);
        assert_int_equal(vv_time_parse(text, &ns), VARVE_OK);
        assert_true(ns == time);
    }
}

static void every_form_of_the_standard_is_read(void **state)
{
    static const struct {
        const char *text, *same;
    } forms[] = {
        { "2026-11-20T23:59:01Z", "2026-11-20T23:59:01.000000000Z" },
        { "2026-11-20t23:59:01z", "2026-11-20T23:59:01.000000000Z" },
        { "2026-11-20 23:59:01Z", "2026-11-20T23:59:01.000000000Z" },
        { "2026-11-20T23:59:01.5Z", "2026-11-20T23:59:01.500000000Z" },
        { "2026-11-20T23:59:01.000000001Z", "2026-11-20T23:59:01.000000001Z" },
        { "2026-11-21T01:29:01+01:30", "2026-11-20T23:59:01.000000000Z" },
        { "2026-11-20T18:59:01-05:00", "2026-11-20T23:59:01.000000000Z" },
        { "2026-11-20T23:59:01-00:00", "2026-11-20T23:59:01.000000000Z" },
        { "2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000000000Z" },
        { "1969-12-31T23:59:59.25Z", "1969-12-31T23:59:59.250000000Z" },
    };
    char text[31];
    int64_t ns = 0;

    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        assert_int_equal(vv_time_parse(forms[i].text, &ns), VARVE_OK);
        vv_time_format(ns, text);
        assert_string_equal(text, forms[i].same);
    }
}

static void what_is_no_time_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "now",
        "2026",
        "2026-11-20",
        "2026-11-20T23:59:01",
        "2026-11-20T23:59Z",
        "2026-11-20T23:59:01.Z",
        "2026-11-20T23:59:01.0000000001Z",
        "2026-11-20T23:59:01Z ",
        " 2026-11-20T23:59:01Z",
        "2026-13-20T23:59:01Z",
        "2026-00-20T23:59:01Z",
        "2026-11-31T23:59:01Z",
        "2026-11-00T23:59:01Z",
        "2025-02-29T23:59:01Z",
        "2100-02-29T23:59:01Z",
        "2026-11-20T24:00:00Z",
        "2026-11-20T23:60:01Z",
        "2026-11-20T23:59:61Z",
        "2026-11-20T23:59:01+24:00",
        "2026-11-20T23:59:01+01",
        "2026-11-20T23:59:01+0100",
        "2026-11-20T23:59:01+1:00",
        "26-11-20T23:59:01Z",
        "+026-11-20T23:59:01Z",
        "2026-11-20T-3:59:01Z",
        "2026-1-20T23:59:01Z",
        "1677-09-21T00:12:43.145224191Z", /* one before the first */
        "2262-04-11T23:47:16.854775808Z", /* one after the last */
        "9999-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
    };
    int64_t ns = 42;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(vv_time_parse(texts[i], &ns), VARVE_INVALID);
        assert_int_equal(ns, 42);
    }
}

/* Cut a good text at every length: no prefix of it is a time, and nothing behind its end is read. */
static void no_prefix_of_a_time_is_one(void **state)
{
    static const char whole[] = "2026-11-21T01:29:01.123456789+01:30";
    char text[sizeof whole];
    int64_t ns = 0;

    (void)state;
    for (size_t size = 0; size < sizeof whole - 1; size++) {
        memcpy(text, whole, size);
        text[size] = '\0';
        assert_int_equal(vv_time_parse(text, &ns), VARVE_INVALID);
    }
    assert_int_equal(vv_time_parse(whole, &ns), VARVE_OK);
}

static void measuring_never_goes_back(void **state)
{
    uint64_t last = vv_clock_monotonic_ns();

    (void)state;
    for (int i = 0; i < 1000; i++) {
        const uint64_t now = vv_clock_monotonic_ns();
        assert_true(now >= last);
        last = now;
    }
    assert_true(vv_clock_now_ns() > INT64_C(1577836800000000000)); /* 2020 */
}

static void chance_fills_all_bytes(void **state)
{
    uint8_t bytes[1024];
    uint8_t seen[1024] = { 0 };

    (void)state;
    assert_int_equal(vv_clock_random(bytes, 0), VARVE_OK);
    for (int round = 0; round < 16; round++) {
        assert_int_equal(vv_clock_random(bytes, sizeof bytes), VARVE_OK);
        for (size_t i = 0; i < sizeof bytes; i++)
            seen[i] |= bytes[i];
    }
    for (size_t i = 0; i < sizeof seen; i++)
        assert_int_not_equal(seen[i], 0); /* 16 zeros in one place: once in 2^128 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_times_are_written_and_read),
        cmocka_unit_test(any_time_survives_the_round_trip),
        cmocka_unit_test(every_form_of_the_standard_is_read),
        cmocka_unit_test(what_is_no_time_is_refused),
        cmocka_unit_test(no_prefix_of_a_time_is_one),
        cmocka_unit_test(measuring_never_goes_back),
        cmocka_unit_test(chance_fills_all_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
