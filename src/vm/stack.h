/* stack.h - guests run on a stack of our own, so that how deep they may go does not depend on the thread.
 *
 * The engine gives each store a fixed share of native stack, counted from where it was entered: on a small thread
 * stack a deep guest would run past the end and kill the process. Stacks are pooled, for making one costs more
 * than a call. Thread safe but for running: one stack, one thread at a time. */
#ifndef VV_STACK_H
#define VV_STACK_H

#include <pthread.h>

#include "base/error.h"

enum { VV_STACK_POOL = 8 };

struct vv_stack_pool {
    pthread_mutex_t mutex;
    void *spare[VV_STACK_POOL]; /* lowest addresses, the guard page */
    size_t count, size;         /* `size` of each, guard included */
};

void vv_stack_pool_init(struct vv_stack_pool *pool, size_t size);
void vv_stack_pool_release(struct vv_stack_pool *pool);
varve_status vv_stack_take(struct vv_stack_pool *pool, void **stack); /* MEMORY */
void vv_stack_give(struct vv_stack_pool *pool, void *stack);          /* NULL is fine */

/* Run work(argument) on the stack; it returns when the work has returned. */
void vv_stack_run(const struct vv_stack_pool *pool, void *stack, void (*work)(void *), void *argument);

#endif
