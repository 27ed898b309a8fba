/* worker.c - see worker.h. */
#include "store/worker.h"

#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"

enum {
    LOOK_NS = 500000000, /* between two looks */
    IDLE_LOOKS = 10,     /* so many of them without a change, then one all the same */
    STEP = 1 << 20,      /* bytes of work in a step */
    LAST_STEPS = 8       /* of the one that stops it: a round of reclaim has five */
};

static bool wait_until_stopped(struct vv_worker *worker)
{
    const int64_t until = vv_clock_now_ns() + LOOK_NS;
    const struct timespec time = { .tv_sec = until / INT64_C(1000000000),
                                   .tv_nsec = until % INT64_C(1000000000) };

    pthread_mutex_lock(&worker->mutex);
    if (!worker->stop)
        (void)pthread_cond_timedwait(&worker->wake, &worker->mutex, &time);
    const bool stop = worker->stop;
    pthread_mutex_unlock(&worker->mutex);
    return stop;
}

static bool is_stopped(struct vv_worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    const bool stop = worker->stop;
    pthread_mutex_unlock(&worker->mutex);
    return stop;
}

/* What fails is tried again at the next look; whoever commits learns by himself that a disk is full. What is left when
 * the thread must stop is for the one that stops it. */
static void tidy(struct vv_worker *worker)
{
    bool more = true;

    while (more && !is_stopped(worker)) {
        if (worker->layout->tidy(worker->place, STEP, &more) != VARVE_OK) {
            worker->changed = true;
            return;
        }
    }
    if (more)
        worker->changed = true;
}

static void *look_after(void *context)
{
    struct vv_worker *worker = context;

    for (unsigned idle = 0; !wait_until_stopped(worker); idle++) {
        if (!atomic_exchange(&worker->changed, false) && idle < IDLE_LOOKS)
            continue;
        idle = 0;
        tidy(worker);
    }
    return NULL;
}

void vv_worker_init(struct vv_worker *worker, const struct vv_layout *layout, struct vv_place *place)
{
    worker->layout = layout;
    worker->place = place;
    pthread_mutex_init(&worker->mutex, NULL);
    pthread_cond_init(&worker->wake, NULL);
}

/* Where there can be no more threads, the next who needs it tries again. */
void vv_worker_need(struct vv_worker *worker)
{
    if (worker->layout == NULL || worker->running)
        return;
    pthread_mutex_lock(&worker->mutex);
    if (!worker->running)
        worker->running = pthread_create(&worker->thread, NULL, look_after, worker) == 0;
    pthread_mutex_unlock(&worker->mutex);
}

void vv_worker_changed(struct vv_worker *worker)
{
    worker->changed = true;
    vv_worker_need(worker);
}

static void join(struct vv_worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    worker->stop = true;
    pthread_cond_signal(&worker->wake);
    pthread_mutex_unlock(&worker->mutex);
    (void)pthread_join(worker->thread, NULL);
    worker->running = false;
}

void vv_worker_stop(struct vv_worker *worker)
{
    if (worker->layout == NULL)
        return;
    if (worker->running)
        join(worker);
    pthread_mutex_destroy(&worker->mutex);
    pthread_cond_destroy(&worker->wake);
    bool more = worker->changed;
    for (unsigned step = 0; more && step < LAST_STEPS; step++) {
        if (worker->layout->tidy(worker->place, STEP, &more) != VARVE_OK)
            break;
    }
    worker->layout->settle(worker->place);
}
