/* repair.h - after damage to acknowledged bytes: give up what needs them, keep all else, let the store be written again.
 *
 * A repair reads the whole log as if it had neither head nor index, finds which commits are still whole, and appends
 * one record, durable at one instant: a checkpoint that holds the index of those, all refs (moved where they named
 * what is given up), and the places of the damage that this deals with (docs/format.md, "Repairs"). Nothing that was
 * there is written over: it begins a segment of its own. Killed before that record is whole: nothing happened. */
#ifndef VV_REPAIR_H
#define VV_REPAIR_H

#include "store/journal/place.h"

/* Tells through `options->finding` what is given up and why. QUICK: bytes of pages are believed. `done`: there was
 * something to repair, and it is. */
varve_status vv_journal_repair(const struct vv_dir *dir, const struct vv_layout_options *options,
                               const struct vv_journal_limits *limits, uint32_t flags, bool *done);

/* All that the repairs in a log have declared, of which the beginning may be gone. */
struct vv_dropped {
    uint8_t id[32];
    uint64_t at; /* the repair's record: a commit with this id behind it was made again */
};
struct vv_declared {
    struct vv_dead *dead;
    size_t dead_count;
    struct vv_dropped *dropped;
    size_t dropped_count;
    uint64_t generation; /* the highest that a checkpoint says */
};
varve_status vv_repairs_declared(struct vv_log *log, struct vv_declared *declared);
void vv_declared_release(struct vv_declared *declared);
bool vv_declared_dead(const struct vv_declared *declared, uint64_t address);
/* Of the commit `id` whose record is at `address`. */
bool vv_declared_dropped(const struct vv_declared *declared, const uint8_t id[32], uint64_t address);

#endif
