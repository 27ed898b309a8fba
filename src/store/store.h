/* store.h - an open store: its directory, lock, layout, and who uses it.
 *
 *   .varve/format   "varve 1 journal" (the layout's name): read before anything else is believed; published last
 *                   when a store is made
 *   .varve/making   there while a store is being made: what lies in the directory then is half-made and may go
 *   .varve/cloning  there while another store is being copied into it: then it is no store yet
 *   .varve/config   settings of the store's own (config.h)
 *   .varve/lock     never unlinked; byte 0: the writer (exclusive), or whoever reads what no writer may change
 *                   meanwhile (shared); further bytes: the layout's, for readers beside a writer; the writer's
 *                   pid as text
 *   .varve/code/    bytecode by hash (codepool.h)
 * Laws: one writer process, refused with BUSY by name; the lock is an open-file-description lock, so a killed
 * holder leaves none and a forked child never unlocks (docs/design.md, P6). */
#ifndef VV_STORE_H
#define VV_STORE_H

#include <pthread.h>
#include <sys/types.h>

#include "page/pool.h"
#include "store/config.h"
#include "store/layout.h"
#include "store/worker.h"

enum { VV_FORMAT = 1 };

struct varve_store {
    struct vv_dir dir, own; /* the store; its .varve */
    struct vv_file lock;
    const struct vv_layout *layout;
    struct vv_place *place;
    pthread_mutex_t mutex;      /* guards `tracker`, `config` */
    struct vv_tracker *tracker; /* made for the first image: see vv_store_tracker */
    struct vv_pool *pool;
    struct vv_config config;            /* in force; guarded by `mutex` */
    varve_durability _Atomic durability; /* the same */
    bool read_only, cloning;
    struct vv_worker worker; /* of a store that is written to, unless it was opened without threads */
    unsigned _Atomic sessions; /* begun and not ended */
    bool _Atomic writing; /* one of them may commit; kept only where the layout has room for one */
    pid_t owner;               /* the process that opened it: a forked child has a copy and may only close it */
    unsigned _Atomic holders;  /* the opener and every session and commit: the last one closes */
    char *path;
};

/* As varve_store_open, over any vfs; what the door and the tests call. */
varve_status vv_store_open(const struct vv_vfs *vfs, const char *path, const varve_store_options *options,
                           varve_store **store);
/* The same, with CREATE, for a store that is to be filled from another: nobody opens it before
 * vv_store_end_clone, and what is left of one that never came so far can only be removed. EXISTS. `model`: a
 * store of the same layout, to which nobody writes until this returns, whose files are copied as they are;
 * NULL: it is empty. */
varve_status vv_store_begin_clone(const struct vv_vfs *vfs, const char *path, const varve_store_options *options,
                                  varve_store *model, varve_store **store);
varve_status vv_store_end_clone(varve_store *store); /* what it holds is durable */
/* NULL: this varve has no such layout. DEFAULT: what stores are made with. */
const struct vv_layout *vv_layout_with(varve_layout id);
/* A store over a place that is open already and becomes the store's, without directory and lock; for tests of
 * what stands on a layout. On failure the place stays the caller's. */
varve_status vv_store_new(const struct vv_layout *layout, struct vv_place *place, varve_store **store);
/* Give up a hold. With the last one the store is closed and its lock is free. */
void vv_store_close(varve_store *store);
void vv_store_hold(varve_store *store);

/* As varve_store_check. */
varve_status vv_store_check(const struct vv_vfs *vfs, const char *path, const varve_check_options *options,
                            uint64_t *damage);
/* As varve_store_configure. */
varve_status vv_store_configure(varve_store *store, const varve_store_options *options);
void vv_store_stat(varve_store *store, varve_store_info *info);
/* MISUSE, naming it, when the store was opened to read only. */
varve_status vv_store_writable(const varve_store *store);
/* UNSUPPORTED, naming layouts that can, when commits of this store cannot be as durable as that. */
varve_status vv_store_check_durability(const varve_store *store, varve_durability asked);
/* How the store's images learn what was written. Lent until the store is closed. */
varve_status vv_store_tracker(varve_store *store, struct vv_tracker **tracker);

/* A held commit. The view is made when first asked for. */
struct varve_commit {
    varve_store *store;
    struct vv_commit_facts facts;
    uint64_t hold; /* the layout's: taken before the commit was looked up */
    varve_commit_info info; /* points into facts */
    pthread_mutex_t mutex;  /* guards `viewed` and `state` */
    bool viewed;
    struct vv_state state;
    unsigned _Atomic holders;
};
varve_status vv_commit_open_id(varve_store *store, const varve_commit_id *id, varve_commit **commit);
/* Takes what `facts` holds, and the layout's hold under which they were had; on failure too. */
varve_status vv_commit_new(varve_store *store, struct vv_commit_facts *facts, uint64_t hold,
                           varve_commit **commit);
/* A copy of the commit's state, for the caller to change and release. */
varve_status vv_commit_state(varve_commit *commit, struct vv_state *state);
void vv_commit_hold(varve_commit *commit);
void vv_commit_close(varve_commit *commit); /* gives up a hold; NULL is fine */
/* What the public struct says of these facts, lent from them. */
void vv_commit_tell(const struct vv_commit_facts *facts, varve_commit_info *info);

#endif
