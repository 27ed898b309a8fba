/* diff.h - what differs between two commits, told one change at a time. */
#ifndef VV_DIFF_H
#define VV_DIFF_H

#include "store/store.h"

/* As varve_diff_open, varve_diff_next. */
varve_status vv_diff_open(varve_store *store, varve_commit *from, varve_commit *to, varve_diff **diff);
varve_status vv_diff_next(varve_diff *diff, const varve_change **change);
void vv_diff_close(varve_diff *diff);

#endif
