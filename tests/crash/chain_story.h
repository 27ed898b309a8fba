/* chain_story.h - what was done to a store of the layout chain, and what may be left of it after a crash.
 *
 * A *history* is what is durable at some time: which commits, where main and a tag stand. Each persist begins one, and
 * each removal, which persists all that there is; it is told how that ended. What a crash leaves must be one of them,
 * whole: none before the last that was acknowledged, and none that failed. A commit's message lists the steps that lead
 * to it, and its state follows from that; CHAIN_TWIN does what the step before it does. */
#ifndef CHAIN_STORY_H
#define CHAIN_STORY_H

#include "model.h"
#include "store/store.h"

enum { CHAIN_STEPS = 20, CHAIN_HISTORIES = 16, CHAIN_MESSAGE = 64, CHAIN_NONE = 0, CHAIN_TWIN = 15 };

struct chain_history {
    bool has[CHAIN_STEPS];   /* by step, from 1 on */
    unsigned main, tag;      /* step; CHAIN_NONE: there is none */
    bool failed;             /* it must not be what is left */
    unsigned begun, durable; /* calls, where they are counted; durable: UINT_MAX, when it was not promised */
};
struct chain_story {
    struct {
        varve_commit_id id;
        char message[CHAIN_MESSAGE];
    } commits[CHAIN_STEPS];
    struct chain_history now; /* in memory */
    struct chain_history histories[CHAIN_HISTORIES];
    unsigned count, promised;
    char broken[160];                               /* what went wrong while it was done, in words */
    unsigned (*calls)(void *context, bool promise); /* how many were made by now; NULL: nobody counts */
    void *context;
};

void chain_begin(struct chain_story *story); /* a new store: nothing is durable */
/* The process ends: what is durable is what there is. */
void chain_end_of_life(struct chain_story *story);

/* Each of them does it to the store and tells the story. What cannot be done any more, because an earlier step failed, is
 * left out. */
varve_status chain_commit(struct chain_story *story, varve_store *store, unsigned step);
/* The same, while somebody maps the newest images: they stay as they are. */
varve_status chain_commit_mapped(struct chain_story *story, varve_store *store, unsigned step);
varve_status chain_persist(struct chain_story *story, varve_store *store);
varve_status chain_restore(struct chain_story *story, varve_store *store, unsigned step);
varve_status chain_tag(struct chain_story *story, varve_store *store, unsigned step);
varve_status chain_delete(struct chain_story *story, varve_store *store, unsigned step);

varve_status chain_open(const struct vv_vfs *vfs, const char *path, uint32_t flags, varve_store **store);

/* Open what lies at `path` and compare; `calls` (UINT_MAX: all): how many were made when it was left. Then commit once
 * more, persist, and look again. False: why not is in `denial`. */
bool chain_judge(const struct chain_story *story, const char *path, unsigned calls, char denial[512]);

#endif
