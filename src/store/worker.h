/* worker.h - a store's own thread, which does nothing but call the layout's tidy when something may be due.
 *
 * All that it does is a function that a test steps by itself; a store that is opened without threads has none, and is
 * tidied only when asked. It begins with the first commit or image, so that opening a store to look something up costs
 * none. A commit costs no wake-up: it says that something changed, and the thread looks at that when its time comes. */
#ifndef VV_WORKER_H
#define VV_WORKER_H

#include <pthread.h>

#include "store/layout.h"

struct vv_worker {
    const struct vv_layout *layout; /* NULL: this store has none */
    struct vv_place *place;
    pthread_t thread;
    bool _Atomic running;  /* from the start of `thread` until it was joined */
    pthread_mutex_t mutex; /* guards `stop`, and lets one alone start the thread */
    pthread_cond_t wake;
    bool stop;
    bool _Atomic changed; /* something was committed since the last look */
};

/* One that never was initialised, all zero, is none: what is below does nothing then. */
void vv_worker_init(struct vv_worker *worker, const struct vv_layout *layout, struct vv_place *place);
/* From now on there may be something to do without anybody's commit. */
void vv_worker_need(struct vv_worker *worker);
void vv_worker_changed(struct vv_worker *worker);
/* Let it end what it is at. Then do a bounded part of what is due, and all of what cannot be left in the middle: who
 * comes and goes quickly must tidy up too. */
void vv_worker_stop(struct vv_worker *worker);

#endif
