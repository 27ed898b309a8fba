/* journal.h - the journal with sizes of the caller's; the layout itself is vv_layout_journal (layout.h). */
#ifndef VV_JOURNAL_H
#define VV_JOURNAL_H

#include "store/journal/limits.h"
#include "store/layout.h"

/* What the layout's functions do, with these limits. */
varve_status vv_journal_create(const struct vv_dir *dir, const struct vv_layout_options *options,
                               const struct vv_journal_limits *limits);
varve_status vv_journal_open(const struct vv_dir *dir, const struct vv_layout_options *options,
                             const struct vv_journal_limits *limits, struct vv_place **place);
void vv_journal_close(struct vv_place *place); /* NULL is fine */

/* Read everything, believe nothing, report (check.c). */
varve_status vv_journal_check(const struct vv_dir *dir, const struct vv_layout_options *options,
                              uint32_t flags, uint64_t *damage);

#endif
