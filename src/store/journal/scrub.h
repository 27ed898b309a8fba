/* scrub.h - image files read for rot, page by page, in steps.
 *
 * Nobody checks a page that is mapped when a guest reads it; so all of them are read now and then and compared with the
 * hashes of the tree that the stamp names. A file with a bad page is gone at once, and made anew from the log and the
 * other file of its pair; who maps it moves to the new one at his next commit. One whose tree the log no longer has
 * is of no use, and goes. */
#ifndef VV_SCRUB_H
#define VV_SCRUB_H

#include "store/journal/snapshot.h"

/* A step: about `budget` bytes, when a day has passed since all were read. Sets `more` when there is more to do. */
varve_status vv_place_scrub_step(struct vv_place *place, uint64_t budget, bool *more);
/* All of it, now. */
varve_status vv_place_scrub(struct vv_place *place);

#endif
