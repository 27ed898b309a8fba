/* dirty.c - what the kernel knows about written pages, and how far to trust it.
 *
 *   tracker   a userfaultfd (armed), a pagemap descriptor (armed, private, pagemap), and one page that the
 *             kernel empties in a forked child, so that a child never asks about its parent's memory
 *   mark      armed: a page whose write-protect bit is gone was written. UFFDIO_WRITEPROTECT sets the bit on
 *             every page of a range, also on those that do not exist yet; PAGEMAP_SCAN tells where it is gone
 *             and sets it again, page by page under the page table's lock: no write falls between
 *   sparse    registered, not armed: the bit is asked for on private pages only, which a first write makes; what
 *             a take names carries its bit from then on
 * Laws:
 *   (D1) A mark is cleared only when there is room to name its page: the scan is limited to what the list
 *        holds, so running out of memory loses nothing.
 *   (D2) A rung is used only after it named, in this process, exactly the pages that a self-test wrote. Once is enough,
 *        for the kernel under a process stays what it is: a tracker that lives as long trusts no more. */
#include "page/dirty.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"

/* Debian 12's kernel headers know neither of these; the numbers are the kernel's own (include/uapi/linux). */
enum { FEATURE_WP_UNPOPULATED = 1 << 13, FEATURE_WP_ASYNC = 1 << 15 };

struct scan_request {
    uint64_t size, flags, start, end, walk_end, regions, region_count, max_pages;
    uint64_t inverted, all_of, any_of, answer;
};
struct region {
    uint64_t start, end, categories;
};
#define PAGEMAP_SCAN_CALL _IOWR('f', 16, struct scan_request)
enum { SCAN_TAKE = 1 << 0, SCAN_CHECK = 1 << 1 };
enum { IS_WRITTEN = 1 << 1, IS_FILE = 1 << 2, IS_PRESENT = 1 << 3, IS_SWAPPED = 1 << 4, IS_PFNZERO = 1 << 5 };

/* The kernel allocates a buffer of this many regions per call: an empty scan with 1024 costs twice one with 64.
 * Up to 512 it also keeps `walk_end` true, which it leaves stale beyond. */
enum { FEW_REGIONS = 64, MANY_REGIONS = 512 };
enum { ENTRIES_AT_ONCE = 512 }; /* of pagemap, 8 bytes each */

struct vv_tracker {
    enum vv_dirty_rung rung;
    int uffd, pagemap; /* -1: not open */
    uint8_t *here;     /* one page: 1 in the process that made it, wiped to 0 in a child */
    char why[512];     /* why better rungs fell away */
};

/* ---- Lists ---------------------------------------------------------------------------------------- */

void vv_page_list_release(struct vv_page_list *list)
{
    vv_free(list->pages);
    *list = (struct vv_page_list){ .pages = NULL };
}

static varve_status list_reserve(struct vv_page_list *list, size_t more)
{
    if (list->capacity - list->count >= more)
        return VARVE_OK;
    const size_t doubled = list->capacity * 2;
    const size_t needed = list->count + more;
    const size_t capacity = doubled > needed ? doubled : needed;
    const varve_status rc = vv_resize(&list->pages, capacity, sizeof *list->pages);
    if (rc == VARVE_OK)
        list->capacity = capacity;
    return rc;
}

static void list_add(struct vv_page_list *list, uint64_t from, uint64_t to)
{
    VV_ASSERT(to - from <= list->capacity - list->count);
    for (uint64_t page = from; page < to; page++)
        list->pages[list->count++] = (uint32_t)page;
}

/* ---- Scans ---------------------------------------------------------------------------------------- */

enum which { ALL_PRIVATE, MARKED, MARKED_PRIVATE };

static struct scan_request scan_for(enum which which, bool take)
{
    struct scan_request request = { .size = sizeof request };

    if (which != ALL_PRIVATE)
        request.flags = SCAN_CHECK | (take ? SCAN_TAKE : 0);
    if (which == MARKED) {
        /* WRITTEN and nothing else: the one combination for which the kernel has a fast path. */
        request.all_of = request.answer = IS_WRITTEN;
        return request;
    }
    request.inverted = IS_FILE | IS_PFNZERO;
    request.all_of = request.inverted | (which == MARKED_PRIVATE ? IS_WRITTEN : 0);
    request.any_of = IS_PRESENT | IS_SWAPPED;
    request.answer = IS_FILE; /* never set here, so that neighbours come as one region */
    return request;
}

/* Scan [bytes, bytes+size) and add what is found to the list, in calls that name no more than the list has room
 * for (D1). The end is reached when a call is short in both, regions and pages: a short answer in one of
 * them only says that the other was full. */
static varve_status scan(const struct vv_tracker *tracker, const uint8_t *bytes, size_t size,
                         struct scan_request request, struct vv_page_list *list)
{
    varve_status rc = VARVE_OK;
    struct region regions[MANY_REGIONS];
    uint64_t room_for = FEW_REGIONS;
    const uint64_t origin = (uintptr_t)bytes, end = origin + size;

    for (uint64_t at = origin; at < end;) {
        TRY(list_reserve(list, room_for));
        const uint64_t room = list->capacity - list->count;
        request.start = at;
        request.end = end;
        request.walk_end = 0;
        request.regions = (uintptr_t)regions;
        request.region_count = room_for;
        request.max_pages = room;
        const int found = ioctl(tracker->pagemap, PAGEMAP_SCAN_CALL, &request);
        if (found < 0) {
            rc = vv_fail_errno(errno, "scan %zu bytes of memory for written pages (PAGEMAP_SCAN)", size);
            rc = rc == VARVE_MEMORY ? VARVE_IO : rc; /* MEMORY promises that no mark was lost */
            goto out;
        }
        uint64_t named = 0;
        for (int i = 0; i < found; i++) {
            list_add(list, (regions[i].start - origin) / VV_PAGE_SIZE,
                     (regions[i].end - origin) / VV_PAGE_SIZE);
            named += (regions[i].end - regions[i].start) / VV_PAGE_SIZE;
        }
        if ((uint64_t)found < room_for && named < room)
            break;
        const uint64_t last = found > 0 ? regions[found - 1].end : at;
        at = request.walk_end > last ? request.walk_end : last;
        room_for = MANY_REGIONS;
    }
out:
    return rc;
}

/* As bits 63 present, 62 swapped, 61 file page or shared; the zero page reads as private here, and 58 is a guard,
 * which looks swapped. */
static bool entry_is_private(uint64_t entry)
{
    return (entry >> 62 & 3) != 0 && (entry >> 61 & 1) == 0 && (entry >> 58 & 1) == 0;
}

static varve_status read_pagemap(const struct vv_tracker *tracker, const uint8_t *bytes, size_t size,
                                 struct vv_page_list *list)
{
    varve_status rc = VARVE_OK;
    uint64_t entries[ENTRIES_AT_ONCE];
    const uint64_t first = (uintptr_t)bytes / VV_PAGE_SIZE, count = size / VV_PAGE_SIZE;

    for (uint64_t page = 0; page < count;) {
        const uint64_t left = count - page, wanted = left < ENTRIES_AT_ONCE ? left : ENTRIES_AT_ONCE;
        const ssize_t got = pread(tracker->pagemap, entries, wanted * 8, (off_t)((first + page) * 8));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 8) {
            rc = vv_fail_errno(got < 0 ? errno : EIO, "read /proc/self/pagemap");
            goto out;
        }
        TRY(list_reserve(list, wanted));
        for (uint64_t i = 0; i < (uint64_t)got / 8; i++)
            if (entry_is_private(entries[i]))
                list_add(list, page + i, page + i + 1);
        page += (uint64_t)got / 8;
    }
out:
    return rc;
}

/* ---- The tracked range ---------------------------------------------------------------------------- */

bool vv_tracker_inherited(const struct vv_tracker *tracker)
{
    return tracker->here[0] == 0;
}

static varve_status check_process(const struct vv_tracker *tracker)
{
    if (vv_tracker_inherited(tracker))
        return vv_fail(VARVE_MISUSE, "this process is a forked child: open the store again here, or exec");
    return VARVE_OK;
}

varve_status vv_dirty_register(struct vv_tracker *tracker, uint8_t *bytes, size_t reserved)
{
    struct uffdio_register request = { .range = { (uintptr_t)bytes, reserved },
                                       .mode = UFFDIO_REGISTER_MODE_WP };
    const varve_status rc = check_process(tracker);

    if (rc != VARVE_OK || tracker->rung != VV_DIRTY_ARMED)
        return rc;
    if (ioctl(tracker->uffd, UFFDIO_REGISTER, &request) != 0)
        return vv_fail_errno(errno, "register %zu bytes of memory with userfaultfd", reserved);
    return VARVE_OK;
}

varve_status vv_dirty_arm(struct vv_tracker *tracker, uint8_t *bytes, size_t size)
{
    const varve_status rc = check_process(tracker);

    if (rc != VARVE_OK || tracker->rung != VV_DIRTY_ARMED || size == 0)
        return rc;
    for (;;) {
        struct uffdio_writeprotect request = { .range = { (uintptr_t)bytes, size },
                                               .mode = UFFDIO_WRITEPROTECT_MODE_WP };
        if (ioctl(tracker->uffd, UFFDIO_WRITEPROTECT, &request) == 0)
            return VARVE_OK;
        if (errno != EAGAIN) /* EAGAIN: the address space was just changing */
            return vv_fail_errno(errno, "watch %zu bytes of memory (UFFDIO_WRITEPROTECT)", size);
    }
}

static varve_status look(struct vv_tracker *tracker, const uint8_t *bytes, size_t size, enum which which,
                         bool take, struct vv_page_list *list)
{
    const varve_status rc = check_process(tracker);

    VV_ASSERT(size % VV_PAGE_SIZE == 0);
    list->count = 0;
    if (rc != VARVE_OK)
        return rc;
    switch (tracker->rung) {
    case VV_DIRTY_ARMED:
        return scan(tracker, bytes, size, scan_for(which, take), list);
    case VV_DIRTY_PRIVATE:
        return scan(tracker, bytes, size, scan_for(ALL_PRIVATE, false), list);
    case VV_DIRTY_PAGEMAP:
        return read_pagemap(tracker, bytes, size, list);
    case VV_DIRTY_BEST:
    case VV_DIRTY_COMPARE:
        break;
    }
    return vv_fail(VARVE_UNSUPPORTED, "this kernel does not tell which pages were written");
}

varve_status vv_dirty_take(struct vv_tracker *tracker, uint8_t *bytes, size_t size, struct vv_page_list *list)
{
    return look(tracker, bytes, size, MARKED, true, list);
}

varve_status vv_dirty_peek(struct vv_tracker *tracker, uint8_t *bytes, size_t size, struct vv_page_list *list)
{
    return look(tracker, bytes, size, MARKED, false, list);
}

varve_status vv_dirty_take_sparse(struct vv_tracker *tracker, uint8_t *bytes, size_t size,
                                  struct vv_page_list *list)
{
    return look(tracker, bytes, size, MARKED_PRIVATE, true, list);
}

varve_status vv_dirty_peek_sparse(struct vv_tracker *tracker, uint8_t *bytes, size_t size,
                                  struct vv_page_list *list)
{
    return look(tracker, bytes, size, MARKED_PRIVATE, false, list);
}

varve_status vv_dirty_private(struct vv_tracker *tracker, const uint8_t *bytes, size_t size,
                              struct vv_page_list *list)
{
    return look(tracker, bytes, size, ALL_PRIVATE, false, list);
}

/* ---- The self-test -------------------------------------------------------------------------------- */

enum {
    TEST_RESERVED = 1040, /* pages: more than two page tables, wherever it comes to lie */
    TEST_SIZE = 1032,     /* the rest is grown into */
    TEST_WRITES = 5
};

/* The list must hold exactly the `count` pages wanted. */
static varve_status expect_pages(const struct vv_page_list *list, const uint32_t *wanted, size_t count,
                                 const char *when)
{
    if (list->count == count && (count == 0 || memcmp(list->pages, wanted, count * sizeof *wanted) == 0))
        return VARVE_OK;
    return vv_fail(VARVE_UNSUPPORTED, "the kernel named %zu pages instead of %zu %s", list->count, count,
                   when);
}

static varve_status take_and_expect(struct vv_tracker *tracker, uint8_t *bytes, size_t pages,
                                    const uint32_t *wanted, size_t count, const char *when)
{
    varve_status rc = VARVE_OK;
    struct vv_page_list list = { .pages = NULL };

    TRY(vv_dirty_take(tracker, bytes, pages * VV_PAGE_SIZE, &list));
    TRY(expect_pages(&list, wanted, count, when));
out:
    vv_page_list_release(&list);
    return rc;
}

static varve_status open_for_writes(uint8_t *bytes, size_t from, size_t to)
{
    if (mprotect(bytes + from * VV_PAGE_SIZE, (to - from) * VV_PAGE_SIZE, PROT_READ | PROT_WRITE) != 0)
        return vv_fail_errno(errno, "open memory for writing");
    return VARVE_OK;
}

static void write_page(uint8_t *bytes, size_t page)
{
    ((volatile uint8_t *)bytes)[page * VV_PAGE_SIZE + 5]++;
}

/* Registered and not armed: what was written, before it was registered too, is named once, and again when written
 * again. */
static varve_status test_sparse(struct vv_tracker *tracker, uint8_t *bytes)
{
    static const uint32_t written[] = { 0, 3, 700 }, again[] = { 3 };
    varve_status rc = VARVE_OK;
    struct vv_page_list list = { .pages = NULL };
    const size_t size = (size_t)TEST_SIZE * VV_PAGE_SIZE;

    write_page(bytes, written[0]);
    write_page(bytes, written[1]);
    TRY(vv_dirty_register(tracker, bytes, TEST_RESERVED * VV_PAGE_SIZE));
    write_page(bytes, written[2]);
    TRY(vv_dirty_private(tracker, bytes, size, &list));
    TRY(expect_pages(&list, written, sizeof written / sizeof *written, "that are private"));
    TRY(vv_dirty_take_sparse(tracker, bytes, size, &list));
    TRY(expect_pages(&list, written, sizeof written / sizeof *written, "before it was armed"));
    write_page(bytes, again[0]);
    TRY(vv_dirty_take_sparse(tracker, bytes, size, &list));
    TRY(expect_pages(&list, again, 1, "after a second write before it was armed"));
out:
    vv_page_list_release(&list);
    return rc;
}

/* Armed: a page filled before arming is clean; pages beside it, far from it, at both ends, and after growth are
 * named when written, once each, and again when written again. */
static varve_status test_armed(struct vv_tracker *tracker, uint8_t *bytes)
{
    static const uint32_t written[TEST_WRITES] = { 1, 2, 600, 1031, 1035 }, again[] = { 2 };
    varve_status rc = VARVE_OK;

    TRY(test_sparse(tracker, bytes));
    write_page(bytes, 0);
    TRY(vv_dirty_arm(tracker, bytes, TEST_SIZE * VV_PAGE_SIZE));
    TRY(open_for_writes(bytes, TEST_SIZE, TEST_RESERVED));
    TRY(vv_dirty_arm(tracker, bytes + TEST_SIZE * VV_PAGE_SIZE, (TEST_RESERVED - TEST_SIZE) * VV_PAGE_SIZE));
    TRY(take_and_expect(tracker, bytes, TEST_RESERVED, NULL, 0, "before a write"));
    for (size_t i = 0; i < TEST_WRITES; i++)
        write_page(bytes, written[i]);
    TRY(take_and_expect(tracker, bytes, TEST_RESERVED, written, TEST_WRITES, "after the first writes"));
    TRY(take_and_expect(tracker, bytes, TEST_RESERVED, NULL, 0, "after all were taken"));
    write_page(bytes, again[0]);
    TRY(take_and_expect(tracker, bytes, TEST_RESERVED, again, 1, "after a second write"));
out:
    return rc;
}

/* The private rungs: what was written is named, for as long as it is private. */
static varve_status test_private(struct vv_tracker *tracker, uint8_t *bytes)
{
    static const uint32_t written[TEST_WRITES] = { 0, 2, 600, 1031, 1035 };
    varve_status rc = VARVE_OK;

    TRY(take_and_expect(tracker, bytes, TEST_SIZE, NULL, 0, "before a write"));
    TRY(open_for_writes(bytes, TEST_SIZE, TEST_RESERVED));
    for (size_t i = 0; i < TEST_WRITES; i++)
        write_page(bytes, written[i]);
    TRY(take_and_expect(tracker, bytes, TEST_RESERVED, written, TEST_WRITES, "after the first writes"));
    TRY(take_and_expect(tracker, bytes, TEST_RESERVED, written, TEST_WRITES, "after a second look"));
out:
    return rc;
}

static varve_status self_test(struct vv_tracker *tracker)
{
    varve_status rc = VARVE_OK;
    const size_t reserved = (size_t)TEST_RESERVED * VV_PAGE_SIZE;
    uint8_t *bytes = mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (bytes == MAP_FAILED)
        return vv_fail_errno(errno, "map %zu bytes", reserved);
    (void)madvise(bytes, reserved, MADV_NOHUGEPAGE); /* refused where the kernel has no huge pages */
    (void)munlock(bytes, reserved);                  /* as images do under mlockall(MCL_FUTURE) */
    TRY(open_for_writes(bytes, 0, TEST_SIZE));
    if (tracker->rung == VV_DIRTY_ARMED)
        TRY(test_armed(tracker, bytes));
    else
        TRY(test_private(tracker, bytes));
out:
    (void)munmap(bytes, reserved);
    return rc;
}

/* The rungs that passed in this process: its id, shifted, and a bit for each. A forked child has another id, and so none
 * (D2). What failed is tried again, for descriptors or memory may have been short. */
static _Atomic uint64_t passed;
enum { PASSED_BITS = 8 };

static uint64_t passed_here(void)
{
    const uint64_t all = atomic_load(&passed);
    const uint64_t process = (uint64_t)getpid() << PASSED_BITS;

    return all >> PASSED_BITS << PASSED_BITS == process ? all : process;
}

/* Of two threads that note one at once, one may be forgotten: then it is tested once more. */
static varve_status test_once(struct vv_tracker *tracker)
{
    varve_status rc = VARVE_OK;
    const uint64_t bit = UINT64_C(1) << tracker->rung;

    if ((passed_here() & bit) != 0)
        goto out;
    TRY(self_test(tracker));
    atomic_store(&passed, passed_here() | bit);
out:
    return rc;
}

/* ---- The tracker ---------------------------------------------------------------------------------- */

static const char *const rung_names[] = { "best", "armed", "private", "pagemap", "compare" };

const char *vv_dirty_rung_name(enum vv_dirty_rung rung)
{
    VV_ASSERT(rung >= VV_DIRTY_BEST && rung <= VV_DIRTY_COMPARE);
    return rung_names[rung];
}

enum vv_dirty_rung vv_tracker_rung(const struct vv_tracker *tracker)
{
    return tracker->rung;
}

const char *vv_tracker_why(const struct vv_tracker *tracker)
{
    return tracker->why;
}

static void close_descriptors(struct vv_tracker *tracker)
{
    if (tracker->uffd >= 0)
        (void)close(tracker->uffd);
    if (tracker->pagemap >= 0)
        (void)close(tracker->pagemap);
    tracker->uffd = tracker->pagemap = -1;
}

static varve_status open_userfaultfd(struct vv_tracker *tracker)
{
    struct uffdio_api api = { .api = UFFD_API, .features = FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED };

    tracker->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    if (tracker->uffd < 0)
        return vv_fail_errno(errno, "userfaultfd");
    if (ioctl(tracker->uffd, UFFDIO_API, &api) != 0)
        return vv_fail_errno(errno, "userfaultfd without WP_ASYNC");
    return VARVE_OK;
}

static varve_status open_pagemap(struct vv_tracker *tracker)
{
    tracker->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (tracker->pagemap < 0)
        return vv_fail_errno(errno, "open /proc/self/pagemap");
    return VARVE_OK;
}

/* Open what `rung` needs and try it (D2). On failure it is closed again. */
static varve_status climb(struct vv_tracker *tracker, enum vv_dirty_rung rung)
{
    varve_status rc = VARVE_OK;

    tracker->rung = rung;
    if (rung == VV_DIRTY_COMPARE)
        return VARVE_OK;
    if (rung == VV_DIRTY_ARMED)
        TRY(open_userfaultfd(tracker));
    TRY(open_pagemap(tracker));
    TRY(test_once(tracker));
out:
    if (rc != VARVE_OK)
        close_descriptors(tracker);
    return rc;
}

static void remember_why(struct vv_tracker *tracker, enum vv_dirty_rung rung)
{
    const size_t used = strlen(tracker->why);

    (void)snprintf(tracker->why + used, sizeof tracker->why - used, "%s%s: %s", used > 0 ? "; " : "",
                   vv_dirty_rung_name(rung), vv_words());
}

static varve_status rung_of_environment(enum vv_dirty_rung *rung)
{
    const char *name = getenv("VARVE_DIRTY");

    if (name == NULL || name[0] == '\0')
        return VARVE_OK;
    for (enum vv_dirty_rung i = VV_DIRTY_BEST; i <= VV_DIRTY_COMPARE; i++) {
        if (strcmp(name, rung_names[i]) == 0) {
            *rung = i;
            return VARVE_OK;
        }
    }
    return vv_fail(VARVE_MISUSE, "VARVE_DIRTY=%s: expected best, armed, private, pagemap or compare", name);
}

static varve_status map_here(struct vv_tracker *tracker)
{
    uint8_t *here = mmap(NULL, VV_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (here == MAP_FAILED)
        return vv_fail_errno(errno, "map a page");
    tracker->here = here;
    if (madvise(here, VV_PAGE_SIZE, MADV_WIPEONFORK) != 0)
        return vv_fail_errno(errno, "mark a page as wiped on fork");
    here[0] = 1;
    return VARVE_OK;
}

varve_status vv_tracker_new(enum vv_dirty_rung rung, struct vv_tracker **out_tracker)
{
    varve_status rc = VARVE_OK;
    struct vv_tracker *tracker = NULL;

    *out_tracker = NULL;
    if (sysconf(_SC_PAGESIZE) != VV_PAGE_SIZE)
        return vv_fail(VARVE_UNSUPPORTED, "this machine's pages have %ld bytes; only 4096 is supported",
                       sysconf(_SC_PAGESIZE));
    TRY(vv_alloc(&tracker, 1, sizeof *tracker));
    tracker->uffd = tracker->pagemap = -1;
    TRY(map_here(tracker));
    if (rung == VV_DIRTY_BEST)
        TRY(rung_of_environment(&rung));
    if (rung != VV_DIRTY_BEST) {
        rc = climb(tracker, rung);
        if (rc != VARVE_OK && rc != VARVE_MEMORY)
            rc = vv_fail_within(VARVE_UNSUPPORTED, "dirty pages, rung %s", vv_dirty_rung_name(rung));
        goto out;
    }
    for (rung = VV_DIRTY_ARMED; (rc = climb(tracker, rung)) != VARVE_OK; rung++) {
        if (rc == VARVE_MEMORY)
            goto out;
        remember_why(tracker, rung);
    }
out:
    if (rc != VARVE_OK) {
        vv_tracker_free(tracker);
        return rc;
    }
    *out_tracker = tracker;
    return VARVE_OK;
}

void vv_tracker_free(struct vv_tracker *tracker)
{
    if (tracker == NULL)
        return;
    close_descriptors(tracker);
    if (tracker->here != NULL)
        (void)munmap(tracker->here, VV_PAGE_SIZE);
    vv_free(tracker);
}
