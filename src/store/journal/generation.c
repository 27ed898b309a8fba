/* generation.c - what was retired, and who looked before: space goes in two steps.
 *
 * *Retired* is what the newest durable checkpoint needs no more; *dropped*, when nobody is left who looked at the
 * store before. The place's generation counts retirements. A hold takes the one that there is: what is there stays
 * readable until the hold is dropped, whatever is retired meanwhile. A state that was opened under a hold may lead to
 * what was retired after it, so it is good for nothing once its hold is gone. */
#include "base/alloc.h"
#include "base/plant.h"
#include "store/journal/place.h"

varve_status vv_generations_init(struct vv_generations *generations)
{
    varve_status rc = VARVE_OK;

    *generations = (struct vv_generations){ .count = 0 };
    TRY(vv_alloc(&generations->list, 1, sizeof *generations->list));
    generations->count = generations->capacity = 1;
out:
    return rc;
}

void vv_generations_release(struct vv_generations *generations)
{
    vv_free(generations->list);
    *generations = (struct vv_generations){ .count = 0 };
}

void vv_generations_raise(struct vv_generations *generations, uint64_t number)
{
    struct vv_generation *now = &generations->list[generations->count - 1];

    VV_ASSERT(generations->count == 1 && now->holds == 0);
    if (number > now->number)
        now->number = number;
}

uint64_t vv_generations_now(const struct vv_generations *generations)
{
    return generations->list[generations->count - 1].number;
}

uint64_t vv_place_hold(struct vv_place *place)
{
    pthread_mutex_lock(&place->mutex);
    struct vv_generation *now = &place->generations.list[place->generations.count - 1];
    now->holds++;
    const uint64_t token = now->number;
    pthread_mutex_unlock(&place->mutex);
    return token;
}

void vv_place_drop(struct vv_place *place, uint64_t token)
{
    pthread_mutex_lock(&place->mutex);
    struct vv_generation *held = place->generations.list;
    const struct vv_generation *end = held + place->generations.count;
    while (held < end && held->number != token)
        held++;
    VV_ASSERT(held < end && held->holds > 0);
    held->holds--;
    if (place->beside && held->holds == 0 && held + 1 < end)
        vv_place_leave(place, token);
    pthread_mutex_unlock(&place->mutex);
}

uint64_t vv_place_generation(struct vv_place *place)
{
    pthread_mutex_lock(&place->mutex);
    const uint64_t now = vv_generations_now(&place->generations);
    pthread_mutex_unlock(&place->mutex);
    return now;
}

uint64_t vv_place_oldest_hold(struct vv_place *place)
{
    pthread_mutex_lock(&place->mutex);
    const struct vv_generations *generations = &place->generations;
    size_t i = 0;
    while (i + 1 < generations->count && generations->list[i].holds == 0)
        i++;
    const uint64_t oldest = generations->list[i].number;
    pthread_mutex_unlock(&place->mutex);
    return oldest;
}

bool vv_place_droppable(struct vv_place *place, uint64_t generation)
{
    if (VV_PLANT("hold-ignored"))
        return true;
    /* A reader that learns an older generation from `head` locks a byte that was looked at already. */
    return vv_place_oldest_hold(place) >= generation && place->told_generation >= generation &&
           !vv_place_watched(place, generation);
}

/* Generations before the current one that nobody holds any more need no place. The caller holds the mutex. */
static void forget_unheld(struct vv_generations *generations)
{
    size_t kept = 0;

    for (size_t i = 0; i < generations->count; i++) {
        if (generations->list[i].holds > 0 || i + 1 == generations->count)
            generations->list[kept++] = generations->list[i];
    }
    generations->count = kept;
}

varve_status vv_generations_reserve(struct vv_generations *generations)
{
    varve_status rc = VARVE_OK;

    forget_unheld(generations);
    if (generations->count == generations->capacity) {
        const size_t capacity = 2 * generations->capacity;
        TRY(vv_resize(&generations->list, capacity, sizeof *generations->list));
        generations->capacity = capacity;
    }
out:
    return rc;
}

void vv_place_advance(struct vv_place *place, uint64_t number, uint64_t start)
{
    struct vv_generations *generations = &place->generations;
    const struct vv_generation before = generations->list[generations->count - 1];

    VV_ASSERT(generations->count < generations->capacity && number > before.number);
    generations->list[generations->count++] = (struct vv_generation){ .number = number };
    if (place->beside && before.holds == 0)
        vv_place_leave(place, before.number);
    vv_views_flush(&place->views, start);
    vv_pages_flush(&place->pages);
}

varve_status vv_place_may_retire(struct vv_place *place)
{
    pthread_mutex_lock(&place->mutex);
    const varve_status rc = vv_generations_reserve(&place->generations);
    pthread_mutex_unlock(&place->mutex);
    return rc;
}

void vv_place_retire(struct vv_place *place, uint64_t start)
{
    pthread_mutex_lock(&place->mutex);
    vv_place_advance(place, vv_generations_now(&place->generations) + 1, start);
    pthread_mutex_unlock(&place->mutex);
    vv_place_tell(place); /* before it is asked who still looks */
}
