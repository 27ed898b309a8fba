/* journal.h - the journal's sizes, which tests shrink; the layout itself is vv_layout_journal (layout.h). */
#ifndef VV_JOURNAL_H
#define VV_JOURNAL_H

#include "store/journal/log.h"
#include "store/layout.h"

struct vv_journal_limits {
    struct vv_log_limits log;
    uint32_t checkpoint_records; /* commits on a line until its next checkpoint */
    uint64_t checkpoint_bytes;   /* or bytes of them */
    size_t views, frames;        /* kept in memory */
};
extern const struct vv_journal_limits vv_journal_limits;

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
