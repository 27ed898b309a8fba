/* limits.h - the journal's sizes, which tests and the torture build shrink so that edges are met often. */
#ifndef VV_JOURNAL_LIMITS_H
#define VV_JOURNAL_LIMITS_H

#include "store/journal/log.h"

struct vv_journal_limits {
    struct vv_log_limits log;
    uint32_t checkpoint_records; /* commits on a line until its next checkpoint */
    uint64_t checkpoint_bytes;   /* or bytes of them */
    size_t views, frames;        /* kept in memory */
    uint32_t close_records;      /* commits since the last checkpoint that closing makes one of; 0: never */
};
extern const struct vv_journal_limits vv_journal_limits;

#endif
