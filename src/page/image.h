/* image.h - one mapped memory: a reserved range that a guest writes, its changed pages, and savepoints.
 *
 *   reservation  `reserve` bytes of address space and a guard, PROT_NONE beyond the length; never moves
 *   base         what the session started with: content is filled in before the image is armed; bytes of base
 *                pages that were overwritten since come from `read_base` (the store) unless memory has them
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
 * Memory: on the armed rung one page per page changed, for undo. The other rungs cannot tell a page that was
 * filled from one that was written: they keep a second copy of every page that was filled, from arm on. */
#ifndef VV_IMAGE_H
#define VV_IMAGE_H

#include "page/dirty.h"

/* Bytes of a page as the session found it (4096, zeros when the base has none there). */
typedef varve_status (*vv_base_fn)(void *context, uint64_t index, uint8_t page[VV_PAGE_SIZE]);

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

/* Fill: before the first arm only. Set the length (a multiple of 4096), then put pages (bytes are copied in). */
varve_status vv_image_set_size(struct vv_image *image, uint64_t size);
varve_status vv_image_fill(struct vv_image *image, uint64_t first_page, const void *bytes,
                           uint64_t page_count);
/* The content now is the base. `read_base` must answer for any page below the base's size until the next rebase.
 * On an image that is armed already (from the pool; no levels, nothing written): only who answers changes. */
varve_status vv_image_arm(struct vv_image *image, vv_base_fn read_base, void *context);

uint8_t *vv_image_bytes(const struct vv_image *image);
uint64_t vv_image_size(const struct vv_image *image);
uint64_t vv_image_limit(const struct vv_image *image);
uint64_t vv_image_reserve(const struct vv_image *image);
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

/* One page that differs from the base. `bytes` and `base` are lent until the image is next used; NULL: zeros. */
struct vv_image_change {
    uint64_t index;
    const uint8_t *bytes, *base;
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
 * written after vv_image_changes counts as written since the new base (armed rung; the others cannot see it).
 * On failure the image is of no more use. */
varve_status vv_image_rebase(struct vv_image *image, vv_base_fn read_base, void *context,
                             uint64_t shadow_budget);

/* Bytes of anonymous memory it holds (private pages and shadows), for the pool's budget. */
uint64_t vv_image_private_bytes(const struct vv_image *image);
/* Debug and tests: compare the answer of vv_image_changes with a memcmp of everything; VARVE_CORRUPT if one missed. */
varve_status vv_image_audit(struct vv_image *image);

#endif
