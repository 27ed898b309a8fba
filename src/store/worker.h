/* worker.h - a store's own thread, which does nothing but call the layout's tidy when something may be due.
 *
 * All that it does is a function that a test steps by itself; a store that is opened without threads has none, and is
 * tidied only when asked. A commit costs no wake-up: it says that something changed, and the thread looks at that when
 * its time comes. */
#ifndef VV_WORKER_H
#define VV_WORKER_H

#include <pthread.h>

#include "store/layout.h"

struct vv_worker {
    const struct vv_layout *layout;
    struct vv_place *place;
    pthread_t thread;
    bool running;
    pthread_mutex_t mutex; /* guards `stop` */
    pthread_cond_t wake;
    bool stop;
    bool _Atomic changed; /* something was committed since the last look */
};

/* On failure there is none, and nothing to stop. */
varve_status vv_worker_start(struct vv_worker *worker, const struct vv_layout *layout,
                             struct vv_place *place);
void vv_worker_changed(struct vv_worker *worker);
/* Let it end what it is at. Then do a bounded part of what is due: who comes and goes quickly must tidy up too. One
 * that is not running: nothing. */
void vv_worker_stop(struct vv_worker *worker);

#endif
