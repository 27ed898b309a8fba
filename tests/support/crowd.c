/* crowd.c - see crowd.h. */
#include "crowd.h"

#include <pthread.h>
#include <stdio.h>

#include "store/journal/place.h"

struct task {
    const struct vv_layout *layout;
    struct vv_place *place;
    struct crowd_member *member;
};

void crowd_state(uint32_t number, unsigned big, struct model_state *state)
{
    *state = (struct model_state){ .meta = number, .present = { big > 0 }, .size = { big } };
    for (unsigned i = 0; i < big; i++)
        state->page[0][i] = 256 * (number * MODEL_PAGES + i + 1);
}

static void *run(void *context)
{
    const struct task *task = context;
    struct crowd_member *member = task->member;
    struct vv_ref_move move = { .what = "commit", .to = &member->facts.id };
    struct model_state before, after;
    char message[16];

    (void)snprintf(move.name, sizeof move.name, "%s", member->branch);
    (void)snprintf(message, sizeof message, "%u", member->number);
    move.expected = member->parent == NULL ? NULL : &member->parent->id;
    crowd_state(member->before, member->before == 0 ? 0 : member->big, &before);
    crowd_state(member->number, member->big, &after);
    if (member->begin != NULL)
        member->begin(member);
    member->status = model_commit(task->layout, task->place, &before, member->parent, &after, message, &move,
                                  member->durability, &member->facts);
    (void)snprintf(member->words, sizeof member->words, "%s", member->status == VARVE_OK ? "" : vv_words());
    if (member->end != NULL)
        member->end(member);
    return NULL;
}

void crowd_commit(const struct vv_layout *layout, struct vv_place *place, struct crowd_member *members,
                  size_t count)
{
    pthread_t threads[CROWD_MAX];
    struct task tasks[CROWD_MAX];

    VV_ASSERT(count <= CROWD_MAX);
    vv_place_take_turn(place);
    place->gather = count;
    vv_place_end_turn(place);
    for (size_t i = 0; i < count; i++) {
        tasks[i] = (struct task){ .layout = layout, .place = place, .member = &members[i] };
        VV_ASSERT(pthread_create(&threads[i], NULL, run, &tasks[i]) == 0);
    }
    for (size_t i = 0; i < count; i++)
        VV_ASSERT(pthread_join(threads[i], NULL) == 0);
}
