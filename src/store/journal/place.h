/* place.h - an open journal: what journal.c (opening, reading), prepare.c and publish.c (changing) share. */
#ifndef VV_PLACE_H
#define VV_PLACE_H

#include "store/journal/head.h"
#include "store/journal/imagefile.h"
#include "store/journal/index.h"
#include "store/journal/limits.h"
#include "store/journal/pages.h"
#include "store/journal/view.h"
#include "store/layout.h"

/* Those that are held, and the current one, which is the last (generation.c). */
struct vv_generation {
    uint64_t number;
    size_t holds;
};
struct vv_generations {
    struct vv_generation *list;
    size_t count, capacity;
};

/* What a reader knows of its writer (beside.c). */
struct vv_beside {
    struct vv_head heads[2];
    bool writer; /* there is one */
};

/* What a scan of the log found damaged and no repair has dealt with. */
struct vv_damage {
    uint64_t address;
    bool has_commit; /* it is the record of one */
    uint8_t commit[32];
    char words[256];
};

/* What is done for the image files: snapshots (snapshot.c), reading them for rot (scrub.c). */
struct vv_snapshot;
struct vv_scrub;
struct vv_snapshots {
    uint64_t _Atomic taken;
    bool _Atomic fork_wanted; /* by the next commit that holds images */
    pthread_mutex_t mutex;    /* one step at a time; guards all below; taken before `writer` */
    struct vv_snapshot *running;
    bool looked;      /* `reached` was learned from the files */
    uint64_t reached; /* address of the newest commit that a snapshot was taken of; 0: none */
    uint64_t ended;   /* when the last one ended, or this opening began; monotonic ns */
    uint64_t retry;   /* after a failure: not before */
    bool recreated;   /* second files were looked after in this opening */
    struct vv_scrub *scrub;
    uint64_t scrubbed; /* when all files were read last; 0: not in this opening */
    uint64_t mended;   /* files that were found rotten, and replaced */
};

struct vv_reclaim; /* reclaim.h */
struct vv_place {
    struct vv_dir dir; /* the caller's, lent */
    struct vv_layout_options options;
    struct vv_journal_limits limits;
    struct vv_log log;
    struct vv_views views;
    struct vv_pages pages;
    struct vv_images images;
    struct vv_snapshots snapshots;
    struct vv_reclaim *reclaim; /* NULL: read only */
    bool parts; /* the above are there to be released */

    pthread_mutex_t mutex; /* guards the index and what stat tells; never held across a sync */
    struct vv_index index;
    struct vv_generations generations;
    bool beside;                      /* others may write: see that what is there is known before answering */
    bool quiet;                       /* what looks like damage may be a race, and is not told */
    struct vv_beside seen;            /* of a reader */
    uint64_t _Atomic told_generation; /* by `head`, to readers */
    bool _Atomic poisoned;            /* a sync failed: nothing is written any more (P4) */
    bool damaged;                     /* acknowledged bytes are gone: nothing is written any more (P3) */
    struct vv_damage *damages;
    size_t damage_count, damage_told;
    uint64_t stored; /* bytes of the log that records take up */
    uint64_t commit_count, commit_ns, sync_count, sync_ns;

    pthread_mutex_t writer; /* guards all below; taken before `mutex`; who appends takes a turn (group.c) */
    pthread_cond_t turn;
    struct vv_member *queue; /* commits that wait to be taken into a group, in the order in which they came */
    size_t queued;
    size_t gather; /* the next group waits a moment until so many have come: for tests */
    size_t turns;  /* that are waited for: no group begins */
    bool leading; /* a group is being written, without the lock: what follows is its leader's until it ends */
    struct vv_chain chain;
    bool whole;            /* the log has its very first segment */
    bool announced;        /* this opening's OPEN record is in the log (J2) */
    uint64_t lost_refs;    /* a checkpoint that should have told them; 0: none */
    uint64_t scanned_generation; /* of the checkpoint that was met last while opening */
    uint64_t newest;       /* checkpoint, of which the index is; 0: none. `head` may not tell of it yet */
    uint64_t start;        /* of the log, by the newest checkpoint: segments below are needed no more */
    uint64_t acknowledged; /* by `head`, when it was read */
    struct vv_head head;   /* of a reader: what was read last */
    struct vv_head told;   /* what `head` says, for all that is known */
    struct vv_file head_file;
    bool head_reserved;        /* it lies on the disk with both its slots */
    uint64_t checkpoint_retry; /* after one that failed: not before this sequence */
    struct vv_bytes group;     /* the record that is being put together */
};

/* May this place be written to? */
varve_status vv_place_writable(struct vv_place *place);
/* Read `head`; what cannot be read says nothing. */
varve_status vv_place_read_head(struct vv_place *place, struct vv_head heads[2]);
/* Tell how far the log is, for readers and the next opening. In a turn. A hint: it may fail (J7). */
void vv_place_tell(struct vv_place *place);
/* Index, refs and end of the log, from nothing but what `heads` name; follow the log from where it is known to end.
 * `limit`: no further than there; 0: to its end. */
varve_status vv_place_load(struct vv_place *place, const struct vv_head heads[2], uint64_t limit);
varve_status vv_place_scan(struct vv_place *place, uint64_t limit);
void vv_place_find(struct vv_place *place, varve_severity severity, const char *file, const uint8_t *commit,
                   const char *text);
/* A place that knows its segments and no more: neither index nor chain. */
varve_status vv_place_open(const struct vv_dir *dir, const struct vv_layout_options *options,
                           const struct vv_journal_limits *limits, struct vv_place **place);
/* What the directory of this checkpoint says beside the state: the refs, and ways to states. */
varve_status vv_place_take_directory(struct vv_place *place, const struct vv_record *record);
varve_status vv_place_facts(struct vv_place *place, uint64_t address, struct vv_commit_facts *facts);

/* generation.c. The contract's hold and drop. */
uint64_t vv_place_hold(struct vv_place *place);
void vv_place_drop(struct vv_place *place, uint64_t token);
uint64_t vv_place_generation(struct vv_place *place);
/* Everybody looks at this generation or a later one. */
uint64_t vv_place_oldest_hold(struct vv_place *place);
/* May go now what was retired by going to `generation`? */
bool vv_place_droppable(struct vv_place *place, uint64_t generation);
/* Retiring, in two steps, of which the second cannot fail. Both in one turn; between them a checkpoint
 * that says the next generation becomes durable. `start`: where the log begins from now on. */
varve_status vv_place_may_retire(struct vv_place *place);
void vv_place_retire(struct vv_place *place, uint64_t start);
/* Of the two steps, the parts that a reader needs; `mutex` is held. */
varve_status vv_generations_reserve(struct vv_generations *generations);
void vv_place_advance(struct vv_place *place, uint64_t number, uint64_t start);
uint64_t vv_generations_now(const struct vv_generations *generations);
varve_status vv_generations_init(struct vv_generations *generations);
void vv_generations_release(struct vv_generations *generations);
/* While opening: go on from what was stored. */
void vv_generations_raise(struct vv_generations *generations, uint64_t number);

/* beside.c. Before the log is opened to read: lock what is there, and learn how far to read. Afterwards: may what came
 * out be a race with a writer, to be tried once more? */
varve_status vv_place_open_beside(struct vv_place *place, uint64_t *limit);
bool vv_place_look_again(struct vv_place *place, varve_status rc, unsigned tries);
/* Know what a writer beside has made until now. Before any answer; nothing for a writer itself. */
varve_status vv_place_refresh(struct vv_place *place);
bool vv_place_writer_lives(const struct vv_place *place);
/* Does another process look at a generation below this one? */
bool vv_place_watched(const struct vv_place *place, uint64_t generation);
void vv_place_leave(struct vv_place *place, uint64_t generation); /* nobody here looks at it any more */

/* prepare.c */
varve_status vv_place_prepare(struct vv_place *place, struct vv_change *change, struct vv_pending **pending);
void vv_place_discard(struct vv_place *place, struct vv_pending *pending);

/* room.c. How a record may take room (see there); the last three are a reclaim's, on a full disk: from the spare space
 * alone, leaving what its checkpoint needs, or what that needs with its index all anew, or nothing. */
enum vv_room { VV_ROOM_ORDINARY, VV_ROOM_SPARING, VV_ROOM_SPARE, VV_ROOM_KEEPING, VV_ROOM_LAST };
/* Where a record of `size` bytes goes when the log ends at `end`. FULL: there is no room for it. */
varve_status vv_place_room(struct vv_place *place, uint64_t end, uint64_t size, enum vv_room room,
                           uint64_t *address);
/* How large the least checkpoint is that can retire something, about; `anew`: with all nodes of its index. */
uint64_t vv_place_retiring_size(struct vv_place *place, bool anew);

/* publish.c. To append anything one takes a turn: `writer` is held, and no group is on its way. */
varve_status vv_place_announce(struct vv_place *place, enum vv_room room);
varve_status vv_place_poison_if(struct vv_place *place,
                                varve_status rc);     /* when it is UNCERTAIN; returns it */
varve_status vv_place_sync(struct vv_place *place);   /* what was appended is durable */
varve_status vv_place_settle(struct vv_place *place); /* and what was found, too */
/* Put header, sections and padding at the end of `out`, continuing the chain. */
varve_status vv_place_compose(const struct vv_chain *chain, struct vv_record *record, struct vv_piece facts,
                              struct vv_piece directory, struct vv_piece pages, struct vv_bytes *out);
/* What the move does to the ref as it stands, or CONFLICT. `mutex` is held; the name is lent from `move`. */
varve_status vv_place_resolve_move(struct vv_place *place, const struct vv_ref_move *move,
                                   const uint8_t to[32], struct vv_record_move *resolved);
/* A commit that makes a checkpoint due makes it too; it is made already, so what fails then is put off. In a turn. */
bool vv_place_checkpoint_due(const struct vv_place *place, const struct vv_record *commit);
varve_status vv_place_checkpoint(struct vv_place *place, const struct vv_record *commit);
varve_status vv_place_move_refs(struct vv_place *place, const struct vv_ref_move *moves, size_t count,
                                int64_t time_ns);
/* Append a durable record of moves and removals that were checked, and take them up. When it makes room it finds room
 * on a full disk. In a turn. */
varve_status vv_place_append_refs(struct vv_place *place, const struct vv_record_facts *facts,
                                  int64_t time_ns);
/* Append, at `address` (see vv_log_fresh), the record of a repair: the place's index and refs, the state of `commit`
 * (NULL: there is none left), and what the repair declares. `number` is the last one that was given. */
varve_status vv_place_put_repair(struct vv_place *place, const struct vv_record *commit,
                                 const struct vv_repair *repair, uint64_t number, uint64_t address);
varve_status vv_place_persist(struct vv_place *place);
/* See that the commit whose record is at `commit` has a checkpoint of its own: its address. */
varve_status vv_place_checkpoint_of(struct vv_place *place, uint64_t commit, uint64_t *checkpoint);

/* group.c */
void vv_place_take_turn(struct vv_place *place);
void vv_place_end_turn(struct vv_place *place);
varve_status vv_place_publish(struct vv_place *place, struct vv_change *change, struct vv_pending *pending,
                              const struct vv_ref_move *move, varve_durability durability);

/* scrub.c: give up what is on its way. The snapshots' mutex is held. */
void vv_scrub_release(struct vv_place *place);
/* A durable checkpoint of a commit (of the empty state, when its address is 0) that says the next generation, and
 * that the log begins at `start`. `writer` is held. */
varve_status vv_place_retiring_checkpoint(struct vv_place *place, const struct vv_record *commit,
                                          uint64_t start, enum vv_room room);
/* Append a record whose kind and places are set; it is written, not synced. `writer` is held. */
varve_status vv_place_append(struct vv_place *place, struct vv_record *record, struct vv_piece facts,
                             struct vv_piece directory, struct vv_piece pages, enum vv_room room);

/* reclaim.c. A step of about `budget` commits when something is due; retention, and all that can be reclaimed, by
 * call; bytes on disk that nothing needs, as far as known. */
varve_status vv_place_reclaim_step(struct vv_place *place, uint64_t budget, bool *more);
void vv_place_reclaim_due(struct vv_place *place);
uint64_t vv_place_reclaimable(struct vv_place *place);
varve_status vv_place_maintain(struct vv_place *place, uint32_t flags, varve_progress_fn progress,
                               void *context, uint64_t *freed);

/* files.c */
varve_status vv_place_files(struct vv_place *place, vv_file_facts_fn each, void *context);

/* All that can be given back now, though retention is not applied. */
varve_status vv_place_make_room(struct vv_place *place, uint64_t *freed);

/* remove.c. On a full disk what was removed before makes room for the rest. */
varve_status vv_place_remove(struct vv_place *place, const varve_commit_id *ids, size_t count,
                             int64_t time_ns);
varve_status vv_place_bury(struct vv_place *place, const varve_commit_id *id, const varve_commit_id *before);
/* As vv_place_remove, without that, the first of them first; `removed`: as many as were, on failure too. `writer` is
 * held. */
varve_status vv_place_remove_all(struct vv_place *place, const varve_commit_id *ids, size_t count,
                                 int64_t time_ns, size_t *removed);
/* Tombstones that no retained commit (their parents: `parents`) needs go with the next checkpoint.
 * `writer` is held. */
varve_status vv_place_forget_tombstones(struct vv_place *place, const struct vv_table *parents);

#endif
