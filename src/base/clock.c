/* clock.c - see clock.h. */
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define NS_PER_S INT64_C(1000000000)

static int64_t read_clock(clockid_t id)
{
    struct timespec time;

    VV_ASSERT(clock_gettime(id, &time) == 0); /* fails for clocks that do not exist only */
    return (int64_t)time.tv_sec * NS_PER_S + time.tv_nsec;
}

int64_t vv_clock_now_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

uint64_t vv_clock_monotonic_ns(void)
{
    return (uint64_t)read_clock(CLOCK_MONOTONIC);
}

void vv_clock_sleep_ms(uint64_t ms)
{
    const struct timespec time = { .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000 };

    (void)nanosleep(&time, NULL);
}

varve_status vv_clock_random(void *bytes, size_t size)
{
    uint8_t *to = bytes;

    while (size > 0) {
        const ssize_t got = getrandom(to, size, 0);
        if (got < 0 && errno != EINTR)
            return vv_fail_errno(errno, "ask the system for %zu random bytes", size);
        if (got > 0) {
            to += got;
            size -= (size_t)got;
        }
    }
    return VARVE_OK;
}

void vv_time_format(int64_t time_ns, char text[31])
{
    int64_t ns = time_ns % NS_PER_S;
    time_t seconds = (time_t)(time_ns / NS_PER_S);
    char wide[80]; /* the compiler cannot know that every field is in its range */
    struct tm fields;

    if (ns < 0) { /* before 1970: the fraction still counts up */
        ns += NS_PER_S;
        seconds--;
    }
    VV_ASSERT(gmtime_r(&seconds, &fields) != NULL); /* 64 bits of ns end in the year 2262 */
    const int length =
        snprintf(wide, sizeof wide, "%04d-%02d-%02dT%02d:%02d:%02d.%09dZ", fields.tm_year + 1900,
                 fields.tm_mon + 1, fields.tm_mday, fields.tm_hour, fields.tm_min, fields.tm_sec, (int)ns);
    VV_ASSERT(length == 30);
    memcpy(text, wide, 31);
}

/* A text that is read from the left. What does not fit sets `bad`, and all answers since are 0. */
struct scan {
    const char *at;
    bool bad;
};

static char scan_one_of(struct scan *scan, const char *set)
{
    if (scan->bad || *scan->at == '\0' || strchr(set, *scan->at) == NULL) {
        scan->bad = true;
        return '\0';
    }
    return *scan->at++;
}

static int scan_digits(struct scan *scan, int count, int least, int most)
{
    int value = 0;

    for (int i = 0; i < count; i++) {
        const char digit = scan_one_of(scan, "0123456789");
        value = scan->bad ? 0 : value * 10 + (digit - '0');
    }
    if (value < least || value > most)
        scan->bad = true;
    return scan->bad ? 0 : value;
}

static int64_t scan_fraction(struct scan *scan)
{
    int64_t ns = 0;
    int count = 0;

    if (scan->bad || *scan->at != '.')
        return 0;
    scan->at++;
    for (int64_t unit = NS_PER_S / 10; unit > 0 && *scan->at >= '0' && *scan->at <= '9'; unit /= 10) {
        ns += unit * (*scan->at++ - '0');
        count++;
    }
    scan->bad = count == 0;
    return ns;
}

/* Seconds that the local time is ahead of UTC. */
static int64_t scan_zone(struct scan *scan)
{
    const char sign = scan_one_of(scan, "Zz+-");

    if (scan->bad || sign == 'Z' || sign == 'z')
        return 0;
    const int hours = scan_digits(scan, 2, 0, 23);
    (void)scan_one_of(scan, ":");
    const int minutes = scan_digits(scan, 2, 0, 59);
    const int64_t ahead = hours * INT64_C(3600) + minutes * INT64_C(60);
    return sign == '-' ? -ahead : ahead;
}

static int days_in(int year, int month)
{
    static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return month == 2 && leap ? 29 : days[month - 1];
}

varve_status vv_time_parse(const char *text, int64_t *time_ns)
{
    struct scan scan = { .at = text };
    struct tm fields = { .tm_isdst = 0 };
    int64_t ns = 0;

    const int year = scan_digits(&scan, 4, 0, 9999);
    (void)scan_one_of(&scan, "-");
    const int month = scan_digits(&scan, 2, 1, 12);
    (void)scan_one_of(&scan, "-");
    fields.tm_year = year - 1900;
    fields.tm_mon = month - 1;
    fields.tm_mday = scan_digits(&scan, 2, 1, scan.bad ? 31 : days_in(year, month));
    (void)scan_one_of(&scan, "Tt ");
    fields.tm_hour = scan_digits(&scan, 2, 0, 23);
    (void)scan_one_of(&scan, ":");
    fields.tm_min = scan_digits(&scan, 2, 0, 59);
    (void)scan_one_of(&scan, ":");
    fields.tm_sec = scan_digits(&scan, 2, 0, 60); /* a leap second is the first one of the next minute */
    const int64_t fraction = scan_fraction(&scan);
    const int64_t ahead = scan_zone(&scan);
    if (scan.bad || *scan.at != '\0')
        return vv_fail(VARVE_INVALID, "\"%.40s\" is no time: write it as 2026-11-20T23:59:01Z", text);
    int64_t seconds = (int64_t)timegm(&fields) - ahead;
    /* Before 1970 seconds round down and the fraction counts up: take one second over, so that the first
     * product does not leave 64 bits where the sum would not. */
    int64_t rest = fraction;
    if (seconds < 0 && rest > 0) {
        seconds++;
        rest -= NS_PER_S;
    }
    if (__builtin_mul_overflow(seconds, NS_PER_S, &ns) || __builtin_add_overflow(ns, rest, &ns))
        return vv_fail(VARVE_INVALID, "\"%.40s\" lies outside the years 1677 to 2262", text);
    *time_ns = ns;
    return VARVE_OK;
}
