/* store.h - an open store: its directory, lock, layout, and who uses it.
 *
 *   .varve/format   "varve", format version, layout: read before anything else is believed
 *   .varve/lock     never unlinked; byte 0: the writer (exclusive); holds its pid and host as text
 *   .varve/code/    bytecode by hash (codepool.h)
 * Laws: one writer process, refused with BUSY by name; the lock is an open-file-description lock, so a killed
 * holder leaves none and a forked child never unlocks (DESIGN 10.6). */
#ifndef VV_STORE_H
#define VV_STORE_H

#include <pthread.h>

#include "page/pool.h"
#include "store/layout.h"

enum { VV_FORMAT = 1 };

struct varve_store {
    struct vv_dir dir, own; /* the store; its .varve */
    struct vv_file lock;
    const struct vv_layout *layout;
    struct vv_place *place;
    struct vv_tracker *tracker;
    struct vv_pool *pool;
    varve_durability durability;
    bool read_only;
    unsigned _Atomic sessions, commits; /* open handles; close asserts none in debug, waits for none */
    char *path;
};

/* As varve_store_open, over any vfs; what the door and the tests call. */
varve_status vv_store_open(const struct vv_vfs *vfs, const char *path, const varve_store_options *options,
                           varve_store **store);
void vv_store_close(varve_store *store);

/* A held commit. The view is made when first asked for. */
struct varve_commit {
    varve_store *store;
    struct vv_commit_facts facts;
    varve_commit_info info; /* points into facts */
    pthread_mutex_t mutex;  /* guards `state` */
    bool viewed;
    struct vv_state state;
};
varve_status vv_commit_open_id(varve_store *store, const varve_commit_id *id, varve_commit **commit);
varve_status vv_commit_new(varve_store *store, struct vv_commit_facts *facts,
                           varve_commit **commit); /* takes facts */
/* A copy of the commit's state, for the caller to change and release. */
varve_status vv_commit_state(varve_commit *commit, struct vv_state *state);
void vv_commit_close(varve_commit *commit);

#endif
