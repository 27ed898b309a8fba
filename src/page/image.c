/* image.c - one mapped memory, what changed in it, and the way back.
 *
 *   bytes      the mapping; the guest writes here at any time between two calls on the image
 *   written    set of pages: may differ from what they were at the last look (kernel marks already taken)
 *   hot        a few pages that were written lately and are left marked: written again they make no fault, so
 *              every look compares them; when too many of them turn out quiet all marks are taken anew
 *   shadow     per page: its bytes at the last look, when they may differ from the base; set `changed` says where
 *   base       per page: its base bytes, when memory has them; set `based` says where. Else the file's, while the
 *              page is backed and has not strayed; else zeros beyond the base's length, else `read_base`; on
 *              rungs that keep copies (all but armed): else zeros
 *   backing    the file's pages, twice: privately in `bytes`, for the guest (not when the image only leans on it); and
 *              shared in `view`, read-only, which is what base bytes are read from once a page was overwritten
 *   watched    armed rung: userfaultfd has the range. A backed image does without until a look has something to take: of
 *              a watched file the kernel maps page by page, of another one sixteen at a time. Meanwhile all that is
 *              private counts as written, and what was filled on top has copies to be compared with
 *   sparse     armed rung: only private pages carry marks. Any other page becomes private by its first write
 *   levels     per level: entries {page, bytes at the level's moment (NULL: the base's)}, for pages that the
 *              level had and that changed between its moment and the last look
 *   news       a bit for each 64 pages, some of which are in `written` or `changed`: what is few is found fast
 *   changes    what was told last, and the runs of bytes that differ; they are what a rebase puts into base copies, so
 *              that a base is what was committed whoever wrote meanwhile, and only those bytes are touched
 *   holder     per page: the topmost level that has an entry for it; an entry remembers the holder before
 *   arena      all those page copies: one free list, given back when little of it is in use
 * Laws of this file, beside those of image.h:
 *   (M1) bytes of page p at the last look are: its shadow, else its base bytes. A page that is neither in
 *        `written` nor hot nor marked by the kernel since still has them.
 *   (M2) bytes of page p at a level's moment are: the entry of the lowest level from there up that has one, else
 *        its bytes at the last look. So a look that finds p changed gives the *top* level those, once.
 *   (M3) a failure leaves M1 and M2 true: a page leaves `written` only when its shadow has been made.
 * Moves:  LOOK      take the marks, shadow what changed, give the top level what was there      [look]
 *         BACK      hand entries back to shadows from the top down, then copy shadows to bytes   [go_back]
 *         COMMIT    compare written and changed pages with the base                              [vv_image_changes]
 *         REBASE    copies of the changed pages become base bytes; shadows go                    [vv_image_rebase]
 *         MOVE      another file below, what it has not on top of it                             [vv_image_move]
 *         LEAN      base bytes from another file, the mapping as it was                          [vv_image_lean] */
#include "page/image.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/alloc.h"
#include "base/clock.h"

static const uint64_t default_reserve = UINT64_C(4) << 30;
static const uint64_t default_guard = VV_IMAGE_GUARD;
static const uint64_t most_reserve = UINT64_C(1) << 44; /* page indices have 32 bits */

static const uint8_t zero_page[VV_PAGE_SIZE];

/* ---- The arena of page copies --------------------------------------------------------------------- */

enum { FIRST_CHUNK = 16, LAST_CHUNK = 512 }; /* pages */

struct chunk {
    uint8_t *bytes;
    size_t page_count;
};

struct arena {
    struct chunk *chunks;
    size_t chunk_count, chunk_capacity;
    uint8_t *free;     /* pages given back; each begins with the address of the next */
    size_t unused;     /* pages of the last chunk that were never handed out */
    size_t page_count; /* pages in all chunks */
    size_t used;       /* pages handed out */
};

/* Full chunks are mapped as huge pages where the system has them: one fault instead of 512. */
static varve_status map_chunk(struct chunk *chunk)
{
    const size_t size = (size_t)LAST_CHUNK * VV_PAGE_SIZE;
    uint8_t *bytes = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (bytes == MAP_FAILED)
        return vv_fail_errno(errno, "map %zu bytes for copies of pages", size);
    const size_t before = (size - (uintptr_t)bytes % size) % size;
    if (before > 0)
        (void)munmap(bytes, before);
    (void)munmap(bytes + before + size, size - before);
    (void)madvise(bytes + before, size, MADV_HUGEPAGE);
    chunk->bytes = bytes + before;
    return VARVE_OK;
}

static void release_chunk(struct chunk *chunk)
{
    if (chunk->page_count == LAST_CHUNK)
        (void)munmap(chunk->bytes, (size_t)LAST_CHUNK * VV_PAGE_SIZE);
    else
        vv_free(chunk->bytes);
}

static void arena_release(struct arena *arena)
{
    for (size_t i = 0; i < arena->chunk_count; i++)
        release_chunk(&arena->chunks[i]);
    vv_free(arena->chunks);
    *arena = (struct arena){ .chunks = NULL };
}

static varve_status arena_add_chunk(struct arena *arena)
{
    varve_status rc = VARVE_OK;
    struct chunk chunk = { .bytes = NULL, .page_count = FIRST_CHUNK };

    if (arena->chunk_count == arena->chunk_capacity) {
        TRY(vv_resize(&arena->chunks, arena->chunk_capacity + 16, sizeof *arena->chunks));
        arena->chunk_capacity += 16;
    }
    if (arena->page_count >= FIRST_CHUNK) /* double what is there, up to a limit */
        chunk.page_count = arena->page_count < LAST_CHUNK ? arena->page_count : LAST_CHUNK;
    if (chunk.page_count == LAST_CHUNK)
        TRY(map_chunk(&chunk));
    else
        TRY(vv_alloc(&chunk.bytes, chunk.page_count, VV_PAGE_SIZE));
    arena->chunks[arena->chunk_count++] = chunk;
    arena->page_count += chunk.page_count;
    arena->unused = chunk.page_count;
out:
    return rc;
}

/* A page of any content. */
static varve_status arena_take(struct arena *arena, uint8_t **page)
{
    varve_status rc = VARVE_OK;

    if (arena->free != NULL) {
        *page = arena->free;
        memcpy(&arena->free, *page, sizeof arena->free);
    } else {
        if (arena->unused == 0)
            TRY(arena_add_chunk(arena));
        const struct chunk *last = &arena->chunks[arena->chunk_count - 1];
        *page = last->bytes + (last->page_count - arena->unused) * VV_PAGE_SIZE;
        arena->unused--;
    }
    arena->used++;
out:
    return rc;
}

static void arena_give(struct arena *arena, uint8_t *page)
{
    if (page == NULL)
        return;
    memcpy(page, &arena->free, sizeof arena->free);
    arena->free = page;
    arena->used--;
}

/* ---- The image ------------------------------------------------------------------------------------ */

enum page_set {
    WRITTEN = 1 << 0,
    CHANGED = 1 << 1,
    BASED = 1 << 2,
    PRIVATE = 1 << 3,
    STRAYED = 1 << 4, /* backed, and its base is not the file's */
    PROVEN = 1 << 5,  /* the file's bytes were compared with their hash */
    SET_COUNT = 6
};

/* The sets of 64 pages, side by side. */
struct group {
    uint64_t set[SET_COUNT];
};

struct page_info {
    uint8_t *shadow; /* bytes at the last look; NULL: the base's (M1) */
    uint8_t *base;   /* base bytes; NULL: see `base` above */
    uint64_t holder; /* id of the topmost level that has an entry; stale when that level is gone */
};

struct entry {
    uint8_t *bytes; /* at the level's moment; NULL: the base's */
    uint64_t holder_before;
    uint32_t page;
};

struct level {
    uint32_t depth; /* rises along the stack */
    uint64_t id;    /* never used twice; rises along the stack */
    uint64_t size;  /* length at its moment; never falls along the stack */
    struct entry *entries;
    size_t count, capacity; /* the room stays when the level goes: calls come again */
};

struct vv_image {
    struct vv_tracker *tracker;
    uint8_t *bytes; /* private mapping, never moves */
    uint64_t reserve, guard, limit;
    uint64_t size;      /* multiple of a page; bytes beyond are PROT_NONE and zero when opened */
    uint64_t base_size; /* never above size */
    uint64_t back_size; /* while torn: the length to go back to */
    vv_base_fn read_base;
    void *context;
    uint64_t note;
    bool armed, exposed;
    bool placed; /* at an address that was asked for */
    bool copies; /* every base page that is not zero is in memory: all rungs but armed */
    bool torn;   /* a way back broke off: it ends at `back_size`, and at M1 for every page in `written` */
    bool lost;   /* the kernel's marks cannot be trusted: everything counts as written */

    struct vv_backing backing; /* no pages: none; the file is not looked at again */
    const uint8_t *view;       /* the file's pages, read-only */
    bool below;                /* `bytes` has them too */
    bool watched;              /* false: there are no marks */
    bool sparse;               /* never with `copies` */
    uint64_t overspent_ns;     /* what sparse looks cost more than looks at an armed image would have */

    struct page_info *pages;
    struct group *groups;
    struct vv_lineage *lineages; /* NULL until a page has runs, and after growth of the tables */
    uint64_t capacity;           /* pages that all have room for, a multiple of 64 */
    uint64_t *news; /* by the limit; bits of groups that hold none may stay until they are next cleared */
    bool pending;   /* false: `written` is empty */
    uint64_t based; /* pages in BASED */
    uint64_t private_count; /* pages in PRIVATE: filled or written at some time */
    struct arena arena;

    struct level *levels;
    size_t level_count, level_capacity, level_made; /* made: have entries to free */
    uint64_t next_id;

    uint64_t user;  /* number of the thread that entered; 0: nobody promises anything */
    uint64_t quiet; /* page faults of that thread at the last look, plus 1; 0: unknown */

    struct vv_page_list found, hot;
    bool busy;     /* the last take found more than can be hot: do not peek first */
    size_t wasted; /* hot pages that a look compared and found unchanged, since the last take */
    struct vv_image_change *changes;
    size_t change_count, change_capacity;
    struct vv_bytes runs; /* of `changes`, in their order */
    bool told;            /* `changes` is what a look would find, but for what was written since */
};

static uint64_t page_count(const struct vv_image *image)
{
    return image->size / VV_PAGE_SIZE;
}

static uint8_t *page_bytes(const struct vv_image *image, uint64_t page)
{
    return image->bytes + page * VV_PAGE_SIZE;
}

static bool same_page(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, VV_PAGE_SIZE) == 0;
}

static void image_check(const struct vv_image *image)
{
    VV_ASSERT(image->base_size <= image->size);
    VV_ASSERT(image->size <= image->limit);
    VV_ASSERT(image->size % VV_PAGE_SIZE == 0);
    VV_ASSERT(page_count(image) <= image->capacity);
    VV_ASSERT(image->backing.pages <= page_count(image));
    VV_ASSERT(!(image->sparse && image->copies));
    if (image->level_count > 0) {
        const struct level *top = &image->levels[image->level_count - 1];
        VV_ASSERT(top->size <= image->size);
        VV_ASSERT(top->id < image->next_id);
    }
}

/* ---- Sets of pages -------------------------------------------------------------------------------- */

static bool page_in(const struct vv_image *image, uint64_t page, unsigned which)
{
    const struct group *group = &image->groups[page / 64];

    for (unsigned i = 0; i < SET_COUNT; i++)
        if ((which & 1u << i) != 0 && (group->set[i] >> page % 64 & 1) != 0)
            return true;
    return false;
}

static unsigned set_number(enum page_set which)
{
    return (unsigned)__builtin_ctz(which);
}

static void page_add(struct vv_image *image, uint64_t page, enum page_set which)
{
    if ((which & (WRITTEN | CHANGED)) != 0)
        image->news[page / 4096] |= UINT64_C(1) << page / 64 % 64;
    image->groups[page / 64].set[set_number(which)] |= UINT64_C(1) << page % 64;
}

static void page_drop(struct vv_image *image, uint64_t page, enum page_set which)
{
    image->groups[page / 64].set[set_number(which)] &= ~(UINT64_C(1) << page % 64);
}

/* The first group from `group` on that `news` names; the number of groups when there is none. */
static uint64_t next_news(const struct vv_image *image, uint64_t group)
{
    const uint64_t end = image->capacity / 64;

    for (uint64_t at = group; at < end; at = (at / 64 + 1) * 64) {
        const uint64_t word = image->news[at / 64] & UINT64_MAX << at % 64;
        if (word != 0)
            return at / 64 * 64 + (uint64_t)__builtin_ctzll(word);
    }
    return end;
}

/* The first page from `from` on that is in any of the sets `which`; the page count when there is none. */
static uint64_t next_in(const struct vv_image *image, uint64_t from, unsigned which)
{
    const uint64_t end = page_count(image);
    const bool news = (which & ~(unsigned)(WRITTEN | CHANGED)) == 0;

    for (uint64_t page = from; page < end;) {
        const uint64_t here = news ? next_news(image, page / 64) : page / 64;
        if (here > page / 64)
            page = here * 64;
        if (page >= end)
            break;
        const struct group *group = &image->groups[here];
        uint64_t word = 0;
        for (unsigned i = 0; i < SET_COUNT; i++)
            word |= (which & 1u << i) != 0 ? group->set[i] : 0;
        word &= UINT64_MAX << page % 64;
        if (word != 0) {
            const uint64_t found = here * 64 + (uint64_t)__builtin_ctzll(word);
            return found < end ? found : end;
        }
        page = (here + 1) * 64;
    }
    return end;
}

static void add_private(struct vv_image *image, uint64_t page)
{
    if (!page_in(image, page, PRIVATE)) {
        page_add(image, page, PRIVATE);
        image->private_count++;
    }
}

static void add_written(struct vv_image *image, uint64_t page)
{
    page_add(image, page, WRITTEN);
    add_private(image, page);
    image->pending = true;
}

static bool is_file_page(const struct vv_image *image, uint64_t page)
{
    return page < image->backing.pages && !page_in(image, page, STRAYED);
}

static void clear_written(struct vv_image *image)
{
    const uint64_t end = image->capacity / 64;

    for (uint64_t i = 0; (i = next_news(image, i)) < end; i++) {
        image->groups[i].set[set_number(WRITTEN)] = 0;
        if (image->groups[i].set[set_number(CHANGED)] == 0)
            image->news[i / 64] &= ~(UINT64_C(1) << i % 64);
    }
    image->pending = false;
}

static void drop_shadow(struct vv_image *image, uint64_t page)
{
    arena_give(&image->arena, image->pages[page].shadow);
    image->pages[page].shadow = NULL;
    page_drop(image, page, CHANGED);
}

static void drop_base(struct vv_image *image, uint64_t page)
{
    if (image->pages[page].base == NULL)
        return;
    arena_give(&image->arena, image->pages[page].base);
    image->pages[page].base = NULL;
    page_drop(image, page, BASED);
    image->based--;
}

static void set_base(struct vv_image *image, uint64_t page, uint8_t *bytes)
{
    drop_base(image, page);
    image->pages[page].base = bytes;
    page_add(image, page, BASED);
    image->based++;
}

/* Room in the tables for `count` pages. */
static varve_status reserve_tables(struct vv_image *image, uint64_t count)
{
    varve_status rc = VARVE_OK;
    const uint64_t half_more = image->capacity + image->capacity / 2;
    uint64_t capacity = count > half_more ? count : half_more;

    if (count <= image->capacity)
        return VARVE_OK;
    if (capacity > image->limit / VV_PAGE_SIZE)
        capacity = image->limit / VV_PAGE_SIZE;
    capacity = (capacity + 63) / 64 * 64;
    if (image->capacity == 0) { /* fresh zeros from the system are cheaper than cleared ones */
        TRY(vv_alloc(&image->pages, capacity, sizeof *image->pages));
        rc = vv_alloc(&image->groups, capacity / 64, sizeof *image->groups);
        if (rc != VARVE_OK) {
            vv_free(image->pages);
            image->pages = NULL;
            goto out;
        }
    } else {
        const uint64_t more = capacity - image->capacity;
        vv_free(image->lineages);
        image->lineages = NULL;
        TRY(vv_resize(&image->pages, capacity, sizeof *image->pages));
        TRY(vv_resize(&image->groups, capacity / 64, sizeof *image->groups));
        memset(image->pages + image->capacity, 0, more * sizeof *image->pages);
        memset(image->groups + image->capacity / 64, 0, more / 64 * sizeof *image->groups);
    }
    image->capacity = capacity;
out:
    return rc;
}

/* ---- Whose faults --------------------------------------------------------------------------------- */

/* A number that no other thread of this process ever has; addresses and thread ids are used again. */
static uint64_t this_thread(void)
{
    static _Atomic uint64_t last;
    static _Thread_local uint64_t mine;

    if (mine == 0)
        mine = atomic_fetch_add(&last, 1) + 1;
    return mine;
}

static uint64_t faults_plus_one(void)
{
    struct rusage usage;

    if (getrusage(RUSAGE_THREAD, &usage) != 0)
        return 0;
    return (uint64_t)usage.ru_minflt + (uint64_t)usage.ru_majflt + 1;
}

void vv_image_enter(struct vv_image *image)
{
    const uint64_t self = this_thread();

    if (image->user != self) {
        image->user = self;
        image->quiet = 0;
    }
}

/* All pages are marked, hot or in `written`: the first write to any other page faults. */
static bool nothing_new(struct vv_image *image)
{
    if (image->user != this_thread())
        image->user = image->quiet = 0; /* a promise that was broken binds nobody */
    return image->quiet != 0 && !image->exposed && image->quiet == faults_plus_one();
}

/* Without marks a page that is private already is written without a fault. */
static void remember_faults(struct vv_image *image)
{
    if (image->user != 0 && !image->copies && !image->lost && (image->watched || image->private_count == 0))
        image->quiet = faults_plus_one();
}

/* ---- Mapping -------------------------------------------------------------------------------------- */

static varve_status map_reservation(struct vv_image *image, void *address)
{
    const size_t whole = image->reserve + image->guard;
    const int fixed = address != NULL ? MAP_FIXED_NOREPLACE : 0;
    void *bytes = mmap(address, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);

    if (bytes != MAP_FAILED && address != NULL &&
        bytes != address) { /* a kernel before 4.17 takes it as a hint */
        (void)munmap(bytes, whole);
        errno = EEXIST;
        bytes = MAP_FAILED;
    }
    if (bytes == MAP_FAILED && errno == EEXIST)
        return vv_fail(VARVE_HOST_LIMIT, "map an image at %p: something else is there", address);
    if (bytes == MAP_FAILED && errno == EAGAIN)
        return vv_fail(
            VARVE_HOST_LIMIT,
            "reserve %zu bytes of address space: the process locks its future memory (mlockall) and may "
            "not lock that much (ulimit -l)",
            whole);
    if (bytes == MAP_FAILED)
        return vv_fail_errno(errno, "reserve %zu bytes of address space", whole);
    image->bytes = bytes;
    /* A huge page would make 512 pages dirty for one; a kernel without them refuses the advice, rightly. */
    (void)madvise(bytes, whole, MADV_NOHUGEPAGE);
    if (madvise(bytes, whole, MADV_DONTFORK) != 0)
        return vv_fail_errno(errno, "keep an image out of forked children");
    /* Under mlockall(MCL_FUTURE) opening pages would fault in, and so dirty, every one of them. */
    (void)munlock(bytes, whole);
    return VARVE_OK;
}

/* Map pages of a file, or with `backing` NULL fresh ones, at an address or anywhere: closed at first, for what is opened
 * under mlockall(MCL_FUTURE) is faulted in, and so written to. */
static varve_status map_pages(void *address, uint64_t pages, const struct vv_backing *backing, int kind,
                              int access, void **mapped)
{
    const size_t size = pages * VV_PAGE_SIZE;
    const int flags = kind | MAP_NORESERVE | (address != NULL ? MAP_FIXED : 0);
    void *bytes = backing == NULL
                      ? mmap(address, size, PROT_NONE, flags | MAP_ANONYMOUS, -1, 0)
                      : mmap(address, size, PROT_NONE, flags, backing->file->fd, (off_t)backing->offset);

    if (bytes == MAP_FAILED)
        return vv_fail_errno(errno, "map %zu bytes of %s", size,
                             backing == NULL ? "memory" : backing->file->name);
    (void)madvise(bytes, size, MADV_NOHUGEPAGE);
    (void)munlock(bytes, size);
    if (madvise(bytes, size, MADV_DONTFORK) != 0 || mprotect(bytes, size, access) != 0) {
        const varve_status rc = vv_fail_errno(errno, "open %zu bytes of an image", size);
        if (address == NULL)
            (void)munmap(bytes, size);
        return rc;
    }
    *mapped = bytes;
    return VARVE_OK;
}

static varve_status map_view(const struct vv_backing *backing, const uint8_t **view)
{
    void *mapped = NULL;
    const varve_status rc = map_pages(NULL, backing->pages, backing, MAP_SHARED, PROT_READ, &mapped);

    *view = mapped;
    return rc;
}

/* Nothing of the file is mapped any more when this returns. */
static void release_backing(struct vv_image *image)
{
    const struct vv_backing backing = image->backing;

    if (image->view != NULL && !vv_tracker_inherited(image->tracker))
        (void)munmap((void *)(uintptr_t)image->view, backing.pages * VV_PAGE_SIZE);
    image->view = NULL;
    image->below = false;
    image->backing = (struct vv_backing){ .pages = 0 };
    if (backing.release != NULL)
        backing.release(backing.context);
}

/* The file's pages must all be there: what lies behind the end of a file is no memory. */
static varve_status check_backing(const struct vv_backing *backing)
{
    varve_status rc = VARVE_OK;
    uint64_t size = 0;

    VV_ASSERT(backing->offset % VV_PAGE_SIZE == 0);
    TRY(vv_file_size(backing->file, &size));
    if (backing->offset > size || backing->pages > (size - backing->offset) / VV_PAGE_SIZE)
        rc = vv_fail(VARVE_CORRUPT, "%s has %llu bytes: too short for an image of %llu pages",
                     backing->file->name, (unsigned long long)size, (unsigned long long)backing->pages);
out:
    return rc;
}

varve_status vv_image_new(struct vv_tracker *tracker, const struct vv_image_config *config,
                          struct vv_image **out_image)
{
    static const struct vv_image_config defaults = { .reserve = 0 };
    varve_status rc = VARVE_OK;
    struct vv_image *image = NULL;
    const struct vv_image_config *c = config != NULL ? config : &defaults;

    *out_image = NULL;
    TRY(vv_alloc(&image, 1, sizeof *image));
    image->tracker = tracker;
    image->reserve = (c->reserve != 0 ? c->reserve : default_reserve) / VV_PAGE_SIZE * VV_PAGE_SIZE;
    image->guard = (c->guard != 0 ? c->guard : default_guard) / VV_PAGE_SIZE * VV_PAGE_SIZE;
    image->limit =
        c->limit != 0 && c->limit < image->reserve ? c->limit / VV_PAGE_SIZE * VV_PAGE_SIZE : image->reserve;
    image->exposed = c->exposed;
    image->placed = c->address != NULL;
    image->copies = vv_tracker_rung(tracker) != VV_DIRTY_ARMED;
    image->next_id = 1;
    if (image->reserve > most_reserve || image->guard > most_reserve) {
        rc = vv_fail(VARVE_LIMIT, "an image of %llu bytes: at most %llu can be reserved",
                     (unsigned long long)image->reserve, (unsigned long long)most_reserve);
        goto out;
    }
    TRY(vv_alloc(&image->news, image->limit / VV_PAGE_SIZE / 4096 + 1, sizeof *image->news));
    TRY(map_reservation(image, c->address));
out:
    if (rc != VARVE_OK) {
        vv_image_free(image);
        return rc;
    }
    *out_image = image;
    return VARVE_OK;
}

void vv_image_free(struct vv_image *image)
{
    if (image == NULL)
        return;
    /* In a forked child the range is not mapped, and may be something else by now. */
    if (image->bytes != NULL && !vv_tracker_inherited(image->tracker))
        (void)munmap(image->bytes, image->reserve + image->guard);
    release_backing(image);
    for (size_t i = 0; i < image->level_made; i++)
        vv_free(image->levels[i].entries);
    vv_free(image->levels);
    arena_release(&image->arena);
    vv_page_list_release(&image->found);
    vv_page_list_release(&image->hot);
    vv_free(image->changes);
    vv_bytes_release(&image->runs);
    vv_free(image->news);
    vv_free(image->pages);
    vv_free(image->groups);
    vv_free(image->lineages);
    vv_free(image);
}

static varve_status open_pages(struct vv_image *image, uint64_t from, uint64_t to)
{
    if (mprotect(image->bytes + from, to - from, PROT_READ | PROT_WRITE) == 0)
        return VARVE_OK;
    (void)vv_fail_errno(errno, "grow an image from %llu to %llu bytes", (unsigned long long)from,
                        (unsigned long long)to);
    return VARVE_MEMORY;
}

/* Make the image `size` long, less than it is; what goes is zero when it comes back. */
static varve_status shrink(struct vv_image *image, uint64_t size)
{
    const uint64_t first = size / VV_PAGE_SIZE, end = page_count(image);
    uint8_t *tail = image->bytes + size;
    const size_t gone = image->size - size;

    if (mprotect(tail, gone, PROT_NONE) != 0)
        return vv_fail_errno(errno, "close %zu bytes of an image", gone);
    if (madvise(tail, gone, MADV_DONTNEED) != 0 && /* the embedder locked all memory: */
        (munlock(tail, gone) != 0 || madvise(tail, gone, MADV_DONTNEED) != 0))
        return vv_fail_errno(errno, "give %zu bytes of an image back", gone);
    for (uint64_t page = first; (page = next_in(image, page, CHANGED | BASED)) < end; page++) {
        drop_shadow(image, page);
        drop_base(image, page);
    }
    for (uint64_t page = first; (page = next_in(image, page, PRIVATE)) < end; page++) {
        page_drop(image, page, PRIVATE);
        image->private_count--;
    }
    for (uint64_t page = first; (page = next_in(image, page, WRITTEN)) < end; page++)
        page_drop(image, page, WRITTEN);
    image->size = size;
    return VARVE_OK;
}

varve_status vv_image_set_size(struct vv_image *image, uint64_t size)
{
    varve_status rc = VARVE_OK;

    VV_ASSERT(!image->armed);
    VV_ASSERT(image->backing.pages == 0);
    VV_ASSERT(size % VV_PAGE_SIZE == 0);
    if (size > image->limit)
        return vv_fail(VARVE_LIMIT, "an image of %llu bytes: its limit is %llu", (unsigned long long)size,
                       (unsigned long long)image->limit);
    if (size < image->size)
        return shrink(image, size);
    if (size == image->size)
        return VARVE_OK;
    TRY(reserve_tables(image, size / VV_PAGE_SIZE));
    TRY(open_pages(image, image->size, size));
    image->size = size;
out:
    return rc;
}

varve_status vv_image_back(struct vv_image *image, const struct vv_backing *backing)
{
    varve_status rc = VARVE_OK;
    const uint8_t *view = NULL;
    void *mapped = NULL;

    VV_ASSERT(!image->armed);
    VV_ASSERT(image->backing.pages == 0);
    VV_ASSERT(image->private_count == 0);
    VV_ASSERT(backing->pages > 0);
    VV_ASSERT(backing->pages <= page_count(image));
    TRY(check_backing(backing));
    TRY(map_view(backing, &view));
    TRY(map_pages(image->bytes, backing->pages, backing, MAP_PRIVATE, PROT_READ | PROT_WRITE, &mapped));
    image->backing = *backing;
    image->view = view;
    image->below = true;
    image->sparse = !image->copies;
    view = NULL;
out:
    if (view != NULL)
        (void)munmap((void *)(uintptr_t)view, backing->pages * VV_PAGE_SIZE);
    return rc;
}

uint64_t vv_image_backed_pages(const struct vv_image *image)
{
    return image->backing.pages;
}

bool vv_image_backed_page(const struct vv_image *image, uint64_t page, const uint8_t **bytes)
{
    if (!is_file_page(image, page))
        return false;
    *bytes = image->view + page * VV_PAGE_SIZE;
    return true;
}

void vv_image_prove(struct vv_image *image, uint64_t page)
{
    VV_ASSERT(is_file_page(image, page));
    page_add(image, page, PROVEN);
}

varve_status vv_image_fill(struct vv_image *image, uint64_t first_page, const void *bytes, uint64_t count)
{
    VV_ASSERT(!image->armed);
    VV_ASSERT(first_page <= page_count(image));
    VV_ASSERT(count <= page_count(image) - first_page);
    for (uint64_t page = first_page; page < first_page + count; page++) {
        const bool backed = page < image->backing.pages;
        if (bytes != NULL)
            memcpy(page_bytes(image, page), (const uint8_t *)bytes + (page - first_page) * VV_PAGE_SIZE,
                   VV_PAGE_SIZE);
        else if (backed || page_in(image, page, PRIVATE))
            memset(page_bytes(image, page), 0, VV_PAGE_SIZE);
        else
            continue;
        add_private(image, page);
        if (backed)
            page_add(image, page, STRAYED);
    }
    return VARVE_OK;
}

/* Keep a second copy of every page that was filled, to compare with where there are no marks. */
static varve_status copy_filled(struct vv_image *image)
{
    varve_status rc = VARVE_OK;
    const uint64_t end = page_count(image);
    uint8_t *copy = NULL;

    for (uint64_t page = 0; (page = next_in(image, page, PRIVATE)) < end; page++) {
        if (image->copies && same_page(zero_page, page_bytes(image, page)))
            continue;
        TRY(arena_take(&image->arena, &copy));
        memcpy(copy, page_bytes(image, page), VV_PAGE_SIZE);
        set_base(image, page, copy);
    }
out:
    return rc;
}

/* From here on there are marks, for private pages at first. What is mapped over is to be watched again. */
static varve_status watch(struct vv_image *image)
{
    const varve_status rc = vv_dirty_register(image->tracker, image->bytes, image->reserve + image->guard);

    if (rc == VARVE_OK)
        image->watched = true;
    return rc;
}

/* Copying what lies on top of a file is paid back when a few times as many pages of the file are read. */
enum { COPIED_MOST = 1024, READ_PER_COPY = 4 };

static bool watch_later(const struct vv_image *image)
{
    return image->backing.pages > 0 && image->private_count <= COPIED_MOST &&
           image->private_count * READ_PER_COPY <= image->backing.pages;
}

varve_status vv_image_arm(struct vv_image *image, vv_base_fn read_base, void *context)
{
    varve_status rc = VARVE_OK;

    VV_ASSERT(read_base != NULL);
    VV_ASSERT(image->level_count == 0);
    image->read_base = read_base;
    image->context = context;
    if (image->armed)
        return VARVE_OK;
    if (image->copies || watch_later(image))
        TRY(copy_filled(image));
    else
        TRY(watch(image));
    if (!image->sparse)
        TRY(vv_dirty_arm(image->tracker, image->bytes, image->size));
    else if (image->watched && image->private_count > 0) /* what was filled is marked, and is no news */
        TRY(vv_dirty_take_sparse(image->tracker, image->bytes, image->size, &image->found));
    image->base_size = image->size;
    image->armed = true;
    remember_faults(image);
    image_check(image);
out:
    return rc;
}

uint8_t *vv_image_bytes(const struct vv_image *image)
{
    return image->bytes;
}

uint64_t vv_image_size(const struct vv_image *image)
{
    return image->size;
}

uint64_t vv_image_limit(const struct vv_image *image)
{
    return image->limit;
}

uint64_t vv_image_reserve(const struct vv_image *image)
{
    return image->reserve;
}

uint64_t vv_image_span(const struct vv_image *image)
{
    return image->reserve + image->guard;
}

bool vv_image_placed(const struct vv_image *image)
{
    return image->placed;
}

uint64_t vv_image_base_size(const struct vv_image *image)
{
    return image->base_size;
}

bool vv_image_exposed(const struct vv_image *image)
{
    return image->exposed;
}

varve_status vv_image_share(struct vv_image *image, bool yes)
{
    if (image->size > 0 && madvise(image->bytes, image->size, yes ? MADV_DOFORK : MADV_DONTFORK) != 0)
        return vv_fail_errno(errno, "let a forked child have an image, or not");
    return VARVE_OK;
}

void vv_image_note(struct vv_image *image, uint64_t note)
{
    image->note = note;
}

uint64_t vv_image_noted(const struct vv_image *image)
{
    return image->note;
}

uint64_t vv_image_private_bytes(const struct vv_image *image)
{
    return (image->private_count + image->arena.page_count) * VV_PAGE_SIZE;
}

varve_status vv_image_grow(struct vv_image *image, uint64_t size)
{
    varve_status rc = VARVE_OK;
    const uint64_t before = image->size;

    VV_ASSERT(image->armed);
    image_check(image);
    if (size % VV_PAGE_SIZE != 0 || size < before)
        return vv_fail(VARVE_MISUSE, "grow from %llu to %llu bytes: a larger multiple of %u is needed",
                       (unsigned long long)before, (unsigned long long)size, VV_PAGE_SIZE);
    if (size > image->limit)
        return vv_fail(VARVE_LIMIT, "grow from %llu to %llu bytes: the limit is %llu",
                       (unsigned long long)before, (unsigned long long)size,
                       (unsigned long long)image->limit);
    if (size == before)
        return VARVE_OK;
    TRY(reserve_tables(image, size / VV_PAGE_SIZE));
    TRY(open_pages(image, before, size));
    if (!image->sparse)
        rc = vv_dirty_arm(image->tracker, image->bytes + before, size - before);
    if (rc != VARVE_OK) {
        (void)mprotect(image->bytes + before, size - before, PROT_NONE);
        goto out;
    }
    image->size = size;
out:
    return rc;
}

/* ---- Looking -------------------------------------------------------------------------------------- */

static void all_written(struct vv_image *image)
{
    for (uint64_t page = 0; page < page_count(image); page++)
        page_add(image, page, WRITTEN);
    image->pending = true;
}

/* After a take that failed with anything but MEMORY no mark means anything. */
static void distrust(struct vv_image *image, varve_status rc)
{
    if (rc != VARVE_OK && rc != VARVE_MEMORY)
        image->lost = true;
}

/* Comparing a page costs a fraction of the fault that marks it again, and a scan about as much as this many. */
enum { HOT_MOST = 128, HOT_WASTE = 64 };

enum look_mode {
    TAKE_ALL,  /* mark every page again: the first write to any page is seen from now on */
    KEEP_HOT,  /* leave a few pages writable, and look at them each time */
    ONLY_PEEK, /* leave what was written as it is: a take must follow before the next look */
};

static void add_all(struct vv_image *image, const struct vv_page_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->pages[i] < page_count(image)) /* a hot one may have gone with a shrink */
            add_written(image, list->pages[i]);
}

/* A look at an armed image costs about so much for each page of its length, and arming it so much, once (lab notes;
 * nothing but time depends on them). */
enum { ARMED_LOOK_NS = 4, ARMING_NS = 8 };

static varve_status scan_sparse(struct vv_image *image, bool taking)
{
    const uint64_t begin = vv_clock_monotonic_ns(), armed = page_count(image) * ARMED_LOOK_NS;
    const varve_status rc = (taking ? vv_dirty_take_sparse : vv_dirty_peek_sparse)(
        image->tracker, image->bytes, image->size, &image->found);
    const uint64_t spent = vv_clock_monotonic_ns() - begin;

    image->overspent_ns += spent > armed ? spent - armed : 0;
    return rc;
}

/* All that is private may be written; where nothing is, nothing need be taken, and reading stays cheap. */
static varve_status scan_unwatched(struct vv_image *image, bool taking)
{
    varve_status rc = VARVE_OK;

    TRY(vv_dirty_private(image->tracker, image->bytes, image->size, &image->found));
    if (taking && image->found.count > 0) {
        TRY(watch(image));
        TRY(scan_sparse(image, true));
    }
out:
    return rc;
}

/* After a take: mark what is not private too. On a failure it is sparse still, which is slow and right. */
static void arm_rest(struct vv_image *image)
{
    const uint64_t end = page_count(image);

    for (uint64_t from = 0, to = 0; from < end; from = to + 1) {
        to = next_in(image, from, PRIVATE);
        if (vv_dirty_arm(image->tracker, page_bytes(image, from), (to - from) * VV_PAGE_SIZE) != VARVE_OK)
            return;
    }
    image->sparse = false;
}

/* What was written to an exposed image while it was armed may be marked as if it were not. But its first write made the
 * page private. */
static void add_meanwhile(struct vv_image *image)
{
    const varve_status rc = vv_dirty_private(image->tracker, image->bytes, image->size, &image->found);

    for (size_t i = 0; i < image->found.count; i++)
        if (!page_in(image, image->found.pages[i], PRIVATE))
            add_written(image, image->found.pages[i]);
    if (rc != VARVE_OK)
        image->lost = true;
}

/* The kernel's marks into `found`. */
static varve_status scan_marks(struct vv_image *image, bool taking)
{
    if (image->sparse)
        return image->watched ? scan_sparse(image, taking) : scan_unwatched(image, taking);
    return (taking ? vv_dirty_take : vv_dirty_peek)(image->tracker, image->bytes, image->size, &image->found);
}

static varve_status peek(struct vv_image *image)
{
    const varve_status rc = scan_marks(image, false);

    add_all(image, &image->found);
    return rc;
}

static varve_status take(struct vv_image *image)
{
    const varve_status rc = scan_marks(image, true);

    add_all(image, &image->found);
    distrust(image, rc);
    if (rc == VARVE_OK) {
        image->busy = image->found.count > HOT_MOST;
        image->hot.count = image->wasted = 0;
        if (image->sparse && image->watched && image->overspent_ns > page_count(image) * ARMING_NS) {
            arm_rest(image);
            if (image->exposed)
                add_meanwhile(image);
        }
    }
    return rc;
}

/* What is marked now, the hot pages before among it, is hot from now on, if it is not too much. */
static varve_status peek_or_take(struct vv_image *image)
{
    varve_status rc = VARVE_OK;

    TRY(peek(image));
    if (image->found.count > HOT_MOST) {
        TRY(take(image));
    } else {
        const struct vv_page_list before = image->hot;
        image->hot = image->found;
        image->found = before;
    }
out:
    return rc;
}

static varve_status ask_kernel(struct vv_image *image, enum look_mode mode, bool cold)
{
    if (mode == ONLY_PEEK)
        return peek(image);
    if (mode == TAKE_ALL || !image->watched || image->busy || cold)
        return take(image);
    return peek_or_take(image);
}

/* Something broke the marks: the embedder mapped over a piece, say. Begin again; the caller holds every page for
 * written, so nothing is missed. While even this fails every look compares everything. */
static void mark_all_anew(struct vv_image *image)
{
    image->hot.count = image->wasted = 0;
    image->lost =
        watch(image) != VARVE_OK || vv_dirty_arm(image->tracker, image->bytes, image->size) != VARVE_OK;
    image->sparse = false;
}

/* Put into `written` what may have been written since the last look. */
static varve_status find_written(struct vv_image *image, enum look_mode mode)
{
    const bool quiet = nothing_new(image), cold = image->wasted > HOT_WASTE + image->hot.count;

    if (quiet && (mode == TAKE_ALL ? image->hot.count == 0 : mode == ONLY_PEEK || !cold)) {
        add_all(image, &image->hot);
        return VARVE_OK;
    }
    image->quiet = 0;
    if (!image->lost && vv_tracker_rung(image->tracker) != VV_DIRTY_COMPARE) {
        const varve_status rc = ask_kernel(image, mode, cold);
        if (rc == VARVE_OK || rc == VARVE_MEMORY)
            return rc;
        image->lost = true;
    }
    if (image->lost)
        mark_all_anew(image);
    all_written(image);
    return VARVE_OK;
}

void vv_image_expose(struct vv_image *image)
{
    image->exposed = true;
}

/* The base bytes of a page if memory has them or they are zeros by law; NULL: read_base must be asked. */
static const uint8_t *known_base(const struct vv_image *image, uint64_t page)
{
    if (image->pages[page].base != NULL)
        return image->pages[page].base;
    if (is_file_page(image, page))
        return image->view + page * VV_PAGE_SIZE;
    return image->copies || page >= image->base_size / VV_PAGE_SIZE ? zero_page : NULL;
}

static const uint8_t *known_shadow(const struct vv_image *image, uint64_t page)
{
    return image->pages[page].shadow != NULL ? image->pages[page].shadow : known_base(image, page);
}

/* Bytes of a page at the last look (M1), in memory or read into `room`. */
static varve_status shadow_of(struct vv_image *image, uint64_t page, uint8_t room[VV_PAGE_SIZE],
                              const uint8_t **bytes)
{
    *bytes = known_shadow(image, page);
    if (*bytes != NULL)
        return VARVE_OK;
    *bytes = room;
    return image->read_base(image->context, page, room);
}

static varve_status reserve_entry(struct level *level)
{
    varve_status rc = VARVE_OK;

    if (level->count == level->capacity) {
        const size_t capacity = level->capacity == 0 ? 16 : level->capacity * 2;
        TRY(vv_resize(&level->entries, capacity, sizeof *level->entries));
        level->capacity = capacity;
    }
out:
    return rc;
}

/* A page that may have changed since the last look: shadow what it is now, and give the top level what it was,
 * when that level had the page and has no entry for it yet (M2). */
static varve_status keep_page(struct vv_image *image, uint64_t page)
{
    varve_status rc = VARVE_OK;
    struct page_info *info = &image->pages[page];
    const uint8_t *before = known_shadow(image, page);
    struct level *top = image->level_count > 0 ? &image->levels[image->level_count - 1] : NULL;
    const bool keep = top != NULL && page < top->size / VV_PAGE_SIZE && info->holder != top->id;
    uint8_t *now = info->shadow;

    if (before != NULL &&
        same_page(before, page_bytes(image, page))) { /* written with what was there, or hot and quiet */
        image->wasted++;
        return VARVE_OK;
    }
    if (keep)
        TRY(reserve_entry(top));
    if (keep || now == NULL)
        TRY(arena_take(&image->arena, &now));
    if (keep) {
        top->entries[top->count++] =
            (struct entry){ .bytes = info->shadow, .holder_before = info->holder, .page = (uint32_t)page };
        info->holder = top->id;
    }
    memcpy(now, page_bytes(image, page), VV_PAGE_SIZE);
    info->shadow = now;
    page_add(image, page, CHANGED);
    add_private(image, page);
out:
    return rc;
}

/* Copy the bytes of the last look to every page in `written`; the pages stay in the set. */
static varve_status restore_written(struct vv_image *image)
{
    varve_status rc = VARVE_OK;
    uint8_t room[VV_PAGE_SIZE];
    const uint8_t *before = NULL;
    const uint64_t end = page_count(image);

    for (uint64_t page = 0; (page = next_in(image, page, WRITTEN)) < end; page++) {
        TRY(shadow_of(image, page, room, &before));
        if (!same_page(before, page_bytes(image, page)))
            memcpy(page_bytes(image, page), before, VV_PAGE_SIZE);
    }
out:
    return rc;
}

/* Take the marks that the way back itself made; a mark on any other page stays known. */
static void forget_restored(struct vv_image *image)
{
    size_t others = 0;

    if (image->copies || image->lost || !image->watched) {
        clear_written(image);
        return;
    }
    const varve_status rc = scan_marks(image, true);
    for (size_t i = 0; i < image->found.count; i++)
        if (!page_in(image, image->found.pages[i], WRITTEN))
            image->found.pages[others++] = image->found.pages[i];
    clear_written(image);
    for (size_t i = 0; i < others; i++)
        add_written(image, image->found.pages[i]);
    distrust(image, rc);
    if (rc == VARVE_OK) { /* otherwise what was not taken is found again, and compares equal */
        image->hot.count = image->wasted = 0;
        remember_faults(image);
    }
}

/* Every call begins here: a way back that broke off is gone to its end first. */
static varve_status finish(struct vv_image *image)
{
    varve_status rc = VARVE_OK;

    VV_ASSERT(image->armed);
    image_check(image);
    image->told = false;
    if (vv_tracker_inherited(image->tracker))
        return vv_fail(VARVE_MISUSE, "this process is a forked child: it has no image of its parent's");
    if (!image->torn)
        return VARVE_OK;
    if (image->back_size < image->size)
        TRY(shrink(image, image->back_size));
    TRY(restore_written(image));
    image->torn = false;
    forget_restored(image);
out:
    return rc;
}

static varve_status look(struct vv_image *image)
{
    varve_status rc = VARVE_OK;
    const uint64_t end = page_count(image);

    TRY(find_written(image, KEEP_HOT));
    if (image->quiet != 0 && !image->pending)
        return VARVE_OK;
    for (uint64_t page = 0; (page = next_in(image, page, WRITTEN)) < end; page++) {
        TRY(keep_page(image, page));
        page_drop(image, page, WRITTEN);
    }
    image->pending = false;
    remember_faults(image);
out:
    return rc;
}

/* ---- Levels --------------------------------------------------------------------------------------- */

static varve_status push_level(struct vv_image *image, uint32_t depth)
{
    varve_status rc = VARVE_OK;

    if (image->level_count == image->level_capacity) {
        const size_t capacity = image->level_capacity == 0 ? 4 : image->level_capacity * 2;
        TRY(vv_resize(&image->levels, capacity, sizeof *image->levels));
        image->level_capacity = capacity;
    }
    struct level *level = &image->levels[image->level_count];
    if (image->level_count == image->level_made) {
        *level = (struct level){ .entries = NULL };
        image->level_made++;
    }
    VV_ASSERT(level->count == 0);
    level->depth = depth;
    level->size = image->size;
    level->id = image->next_id++;
    image->level_count++;
out:
    return rc;
}

varve_status vv_image_settle(struct vv_image *image, uint32_t depth)
{
    varve_status rc = VARVE_OK;

    VV_ASSERT(depth >= 1);
    TRY(finish(image));
    if (image->level_count > 0) {
        const uint32_t top = image->levels[image->level_count - 1].depth;
        VV_ASSERT(top <= depth);
        if (top == depth)
            return VARVE_OK;
    }
    TRY(look(image));
    TRY(push_level(image, depth));
out:
    return rc;
}

/* Index of the first level with this depth or more; the level count when there is none. */
static size_t level_from(const struct vv_image *image, uint32_t depth)
{
    size_t index = image->level_count;

    while (index > 0 && image->levels[index - 1].depth >= depth)
        index--;
    return index;
}

/* Hand the top level's entries back to the shadows: the last look is the level's moment now. */
static void pop_level(struct vv_image *image)
{
    struct level *top = &image->levels[image->level_count - 1];

    for (size_t i = top->count; i-- > 0;) {
        const struct entry *entry = &top->entries[i];
        struct page_info *info = &image->pages[entry->page];
        VV_ASSERT(info->holder == top->id);
        info->holder = entry->holder_before;
        arena_give(&image->arena, info->shadow);
        info->shadow = entry->bytes;
        if (entry->bytes == NULL)
            page_drop(image, entry->page, CHANGED);
        add_written(image, entry->page);
    }
    top->count = 0;
    image->level_count--;
}

/* Back to the moment of the level at `index`, or to the base. Peek first: what was written stays writable without a
 * fault until it is restored. Then the shadows become those of that moment; the rest is copying, and can be
 * gone on with when it breaks off. */
static varve_status go_back(struct vv_image *image, size_t index, bool to_base)
{
    varve_status rc = VARVE_OK;
    const uint64_t end = page_count(image);
    const uint64_t size = to_base ? image->base_size : image->levels[index].size;

    TRY(find_written(image, ONLY_PEEK));
    image->torn = true;
    image->back_size = size;
    image->quiet = 0;
    while (image->level_count > index)
        pop_level(image);
    for (uint64_t page = 0; to_base && (page = next_in(image, page, CHANGED)) < end; page++) {
        add_written(image, page);
        drop_shadow(image, page);
    }
    TRY(finish(image));
out:
    return rc;
}

varve_status vv_image_rollback(struct vv_image *image, uint32_t depth)
{
    varve_status rc = VARVE_OK;

    VV_ASSERT(depth >= 1);
    TRY(finish(image));
    const size_t index = level_from(image, depth);
    if (index < image->level_count)
        TRY(go_back(image, index, false));
out:
    return rc;
}

varve_status vv_image_reset(struct vv_image *image)
{
    varve_status rc = VARVE_OK;

    TRY(finish(image));
    TRY(go_back(image, 0, true));
out:
    return rc;
}

/* The top level's entries go to the level below, as far as that had the page and has no older bytes of it. */
static varve_status merge_top(struct vv_image *image)
{
    varve_status rc = VARVE_OK;
    struct level *top = &image->levels[image->level_count - 1];
    struct level *below = image->level_count > 1 ? top - 1 : NULL;

    while (top->count > 0) {
        struct entry *entry = &top->entries[top->count - 1];
        struct page_info *info = &image->pages[entry->page];
        const bool keep =
            below != NULL && entry->page < below->size / VV_PAGE_SIZE && entry->holder_before != below->id;
        VV_ASSERT(info->holder == top->id);
        if (keep) {
            TRY(reserve_entry(below));
            below->entries[below->count++] = *entry;
            info->holder = below->id;
        } else {
            arena_give(&image->arena, entry->bytes);
            info->holder = entry->holder_before;
        }
        top->count--;
    }
    image->level_count--;
out:
    return rc;
}

varve_status vv_image_release(struct vv_image *image, uint32_t depth)
{
    varve_status rc = VARVE_OK;

    VV_ASSERT(depth >= 1);
    TRY(finish(image));
    while (image->level_count > 0) {
        struct level *top = &image->levels[image->level_count - 1];
        const uint32_t below = image->level_count > 1 ? image->levels[image->level_count - 2].depth : 0;
        if (top->depth < depth)
            break;
        if (below < depth - 1) {
            /* Nothing was settled for depth - 1, so nothing was written between its moment and this one's. */
            top->depth = depth - 1;
            break;
        }
        TRY(merge_top(image));
    }
out:
    return rc;
}

/* ---- What changed --------------------------------------------------------------------------------- */

/* The base bytes of a page, kept in memory from now on; zero_page where they are zeros by law. */
static varve_status base_of(struct vv_image *image, uint64_t page, const uint8_t **base)
{
    varve_status rc = VARVE_OK;
    uint8_t *copy = NULL;

    *base = known_base(image, page);
    if (*base != NULL)
        return VARVE_OK;
    TRY(arena_take(&image->arena, &copy));
    rc = image->read_base(image->context, page, copy);
    if (rc != VARVE_OK) {
        arena_give(&image->arena, copy);
        goto out;
    }
    set_base(image, page, copy);
    *base = copy;
out:
    return rc;
}

static varve_status add_change(struct vv_image *image, struct vv_image_change change)
{
    varve_status rc = VARVE_OK;

    if (image->change_count == image->change_capacity) {
        const size_t capacity = image->change_count == 0 ? 64 : image->change_count * 2;
        TRY(vv_resize(&image->changes, capacity, sizeof *image->changes));
        image->change_capacity = capacity;
    }
    image->changes[image->change_count++] = change;
out:
    return rc;
}

/* Is the page what its base is? If not, it is a change, with the runs of bytes that differ if they are few. */
static varve_status compare_page(struct vv_image *image, uint64_t page, const uint8_t *base)
{
    varve_status rc = VARVE_OK;
    const size_t at = image->runs.size;
    struct vv_image_change change = { .index = page, .bytes = page_bytes(image, page) };

    if (base == zero_page) {
        if (same_page(base, change.bytes))
            return VARVE_OK;
    } else {
        change.base = base;
        change.unproven = is_file_page(image, page) && !page_in(image, page, PROVEN);
        change.runs_size = vv_runs_encode(base, change.bytes, VV_DELTA_WHOLE_ABOVE, &image->runs);
        TRY(vv_bytes_done(&image->runs));
        if (change.runs_size == 1 && image->runs.data[at] == 0) {
            image->runs.size = at;
            return VARVE_OK;
        }
    }
    TRY(add_change(image, change));
out:
    return rc;
}

/* Where a page and its base begin, so that both are under way while another page is compared: the processor goes on with
 * the rest of a page by itself, but looks up where it lies, and fetches its beginning, only when it is read. */
static void ask_for(const struct vv_image *image, uint64_t page)
{
    const uint8_t *base = page < page_count(image) ? known_base(image, page) : NULL;

    if (base == NULL)
        return;
    __builtin_prefetch(base);
    __builtin_prefetch(page_bytes(image, page));
}

enum {
    ABREAST = 16
}; /* pages that are hashed side by side, soon enough after they were compared to be cached */

static void hash_changes(struct vv_image *image, size_t from)
{
    const uint8_t *bytes[ABREAST] = { NULL };
    uint8_t hashes[ABREAST][VV_HASH_SIZE];
    const size_t count = image->change_count - from;

    for (size_t i = 0; i < count; i++)
        bytes[i] = image->changes[from + i].bytes;
    vv_hash_pages(bytes, count, hashes);
    for (size_t i = 0; i < count; i++)
        memcpy(image->changes[from + i].hash, hashes[i], VV_HASH_SIZE);
}

/* Now that no buffer moves any more. */
static void point_changes(struct vv_image *image)
{
    size_t runs_at = 0;

    if (image->lineages == NULL && image->runs.size > 0 &&
        vv_alloc(&image->lineages, image->capacity, sizeof *image->lineages) != VARVE_OK)
        image->lineages = NULL; /* it saves bytes of the store, and is no necessity */
    for (size_t i = 0; i < image->change_count; i++) {
        struct vv_image_change *change = &image->changes[i];
        if (change->runs_size == 0)
            continue;
        change->runs = image->runs.data + runs_at;
        runs_at += change->runs_size;
        if (image->lineages != NULL)
            change->lineage = &image->lineages[change->index];
    }
}

varve_status vv_image_changes(struct vv_image *image, const struct vv_image_change **changes, size_t *count)
{
    varve_status rc = VARVE_OK;
    const uint8_t *base = NULL;
    const uint64_t end = page_count(image);
    size_t hashed = 0;

    *changes = NULL;
    *count = 0;
    TRY(finish(image));
    image->change_count = 0;
    vv_bytes_clear(&image->runs);
    TRY(find_written(image, TAKE_ALL));
    for (uint64_t page = next_in(image, 0, WRITTEN | CHANGED), next = end; page < end; page = next) {
        next = next_in(image, page + 1, WRITTEN | CHANGED);
        ask_for(image, next);
        TRY(base_of(image, page, &base));
        TRY(compare_page(image, page, base));
        if (image->change_count - hashed == ABREAST) {
            hash_changes(image, hashed);
            hashed = image->change_count;
        }
    }
    hash_changes(image, hashed);
    point_changes(image);
    image->told = true;
    *changes = image->changes;
    *count = image->change_count;
    remember_faults(image);
out:
    return rc;
}

varve_status vv_image_changed_since(struct vv_image *image, uint32_t depth, uint64_t *pages)
{
    varve_status rc = VARVE_OK;
    uint8_t room[VV_PAGE_SIZE];
    const uint8_t *then = NULL;

    *pages = 0;
    TRY(finish(image));
    const size_t index = level_from(image, depth);
    if (index == image->level_count)
        return VARVE_OK; /* nothing was settled for it, so nothing was written since */
    TRY(find_written(image, KEEP_HOT));
    const uint64_t id = image->levels[index].id, had = image->levels[index].size / VV_PAGE_SIZE;
    const uint64_t end = page_count(image);
    /* Pages that a level from there up keeps, each at the lowest that does (M2). */
    for (size_t i = index; i < image->level_count; i++) {
        const struct level *level = &image->levels[i];
        for (size_t k = 0; k < level->count; k++) {
            const struct entry *entry = &level->entries[k];
            if (entry->page >= had || entry->holder_before >= id)
                continue;
            then = entry->bytes != NULL ? entry->bytes : known_base(image, entry->page);
            if (then == NULL) {
                TRY(image->read_base(image->context, entry->page, room));
                then = room;
            }
            *pages += !same_page(then, page_bytes(image, entry->page));
        }
    }
    for (uint64_t page = 0; (page = next_in(image, page, WRITTEN)) < had; page++) {
        if (image->pages[page].holder >= id)
            continue;
        TRY(shadow_of(image, page, room, &then));
        *pages += !same_page(then, page_bytes(image, page));
    }
    for (uint64_t page = had; (page = next_in(image, page, WRITTEN | CHANGED)) < end; page++)
        *pages += !same_page(zero_page, page_bytes(image, page));
    remember_faults(image);
out:
    return rc;
}

/* ---- After a commit ------------------------------------------------------------------------------- */

/* The page's base is no longer what the file says. */
static void stray(struct vv_image *image, uint64_t page)
{
    if (page < image->backing.pages)
        page_add(image, page, STRAYED);
}

enum { FEW_PAGES = 8 }; /* asked for one by one: a microsecond each, and some for each MiB of an image */

/* Copies that were made of what the page holds now, not of what was told: it may have been written in between. */
struct live_copies {
    uint64_t first[FEW_PAGES];
    size_t count;
};

/* What was told becomes the page's base bytes in memory: a copy that is right already, or the base with the runs put
 * into it, or what the page holds. */
static varve_status rebase_page(struct vv_image *image, uint64_t page, const struct vv_image_change *change,
                                struct live_copies *live)
{
    varve_status rc = VARVE_OK;
    struct page_info *info = &image->pages[page];
    const bool settled = info->shadow != NULL && !page_in(image, page, WRITTEN);
    const bool runs = change != NULL && change->runs != NULL;
    const bool whole = info->base == NULL && !settled;
    const uint8_t *from = runs ? known_base(image, page) : settled ? info->shadow : page_bytes(image, page);
    uint8_t *copy = NULL;

    if (whole)
        TRY(arena_take(&image->arena, &copy));
    if (info->base == NULL && settled) {
        copy = info->shadow;
        info->shadow = NULL;
    } else if (whole || !runs) {
        memcpy(whole ? copy : info->base, from, VV_PAGE_SIZE);
    }
    if (copy != NULL)
        set_base(image, page, copy);
    if (runs && (whole || copy == NULL)) {
        const varve_status applied = vv_runs_apply(change->runs, change->runs_size, info->base);
        VV_ASSERT(applied == VARVE_OK);
    } else if (!settled) {
        if (live->count < FEW_PAGES)
            live->first[live->count] = page;
        live->count++;
    }
    drop_shadow(image, page);
    stray(image, page);
out:
    return rc;
}

/* A large commit may leave an arena that is mostly free: move what is in use together. Failing is no harm. */
static void compact(struct vv_image *image)
{
    struct arena fresh = { .chunks = NULL };
    const uint64_t end = page_count(image);
    uint8_t *copy = NULL;
    const size_t slack = image->arena.page_count - image->arena.used;

    if (slack < LAST_CHUNK || slack < image->arena.used)
        return;
    while (fresh.page_count < image->based) {
        if (arena_add_chunk(&fresh) != VARVE_OK) {
            arena_release(&fresh);
            return;
        }
        /* Hand it out as a list, for arena_take looks at the last chunk only. */
        const struct chunk *chunk = &fresh.chunks[fresh.chunk_count - 1];
        fresh.used += chunk->page_count;
        fresh.unused = 0;
        for (size_t i = chunk->page_count; i-- > 0;)
            arena_give(&fresh, chunk->bytes + i * VV_PAGE_SIZE);
    }
    for (uint64_t page = 0; (page = next_in(image, page, BASED)) < end; page++) {
        const varve_status rc = arena_take(&fresh, &copy);
        VV_ASSERT(rc == VARVE_OK);
        memcpy(copy, image->pages[page].base, VV_PAGE_SIZE);
        image->pages[page].base = copy;
    }
    arena_release(&image->arena);
    image->arena = fresh;
}

/* What was written since the commit looked: its base is what the commit has, not the copy just made. An exposed image
 * scans at its next look anyway: here just a few pages count, and the marks of others stay. */
static varve_status drop_late(struct vv_image *image, const struct live_copies *live)
{
    varve_status rc = VARVE_OK;
    const uint64_t end = page_count(image);
    const bool few = image->exposed && image->watched && live->count <= FEW_PAGES;

    for (size_t i = 0; i < live->count && few && !image->lost; i++) {
        if ((image->sparse ? vv_dirty_take_sparse : vv_dirty_take)(
                image->tracker, page_bytes(image, live->first[i]), VV_PAGE_SIZE, &image->found) != VARVE_OK)
            image->lost = true;
        else if (image->found.count > 0)
            add_written(image, live->first[i]);
    }
    if (!few || image->lost)
        TRY(find_written(image, TAKE_ALL));
    for (uint64_t page = 0; (page = next_in(image, page, WRITTEN)) < end; page++)
        drop_base(image, page);
    remember_faults(image);
out:
    return rc;
}

/* What was told of a page, when it was; `next` goes along with ascending pages. */
static const struct vv_image_change *told_of(const struct vv_image *image, uint64_t page, size_t *next)
{
    while (*next < image->change_count && image->changes[*next].index < page)
        (*next)++;
    return *next < image->change_count && image->changes[*next].index == page ? &image->changes[*next] : NULL;
}

/* Before more is kept than there is room for, what did not change now goes: what did is likelier to change again. */
static void make_room(struct vv_image *image, uint64_t room)
{
    const uint64_t end = page_count(image);
    uint64_t fresh = 0;

    for (uint64_t page = 0; (page = next_in(image, page, WRITTEN | CHANGED)) < end; page++)
        fresh += image->pages[page].base == NULL;
    if (image->based + fresh <= room)
        return;
    for (uint64_t page = 0; (page = next_in(image, page, BASED)) < end; page++)
        if (!page_in(image, page, WRITTEN | CHANGED))
            drop_base(image, page);
}

varve_status vv_image_rebase(struct vv_image *image, vv_base_fn read_base, void *context,
                             uint64_t shadow_budget)
{
    varve_status rc = VARVE_OK;
    const uint64_t end = page_count(image), room = image->copies ? UINT64_MAX : shadow_budget / VV_PAGE_SIZE;
    const bool told = image->told;
    struct live_copies live = { .count = 0 };
    size_t next = 0;

    VV_ASSERT(image->level_count == 0);
    VV_ASSERT(read_base != NULL);
    TRY(finish(image));
    if (image->copies && !told)
        TRY(find_written(image, TAKE_ALL));
    make_room(image, room);
    for (uint64_t page = 0; (page = next_in(image, page, WRITTEN | CHANGED)) < end; page++) {
        const struct vv_image_change *change = told ? told_of(image, page, &next) : NULL;
        if (told ? change == NULL
                 : image->copies && same_page(known_base(image, page), page_bytes(image, page))) {
            drop_shadow(image, page);
        } else if (image->pages[page].base != NULL ? image->based <= room : image->based < room) {
            TRY(rebase_page(image, page, change, &live));
        } else {
            drop_shadow(image, page);
            drop_base(image, page);
            stray(image, page);
        }
    }
    clear_written(image);
    image->base_size = image->size;
    image->read_base = read_base;
    image->context = context;
    if (!image->copies && live.count > 0)
        TRY(drop_late(image, &live));
    compact(image);
out:
    return rc;
}

/* ---- Another file --------------------------------------------------------------------------------- */

/* A page whose bytes outlive the mapping. */
struct kept {
    uint32_t page;
    const uint8_t *bytes;
    uint8_t *copy; /* what `bytes` lends, when it was made for that */
};

struct moving {
    const struct vv_backing *backing;
    const uint32_t *differ;
    size_t differ_count;
    uint64_t end; /* pages that are mapped anew */
    struct kept *kept;
    size_t count;
};

/* One page that stays as it is. Without marks its base stays in memory too, when no file has it any more. */
static varve_status keep_private(struct vv_image *image, struct moving *moving, uint32_t page, bool differs)
{
    varve_status rc = VARVE_OK;
    struct kept *kept = &moving->kept[moving->count];
    const bool written = page_in(image, page, WRITTEN);
    uint8_t *base = NULL;

    *kept = (struct kept){ .page = page, .bytes = image->pages[page].base };
    if (differs && image->copies && kept->bytes == NULL && is_file_page(image, page)) {
        TRY(arena_take(&image->arena, &base));
        memcpy(base, known_base(image, page), VV_PAGE_SIZE);
        set_base(image, page, base);
        kept->bytes = base;
    }
    if (written || !differs || kept->bytes == NULL) {
        TRY(arena_take(&image->arena, &kept->copy));
        memcpy(kept->copy, page_bytes(image, page), VV_PAGE_SIZE);
        kept->bytes = kept->copy;
    }
    moving->count++;
out:
    return rc;
}

/* All that stays: what differs from the new file, and what was written since the base. */
static varve_status keep_all(struct vv_image *image, struct moving *moving)
{
    varve_status rc = VARVE_OK;
    size_t written = 0, next = 0;

    for (uint64_t page = 0; (page = next_in(image, page, WRITTEN)) < moving->end; page++)
        written++;
    TRY(vv_alloc(&moving->kept, moving->differ_count + written, sizeof *moving->kept));
    for (uint64_t page = next_in(image, 0, WRITTEN);;) {
        const uint64_t differing = next < moving->differ_count ? moving->differ[next] : page_count(image);
        const uint64_t here = page < differing ? page : differing;
        if (here >= moving->end)
            break;
        TRY(keep_private(image, moving, (uint32_t)here, here == differing));
        next += here == differing;
        page = here == page ? next_in(image, page + 1, WRITTEN) : page;
    }
out:
    return rc;
}

/* What is named as written and is as the base has it needs no keeping. */
static void drop_quiet(struct vv_image *image)
{
    const uint64_t end = page_count(image);

    for (uint64_t page = 0; (page = next_in(image, page, WRITTEN)) < end; page++) {
        const uint8_t *base = known_base(image, page);
        if (base != NULL && same_page(base, page_bytes(image, page)))
            page_drop(image, page, WRITTEN);
    }
}

/* From here on there is no way back. */
static varve_status map_over(struct vv_image *image, const struct moving *moving)
{
    varve_status rc = VARVE_OK;
    const uint64_t pages = moving->backing->pages;
    const int access = PROT_READ | PROT_WRITE;
    void *mapped = NULL;

    TRY(map_pages(image->bytes, pages, moving->backing, MAP_PRIVATE, access, &mapped));
    if (pages < moving->end)
        TRY(map_pages(page_bytes(image, pages), moving->end - pages, NULL, MAP_PRIVATE, access, &mapped));
    TRY(watch(image));
out:
    return rc == VARVE_OK ? rc : vv_fail_within(VARVE_HOST_LIMIT, "move an image to another file");
}

/* The tables as the new mapping has it, and what stays on top of it. */
static void put_back(struct vv_image *image, const struct moving *moving)
{
    size_t next = 0;

    for (uint64_t page = 0; (page = next_in(image, page, PRIVATE | STRAYED | PROVEN | BASED)) < moving->end;
         page++) {
        while (next < moving->differ_count && moving->differ[next] < page)
            next++;
        if (page_in(image, page, PRIVATE))
            image->private_count--;
        page_drop(image, page, PRIVATE);
        page_drop(image, page, STRAYED);
        page_drop(image, page, PROVEN);
        if (next == moving->differ_count || moving->differ[next] != page)
            drop_base(image, page);
    }
    for (size_t i = 0; i < moving->differ_count && moving->differ[i] < moving->backing->pages; i++)
        page_add(image, moving->differ[i], STRAYED);
    for (size_t i = 0; i < moving->count; i++) {
        memcpy(page_bytes(image, moving->kept[i].page), moving->kept[i].bytes, VV_PAGE_SIZE);
        add_private(image, moving->kept[i].page);
    }
}

/* What was put back is marked, and is no news; what was written before stays in `written`. */
static void watch_anew(struct vv_image *image)
{
    varve_status rc = VARVE_OK;

    image->hot.count = image->wasted = 0;
    image->quiet = 0;
    image->overspent_ns = 0;
    image->sparse = !image->copies;
    if (image->sparse && image->private_count > 0)
        rc = vv_dirty_take_sparse(image->tracker, image->bytes, image->size, &image->found);
    distrust(image, rc);
    if (rc == VARVE_OK)
        remember_faults(image);
}

varve_status vv_image_move(struct vv_image *image, const struct vv_backing *backing, const uint32_t *differ,
                           size_t count)
{
    varve_status rc = VARVE_OK;
    const uint64_t had = image->backing.pages;
    struct moving moving = { .backing = backing,
                             .differ = differ,
                             .differ_count = count,
                             .end = had > backing->pages ? had : backing->pages };
    const uint8_t *view = NULL;

    VV_ASSERT(!image->exposed);
    VV_ASSERT(image->level_count == 0);
    VV_ASSERT(backing->pages > 0);
    VV_ASSERT(backing->pages <= image->base_size / VV_PAGE_SIZE);
    TRY(finish(image));
    VV_ASSERT(next_in(image, 0, CHANGED) == page_count(image));
    TRY(check_backing(backing));
    TRY(find_written(image, TAKE_ALL));
    drop_quiet(image);
    TRY(keep_all(image, &moving));
    TRY(map_view(backing, &view));
    TRY(map_over(image, &moving));
    put_back(image, &moving);
    release_backing(image);
    image->backing = *backing;
    image->view = view;
    image->below = true;
    view = NULL;
    watch_anew(image);
out:
    if (view != NULL)
        (void)munmap((void *)(uintptr_t)view, backing->pages * VV_PAGE_SIZE);
    for (size_t i = 0; i < moving.count; i++)
        arena_give(&image->arena, moving.kept[i].copy);
    vv_free(moving.kept);
    if (rc == VARVE_OK)
        compact(image);
    return rc;
}

varve_status vv_image_lean(struct vv_image *image, const struct vv_backing *backing, const uint32_t *differ,
                           size_t count, bool *taken)
{
    varve_status rc = VARVE_OK;
    const uint64_t end = page_count(image);
    const uint8_t *view = NULL;

    VV_ASSERT(image->level_count == 0);
    VV_ASSERT(backing->pages > 0);
    VV_ASSERT(backing->pages <= image->base_size / VV_PAGE_SIZE);
    *taken = false;
    if (image->below || image->copies)
        return VARVE_OK;
    TRY(finish(image));
    TRY(check_backing(backing));
    TRY(map_view(backing, &view));
    for (uint64_t page = 0; (page = next_in(image, page, STRAYED | PROVEN)) < end; page++) {
        page_drop(image, page, STRAYED);
        page_drop(image, page, PROVEN);
    }
    for (size_t i = 0; i < count && differ[i] < backing->pages; i++)
        page_add(image, differ[i], STRAYED);
    release_backing(image);
    image->backing = *backing;
    image->view = view;
    *taken = true;
out:
    return rc;
}

varve_status vv_image_audit(struct vv_image *image)
{
    varve_status rc = VARVE_OK;
    uint8_t room[VV_PAGE_SIZE];
    const struct vv_image_change *changes = NULL;
    size_t count = 0, next = 0;

    TRY(vv_image_changes(image, &changes, &count));
    for (uint64_t page = 0; page < page_count(image); page++) {
        const uint8_t *base = known_base(image, page);
        if (base == NULL) {
            TRY(image->read_base(image->context, page, room));
            base = room;
        }
        const bool named = next < count && changes[next].index == page;
        if (named == same_page(base, page_bytes(image, page))) {
            rc = vv_fail(VARVE_CORRUPT, "page %llu of an image %s on the rung %s", (unsigned long long)page,
                         named ? "is named and did not change" : "changed and is not named",
                         vv_dirty_rung_name(vv_tracker_rung(image->tracker)));
            goto out;
        }
        next += named;
    }
    VV_ASSERT(next == count);
out:
    return rc;
}
