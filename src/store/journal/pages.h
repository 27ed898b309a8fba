/* pages.h - the bytes of stored pages: a locator leads to a slot in a frame, and that to its base, if it has one.
 *
 * Frames used last are kept open, so that neighbours and hot bases cost no read. Thread safe. */
#ifndef VV_PAGES_H
#define VV_PAGES_H

#include "store/journal/log.h"

struct vv_pages_entry; /* pages.c: a frame and who uses it */

/* What reading a frame takes: as large as the largest so far, and made once. */
struct vv_pages_tools {
    struct vv_codec codec;
    uint8_t *bytes;
    size_t size;
};
struct vv_pages {
    struct vv_log *log;
    pthread_mutex_t mutex; /* guards all below */
    struct vv_pages_entry **entries;
    uint64_t *addresses; /* of the entries, side by side: they are searched for every page */
    size_t count, capacity;
    uint64_t clock;              /* rises with every use */
    struct vv_pages_tools tools; /* lent to whoever reads a frame; empty meanwhile */
};

varve_status vv_pages_init(struct vv_pages *pages, struct vv_log *log, size_t capacity);
void vv_pages_release(struct vv_pages *pages);
void vv_pages_flush(struct vv_pages *pages); /* keep no frame open */

/* The page's bytes, checked against its hash: VARVE_CORRUPT names the file. */
varve_status vv_pages_read(struct vv_pages *pages, const struct vv_leaf *leaf, uint8_t page[VV_PAGE_SIZE]);
/* The same for one page among many that are not wanted: of a large frame that is stored as it is only the page's slot is
 * read, for its hash says whether the bytes are right. Where it says no the whole frame is read, to say what is wrong. */
varve_status vv_pages_read_alone(struct vv_pages *pages, const struct vv_leaf *leaf,
                                 uint8_t page[VV_PAGE_SIZE]);
/* The pages of `tree` that are not those of `from` (NULL: all zero), in the order in which they lie; first those that
 * became zero (NULL). */
varve_status vv_pages_read_diff(struct vv_pages *pages, const struct vv_pagetree *from,
                                const struct vv_pagetree *tree,
                                varve_status (*put)(void *context, uint64_t index, const uint8_t *page),
                                void *context);

#endif
