/* image.h - one mapped memory: a reserved range that a guest writes, its changed pages, and savepoints.
 *
 *   reservation  `reserve` bytes of address space and a guard, PROT_NONE beyond the length; never moves
 *   base         what the session started with: content is filled in before the image is armed; bytes of base
 *                pages that were overwritten since come from `read_base` (the store) unless memory has them
 *   backing      a file whose pages are the base's first ones, mapped instead of filled: opening costs the mapping
 *                and what differs on top. Its pages stay the base until a rebase changes them
 *   levels       a stack of moments, one per savepoint that something was settled for; below it all, the base. A
 *                level keeps, for every page changed since its moment, the bytes the page had then
 *   settled      the moment of the last look at the kernel's dirty marks; a page written since then is found by
 *                the next look, and its bytes at `settled` are in its shadow (or are the base's)
 * Laws:
 *   (I1) After vv_image_rollback to a level, bytes and length are what they were at that moment, exactly.
 *   (I2) vv_image_changes names every page that differs from the base; it names no page that does not (bytes are
 *        compared), so what it says is the same on every machine and every rung.
 *   (I3) The kernel never writes into an image: files are read into a buffer, then copied.
 *   (I4) A one-call session copies no page before its call and none after: pre-images are taken lazily, at the
 *        next settle.
 * Cost of settle: one scan and one page copy per page written since. In front of the scan, when the caller uses
 * vv_image_enter: no page fault on this thread since the last look, so nothing was written but a few hot pages,
 * which are compared. One thread at a time.
 *
 * A backed image is not watched before a look finds something written, so that a session that only reads, or makes one
 * call, reads the file as cheaply as any mapping of it; a few pages on top are copied for that, many are watched from
 * the start. Then it is watched sparsely: arming all of it would build page tables for what nobody touches. Looks that
 * walk many resident pages arm it, once they have cost more than that.
 *
 * Memory: on the armed rung one page per page changed, for undo. The other rungs cannot tell a page that was
 * filled from one that was written: they keep a second copy of every page that was filled, from arm on. */
#ifndef VV_IMAGE_H
#define VV_IMAGE_H

#include "base/vfs.h"
#include "page/delta.h"
#include "page/dirty.h"
#include "page/hash.h"

/* Bytes of a page as the session found it (4096, zeros when the base has none there). */
typedef varve_status (*vv_base_fn)(void *context, uint64_t index, uint8_t page[VV_PAGE_SIZE]);

#define VV_IMAGE_GUARD (UINT64_C(32) << 20)

struct vv_image_config {
    uint64_t reserve; /* bytes of address space; default 4 GiB */
    uint64_t guard;   /* PROT_NONE behind; default 32 MiB */
    uint64_t limit;   /* most bytes it may grow to; default `reserve` */
    void *address;    /* map here or fail with HOST_LIMIT; NULL: anywhere */
    bool exposed;     /* a C program holds its address and writes at any time: savepoints settle at once */
};

struct vv_image; /* image.c */

varve_status vv_image_new(struct vv_tracker *tracker, const struct vv_image_config *config,
                          struct vv_image **image);
void vv_image_free(struct vv_image *image); /* NULL is fine */

/* Fill: before the first arm only. Set the length (a multiple of 4096), then back it with a file, then put pages (bytes
 * are copied in; NULL: they are zero). */
varve_status vv_image_set_size(struct vv_image *image, uint64_t size);
varve_status vv_image_fill(struct vv_image *image, uint64_t first_page, const void *bytes,
                           uint64_t page_count);

/* The first `pages` pages of an image are those of `file` from `offset` on (a multiple of 4096). Nobody writes to those
 * bytes, nor makes the file shorter, before `release`, which is called when no mapping of them is left (may be
 * NULL); in a forked child too, where there is none. The file may be closed, renamed or unlinked meanwhile. */
struct vv_backing {
    const struct vv_file *file; /* lent for the call */
    uint64_t offset, pages;
    void (*release)(void *context);
    void *context;
};
/* After vv_image_set_size, before anything is filled: let the file's pages be the first, and not be copied. No more
 * pages than the length has; VARVE_CORRUPT when the file is too short. On a failure `release` is not called,
 * and the image is to be freed. */
varve_status vv_image_back(struct vv_image *image, const struct vv_backing *backing);
/* Move an armed image to another file in one step, keeping what it holds: for one that nobody else writes to meanwhile
 * (never an exposed one), without levels, after a rebase or from the pool. `differ` are the base's pages that the
 * file has not, ascending, those beyond its end too unless they are zero: they stay private, and so does what was
 * written since. Everything else that memory held goes. The base's bytes and who answers for them are as before. On a
 * failure the image is as it was, and `release` is not called; but after HOST_LIMIT the image is of no more use. */
varve_status vv_image_move(struct vv_image *image, const struct vv_backing *backing, const uint32_t *differ,
                           size_t count);
/* The same for any image that no file lies below: only the base's bytes are read from the file from now on, where they
 * are no longer in memory. What is mapped stays as it is, so that others may write to it meanwhile. Not taken
 * (`taken` false, no failure) where a file lies below, or all base bytes are in memory. */
varve_status vv_image_lean(struct vv_image *image, const struct vv_backing *backing, const uint32_t *differ,
                           size_t count, bool *taken);
uint64_t vv_image_backed_pages(const struct vv_image *image); /* 0: not backed */
/* Base bytes of a page straight from the file, lent until the image is moved or freed; false: the base of this page is
 * not the file's. */
bool vv_image_backed_page(const struct vv_image *image, uint64_t page, const uint8_t **bytes);
/* The file's bytes of this page were compared with what the store knows of them: its changes are not `unproven` again
 * until the image is moved. */
void vv_image_prove(struct vv_image *image, uint64_t page);
/* Let a forked child have its memory, or (as it is from the start) no longer. */
varve_status vv_image_share(struct vv_image *image, bool yes);
/* A number that its owner keeps with it; 0 at first. */
void vv_image_note(struct vv_image *image, uint64_t note);
uint64_t vv_image_noted(const struct vv_image *image);
/* The content now is the base. `read_base` must answer for any page below the base's size until the next rebase.
 * On an image that is armed already (from the pool; no levels, nothing written): only who answers changes. */
varve_status vv_image_arm(struct vv_image *image, vv_base_fn read_base, void *context);

uint8_t *vv_image_bytes(const struct vv_image *image);
uint64_t vv_image_size(const struct vv_image *image);
uint64_t vv_image_limit(const struct vv_image *image);
uint64_t vv_image_reserve(const struct vv_image *image);
uint64_t vv_image_span(const struct vv_image *image); /* address space: the reserve and the guard behind it */
bool vv_image_placed(const struct vv_image *image);   /* at the config's address */
/* From now on its address is known to a C program. Call it before that is so. */
void vv_image_expose(struct vv_image *image);
bool vv_image_exposed(const struct vv_image *image);
/* Grow to `size` (a multiple of 4096): VARVE_LIMIT above the limit; VARVE_MEMORY when the host refuses. New bytes are
 * zero. VARVE_MISUSE when it is no multiple or smaller than now. */
varve_status vv_image_grow(struct vv_image *image, uint64_t size);

/* Tell that from now on only this thread writes to the image, until another one enters. A promise that lets a look
 * skip its scan; one compare when nothing changed. Never called: every look scans. Call it whenever a session
 * is entered: a thread that writes without having entered, after another had, makes looks miss its pages. */
void vv_image_enter(struct vv_image *image);

/* Levels. Settle: make sure that a level with this `depth` (>= 1) exists, whose moment is now unless it exists
 * already; called before anything may write after a savepoint was taken. Depths rise along the stack. */
varve_status vv_image_settle(struct vv_image *image, uint32_t depth);
/* Bytes and length as at the moment of the first level whose depth is >= `depth` (no such level: nothing was
 * written since; no change). Levels at or above it are gone afterwards. */
varve_status vv_image_rollback(struct vv_image *image, uint32_t depth);
/* Forget levels whose depth is >= `depth`, keeping the changes: what they kept goes to the savepoint of depth - 1
 * (to nobody when `depth` is 1), whether or not that was settled. */
varve_status vv_image_release(struct vv_image *image, uint32_t depth);
/* Both: when read_base or memory fails, the image is between two states; the next call on it finishes first. */
/* Back to the base: rollback of everything. */
varve_status vv_image_reset(struct vv_image *image);

/* What a store notes of a page's base version while the image is in memory, from commit to commit: the image only
 * keeps it (zeros at first), and may lose it. */
struct vv_lineage {
    uint64_t tip;          /* which stored version this is about; 0: none */
    uint64_t anchor;       /* an older one that it is based on, directly or not */
    struct vv_words since; /* all that differs between the two is in these */
};

/* One page that differs from the base. `bytes` and `base` are lent until the image is next used; NULL: zeros. */
struct vv_image_change {
    uint64_t index;
    const uint8_t *bytes, *base;
    const uint8_t *runs; /* what turns `base` into `bytes` (delta.h); NULL: too many bytes differ, or it has no base */
    size_t runs_size;
    struct vv_lineage *lineage; /* NULL: there was no memory for it */
    bool unproven; /* `base` is what the file says, which nobody compared with its hash yet */
    uint8_t hash[VV_HASH_SIZE]; /* of `bytes`; zero: it is all zero */
};
/* All pages that differ from the base, ascending; a page beyond the base's length has a NULL base. Zero pages that
 * growth added are not named: vv_image_size says that they exist. `changes` is lent until the image is next
 * used. Base bytes that had to be read stay in memory until the next rebase. */
varve_status vv_image_changes(struct vv_image *image, const struct vv_image_change **changes, size_t *count);
uint64_t vv_image_base_size(const struct vv_image *image);
/* Pages that differ now from what they were at the moment of level `depth`; for receipts. */
varve_status vv_image_changed_since(struct vv_image *image, uint32_t depth, uint64_t *pages);

/* After a commit of what vv_image_changes said: that is the base now; levels must be gone. Changed pages are kept a
 * second time, up to `shadow_budget` bytes, so that the next commit need not read its base from the log. What was
 * written after vv_image_changes counts as written since the new base, when nothing else was asked of the image in
 * between (on other rungs than armed: where few bytes of a page had changed).
 * On failure the image is of no more use. */
varve_status vv_image_rebase(struct vv_image *image, vv_base_fn read_base, void *context,
                             uint64_t shadow_budget);

/* Bytes of anonymous memory it holds (private pages and shadows), for the pool's budget. */
uint64_t vv_image_private_bytes(const struct vv_image *image);
/* Debug and tests: compare the answer of vv_image_changes with a memcmp of everything; VARVE_CORRUPT if one missed. */
varve_status vv_image_audit(struct vv_image *image);

#endif
