/* prepare.h - a commit between prepare and publish: what its record will hold. */
#ifndef VV_PREPARE_H
#define VV_PREPARE_H

#include "store/journal/place.h"

/* A page whose bytes the record holds: the n-th lies in slot n % 64 of frame n / 64. */
struct vv_new_page {
    size_t module; /* in the change */
    const struct vv_page_change *change;
    unsigned depth;       /* 0: whole */
    uint64_t base;        /* locator of what the runs are put on; 0: whole */
    const uint8_t *given; /* the runs, when the change has them; NULL: they are in `runs` */
    size_t runs_at, runs_size;
};
struct vv_pending {
    struct vv_record record;
    struct vv_bytes directory, pages;
    struct vv_bytes runs; /* of all fresh pages that are not whole */
    struct vv_new_page *fresh;
    size_t fresh_count, fresh_capacity;
    uint64_t *frames; /* offset of each in `pages` */
    size_t frame_count;
    uint64_t generation; /* of the place when it was prepared */
    bool stale;          /* what the base's state says of places is older than that: nothing may rely on it */
    struct vv_page_copy *copies;
};

/* A page that was not given, because it is stored already, and must be stored once more. */
struct vv_page_copy {
    struct vv_page_copy *next;
    struct vv_page_change change;
    uint8_t bytes[VV_PAGE_SIZE];
};

/* May it be published as it is? Else it must be prepared once more. CONFLICT: the base was deleted. `writer` is held. */
varve_status vv_pending_check(struct vv_place *place, const struct vv_change *change,
                              const struct vv_pending *pending, bool *good);

/* Say in the new state's trees where its pages lie now. The commit is made, so nothing can fail here: without memory
 * for it those trees are good for nothing more. */
bool vv_pending_locate(const struct vv_change *change, const struct vv_pending *pending,
                       const struct vv_record *record);

#endif
