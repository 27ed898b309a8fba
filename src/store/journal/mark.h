/* mark.h - what the retained commits need of the log: every block of it, found by following them all.
 *
 *   way        from a commit to what its state is built from: the directories of the records on the way (those of
 *              removed commits too), and all that the checkpoint or kept record at its end saved. It passes by
 *              checkpoints that a repair found damaged, and takes those that a repair found to be the only way
 *   leaves     the frames of the pages of the state itself, and of their bases
 *   headers    of every record, with its facts: so that a scan steps over holes
 *   roots      not of the log: those that the index leads from to removed commits, for which newer ones are looked for
 * Laws: a block that is not marked is needed by no commit that was retained when the mark ended, nor by any that was
 * made meanwhile; for those are made on retained ones (prepare.c), and every commit up to the last is looked at.
 * What the index and the newest checkpoint need is marked last. A node or frame is looked at once, however many
 * commits share it; so the cost is that of what differs. */
#ifndef VV_MARK_H
#define VV_MARK_H

#include "base/table.h"
#include "store/journal/place.h"
#include "store/journal/repair.h"

struct vv_mark_segment {
    uint64_t start, end; /* end: of the address space that is judged */
    uint64_t needed;     /* bytes, headers of removed commits left out */
    uint8_t *blocks;     /* a bit for each VV_RECORD_ALIGN bytes */
};
/* A retained commit, and the lowest address that it needs. */
struct vv_mark_commit {
    uint64_t number, lowest;
};
struct vv_mark {
    struct vv_place *place;
    uint64_t horizon; /* what lies here or behind is not judged: it is needed */
    struct vv_mark_segment *segments;
    size_t segment_count;
    struct vv_mark_commit *commits;
    size_t commit_count, commit_capacity;
    struct vv_chain chain; /* as far as headers are marked */
    bool headers;          /* they are, up to the horizon */
    uint64_t number;  /* the last commit that was looked at */
    struct vv_table ways;   /* record -> lowest address of its way */
    struct vv_table nodes;  /* saved node or entry -> lowest address saved in it or below */
    struct vv_table leaves; /* the same -> lowest address of a page of it */
    struct vv_table frames; /* those that are marked */
    struct vv_table pages;  /* locator with bases -> lowest address of them */
    struct vv_table parents; /* ids that retained commits name as theirs */
    bool roots;              /* those that lead to nothing are known, or not asked for */
    uint8_t next_root[32];   /* to be looked at */
    struct vv_table stale;   /* such a root -> number of the newest retained commit that has it; 0: none */
    struct vv_declared declared;     /* what repairs have dealt with, once something was missing */
    bool looked;                     /* for that */
    const struct vv_table *left_out; /* ids of commits that are to be taken for removed; may be NULL */
};

varve_status vv_mark_begin(struct vv_mark *mark, struct vv_place *place, const struct vv_table *left_out);
/* Before the first step: roots, too; for commits were removed. At the end, `writer` held: set them right. */
void vv_mark_roots(struct vv_mark *mark);
varve_status vv_mark_mend_roots(const struct vv_mark *mark);
/* Go on, about as far as `budget` commits or records; `done` at the end. CORRUPT: nothing may be reclaimed. */
varve_status vv_mark_step(struct vv_mark *mark, uint64_t budget, bool *done);
/* The commits that were made since; `writer` is held, so that there are no more when it returns. */
varve_status vv_mark_finish(struct vv_mark *mark);
/* Was this address found to be needed, or was it not judged? Was this record found on a way, as its end? */
bool vv_mark_needs(const struct vv_mark *mark, uint64_t address);
bool vv_mark_knows(const struct vv_mark *mark, uint64_t record);
/* Every frame that is needed; whether one has its sum. */
varve_status vv_mark_each_frame(const struct vv_mark *mark,
                                varve_status (*each)(void *context, uint64_t address), void *context);
varve_status vv_mark_check_frame(struct vv_mark *mark, uint64_t address);
void vv_mark_release(struct vv_mark *mark); /* an all zero one is fine */
bool vv_mark_is_needed(const struct vv_mark_segment *segment, uint64_t address);
/* The lowest address that a page needs, its bases' included. */
varve_status vv_mark_page(struct vv_mark *mark, uint64_t locator, uint64_t *lowest);

#endif
