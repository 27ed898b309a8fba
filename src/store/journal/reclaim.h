/* reclaim.h - space comes back: what is retained is marked, moved out of the way, and the rest goes.
 *
 *   retain   commits that retention does not keep are removed                                    [remove.c]
 *   mark     what the retained ones need                                                         [mark.c]
 *   keep     where most of the oldest segments is dead: their commits, written once more         [keep.c]
 *   retire   a durable checkpoint that needs nothing of what is to go; it says a new generation
 *   drop     when nobody looks at an older one: unlink segments, punch holes
 * Laws: (J5) nothing goes before a synced checkpoint, and all that its commits need, lies elsewhere. A crash at any
 * step leaves a store that holds all its commits, and perhaps space that the next round finds. Segments go from the
 * front, one after the other, so that what is left is in one piece. On a full disk image files of which there are two
 * make room first; then the round does with the spare space (room.c), and gives back no more than is worth it. */
#ifndef VV_RECLAIM_H
#define VV_RECLAIM_H

#include "store/journal/keep.h"

/* On a full disk a round takes less: it keeps what the spare space holds, and then no more than a checkpoint. */
enum vv_reclaim_pressure { VV_RECLAIM_ROOMY, VV_RECLAIM_TIGHT, VV_RECLAIM_HOLES };
enum vv_reclaim_phase { VV_RECLAIM_IDLE, VV_RECLAIM_MARK, VV_RECLAIM_KEEP, VV_RECLAIM_RETIRE, VV_RECLAIM_DROP };
struct vv_reclaim {
    pthread_mutex_t mutex; /* one step at a time; taken before the place's */
    enum vv_reclaim_phase phase;
    enum vv_reclaim_pressure pressure;
    struct vv_mark mark;
    struct vv_keeper keeper;
    size_t next;         /* of the marked commits: to be kept */
    uint64_t start;      /* where the log is to begin; 0: where it does */
    uint64_t generation; /* may drop when nobody looks at an older one */
    uint64_t end;        /* of the log, when the last round began, or a little below where this opening did */
    bool _Atomic removed; /* something was, since then */
    bool refused;        /* it cannot be told what is needed */
    bool only_space;     /* retention is not applied in this round */
    bool unfinished;     /* retention found no room to remove all that it should */
    uint64_t freed;      /* bytes, by this opening */
    uint64_t looked;     /* commits that retention looked at, in all rounds */
    uint64_t dead;       /* bytes that nothing needs, as the last mark found */
};

/* Of a place that is loaded. */
varve_status vv_reclaim_new(const struct vv_place *place, struct vv_reclaim **reclaim);
void vv_reclaim_free(struct vv_reclaim *reclaim);

#endif
