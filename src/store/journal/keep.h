/* keep.h - commits written once more, so that nothing of theirs lies below an address any longer.
 *
 * Each is a kept record of its own, which holds what the commit says of itself, the nodes of its state, and whole the
 * pages that lay below or stood on what does. Commits are kept in order of number: what one shares with the one
 * before is written once. The trees that come out have the same hashes; only where things lie is new. */
#ifndef VV_KEEP_H
#define VV_KEEP_H

#include "store/journal/mark.h"

struct vv_keeper {
    struct vv_place *place;
    struct vv_mark *mark; /* knows what pages stand on */
    uint64_t start;       /* nothing may be needed below */
    enum vv_room room;    /* that it may take */
    bool some;
    struct vv_state from, to; /* the commit that was kept last: as it was, and as it lies now */
    struct vv_table moved;    /* old locator -> new one */
};

void vv_keeper_init(struct vv_keeper *keeper, struct vv_mark *mark, uint64_t start, enum vv_room room);
void vv_keeper_release(struct vv_keeper *keeper);
/* Keep the commit with this number, if it is still there. From then on it is found in its new place, which is not
 * synced yet. `writer` is held. */
varve_status vv_keep_commit(struct vv_keeper *keeper, uint64_t number);

/* What the directory of a kept record says that the commit changed. */
varve_status vv_kept_changed(const struct vv_record *record, const void *directory,
                             varve_status (*each)(void *context, const varve_module_id *id, bool removed,
                                                  uint64_t pages, uint64_t bytes),
                             void *context);

#endif
