/* opened.h - a journal with limits of its own, for tests of what it does to its disk: made, opened, closed. */
#ifndef OPENED_H
#define OPENED_H

#include "store/journal/journal.h"

struct opened {
    struct vv_dir dir;
    struct vv_place *place; /* NULL: it did not open */
};
#define OPENED_NONE ((struct opened){ .dir = VV_DIR_NONE })

/* Everything small, so that segments, checkpoints and caches turn over all the time. */
extern const struct vv_journal_limits opened_small;

/* A store where nothing is yet. */
varve_status opened_create(const struct vv_vfs *vfs, const char *path,
                           const struct vv_journal_limits *limits);
/* What it left open when it failed is closed by opened_end, too. */
varve_status opened_begin(struct opened *opened, const struct vv_vfs *vfs, const char *path, bool read_only,
                          const struct vv_journal_limits *limits);
void opened_end(struct opened *opened);

#endif
