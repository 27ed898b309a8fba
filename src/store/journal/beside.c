/* beside.c - a reader beside a writer of another process.
 *
 *   byte 0        of the lock file: its writer's, exclusively, for as long as it lives
 *   byte 1024+n   shared by every reader that looks at generation n, or holds what was there
 *   head          its `visible` end is how far a reader follows a living writer, and no further; without one it reads
 *                 the log to its end, as any opening does
 * Laws: a reader locks the byte of the generation that `head` says, and reads `head` again: unchanged, the writer's
 * next retirement will meet the lock before anything is dropped. Below `visible` nothing changes, so the scan meets
 * whole records only. What looks like damage while writers come and go may be a race, and is looked at again. */
#include "base/clock.h"
#include "store/journal/place.h"

enum { GENERATIONS_AT = 1024, TRIES = 20, PAUSE_MS = 1 };

bool vv_place_writer_lives(const struct vv_place *place)
{
    return vv_file_is_locked(place->options.lock, VV_LOCK_SHARED, 0, 1);
}

/* Whether there is a writer is asked first: one that begins afterwards shows when it is asked again. */
static varve_status look(struct vv_place *place, struct vv_beside *beside)
{
    beside->writer = vv_place_writer_lives(place);
    return vv_place_read_head(place, beside->heads);
}

static uint64_t limit_of(const struct vv_beside *beside)
{
    return beside->writer && beside->heads[0].number != 0 ? beside->heads[0].visible : 0;
}

/* The newer slot tells; but a generation that was reached is not left, whatever slot survived. */
static uint64_t generation_of(const struct vv_beside *beside)
{
    return beside->heads[0].generation > beside->heads[1].generation ? beside->heads[0].generation
                                                                     : beside->heads[1].generation;
}

static varve_status enter(struct vv_place *place, uint64_t generation)
{
    return vv_file_lock(place->options.lock, VV_LOCK_SHARED, GENERATIONS_AT + generation, 1, 0);
}

void vv_place_leave(struct vv_place *place, uint64_t generation)
{
    (void)vv_file_lock(place->options.lock, VV_LOCK_RELEASE, GENERATIONS_AT + generation, 1, 0);
}

bool vv_place_watched(const struct vv_place *place, uint64_t generation)
{
    return generation > 0 && place->options.lock != NULL &&
           vv_file_is_locked(place->options.lock, VV_LOCK_EXCLUSIVE, GENERATIONS_AT, generation);
}

/* Look, with the byte of the generation that is there locked. `held` is locked already and stays so. */
static varve_status enter_newest(struct vv_place *place, const uint64_t *held, struct vv_beside *beside)
{
    varve_status rc = VARVE_OK;

    TRY(look(place, beside));
    for (;;) {
        const uint64_t generation = generation_of(beside);
        if (held != NULL && generation <= *held)
            goto out;
        TRY(enter(place, generation));
        rc = look(place, beside);
        if (rc == VARVE_OK && generation_of(beside) == generation)
            goto out;
        vv_place_leave(place, generation);
        TRY(rc);
    }
out:
    return rc;
}

/* ---- Opening ---------------------------------------------------------------------------------- */

varve_status vv_place_open_beside(struct vv_place *place, uint64_t *limit)
{
    varve_status rc = VARVE_OK;

    TRY(enter_newest(place, NULL, &place->seen));
    *limit = limit_of(&place->seen);
out:
    return rc;
}

/* Was what was read surely no race with a writer? */
static bool is_settled(struct vv_place *place)
{
    return !place->damaged && (place->seen.writer || !vv_place_writer_lives(place));
}

bool vv_place_look_again(struct vv_place *place, varve_status rc, unsigned tries)
{
    const bool racy = rc == VARVE_CORRUPT || rc == VARVE_NOT_FOUND || (rc == VARVE_OK && !is_settled(place));

    if (!racy || tries > TRIES)
        return false;
    vv_clock_sleep_ms(PAUSE_MS);
    return true;
}

/* ---- Following -------------------------------------------------------------------------------- */

/* Start anew from the checkpoint that `head` names; on failure all is as it was. `mutex` is held. */
static varve_status reload(struct vv_place *place, const struct vv_beside *beside)
{
    struct vv_index index = place->index;
    const struct vv_chain chain = place->chain;
    const uint64_t stored = place->stored;
    const uint64_t acknowledged = place->acknowledged;
    const struct vv_head head = place->head;

    vv_index_init(&place->index, &place->views.nodes);
    const varve_status rc = vv_place_load(place, beside->heads, limit_of(beside));
    if (rc == VARVE_OK) {
        vv_index_release(&index);
        return VARVE_OK;
    }
    vv_index_release(&place->index);
    place->index = index;
    place->chain = chain;
    place->stored = stored;
    place->acknowledged = acknowledged;
    place->head = head;
    return rc;
}

/* Read on to where the writer says that it is, or start anew where that is less to read. `mutex` is held. */
static varve_status follow(struct vv_place *place, const struct vv_beside *beside, bool anew)
{
    varve_status rc = VARVE_OK;
    const struct vv_head *head = &beside->heads[0];
    const uint64_t limit = limit_of(beside);
    const uint64_t before = vv_generations_now(&place->generations);
    const uint64_t now = generation_of(beside);

    TRY(vv_log_follow(&place->log, limit == 0 ? UINT64_MAX : limit));
    if (now > before)
        TRY(vv_generations_reserve(&place->generations));
    if (anew || now > before || head->checkpoint > place->chain.end)
        TRY(reload(place, beside));
    else
        TRY(vv_place_scan(place, limit));
    place->head = *head;
    place->seen = *beside;
    if (now > before)
        vv_place_advance(place, now, 0);
out:
    return rc;
}

varve_status vv_place_refresh(struct vv_place *place)
{
    varve_status rc = VARVE_OK;
    struct vv_beside beside;

    if (!place->beside)
        return VARVE_OK;
    pthread_mutex_lock(&place->mutex);
    TRY(look(place, &beside));
    const bool was_damaged = place->damaged;
    for (unsigned tries = 0; beside.heads[0].number != place->head.number || tries > 0; tries++) {
        const uint64_t held = vv_generations_now(&place->generations);
        TRY(enter_newest(place, &held, &beside));
        rc = follow(place, &beside, tries > 0);
        if (rc != VARVE_OK && generation_of(&beside) > held)
            vv_place_leave(place, generation_of(&beside));
        if (was_damaged || !vv_place_look_again(place, rc, tries))
            break;
        place->damaged = false;
    }
out:
    pthread_mutex_unlock(&place->mutex);
    return rc;
}
