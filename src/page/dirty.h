/* dirty.h - the ladder of ways to learn which pages of a private mapping were written (DESIGN 7.2).
 *
 *   armed    userfaultfd WP_ASYNC over the range, PAGEMAP_SCAN of what was written since the last look
 *   private  PAGEMAP_SCAN or /proc/self/pagemap: private pages; those private before are compared with a shadow
 *   compare  memcmp of everything with a shadow
 * The best rung that passes its self-test at start is used; each can be forced (tests, VARVE_DIRTY=armed|
 * private|compare). An answer may name too many pages, never too few. */
#ifndef VV_DIRTY_H
#define VV_DIRTY_H

#include "base/error.h"
#include "page/page.h"

enum vv_dirty_rung { VV_DIRTY_BEST = 0, VV_DIRTY_ARMED = 1, VV_DIRTY_PRIVATE = 2, VV_DIRTY_COMPARE = 3 };

/* One per process in effect: the userfaultfd and the pagemap descriptor are opened once, by the first. */
struct vv_tracker;
/* `rung` BEST: the environment's choice, else the first that passes. VARVE_UNSUPPORTED when a forced rung does
 * not pass its self-test; words say why. */
varve_status vv_tracker_new(enum vv_dirty_rung rung, struct vv_tracker **tracker);
void vv_tracker_free(struct vv_tracker *tracker);
enum vv_dirty_rung vv_tracker_rung(const struct vv_tracker *tracker);
const char *vv_dirty_rung_name(enum vv_dirty_rung rung);

/* A growing list of page indices, ascending, no page twice. */
struct vv_page_list {
    uint32_t *pages;
    size_t count, capacity;
};
void vv_page_list_release(struct vv_page_list *list);

/* What is in image.h uses the rest: register a reserved range once, arm it, take what was written. */
varve_status vv_dirty_register(struct vv_tracker *tracker, uint8_t *bytes, size_t reserved);
/* From here on a write to [bytes, bytes+size) is noticed. */
varve_status vv_dirty_arm(struct vv_tracker *tracker, uint8_t *bytes, size_t size);
/* Pages written since armed or since the last take, and take them again from now on (get-and-clear). On the
 * private rung: all pages that are private; the caller compares. On the compare rung: VARVE_UNSUPPORTED. */
varve_status vv_dirty_take(struct vv_tracker *tracker, uint8_t *bytes, size_t size, struct vv_page_list *list);

#endif
