/* groups.h - two groups of commits, made by threads at once, as the kill sweep and lost-write replay see them.
 *
 * Step n is commit number n of GROUPS_STEPS: the first GROUPS_CROWD are one group, each on a branch of its own; the
 * others are the next, on top of them. */
#ifndef GROUPS_H
#define GROUPS_H

#include "crowd.h"
#include "opened.h"

enum { GROUPS_CROWD = 3, GROUPS_STEPS = 2 * GROUPS_CROWD };

/* What is there of the steps, which start at 1. `ids` may be NULL. False: something is there that cannot be. */
bool groups_see(struct vv_place *place, bool seen[GROUPS_STEPS + 1], varve_commit_id ids[GROUPS_STEPS + 1],
                char denial[512]);
/* Make them; `begin` and `end` are called in each commit's thread, whose step is in `number`. */
varve_status groups_make(struct vv_place *place, void (*begin)(struct crowd_member *member),
                         void (*end)(struct crowd_member *member), void *context);
/* A journal in an empty directory, with limits so small that a group meets the end of a segment. */
varve_status groups_create(const struct vv_vfs *vfs, const char *path);
varve_status groups_open(struct opened *store, const struct vv_vfs *vfs, const char *path, bool read_only);

#endif
