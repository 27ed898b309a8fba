/* dirty.h - the ladder of ways to learn which pages of a private mapping were written (docs/design.md, Images).
 *
 *   armed    userfaultfd WP_ASYNC over the range, PAGEMAP_SCAN of what was written since the last look
 *   private  PAGEMAP_SCAN for private pages; those that were private before are compared with a copy
 *   pagemap  the same by reading /proc/self/pagemap, where the kernel has no PAGEMAP_SCAN (before 6.7)
 *   compare  memcmp of everything with a copy
 * The best rung that passes its self-test at start is used; each can be forced (tests; VARVE_DIRTY=armed|
 * private|pagemap|compare). An answer may name too many pages, never too few.
 *
 * The kernel must never write into a tracked range (I3), and the range must be MADV_NOHUGEPAGE: else
 * the private rungs name 512 pages for one. After mmap(MAP_FIXED) over a piece of it that piece must be
 * registered and armed anew; after MADV_DONTNEED, which drops the kernel's marks, armed anew. */
#ifndef VV_DIRTY_H
#define VV_DIRTY_H

#include "base/error.h"
#include "page/page.h"

enum vv_dirty_rung {
    VV_DIRTY_BEST = 0,
    VV_DIRTY_ARMED = 1,
    VV_DIRTY_PRIVATE = 2,
    VV_DIRTY_PAGEMAP = 3,
    VV_DIRTY_COMPARE = 4
};

/* The descriptors behind the marks. Making the first in a process takes about 0.1 ms, for it tests itself; a store
 * keeps one for all its images; several in a process do not disturb each other. Thread safe. In a forked child it
 * answers VARVE_MISUSE: an inherited descriptor looks at the parent's memory. */
struct vv_tracker;
/* `rung` BEST: the environment's choice, else the first that passes. VARVE_UNSUPPORTED when a forced rung does
 * not pass its self-test; words say why. VARVE_MISUSE when the environment names no rung. */
varve_status vv_tracker_new(enum vv_dirty_rung rung, struct vv_tracker **tracker);
void vv_tracker_free(struct vv_tracker *tracker); /* after all its images; NULL is fine */
enum vv_dirty_rung vv_tracker_rung(const struct vv_tracker *tracker);
/* Why the rungs above the one in use were not taken; "" when the best is. */
const char *vv_tracker_why(const struct vv_tracker *tracker);
/* True in a child of the process that made it: its images are not mapped here. */
bool vv_tracker_inherited(const struct vv_tracker *tracker);
const char *vv_dirty_rung_name(enum vv_dirty_rung rung);

/* A growing list of page indices, ascending, no page twice. */
struct vv_page_list {
    uint32_t *pages;
    size_t count, capacity;
};
void vv_page_list_release(struct vv_page_list *list);

/* What is in image.h uses the rest: register a reserved range once, arm it, take what was written. Before that the
 * kernel maps pages of a file around one that is read; in a registered range it maps one at a time. */
varve_status vv_dirty_register(struct vv_tracker *tracker, uint8_t *bytes, size_t reserved);
/* From here on a write to [bytes, bytes+size) is noticed. On the other rungs: nothing to do. */
varve_status vv_dirty_arm(struct vv_tracker *tracker, uint8_t *bytes, size_t size);
/* Replace `list` by the pages written since armed or since the last take, and take them again from now on
 * (get-and-clear). On VARVE_MEMORY the list holds those whose marks are gone; the next take names the others.
 * On any other failure marks may be lost: everything counts as written. On the private rungs: all pages that
 * are private; the caller compares. On the compare rung: VARVE_UNSUPPORTED. */
varve_status vv_dirty_take(struct vv_tracker *tracker, uint8_t *bytes, size_t size,
                           struct vv_page_list *list);
/* The same without clearing: these pages can be written again without a fault. */
varve_status vv_dirty_peek(struct vv_tracker *tracker, uint8_t *bytes, size_t size,
                           struct vv_page_list *list);

/* A range that is registered and not armed: a page becomes private by its first write, before or after it is
 * registered, and only private pages carry marks, each from the take that names it on. Takes no page tables for what
 * nobody touches; a take walks what is resident. On the other rungs the same as the above. */
varve_status vv_dirty_take_sparse(struct vv_tracker *tracker, uint8_t *bytes, size_t size,
                                  struct vv_page_list *list);
varve_status vv_dirty_peek_sparse(struct vv_tracker *tracker, uint8_t *bytes, size_t size,
                                  struct vv_page_list *list);
/* All private pages, whatever their marks; nothing is taken. */
varve_status vv_dirty_private(struct vv_tracker *tracker, const uint8_t *bytes, size_t size,
                              struct vv_page_list *list);

#endif
