/* index.h - where every commit is, and what every ref names: a saved part and a tail.
 *
 *   ids, roots   tries: commit id -> record; state root -> newest record with it (hash: that commit's id)
 *   numbers      page tree: number -> {id, record}
 *                as the last checkpoint saved them, loaded by need, and let go of: after each checkpoint, and when
 *                look-ups have loaded many nodes, what is not near the tops; so however many commits an opening
 *                makes or looks at, its memory does not grow with them
 *   tail         commits since then, in memory, looked at first; a checkpoint moves them into the trees
 *   removals     since then too: they hide what the trees have, until a checkpoint takes it out of them
 *   kept         commits that lie elsewhere since then: in the tail they are told so
 *   refs         all of them, deleted ones too (they keep their moves); every checkpoint stores them whole
 * A commit that was removed leaves a *tombstone*, as long as a retained one names it as its parent: in `ids`, with
 * locator 0 and the id of the nearest retained commit before it as hash (all ones: none). What `roots` says of a
 * root may be out of date, for the commit may be gone; who finds that has to look at all commits. Reclaiming looks at
 * them anyway, and sets it right (mark.h).
 * One thread at a time: the journal's mutex. */
#ifndef VV_INDEX_H
#define VV_INDEX_H

#include "base/table.h"
#include "page/trie.h"
#include "store/record.h"

struct vv_index_commit {
    uint8_t id[32], root[32];
    uint64_t number, address;
    bool removed;
};
struct vv_index_removal {
    uint8_t id[32], ancestor[32]; /* zeros: none */
    uint64_t number;
    bool done; /* until then it is only reserved */
};
struct vv_index_ref {
    char name[VV_REF_NAME_MAX + 1];
    uint8_t commit[32]; /* zeros: deleted */
    uint64_t moves;
    uint64_t last; /* record of its newest move */
};
struct vv_index {
    const struct vv_node_source *nodes;
    struct vv_node_source counted; /* the same, for the trees: it counts */
    uint64_t loaded;               /* nodes, since some were let go of */
    struct vv_trie ids, roots;
    struct vv_pagetree numbers;
    struct vv_index_commit *tail; /* by number */
    size_t tail_count, tail_capacity;
    struct vv_table tail_ids; /* -> place in tail */
    struct vv_index_removal *removals;
    size_t removal_count, removal_capacity;
    struct vv_table removal_ids; /* -> the newest in removals */
    struct vv_index_commit *kept;
    size_t kept_count, kept_capacity;
    struct vv_table kept_ids; /* -> place in kept */
    size_t mended;            /* roots, since the last checkpoint */
    uint64_t last_number;
    uint64_t commits;
    struct vv_index_ref *refs; /* by name */
    size_t ref_count, ref_capacity;
    uint64_t refs_size; /* bytes of their names */
};

void vv_index_init(struct vv_index *index, const struct vv_node_source *nodes);
void vv_index_release(struct vv_index *index);

/* A commit that is about to be written, with up to `moves` moves of refs: everything that can fail is done now.
 * It is found by nobody until it is revealed, with its address; or it is retracted. Its number must be above all
 * others'. Several may be announced: they are revealed in order, or retracted from the last. */
varve_status vv_index_announce(struct vv_index *index, const struct vv_record *record);
void vv_index_reveal(struct vv_index *index, const struct vv_record *record);
void vv_index_retract(struct vv_index *index);
bool vv_index_begins(const uint8_t bytes[32], const uint8_t key[32], unsigned digits);
/* 0: there is none. */
varve_status vv_index_find(const struct vv_index *index, const uint8_t id[32], uint64_t *address);
/* Up to two ids that begin so, of commits or of the newest commits of such roots. `stale`: a commit that would have
 * been found is gone, and what is found is not to be relied upon. */
varve_status vv_index_find_id(const struct vv_index *index, const uint8_t key[32], unsigned digits,
                              uint8_t found[2][32], size_t *count);
varve_status vv_index_find_root(const struct vv_index *index, const uint8_t key[32], unsigned digits,
                                uint8_t found[2][32], size_t *count, bool *stale);
varve_status vv_index_find_number(const struct vv_index *index, uint64_t number, uint8_t id[32],
                                  uint64_t *address);
/* The first commit that is there with a number above `after`; address 0: there is none. Numbers that are gone from the
 * saved index cost nothing. */
varve_status vv_index_next_number(const struct vv_index *index, uint64_t after, uint64_t *number,
                                  uint8_t id[32], uint64_t *address);

/* See that `count` more commits can be removed without memory running out; take one of those out. An id that the
 * index does not have is fine. */
varve_status vv_index_reserve_removals(struct vv_index *index, const struct vv_record_removal *removals,
                                       size_t count);
void vv_index_remove(struct vv_index *index, const struct vv_record_removal *removal);
/* See that one more commit can be moved without memory running out; say that it lies in this record now. */
varve_status vv_index_reserve_kept(struct vv_index *index, const uint8_t id[32]);
void vv_index_keep(struct vv_index *index, const struct vv_record *record);
/* What a tombstone says, if there is one. */
varve_status vv_index_tombstone(const struct vv_index *index, const uint8_t id[32], uint8_t ancestor[32],
                                bool *there);
/* Tombstones in the saved index; and one that nobody needs any more goes. On failure it stays. */
varve_status vv_index_tombstones(const struct vv_index *index,
                                 varve_status (*each)(void *context, const uint8_t id[32]), void *context);
varve_status vv_index_forget(struct vv_index *index, const uint8_t id[32]);
/* The first root in the saved index from `from` on, and whether the commit that it leads to is gone; `from` is then
 * where the next begins. `more` false: there are none behind it. */
varve_status vv_index_next_root(const struct vv_index *index, uint8_t from[32], uint8_t root[32], bool *gone,
                                bool *more);
/* What a root that leads to nothing leads to from now on: the commit with this number, the newest that has it; 0: there
 * is none, so the root goes. One that leads to a commit, or should lead to one that is gone, stays. */
varve_status vv_index_mend_root(struct vv_index *index, const uint8_t root[32], uint64_t number);
/* The commit itself, when it is there; else the nearest before it that is, zeros: none. What was never heard of is
 * its own answer. `removed`: there is a tombstone. */
varve_status vv_index_ancestor(const struct vv_index *index, const uint8_t id[32], uint8_t ancestor[32],
                               bool *removed);

/* Refs. NULL: no such name was ever made. */
const struct vv_index_ref *vv_index_ref(const struct vv_index *index, const char *name);
/* The first name after `after` (NULL: the first of all), deleted ones included. */
const struct vv_index_ref *vv_index_ref_after(const struct vv_index *index, const char *after);
/* See that `more` refs can be moved without memory running out; move one of them, to what the record says. */
varve_status vv_index_reserve(struct vv_index *index, size_t more);
void vv_index_move(struct vv_index *index, const struct vv_record_move *move, uint64_t address);

/* ---- Checkpoints ------------------------------------------------------------------------------ */

/* Refs as a checkpoint's directory holds them. */
void vv_index_encode_refs(const struct vv_index *index, struct vv_bytes *out);
varve_status vv_index_decode_refs(struct vv_index *index, struct vv_reader *reader);

/* The trees with the tail in them, saved through `write`; `checkpoint` learns where they begin. Nothing in
 * `index` changes until it is adopted. Nothing is saved below `from`. */
struct vv_index_saved {
    struct vv_trie ids, roots;
    struct vv_pagetree numbers;
};
varve_status vv_index_save(const struct vv_index *index, uint64_t from, vv_node_write_fn write, void *context,
                           struct vv_checkpoint *checkpoint, struct vv_index_saved *saved);
void vv_index_saved_release(struct vv_index_saved *saved);
/* What was saved from an address on came to nothing. */
void vv_index_unsave(struct vv_index_saved *saved, uint64_t from);
/* Let nothing of the next checkpoint's trees lie below `start`. */
varve_status vv_index_forget_below(struct vv_index *index, uint64_t start);
void vv_index_adopt(struct vv_index *index,
                    struct vv_index_saved *saved); /* takes it; the tail is empty now */
/* Be what a checkpoint says, less its refs. */
varve_status vv_index_open(struct vv_index *index, const struct vv_record *record,
                           const struct vv_checkpoint *checkpoint);

#endif
