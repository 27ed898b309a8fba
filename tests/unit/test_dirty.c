/* Dirty pages: no page that was written is missed, on any rung, whatever else goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "page/dirty.h"

enum { PAGE = VV_PAGE_SIZE };

static const enum vv_dirty_rung asking_rungs[] = { VV_DIRTY_ARMED, VV_DIRTY_PRIVATE, VV_DIRTY_PAGEMAP };
enum { RUNG_COUNT = sizeof asking_rungs / sizeof *asking_rungs };

/* A tracker on this rung; false, and said, where the kernel or container has no such rung. */
static bool tracker_on(enum vv_dirty_rung rung, struct vv_tracker **tracker)
{
    const varve_status rc = vv_tracker_new(rung, tracker);

    if (rc == VARVE_UNSUPPORTED)
        print_message("SKIPPED on rung %s: %s\n", vv_dirty_rung_name(rung), vv_words());
    else
        assert_int_equal(rc, VARVE_OK);
    return rc == VARVE_OK;
}

static unsigned scale(void)
{
    const char *text = getenv("VARVE_TEST_SCALE");
    const unsigned long value = text != NULL ? strtoul(text, NULL, 10) : 1;
    return value == 0 ? 1 : (unsigned)value;
}

static uint64_t random_state;

static uint64_t draw(uint64_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % limit;
}

static uint8_t *map_range(size_t size, int fd)
{
    const int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_PRIVATE | MAP_NORESERVE;
    uint8_t *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

    assert_ptr_not_equal(bytes, MAP_FAILED);
    (void)madvise(bytes, size, MADV_NOHUGEPAGE);
    return bytes;
}

static void touch(uint8_t *bytes, uint64_t page)
{
    ((volatile uint8_t *)bytes)[page * PAGE + 17]++;
}

/* ---- The answer is exact ---------------------------------------------------------------------------- */

/* Every second page, so that each is a region of its own, around every count at which a buffer is full. */
static void every_region_is_named_once_and_in_order(void **state)
{
    static const uint64_t counts[] = { 0, 1, 63, 64, 65, 511, 512, 513, 575, 576, 577, 1023, 1024, 1500 };
    enum { PAGES = 3200 };
    struct vv_page_list list = { .pages = NULL };
    struct vv_tracker *tracker = NULL;

    (void)state;
    for (int r = 0; r < RUNG_COUNT; r++) {
        if (!tracker_on(asking_rungs[r], &tracker))
            continue;
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            uint8_t *bytes = map_range((size_t)PAGES * PAGE, -1);
            assert_int_equal(vv_dirty_register(tracker, bytes, (size_t)PAGES * PAGE), VARVE_OK);
            assert_int_equal(vv_dirty_arm(tracker, bytes, (size_t)PAGES * PAGE), VARVE_OK);
            for (uint64_t i = 0; i < counts[c]; i++)
                touch(bytes, 100 + 2 * i);
            for (int way = 0; way < 2; way++) { /* a peek leaves what a take finds */
                assert_int_equal(
                    (way == 0 ? vv_dirty_peek : vv_dirty_take)(tracker, bytes, (size_t)PAGES * PAGE, &list),
                    VARVE_OK);
                assert_int_equal(list.count, counts[c]);
                for (uint64_t i = 0; i < counts[c]; i++)
                    assert_int_equal(list.pages[i], 100 + 2 * i);
            }
            (void)munmap(bytes, (size_t)PAGES * PAGE);
        }
        vv_tracker_free(tracker);
    }
    vv_page_list_release(&list);
}

/* Over a file, registered and never armed: a page is named when it was written first, and when it was written again,
 * whatever was read; what was named once and not written again is not, on the armed rung. */
static void a_sparse_take_names_private_pages_once(void **state)
{
    enum { PAGES = 2000, ROUNDS = 60 };
    struct vv_page_list list = { .pages = NULL };
    struct vv_tracker *tracker = NULL;
    FILE *file = tmpfile();
    uint64_t named = 0;

    (void)state;
    random_state = 20261129;
    assert_non_null(file);
    assert_int_equal(ftruncate(fileno(file), (off_t)PAGES * PAGE), 0);
    if (tracker_on(VV_DIRTY_ARMED, &tracker)) {
        uint8_t *bytes = map_range((size_t)PAGES * PAGE, fileno(file));
        bool written[PAGES];
        assert_int_equal(vv_dirty_register(tracker, bytes, (size_t)PAGES * PAGE), VARVE_OK);
        for (int round = 0; round < ROUNDS; round++) {
            memset(written, 0, sizeof written);
            for (int i = 0; i < 200; i++) {
                const uint64_t page = draw(PAGES);
                if (i % 3 == 0) {
                    (void)((volatile uint8_t *)bytes)[page * PAGE];
                } else {
                    touch(bytes, page);
                    written[page] = true;
                }
            }
            for (int way = 0; way < 2; way++) { /* a peek leaves what a take finds */
                size_t next = 0;
                assert_int_equal((way == 0 ? vv_dirty_peek_sparse : vv_dirty_take_sparse)(
                                     tracker, bytes, (size_t)PAGES * PAGE, &list),
                                 VARVE_OK);
                for (uint64_t page = 0; page < PAGES; page++)
                    if (written[page])
                        assert_true(next < list.count && list.pages[next++] == page);
                assert_int_equal(next, list.count);
            }
            named += list.count;
        }
        printf("sparse over a file: %d rounds, %llu pages named, 0 missed, 0 not written\n", ROUNDS,
               (unsigned long long)named);
        (void)munmap(bytes, (size_t)PAGES * PAGE);
        vv_tracker_free(tracker);
    }
    vv_page_list_release(&list);
    (void)fclose(file);
}

/* Fail each allocation of a take: what it says then and what the next ones say is all that was written. */
static void running_out_of_memory_loses_no_mark(void **state)
{
    enum { PAGES = 8000 };
    struct vv_tracker *tracker = NULL;
    bool failed = true;

    (void)state;
    if (!tracker_on(VV_DIRTY_ARMED, &tracker))
        return;
    uint8_t *bytes = map_range((size_t)PAGES * PAGE, -1), *named = calloc(PAGES, 1);
    assert_non_null(named);
    assert_int_equal(vv_dirty_register(tracker, bytes, (size_t)PAGES * PAGE), VARVE_OK);
    assert_int_equal(vv_dirty_arm(tracker, bytes, (size_t)PAGES * PAGE), VARVE_OK);
    for (unsigned nth = 1; failed; nth++) {
        struct vv_page_list list = { .pages = NULL };
        memset(named, 0, PAGES);
        for (uint64_t page = 0; page < PAGES; page += 1 + page % 3)
            touch(bytes, page);
        vv_alloc_fail_at(nth);
        varve_status rc = vv_dirty_take(tracker, bytes, (size_t)PAGES * PAGE, &list);
        failed = vv_alloc_disarm();
        assert_int_equal(rc, failed ? VARVE_MEMORY : VARVE_OK);
        for (size_t i = 0; i < list.count; i++)
            named[list.pages[i]]++;
        if (failed) {
            rc = vv_dirty_take(tracker, bytes, (size_t)PAGES * PAGE, &list);
            assert_int_equal(rc, VARVE_OK);
            for (size_t i = 0; i < list.count; i++)
                named[list.pages[i]]++;
        }
        for (uint64_t page = 0, next = 0; page < PAGES; page++) {
            assert_int_equal(named[page], page == next);
            if (page == next)
                next += 1 + page % 3;
        }
        vv_page_list_release(&list);
    }
    vv_tracker_free(tracker);
    (void)munmap(bytes, (size_t)PAGES * PAGE);
    free(named);
}

/* The marks of the armed rung through what images do to their mappings. */
static void marks_survive_protection_and_go_with_the_page(void **state)
{
    enum { PAGES = 64 };
    struct vv_page_list list = { .pages = NULL };
    struct vv_tracker *tracker = NULL;

    (void)state;
    if (!tracker_on(VV_DIRTY_ARMED, &tracker))
        return;
    uint8_t *bytes = map_range(PAGES * PAGE, -1);
    assert_int_equal(vv_dirty_register(tracker, bytes, PAGES * PAGE), VARVE_OK);
    touch(bytes, 1);
    assert_int_equal(vv_dirty_arm(tracker, bytes, PAGES * PAGE), VARVE_OK);
    touch(bytes, 2);
    assert_int_equal(mprotect(bytes, PAGES * PAGE, PROT_NONE), 0);
    assert_int_equal(mprotect(bytes, PAGES * PAGE, PROT_READ | PROT_WRITE), 0);
    touch(bytes, 3);
    assert_int_equal(vv_dirty_take(tracker, bytes, PAGES * PAGE, &list), VARVE_OK);
    assert_int_equal(list.count, 2); /* 1 was armed before and after */
    assert_int_equal(list.pages[0], 2);
    assert_int_equal(list.pages[1], 3);
    /* A page that is given away loses its mark; armed anew, it has one again. */
    assert_int_equal(madvise(bytes, 8 * PAGE, MADV_DONTNEED), 0);
    assert_int_equal(vv_dirty_arm(tracker, bytes, 8 * PAGE), VARVE_OK);
    assert_int_equal(vv_dirty_take(tracker, bytes, PAGES * PAGE, &list), VARVE_OK);
    assert_int_equal(list.count, 0);
    touch(bytes, 2);
    touch(bytes, 7);
    assert_int_equal(vv_dirty_take(tracker, bytes, PAGES * PAGE, &list), VARVE_OK);
    assert_int_equal(list.count, 2);
    /* A piece mapped anew is not tracked: that is an error, not an empty answer. */
    assert_ptr_not_equal(
        mmap(bytes, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
        MAP_FAILED);
    touch(bytes, 1);
    assert_int_not_equal(vv_dirty_take(tracker, bytes, PAGES * PAGE, &list), VARVE_OK);
    vv_page_list_release(&list);
    vv_tracker_free(tracker);
    (void)munmap(bytes, PAGES * PAGE);
}

/* ---- Random work against memcmp --------------------------------------------------------------------- */

struct range {
    uint8_t *bytes, *before, *base; /* now; at the last take; at the start */
    uint8_t *written;               /* per page: stored to since the last take */
    uint64_t reserved, pages;
    bool is_file;
};

struct tally {
    uint64_t writes, growths, shrinks, forks, reads, found, missed, extra;
};

static uint8_t *allocate(size_t size)
{
    uint8_t *bytes = calloc(1, size);
    assert_non_null(bytes);
    return bytes;
}

/* Half of the file is data, half a hole; anonymous memory starts as zeros, some of them filled. */
static struct range range_new(struct vv_tracker *tracker, bool is_file, uint64_t pages, uint64_t reserved)
{
    struct range range = { .reserved = reserved, .pages = pages, .is_file = is_file };
    const size_t size = reserved * PAGE;
    FILE *file = is_file ? tmpfile() : NULL;

    range.before = allocate(size);
    range.base = allocate(size);
    range.written = allocate(reserved);
    for (uint64_t i = 0; i < pages / 2 * PAGE; i++)
        range.base[i] = (uint8_t)draw(256);
    if (is_file) {
        assert_non_null(file);
        assert_int_equal(pwrite(fileno(file), range.base, pages / 2 * PAGE, 0), pages / 2 * PAGE);
        assert_int_equal(ftruncate(fileno(file), (off_t)size), 0);
    }
    range.bytes = map_range(size, is_file ? fileno(file) : -1);
    if (file != NULL)
        (void)fclose(file);
    else
        memcpy(range.bytes, range.base, pages / 2 * PAGE);
    assert_int_equal(mprotect(range.bytes + pages * PAGE, (reserved - pages) * PAGE, PROT_NONE), 0);
    memcpy(range.before, range.base, size);
    assert_int_equal(vv_dirty_register(tracker, range.bytes, size), VARVE_OK);
    assert_int_equal(vv_dirty_arm(tracker, range.bytes, pages * PAGE), VARVE_OK);
    return range;
}

static void range_free(struct range *range)
{
    (void)munmap(range->bytes, range->reserved * PAGE);
    free(range->before);
    free(range->base);
    free(range->written);
}

static void fork_beside(struct range *range, struct tally *tally)
{
    const pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        for (uint64_t i = 0; i < range->pages; i += 7) /* its own copy: the parent must not hear of it */
            touch(range->bytes, i);
        _exit(0);
    }
    for (int i = 0; i < 20; i++) { /* while pages are shared with a child */
        const uint64_t page = draw(range->pages);
        touch(range->bytes, page);
        range->written[page] = 1;
        tally->writes++;
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    tally->forks++;
}

static void grow_or_shrink(struct vv_tracker *tracker, struct range *range, struct tally *tally)
{
    const uint64_t to = range->reserved / 2 + draw(range->reserved / 2);
    uint8_t *edge = range->bytes + (to < range->pages ? to : range->pages) * PAGE;
    const size_t size = (to < range->pages ? range->pages - to : to - range->pages) * PAGE;

    if (to > range->pages) {
        assert_int_equal(mprotect(edge, size, PROT_READ | PROT_WRITE), 0);
        assert_int_equal(vv_dirty_arm(tracker, edge, size), VARVE_OK);
        tally->growths++;
    } else if (size > 0) {
        assert_int_equal(madvise(edge, size, MADV_DONTNEED), 0);
        assert_int_equal(mprotect(edge, size, PROT_NONE), 0);
        memcpy(range->before + to * PAGE, range->base + to * PAGE, size);
        memset(range->written + to, 0, range->pages - to);
        tally->shrinks++;
    }
    range->pages = to;
}

static void do_something(struct vv_tracker *tracker, struct range *range, struct tally *tally)
{
    const uint64_t page = draw(range->pages);
    uint64_t run = 1;

    switch (draw(64)) {
    case 0:
        grow_or_shrink(tracker, range, tally);
        return;
    case 1:
    case 2:
    case 3: /* what is there already */
        ((volatile uint8_t *)range->bytes)[page * PAGE] = range->bytes[page * PAGE];
        break;
    case 4: /* the host, many pages at a time */
        run = 1 + draw(range->pages - page < 30 ? range->pages - page : 30);
        memset(range->bytes + page * PAGE, (int)draw(256), run * PAGE);
        break;
    case 5:
    case 6:
    case 7:
    case 8:
        (void)((volatile uint8_t *)range->bytes)[page * PAGE];
        tally->reads++;
        return;
    default:
        range->bytes[page * PAGE + draw(PAGE)] = (uint8_t)draw(256);
    }
    memset(range->written + page, 1, run);
    tally->writes += run;
}

/* Armed: what differs from the last take must be named. Private: what differs from the start must be. */
static void take_and_judge(struct vv_tracker *tracker, struct range *range, struct vv_page_list *list,
                           struct tally *tally)
{
    const bool armed = vv_tracker_rung(tracker) == VV_DIRTY_ARMED;
    size_t next = 0;

    assert_int_equal(vv_dirty_take(tracker, range->bytes, range->pages * PAGE, list), VARVE_OK);
    for (uint64_t page = 0; page < range->pages; page++) {
        const uint8_t *now = range->bytes + page * PAGE,
                      *was = (armed ? range->before : range->base) + page * PAGE;
        const bool named = next < list->count && list->pages[next] == page;
        next += named;
        tally->missed += !named && memcmp(now, was, PAGE) != 0;
        tally->extra += armed && named && !range->written[page];
        memcpy(range->before + page * PAGE, now, PAGE);
    }
    assert_int_equal(next, list->count); /* ascending, in range, once */
    tally->found += list->count;
    memset(range->written, 0, range->reserved);
}

static void random_work_misses_nothing(void **state)
{
    struct vv_page_list list = { .pages = NULL };
    struct vv_tracker *tracker = NULL;

    (void)state;
    for (int r = 0; r < RUNG_COUNT; r++) {
        for (int kind = 0; kind < 2; kind++) {
            const uint64_t rounds = 100 * scale(), seed = 77 + (uint64_t)kind;
            struct tally tally = { .writes = 0 };
            random_state = seed;
            if (!tracker_on(asking_rungs[r], &tracker))
                continue;
            struct range range = range_new(tracker, kind == 1, 1400, 1600);
            for (uint64_t round = 0; round < rounds; round++) {
                for (uint64_t i = draw(1500); i-- > 0;)
                    do_something(tracker, &range, &tally);
                if (round % 20 == 19)
                    fork_beside(&range, &tally);
                take_and_judge(tracker, &range, &list, &tally);
            }
            printf("%s over %s, seed %llu: %llu writes, %llu growths, %llu shrinks, %llu forks, %llu reads; "
                   "%llu pages named, %llu missed, %llu not written\n",
                   vv_dirty_rung_name(asking_rungs[r]), kind == 1 ? "a file" : "anonymous memory",
                   (unsigned long long)seed, (unsigned long long)tally.writes,
                   (unsigned long long)tally.growths, (unsigned long long)tally.shrinks,
                   (unsigned long long)tally.forks, (unsigned long long)tally.reads,
                   (unsigned long long)tally.found, (unsigned long long)tally.missed,
                   (unsigned long long)tally.extra);
            assert_int_equal(tally.missed, 0);
            assert_int_equal(tally.extra, 0);
            range_free(&range);
            vv_tracker_free(tracker);
        }
    }
    vv_page_list_release(&list);
}

/* ---- The ladder ------------------------------------------------------------------------------------- */

static void the_best_rung_here_is_armed(void **state)
{
    struct vv_tracker *tracker = NULL;

    (void)state;
    (void)unsetenv("VARVE_DIRTY");
    assert_int_equal(vv_tracker_new(VV_DIRTY_BEST, &tracker), VARVE_OK);
    if (vv_tracker_rung(tracker) != VV_DIRTY_ARMED) /* a kernel or container without it: said, never hidden */
        printf("best rung: %s (%s)\n", vv_dirty_rung_name(vv_tracker_rung(tracker)), vv_tracker_why(tracker));
    assert_true((vv_tracker_rung(tracker) == VV_DIRTY_ARMED) == (vv_tracker_why(tracker)[0] == '\0'));
    vv_tracker_free(tracker);
}

static void the_environment_forces_a_rung(void **state)
{
    static const char *const names[] = { "armed", "private", "pagemap", "compare" };
    struct vv_tracker *tracker = NULL;

    (void)state;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(setenv("VARVE_DIRTY", names[i], 1), 0);
        if (!tracker_on(VV_DIRTY_BEST, &tracker))
            continue;
        assert_string_equal(vv_dirty_rung_name(vv_tracker_rung(tracker)), names[i]);
        vv_tracker_free(tracker);
    }
    assert_int_equal(setenv("VARVE_DIRTY", "magic", 1), 0);
    assert_int_equal(vv_tracker_new(VV_DIRTY_BEST, &tracker), VARVE_MISUSE);
    assert_null(tracker);
    assert_non_null(strstr(vv_words(), "magic"));
    (void)unsetenv("VARVE_DIRTY");
}

/* With no descriptor to be had, nothing but comparing is left; a forced rung says what was missing. */
static void a_rung_that_fails_falls_to_the_next_with_words(void **state)
{
    struct rlimit before, none;
    struct vv_tracker *tracker = NULL;

    (void)state;
    (void)unsetenv("VARVE_DIRTY");
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){ .rlim_cur = 0, .rlim_max = before.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    const varve_status forced = vv_tracker_new(VV_DIRTY_ARMED, &tracker);
    const bool named = strstr(vv_words(), "armed") != NULL && strstr(vv_words(), "userfaultfd") != NULL;
    const varve_status best = vv_tracker_new(VV_DIRTY_BEST, &tracker);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(forced, VARVE_UNSUPPORTED);
    assert_true(named);
    assert_int_equal(best, VARVE_OK);
    assert_int_equal(vv_tracker_rung(tracker), VV_DIRTY_COMPARE);
    assert_non_null(strstr(vv_tracker_why(tracker), "pagemap"));
    vv_tracker_free(tracker);
}

/* Make one, with each allocation failing in turn: how many there were; 0 when something else than MEMORY came out. */
static unsigned allocations_of_a_tracker(void)
{
    struct vv_tracker *tracker = NULL;

    for (unsigned nth = 1;; nth++) {
        vv_alloc_fail_at(nth);
        const varve_status rc = vv_tracker_new(VV_DIRTY_BEST, &tracker);
        if (!vv_alloc_disarm()) {
            vv_tracker_free(tracker);
            return rc == VARVE_OK ? nth - 1 : 0;
        }
        if (rc != VARVE_MEMORY || tracker != NULL)
            return 0;
    }
}

/* What a child of ours, in which no rung was tested yet, has to say. */
static bool in_a_child(bool (*holds)(void))
{
    int status = 0;
    const pid_t child = fork();

    if (child == 0)
        _exit(holds() ? 0 : 1);
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static bool survives(void)
{
    return allocations_of_a_tracker() > 0;
}

static void making_a_tracker_survives_running_out_of_memory(void **state)
{
    (void)state;
    (void)unsetenv("VARVE_DIRTY");
    assert_true(in_a_child(survives));
}

/* The self-test allocates, so that it shows whether it was made: by the first tracker, no second one, and again by the
 * first of a child. */
static unsigned first_takes;

static bool takes_as_much(void)
{
    return allocations_of_a_tracker() == first_takes;
}

static bool tests_itself_once(void)
{
    first_takes = allocations_of_a_tracker();
    const unsigned second = allocations_of_a_tracker();

    return second > 0 && second < first_takes && in_a_child(takes_as_much) &&
           allocations_of_a_tracker() == second;
}

static void a_rung_is_tested_once_in_a_process(void **state)
{
    struct vv_tracker *tracker = NULL;

    (void)state;
    (void)unsetenv("VARVE_DIRTY");
    assert_int_equal(vv_tracker_new(VV_DIRTY_BEST, &tracker), VARVE_OK);
    const bool tested = vv_tracker_rung(tracker) != VV_DIRTY_COMPARE;
    vv_tracker_free(tracker);
    assert_true(in_a_child(tests_itself_once) == tested); /* of comparing there is nothing to test */
}

/* An inherited descriptor looks at the parent: a child is told so instead of an answer. */
static void a_forked_child_gets_no_answer(void **state)
{
    struct vv_page_list list = { .pages = NULL };
    struct vv_tracker *tracker = NULL;
    int status = 0;

    (void)state;
    for (int r = 0; r < RUNG_COUNT; r++) {
        uint8_t *bytes = map_range(16 * PAGE, -1);
        if (!tracker_on(asking_rungs[r], &tracker)) {
            (void)munmap(bytes, 16 * PAGE);
            continue;
        }
        assert_int_equal(vv_dirty_register(tracker, bytes, 16 * PAGE), VARVE_OK);
        assert_int_equal(vv_dirty_arm(tracker, bytes, 16 * PAGE), VARVE_OK);
        touch(bytes, 3);
        assert_false(vv_tracker_inherited(tracker));
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            const bool refused = vv_dirty_take(tracker, bytes, 16 * PAGE, &list) == VARVE_MISUSE &&
                                 vv_dirty_peek(tracker, bytes, 16 * PAGE, &list) == VARVE_MISUSE &&
                                 vv_dirty_arm(tracker, bytes, 16 * PAGE) == VARVE_MISUSE &&
                                 vv_dirty_register(tracker, bytes, 16 * PAGE) == VARVE_MISUSE;
            struct vv_tracker *own = NULL; /* one of its own works */
            const bool works = vv_tracker_new(asking_rungs[r], &own) == VARVE_OK;
            _exit(refused && works && vv_tracker_inherited(tracker) ? 0 : 1);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        assert_int_equal(vv_dirty_take(tracker, bytes, 16 * PAGE, &list), VARVE_OK);
        assert_int_equal(list.count, 1);
        assert_int_equal(list.pages[0], 3);
        vv_tracker_free(tracker);
        (void)munmap(bytes, 16 * PAGE);
    }
    vv_page_list_release(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_rung_here_is_armed),
        cmocka_unit_test(the_environment_forces_a_rung),
        cmocka_unit_test(a_rung_that_fails_falls_to_the_next_with_words),
        cmocka_unit_test(making_a_tracker_survives_running_out_of_memory),
        cmocka_unit_test(a_rung_is_tested_once_in_a_process),
        cmocka_unit_test(a_forked_child_gets_no_answer),
        cmocka_unit_test(every_region_is_named_once_and_in_order),
        cmocka_unit_test(a_sparse_take_names_private_pages_once),
        cmocka_unit_test(running_out_of_memory_loses_no_mark),
        cmocka_unit_test(marks_survive_protection_and_go_with_the_page),
        cmocka_unit_test(random_work_misses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
