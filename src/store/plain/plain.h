/* plain.h - what the layouts of plain files have in common: the history in memory, refs and their moves, holds.
 *
 *   commits, refs and moves are few words each: all of them are read when the store is opened and kept in memory.
 *   Where they are written, and when that is durable, is each layout's own matter; how, is `vv_plain_encode_*`.
 *
 * A layout's `struct vv_place` begins with a `struct vv_plain`, so that the functions below that take a place are
 * entries of its table as they stand. They lock; those that take a `struct vv_plain` want it locked by the caller.
 * Laws: (H1) What can fail, for want of memory or as a conflict, comes before anything is written: `vv_plain_room`
 *            and the checks; what follows a durable write cannot fail.
 *       (H2) A removed commit stays as a tombstone: number, id and parent, so that `~` steps over it. */
#ifndef VV_PLAIN_H
#define VV_PLAIN_H

#include <pthread.h>

#include "store/layout.h"

/* What a commit did to one module. */
struct vv_plain_change {
    varve_module_id id;
    bool removed;
    uint64_t pages, bytes; /* changed; written for it */
    uint64_t version;      /* the layout's own: which of the module's versions it has since; 0: none */
};
struct vv_plain_commit {
    struct vv_commit_facts facts; /* locator: the number */
    struct vv_plain_change *changes;
    size_t change_count;
    struct vv_bytes own; /* the layout's own, kept in the commit's record */
    bool removed;
    uint64_t removed_in;   /* generation; what it alone needs goes when no hold is older */
    bool written;          /* the layout's: its record is durable */
    bool has_state;        /* the layout's: `state` is filled; a view is a copy of it */
    struct vv_state state;
};
struct vv_plain_move {
    char name[256];
    struct vv_move_facts facts; /* locator: place in the array + 1 */
    bool written;               /* the layout's: its record is durable */
};
struct vv_plain_ref {
    char name[256];
    size_t newest; /* of its moves: place + 1 */
    uint64_t moves;
};
struct vv_plain_hold {
    uint64_t generation;
    size_t holders;
};
struct vv_plain {
    pthread_mutex_t mutex;
    struct vv_plain_commit **commits; /* by number; tombstones among them */
    struct vv_plain_move *moves;      /* oldest first */
    struct vv_plain_ref *refs;        /* by name; also those that were deleted */
    struct vv_plain_hold *holds;      /* in no order */
    size_t commit_count, move_count, ref_count, hold_count;
    size_t commit_room, move_room, ref_room, unlisted; /* holds that memory was too short to list */
    size_t live_count;     /* commits that are not removed */
    struct vv_table by_id; /* id: struct vv_plain_commit; the newest with that id */
    uint64_t last_number, generation;
};

void vv_plain_init(struct vv_plain *plain);
void vv_plain_release(struct vv_plain *plain);
static inline void vv_plain_lock(struct vv_plain *plain)
{
    VV_ASSERT(pthread_mutex_lock(&plain->mutex) == 0);
}
static inline void vv_plain_unlock(struct vv_plain *plain)
{
    VV_ASSERT(pthread_mutex_unlock(&plain->mutex) == 0);
}

/* ---- Entries of a layout's table; they lock ----------------------------------------------------- */

uint64_t vv_plain_hold(struct vv_place *place);
void vv_plain_drop(struct vv_place *place, uint64_t token);
varve_status vv_plain_find_id(struct vv_place *place, const uint8_t key[32], unsigned digits,
                              varve_commit_id found[2], size_t *count);
varve_status vv_plain_find_root(struct vv_place *place, const uint8_t key[32], unsigned digits,
                                varve_commit_id found[2], size_t *count);
varve_status vv_plain_find_number(struct vv_place *place, uint64_t number, varve_commit_id *found);
varve_status vv_plain_facts(struct vv_place *place, const varve_commit_id *id, struct vv_commit_facts *facts);
uint64_t vv_plain_last_number(struct vv_place *place);
varve_status vv_plain_ancestor(struct vv_place *place, const varve_commit_id *id, varve_commit_id *found);
/* For layouts that keep `state` of every commit. */
varve_status vv_plain_view(struct vv_place *place, const struct vv_commit_facts *facts, struct vv_state *state);
varve_status vv_plain_changed(struct vv_place *place, const struct vv_commit_facts *facts,
                              varve_status (*each)(void *context, const varve_module_id *id, bool removed,
                                                   uint64_t pages, uint64_t bytes),
                              void *context);
varve_status vv_plain_ref_get(struct vv_place *place, const char *name, struct vv_ref_facts *ref);
varve_status vv_plain_ref_next(struct vv_place *place, const char *after, struct vv_ref_facts *ref);
varve_status vv_plain_ref_move(struct vv_place *place, const char *name, uint64_t locator,
                               struct vv_move_facts *move);

/* For layouts that write all of the history at persist: the tombstone takes the next number. */
varve_status vv_plain_bury(struct vv_place *place, const varve_commit_id *id, const varve_commit_id *before);

/* Entries of what these layouts do not need: nothing is frozen, forked or woken. */
varve_status vv_plain_snapshot(struct vv_place *place, bool fork); /* there is nothing to bring up to date */
bool vv_plain_wants_frozen(struct vv_place *place);
varve_status vv_plain_freeze(struct vv_place *place, const struct vv_commit_facts *facts,
                             struct vv_frozen *images, size_t count);

/* ---- Reading and changing, under the lock ------------------------------------------------------- */

/* The newest with this id, a tombstone too; NULL. Lent. */
struct vv_plain_commit *vv_plain_commit_of(const struct vv_plain *plain, const varve_commit_id *id);
/* With this number, a tombstone too; NULL. */
struct vv_plain_commit *vv_plain_numbered(const struct vv_plain *plain, uint64_t number);
/* Where a ref stands; zeros: there is none. */
varve_commit_id vv_plain_stands(const struct vv_plain *plain, const char *name);

/* A commit from a change: facts and what it did to modules; number and locator are 0 still. */
varve_status vv_plain_commit_new(const struct vv_change *change, struct vv_plain_commit **commit);
void vv_plain_commit_free(struct vv_plain_commit *commit); /* NULL is fine */
/* Room for so many more, so that what follows cannot fail. */
varve_status vv_plain_room(struct vv_plain *plain, size_t commits, size_t moves);
/* CONFLICT when the ref stands elsewhere than expected; NOT_FOUND when `to` is no commit that is there, but `made`
 * (NULL: none). */
varve_status vv_plain_check_move(const struct vv_plain *plain, const struct vv_ref_move *move,
                                 const varve_commit_id *made);
/* UNSUPPORTED unless the ref is "main" or a tag: for layouts that keep one line. `layout`: for the words. */
varve_status vv_plain_check_line(const char *name, const char *layout);
/* A commit that is nothing but a tombstone, for vv_plain_add. */
varve_status vv_plain_tombstone(const varve_commit_id *id, const varve_commit_id *parent,
                                struct vv_plain_commit **commit);
/* Takes the commit over, and numbers it unless it has a number. There is room. */
void vv_plain_add(struct vv_plain *plain, struct vv_plain_commit *commit);
/* The newest commit never came to be: it is given back, and its number is free again. */
struct vv_plain_commit *vv_plain_take_back(struct vv_plain *plain);
/* There is room, and the move was checked. */
void vv_plain_put_move(struct vv_plain *plain, const struct vv_ref_move *move, int64_t time_ns);
/* The newest move never came to be. */
void vv_plain_take_back_move(struct vv_plain *plain);

/* NOT_FOUND; MISUSE, naming it, when a ref names one of them. */
varve_status vv_plain_check_removal(const struct vv_plain *plain, const varve_commit_id *ids, size_t count);
/* Tombstones in a new generation. Checked before. What they hold stays until vv_plain_forget: states may be asked for
 * by who holds them. */
void vv_plain_remove(struct vv_plain *plain, const varve_commit_id *ids, size_t count);
/* A tombstone that no hold is older than: its state and what it changed go. */
void vv_plain_forget(struct vv_plain_commit *commit);
/* The least generation that is held; UINT64_MAX: nothing is. */
uint64_t vv_plain_oldest_hold(const struct vv_plain *plain);
/* Commits that retention gives up: all but the newest `retain` along each branch (by parents), and tags; none when
 * `retain` is 0. The caller frees `ids`. */
varve_status vv_plain_victims(const struct vv_plain *plain, uint64_t retain, varve_commit_id **ids,
                              size_t *count);

/* ---- As bytes: docs/format.md, "History" -------------------------------------------------------- */

/* A history is records one after the other: u32 size of the payload, u32 kind, sum (16 bytes) over both and the
 * payload and the record's place in the sequence, so that no record passes for another. Kinds from 64 on are the
 * layout's own. */
enum vv_plain_kind { VV_PLAIN_COMMIT = 1, VV_PLAIN_MOVE = 2, VV_PLAIN_REMOVAL = 3, VV_PLAIN_OWN = 64 };
enum { VV_PLAIN_FRAME = 24, VV_PLAIN_RECORD_MAX = 64 << 20 };

void vv_plain_frame(struct vv_bytes *out, uint64_t sequence, uint32_t kind, const void *payload, size_t size);
/* The next record, lent. False: there is no whole, sound record with this sequence here; `reader` stays. */
bool vv_plain_unframe(struct vv_reader *reader, uint64_t sequence, uint32_t *kind, struct vv_reader *payload);

void vv_plain_encode_commit(const struct vv_plain_commit *commit, struct vv_bytes *out);
void vv_plain_encode_move(const struct vv_plain_move *move, struct vv_bytes *out);
void vv_plain_encode_removal(const struct vv_plain_commit *commit, struct vv_bytes *out);
/* Put what a record says into `plain`. CORRUPT: it says what cannot be. `commit`, when it is one: lent; may be NULL. */
varve_status vv_plain_apply(struct vv_plain *plain, uint32_t kind, struct vv_reader payload,
                            struct vv_plain_commit **commit);
/* All of it, in records from `sequence` on, which goes on: commits and removals by number, then moves. */
void vv_plain_encode_all(const struct vv_plain *plain, uint64_t *sequence, struct vv_bytes *out);

/* Named values of a state, whole. */
void vv_plain_encode_meta(const struct vv_state *state, struct vv_bytes *out);
varve_status vv_plain_decode_meta(struct vv_reader *reader, struct vv_state *state);

#endif
