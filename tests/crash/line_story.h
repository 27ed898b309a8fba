/* line_story.h - what was done to a store that keeps one line and lasts from persist on (flat, chain), and what may be left
 * of it after a crash.
 *
 * A *history* is what is durable at some time: which commits, where main and a tag stand. Each persist begins one; so
 * does each removal and each move of a ref that lasts, as the layout has it (struct story_kind); it is told how that
 * ended. What a crash leaves must be one of them, whole: none before the last that was acknowledged, and none that failed. A
 * commit's message lists the steps that lead to it, and its state follows from that; STORY_TWIN does what the step
 * before it does. */
#ifndef LINE_STORY_H
#define LINE_STORY_H

#include "model.h"
#include "store/store.h"

enum { STORY_COMMITS = 20, STORY_HISTORIES = 24, STORY_MESSAGE = 64, STORY_NONE = 0, STORY_TWIN = 15 };

/* What is a layout's own. */
struct story_kind {
    varve_layout layout;
    bool refs_last;        /* a move to a commit that lasts does too; else it waits for persist */
    bool removal_persists; /* all that there is; else only what must be, so that what is removed stays away */
    uint64_t chance;       /* of what commits change */
    unsigned changes;      /* in a commit */
    /* Is the store, as it was just opened, as this layout leaves it? NULL: there is nothing else to look at. */
    bool (*look)(varve_store *store, const char *path, char denial[512]);
};
extern const struct story_kind story_flat, story_chain;

struct story_history {
    bool has[STORY_COMMITS]; /* by step, from 1 on */
    unsigned main, tag;      /* step; STORY_NONE: there is none */
    bool failed;             /* it must not be what is left */
    unsigned begun, durable; /* calls, where they are counted; durable: UINT_MAX, when it was not promised */
};
struct story {
    const struct story_kind *kind;
    struct {
        varve_commit_id id;
        char message[STORY_MESSAGE];
        bool made, durable;
    } commits[STORY_COMMITS];
    struct story_history now; /* in memory */
    struct story_history histories[STORY_HISTORIES];
    unsigned count, promised;                       /* of `histories`: the last promised is the least that may be left */
    char broken[160];                               /* what went wrong while it was done, in words */
    unsigned (*calls)(void *context, bool promise); /* how many were made by now; NULL: nobody counts */
    void *context;
};

void story_begin(struct story *story, const struct story_kind *kind); /* a new store: nothing is durable */
/* The process ends: what is durable is what there is. */
void story_end_of_life(struct story *story);
varve_status story_open(const struct story *story, const struct vv_vfs *vfs, const char *path, uint32_t flags,
                        varve_store **store);

/* Each of them does it to the store and tells the story. What cannot be done any more, because an earlier step failed, is
 * left out. */
varve_status story_commit(struct story *story, varve_store *store, unsigned step);
/* The same, while somebody maps the files of images: they stay as they are. */
varve_status story_commit_mapped(struct story *story, varve_store *store, unsigned step);
varve_status story_persist(struct story *story, varve_store *store);
varve_status story_restore(struct story *story, varve_store *store, unsigned step);
varve_status story_tag(struct story *story, varve_store *store, unsigned step); /* STORY_NONE: it goes */
varve_status story_delete(struct story *story, varve_store *store, unsigned step);

/* The next word of a script, which moves on: c3 commit step 3, m3 the same mapped, p persist, r3 restore to step 3, t3 tag
 * it (t0: the tag goes), d3 delete it, g give space back. */
varve_status story_next(struct story *story, varve_store *store, const char **script);
/* A new store at `path` in which all of the script has been done, by a process that has ended. */
varve_status story_prepare(struct story *story, const struct story_kind *kind, const char *path, const char *script);

/* Whoever did what is told was killed, and this is the store of a process that goes on: what it finds must be one of the
 * histories, and what it does builds on that. False: why not is in `denial`. */
bool story_take_up(struct story *story, varve_store *store, const char *path, char denial[512]);

/* Open what lies at `path` and compare; `calls` (UINT_MAX: all): how many were made when it was left. `go_on`: then
 * commit once more, persist, and look again. False: why not is in `denial`. */
bool story_judge(const struct story *story, const char *path, unsigned calls, bool go_on, char denial[512]);

#endif
