/* snapshot.h - bringing image files up to a commit: a step at a time, or at once by a forked child.
 *
 *   pick      where `main` stands, or the branch that moved last; see that this commit has a checkpoint
 *   module    one after the other: the older file of its pair is the target; nothing to do when the newer is right
 *   pages     exactly those that differ: from the newer file where it has them, else from the log, each checked
 *   finish    (imagefile.h, F2)
 * *compact* does all of it in steps, beside commits, and stalls nobody. *fork* has a child write the pages of the
 * images that a committing session holds, from memory as it was at the commit; the other modules follow in steps.
 * A snapshot that fails leaves a cache unused, and is tried again later; nothing else happens.
 * Background work, also done in steps here: a module whose second file is missing gets it back as a copy of the
 * first, so that the next snapshot finds most of its pages written. */
#ifndef VV_SNAPSHOT_H
#define VV_SNAPSHOT_H

#include "store/journal/place.h"

void vv_snapshots_init(struct vv_place *place);
/* Give up what is on its way. */
void vv_snapshots_release(struct vv_place *place);

/* A step of what is due: about `budget` bytes. `more`: there is more to do at once. A failure is put off. */
varve_status vv_place_snapshot_step(struct vv_place *place, uint64_t budget, bool *more);
/* Take what is due, or on its way, to its end: before a close, for a file that is left half-copied was written in vain,
 * and whoever opens a store for a moment at a time would never have one. It comes once in `snapshot_bytes` of log. One
 * that was to be forked, and no commit came, is taken from the log. */
void vv_place_snapshot_settle(struct vv_place *place);
/* Would a step find something to do? */
bool vv_place_snapshot_due(struct vv_place *place);
/* Take one now, to the end. `fork`: by the next commit that holds images instead, or when the store is closed. */
varve_status vv_place_snapshot(struct vv_place *place, bool fork);
/* The older file of each pair goes, where nobody maps it: room on a full disk. `bytes`: as many were freed. */
varve_status vv_place_snapshot_thin(struct vv_place *place, uint64_t *bytes);

/* All modules that have files, in no order. The caller frees. */
varve_status vv_place_image_modules(struct vv_place *place, varve_module_id **modules, size_t *count);

/* The contract's `wants_frozen` and `freeze` (layout.h). */
bool vv_place_wants_frozen(struct vv_place *place);
varve_status vv_place_freeze(struct vv_place *place, const struct vv_commit_facts *facts,
                             struct vv_frozen *images, size_t count);

#endif
