/* limits.h - the journal's sizes, which tests and the torture build shrink so that edges are met often. */
#ifndef VV_JOURNAL_LIMITS_H
#define VV_JOURNAL_LIMITS_H

#include "store/journal/log.h"

struct vv_journal_limits {
    struct vv_log_limits log;
    uint64_t spare;              /* bytes kept for what makes room, at least; 0: none are */
    uint32_t checkpoint_records; /* commits on a line until its next checkpoint */
    uint64_t checkpoint_bytes;   /* or bytes of them */
    size_t views, frames;        /* kept in memory */
    uint32_t close_records;      /* commits since the last checkpoint that closing makes one of; 0: never */
    uint64_t snapshot_bytes;     /* of the log between two snapshots; 0: as the store's settings say */
    uint64_t image_pages;        /* a memory with fewer needs no file to be mapped; 0: none does */
    size_t image_files;          /* mapped at once; each takes a descriptor */
};
extern const struct vv_journal_limits vv_journal_limits;

#endif
