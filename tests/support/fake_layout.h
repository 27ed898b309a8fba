/* fake_layout.h - the contract of a layout kept in memory: what sessions and revisions are tested on, before any
 * real layout and beside it.
 *
 * It holds callers to the contract: the hash of every page given, the base bytes of every delta, the order of the
 * modules, and code before the commit that names it. A place outlives the stores that are opened over it, as a
 * directory does; the one that made it frees it. */
#ifndef FAKE_LAYOUT_H
#define FAKE_LAYOUT_H

#include "store/layout.h"

extern const struct vv_layout fake_layout;

struct vv_place *fake_place_new(void);
void fake_place_free(struct vv_place *place);
/* The next publish answers `rc` and changes nothing (UNCERTAIN: the commit is there all the same). */
void fake_place_fail(struct vv_place *place, varve_status rc);
/* Commits and pages so far; and how often pages were read since asked last. */
size_t fake_place_commits(const struct vv_place *place);
size_t fake_place_pages(const struct vv_place *place);
size_t fake_place_reads(struct vv_place *place);
/* Holds now; views so far; and something is retired. */
size_t fake_place_holds(const struct vv_place *place);
size_t fake_place_views(const struct vv_place *place);
void fake_place_retire(struct vv_place *place);

#endif
