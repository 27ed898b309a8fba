/* view.h - the state of any commit: a checkpoint's saved nodes, and the directories of the records after it.
 *
 *   cached     states of commits used last; a hit costs a copy
 *   made       commits whose own checkpoint is known (it lies behind them in the log): the best place to start
 *   avoided    checkpoints that a repair found damaged: a longer way is taken
 *   ways       commits that a repair found readable by their own checkpoint alone, which must stay known
 * From a commit one goes to parents until one of these is met, or the checkpoint that the record names, or a kept
 * record, or a commit without parent; then applies what lies between, oldest first. The root is computed and compared: a
 * state that is handed out is the one that the commit's root names, whatever the bytes on the way said.
 * Thread safe. */
#ifndef VV_VIEW_H
#define VV_VIEW_H

#include "base/table.h"
#include "store/journal/log.h"
#include "store/state.h"

struct vv_views_entry {
    uint64_t address, used;
    struct vv_state state;
};
struct vv_views {
    struct vv_log *log;
    struct vv_node_source nodes;
    struct vv_module_source modules;
    pthread_mutex_t mutex; /* guards all below */
    struct vv_views_entry *entries;
    size_t count, capacity;
    uint64_t clock;
    uint64_t flushes;        /* a state whose making began before the last one is not kept */
    struct vv_table made;    /* address of a commit -> of its checkpoint */
    struct vv_table avoided; /* address of a checkpoint -> nothing */
    struct vv_table ways;    /* as made */
};

varve_status vv_views_init(struct vv_views *views, struct vv_log *log, size_t capacity);
void vv_views_release(struct vv_views *views);

/* The state of the commit whose record is at `address`; the caller releases it. */
varve_status vv_views_get(struct vv_views *views, uint64_t address, struct vv_state *state);
/* It is in memory already: keep a copy, unless there was a flush since there were `flushes`. Memory that runs out only
 * makes a later view dearer. */
void vv_views_put(struct vv_views *views, uint64_t address, const struct vv_state *state, uint64_t flushes);
uint64_t vv_views_flushes(struct vv_views *views);
/* A commit's own checkpoint; 0: none that is known. */
uint64_t vv_views_checkpoint(struct vv_views *views, uint64_t commit);
void vv_views_made(struct vv_views *views, uint64_t commit, uint64_t checkpoint);
/* Keep no state that leads to what was retired, and no checkpoint below `start`, where the log begins now. */
void vv_views_flush(struct vv_views *views, uint64_t start);

/* Never start from this checkpoint. */
varve_status vv_views_avoid(struct vv_views *views, uint64_t checkpoint);
bool vv_views_avoided(struct vv_views *views, uint64_t checkpoint);
/* The only way to the state of this commit. */
varve_status vv_views_only(struct vv_views *views, uint64_t commit, uint64_t checkpoint);
/* The log begins at `start` now: nothing that lies below is told of any more. */
void vv_views_forget_below(struct vv_views *views, uint64_t start);
uint64_t vv_views_way(struct vv_views *views, uint64_t commit); /* 0: it is not so */
/* Both of these, as every checkpoint's directory hands them on, less what lies below `start`, where the log begins; a
 * decoder adds to what is there. */
varve_status vv_views_encode_ways(struct vv_views *views, uint64_t start, struct vv_bytes *out);
varve_status vv_views_decode_ways(struct vv_views *views, struct vv_reader *reader);

/* What a checkpoint saved: u32 size, sum, bytes. Appends the bytes. */
enum { VV_SAVED_HEADER = 4 + VV_SUM };
void vv_saved_encode(const void *bytes, size_t size, struct vv_bytes *out);
varve_status vv_saved_read(struct vv_log *log, uint64_t address, struct vv_bytes *bytes);

/* The trie and named values of a checkpoint. */
varve_status vv_views_open_checkpoint(struct vv_views *views, uint64_t address, struct vv_record *record,
                                      struct vv_state *state);
/* Load all that the state in a checkpoint consists of: each node is checked as it is loaded. */
varve_status vv_views_verify(struct vv_views *views, const struct vv_record *checkpoint);
/* The state that a kept record leads to. */
varve_status vv_views_open_kept(struct vv_views *views, const struct vv_record *record,
                                struct vv_state *state);

#endif
