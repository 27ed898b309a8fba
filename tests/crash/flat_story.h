/* flat_story.h - what was done to a store of the layout flat, and what may be left of it after a crash.
 *
 * A *history* is what is durable at some time: which commits, where main and a tag stand. Each persist, each move to a
 * commit that lasts, each removal of one begins a new history, and is told how it ended. What a crash leaves must be one
 * of them, whole: none before the last that was acknowledged, and none that failed. Pointers `_last` must be those of
 * its main. A commit's message lists the steps that lead to it, and its state follows from that. */
#ifndef FLAT_STORY_H
#define FLAT_STORY_H

#include "model.h"
#include "store/store.h"

enum { STORY_COMMITS = 20, STORY_HISTORIES = 24, STORY_MESSAGE = 64, STORY_NONE = 0 };

struct flat_history {
    bool has[STORY_COMMITS]; /* by step, from 1 on */
    unsigned main, tag;      /* step; STORY_NONE: there is none */
    bool failed;             /* it must not be what is left */
    unsigned begun, durable; /* calls, where they are counted; durable: UINT_MAX, when it was not promised */
};
struct flat_story {
    struct {
        varve_commit_id id;
        char message[STORY_MESSAGE];
        bool made, durable;
    } commits[STORY_COMMITS];
    struct flat_history now; /* in memory */
    struct flat_history histories[STORY_HISTORIES];
    unsigned count, promised; /* of `histories`: the last promised is the least that may be left */
    unsigned (*calls)(void *context, bool promise); /* how many were made by now; NULL: nobody counts */
    void *context;
};

void flat_story_begin(struct flat_story *story); /* a new store: nothing is durable */

/* Each of them does it to the store and tells the story. What cannot be done any more, because an earlier step failed, is
 * left out. */
varve_status flat_commit(struct flat_story *story, varve_store *store, unsigned step);
varve_status flat_persist(struct flat_story *story, varve_store *store);
varve_status flat_restore(struct flat_story *story, varve_store *store, unsigned step);
varve_status flat_tag(struct flat_story *story, varve_store *store, unsigned step); /* STORY_NONE: it goes */
varve_status flat_delete(struct flat_story *story, varve_store *store, unsigned step);

varve_status flat_open(const struct vv_vfs *vfs, const char *path, uint32_t flags, varve_store **store);

/* Open what lies at `path` and compare; `calls` (UINT_MAX: all): how many were made when it was left. `go_on`: then
 * commit once more, persist, and look again. False: why not is in `denial`. */
bool flat_judge(const struct flat_story *story, const char *path, unsigned calls, bool go_on, char denial[512]);

#endif
