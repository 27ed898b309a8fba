/* build.h - a commit directory in the making, under a temporary name: see build.c. */
#ifndef VV_TREE_BUILD_H
#define VV_TREE_BUILD_H

#include "store/tree/place.h"

/* What became of a module that the commit changes. */
struct vv_landing {
    struct vv_tree_version *base, *diff; /* new files, ours until they are put up; NULL: not new */
    struct vv_tree_version *below, *above; /* where no image is new: the base image, and the diff on it (NULL: none) */
};
struct vv_pending {
    bool built;               /* the directory is there, under `name`, and synced */
    char name[VV_TREE_NAME];  /* "": none was begun */
    struct vv_plain_commit *commit;
    struct vv_landing *landings; /* one for each module of the change; versions that no directory has yet */
    size_t landing_count;
    uint64_t bytes;           /* of new files */
};

/* Make the directory of `change`, all of it synced but its name. On failure nothing of it stays. */
varve_status vv_tree_build(struct vv_place *place, const struct vv_change *change, struct vv_pending *pending);
/* It goes, with the versions that it would have had. */
void vv_tree_unbuild(struct vv_place *place, struct vv_pending *pending);

#endif
