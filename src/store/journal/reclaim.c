/* reclaim.c - see reclaim.h. */
#include "store/journal/reclaim.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/plant.h"
#include "store/journal/snapshot.h"

enum { MOVE_MOST = 64 << 20 }; /* bytes that one round writes once more, about */

/* So much of the log until retention is applied again. */
static uint64_t stride_of(const struct vv_place *place)
{
    return place->limits.log.segment / 4;
}

varve_status vv_reclaim_new(const struct vv_place *place, struct vv_reclaim **reclaim)
{
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(reclaim, 1, sizeof **reclaim));
    pthread_mutex_init(&(*reclaim)->mutex, NULL);
    /* Counted from a multiple of it: of many short openings, those that write beyond the next have the work. */
    (*reclaim)->end = place->chain.end - place->chain.end % stride_of(place);
out:
    return rc;
}

/* The round is over, whatever came of it. */
static void end_round(struct vv_reclaim *reclaim)
{
    vv_keeper_release(&reclaim->keeper);
    vv_mark_release(&reclaim->mark);
    reclaim->phase = VV_RECLAIM_IDLE;
}

void vv_reclaim_free(struct vv_reclaim *reclaim)
{
    if (reclaim == NULL)
        return;
    end_round(reclaim);
    pthread_mutex_destroy(&reclaim->mutex);
    vv_free(reclaim);
}

/* ---- Retention -------------------------------------------------------------------------------- */

static varve_status keep_line(struct vv_place *place, const uint8_t id[32], uint64_t newest,
                              struct vv_table *kept)
{
    varve_status rc = VARVE_OK;
    struct vv_commit_facts facts = { .locator = 0 };
    varve_commit_id at;
    bool removed = false;

    memcpy(at.bytes, id, 32);
    for (uint64_t i = 0; i < newest && !vv_hash_is_zero(at.bytes); i++) {
        uint64_t address = 0;
        TRY(vv_table_put(kept, at.bytes, (union vv_value){ .number = 1 }));
        pthread_mutex_lock(&place->mutex);
        rc = vv_index_find(&place->index, at.bytes, &address);
        pthread_mutex_unlock(&place->mutex);
        TRY(rc);
        if (address == 0)
            break;
        TRY(vv_place_facts(place, address, &facts));
        pthread_mutex_lock(&place->mutex);
        rc = vv_index_ancestor(&place->index, facts.parent.bytes, at.bytes, &removed);
        pthread_mutex_unlock(&place->mutex);
        vv_commit_facts_release(&facts);
        TRY(rc);
    }
out:
    vv_commit_facts_release(&facts);
    return rc;
}

/* Which commits retention keeps; for as long as refs stand. */
static varve_status choose_kept(struct vv_place *place, uint64_t newest, struct vv_table *kept)
{
    varve_status rc = VARVE_OK;
    struct vv_ref_facts ref = { .moves = 0 };
    char after[sizeof ref.name] = "";

    for (bool first = true;; first = false) {
        pthread_mutex_lock(&place->mutex);
        const struct vv_index_ref *next = vv_index_ref_after(&place->index, first ? NULL : after);
        const bool some = next != NULL;
        if (some) {
            memcpy(after, next->name, sizeof after);
            memcpy(ref.commit.bytes, next->commit, 32);
        }
        pthread_mutex_unlock(&place->mutex);
        if (!some)
            break;
        if (!vv_hash_is_zero(ref.commit.bytes))
            TRY(keep_line(place, ref.commit.bytes, strncmp(after, "tags/", 5) == 0 ? 1 : newest, kept));
    }
out:
    return rc;
}

static uint64_t last_number(struct vv_place *place)
{
    pthread_mutex_lock(&place->mutex);
    const uint64_t number = place->index.last_number;
    pthread_mutex_unlock(&place->mutex);
    return number;
}

/* The commits that retention does not keep, in order of number; the caller frees. Nobody waits for this, so commits
 * are made and refs move meanwhile. */
static varve_status choose_victims(struct vv_place *place, uint64_t newest, varve_commit_id **victims,
                                   size_t *count, uint64_t *looked)
{
    varve_status rc = VARVE_OK;
    struct vv_table kept;
    size_t capacity = 0;
    uint8_t id[32];
    uint64_t number = 0;
    uint64_t address = 0;
    const uint64_t hold = vv_place_hold(place);
    const uint64_t last = last_number(place); /* those made later may be named by refs that moved since */

    *victims = NULL;
    *count = 0;
    vv_table_init(&kept, 32);
    TRY(choose_kept(place, newest, &kept));
    for (;;) {
        pthread_mutex_lock(&place->mutex);
        rc = vv_index_next_number(&place->index, number, &number, id, &address);
        pthread_mutex_unlock(&place->mutex);
        TRY(rc);
        if (address == 0 || number > last)
            break;
        ++*looked;
        if (vv_table_get(&kept, id) != NULL)
            continue;
        if (*count == capacity) {
            capacity = capacity == 0 ? 64 : 2 * capacity;
            TRY(vv_resize(victims, capacity, sizeof **victims));
        }
        memcpy((*victims)[(*count)++].bytes, id, 32);
    }
out:
    vv_place_drop(place, hold);
    vv_table_release(&kept);
    if (rc != VARVE_OK) {
        vv_free(*victims);
        *victims = NULL;
        *count = 0;
    }
    return rc;
}

/* Take those out that are kept after all, or that somebody else has removed. `writer` is held: refs stand. */
static varve_status spare_victims(struct vv_place *place, uint64_t newest, varve_commit_id *victims,
                                  size_t *count)
{
    varve_status rc = VARVE_OK;
    struct vv_table kept;
    uint64_t address = 0;
    size_t left = 0;

    vv_table_init(&kept, 32);
    TRY(choose_kept(place, newest, &kept));
    for (size_t i = 0; i < *count; i++) {
        pthread_mutex_lock(&place->mutex);
        rc = vv_index_find(&place->index, victims[i].bytes, &address);
        pthread_mutex_unlock(&place->mutex);
        TRY(rc);
        if (address != 0 && vv_table_get(&kept, victims[i].bytes) == NULL)
            victims[left++] = victims[i];
    }
    *count = left;
out:
    vv_table_release(&kept);
    return rc;
}

static uint64_t retained_newest(struct vv_place *place)
{
    pthread_mutex_lock(&place->mutex);
    const uint64_t newest = place->options.retain;
    pthread_mutex_unlock(&place->mutex);
    return newest;
}

static varve_status apply_retention(struct vv_place *place, struct vv_reclaim *reclaim)
{
    varve_status rc = VARVE_OK;
    varve_commit_id *victims = NULL;
    size_t count = 0;
    size_t removed = 0;
    const uint64_t newest = retained_newest(place);

    reclaim->unfinished = false;
    if (newest == 0 || reclaim->only_space)
        return VARVE_OK;
    TRY(choose_victims(place, newest, &victims, &count, &reclaim->looked));
    if (count == 0)
        goto out;
    vv_place_take_turn(place);
    rc = vv_place_writable(place);
    if (rc == VARVE_OK)
        rc = spare_victims(place, newest, victims, &count);
    if (rc == VARVE_OK)
        rc = vv_place_remove_all(place, victims, count, vv_clock_now_ns(), &removed);
    vv_place_end_turn(place);
    reclaim->unfinished = rc == VARVE_FULL; /* what was removed makes room for the rest */
    if (rc == VARVE_FULL)
        rc = VARVE_OK;
out:
    vv_free(victims);
    return rc;
}

/* ---- What would come of it -------------------------------------------------------------------- */

struct segment_use {
    uint64_t allocated, dead;
};

/* How much of a segment is on the disk, and how much of that nothing needs. */
static varve_status use_of(struct vv_place *place, const struct vv_mark_segment *segment,
                           struct segment_use *use)
{
    varve_status rc = VARVE_OK;
    uint64_t needed = 0;
    uint64_t capacity = vv_log_left(&place->log, segment->start);
    uint64_t written = 0;

    TRY(vv_log_allocated(&place->log, segment->start, &use->allocated, &written));
    for (uint64_t at = segment->start; at < segment->end; at += VV_RECORD_ALIGN)
        needed += vv_mark_is_needed(segment, at) ? VV_RECORD_ALIGN : 0;
    if (segment->end < segment->start + capacity && written > segment->end - segment->start)
        needed += written - (segment->end - segment->start); /* behind the horizon, or written ahead */
    use->dead = use->allocated > needed ? use->allocated - needed : 0;
out:
    return rc;
}

/* How much one round may write once more. */
static varve_status movable(struct vv_place *place, enum vv_reclaim_pressure pressure, uint64_t *most)
{
    varve_status rc = VARVE_OK;

    *most = pressure == VV_RECLAIM_ROOMY ? MOVE_MOST : 0;
    if (pressure == VV_RECLAIM_TIGHT) {
        const uint64_t leave = vv_place_retiring_size(place, true);
        vv_place_take_turn(place);
        rc = vv_log_spare(&place->log, place->chain.end, most);
        vv_place_end_turn(place);
        *most = *most > leave ? *most - leave : 0;
    }
    return rc;
}

/* Where the log is to begin: as far on as pays most, if at least half of what lies below is dead, and no more than
 * `most` is moved for it. */
static varve_status choose_start(struct vv_place *place, const struct vv_mark *mark, uint64_t most,
                                 uint64_t *start, uint64_t *dead, uint64_t *yield)
{
    varve_status rc = VARVE_OK;
    uint64_t allocated = 0;
    uint64_t needed = 0;

    *start = *dead = *yield = 0;
    for (size_t i = 0; i < mark->segment_count; i++) {
        struct segment_use use;
        TRY(use_of(place, &mark->segments[i], &use));
        *dead += use.dead;
        allocated += use.allocated;
        needed += mark->segments[i].needed;
        const uint64_t gain = allocated > needed ? allocated - needed : 0;
        if (i + 1 < mark->segment_count && gain >= allocated / 2 && gain > *yield && needed <= most) {
            *yield = gain;
            *start = mark->segments[i + 1].start;
        }
    }
out:
    return rc;
}

/* ---- Retiring --------------------------------------------------------------------------------- */

/* The newest commit; address 0: there is none, or none is wanted. All that there are were marked, and nobody adds
 * one. */
static varve_status newest_commit(struct vv_place *place, const struct vv_mark *mark, bool none,
                                  struct vv_record *record)
{
    varve_status rc = VARVE_OK;
    uint8_t id[32];
    uint64_t address = 0;
    struct vv_state empty = { .fresh = NULL };
    varve_root root;

    for (size_t i = none ? 0 : mark->commit_count; i-- > 0 && address == 0;) {
        pthread_mutex_lock(&place->mutex);
        rc = vv_index_find_number(&place->index, mark->commits[i].number, id, &address);
        pthread_mutex_unlock(&place->mutex);
        TRY(rc);
    }
    if (address != 0) {
        TRY(vv_log_record(&place->log, address, 0, record));
        goto out;
    }
    *record = (struct vv_record){ .address = 0 };
    TRY(vv_state_init(&empty, &place->views.nodes, &place->views.modules));
    TRY(vv_state_root(&empty, &root));
    memcpy(record->root, root.bytes, 32);
out:
    if (empty.fresh != NULL)
        vv_state_release(&empty);
    return rc;
}

/* Keep the next of the commits that need something below the new start; false: there are no more. */
static varve_status keep_next(struct vv_reclaim *reclaim, bool *more)
{
    while (reclaim->next < reclaim->mark.commit_count) {
        const struct vv_mark_commit commit = reclaim->mark.commits[reclaim->next++];
        *more = true;
        if (commit.lowest < reclaim->start)
            return vv_keep_commit(&reclaim->keeper, commit.number);
    }
    *more = false;
    return VARVE_OK;
}

static varve_status forget_index(struct vv_place *place, uint64_t start)
{
    pthread_mutex_lock(&place->mutex);
    const varve_status rc = vv_index_forget_below(&place->index, start);
    pthread_mutex_unlock(&place->mutex);
    return rc;
}

/* Segments in front of where the log begins. */
static varve_status drop_front(struct vv_place *place, uint64_t start, uint64_t *freed)
{
    varve_status rc = VARVE_OK;
    uint64_t first = 0;

    while (vv_log_segment_after(&place->log, 0, &first)) {
        uint64_t bytes = 0;
        if (first >= start)
            break;
        TRY(vv_log_drop(&place->log, first, &bytes));
        *freed += bytes;
    }
out:
    return rc;
}

/* `writer` is held. */
static varve_status retire(struct vv_place *place, struct vv_reclaim *reclaim)
{
    varve_status rc = VARVE_OK;
    struct vv_record newest;
    bool more = true;
    const bool roomy = reclaim->pressure == VV_RECLAIM_ROOMY;

    TRY(vv_place_writable(place));
    if (reclaim->start !=
        0) /* trees in memory may lead below, though what they were made from does not any more */
        vv_views_flush(&place->views, UINT64_MAX);
    TRY(vv_mark_finish(&reclaim->mark));
    while (reclaim->start != 0 && more)
        TRY(keep_next(reclaim, &more));
    TRY(vv_place_forget_tombstones(place, &reclaim->mark.parents));
    if (roomy) /* else the checkpoint is to be small */
        TRY(vv_mark_mend_roots(&reclaim->mark));
    if (reclaim->start != 0)
        TRY(forget_index(place, reclaim->start));
    TRY(newest_commit(place, &reclaim->mark, !roomy, &newest));
    TRY(vv_place_may_retire(place));
    if (VV_PLANT("drop-early"))
        TRY(drop_front(place, reclaim->start, &reclaim->freed));
    TRY(vv_place_retiring_checkpoint(place, &newest, reclaim->start != 0 ? reclaim->start : place->start,
                                     roomy ? VV_ROOM_ORDINARY : VV_ROOM_LAST));
    vv_place_retire(place, place->newest);
    reclaim->generation = vv_place_generation(place);
out:
    return rc;
}

/* ---- Dropping --------------------------------------------------------------------------------- */

static varve_status punch_segment(struct vv_place *place, const struct vv_mark_segment *segment,
                                  uint64_t *freed)
{
    varve_status rc = VARVE_OK;
    struct segment_use use;
    struct segment_use after;

    TRY(use_of(place, segment, &use));
    if (use.dead < VV_RECORD_ALIGN)
        goto out;
    for (uint64_t at = segment->start; at < segment->end;) {
        uint64_t end = at;
        while (end < segment->end && !vv_mark_is_needed(segment, end))
            end += VV_RECORD_ALIGN;
        if (end > at)
            TRY(vv_log_punch(&place->log, at, end - at));
        at = end + VV_RECORD_ALIGN;
    }
    TRY(use_of(place, segment, &after));
    *freed += use.allocated > after.allocated ? use.allocated - after.allocated : 0;
out:
    return rc;
}

static varve_status drop(struct vv_place *place, struct vv_reclaim *reclaim)
{
    varve_status rc = VARVE_OK;
    uint64_t freed = 0;

    TRY(drop_front(place, place->start, &freed));
    for (size_t i = 0; i < reclaim->mark.segment_count; i++) {
        if (reclaim->mark.segments[i].start >= place->start)
            TRY(punch_segment(place, &reclaim->mark.segments[i], &freed));
    }
out:
    reclaim->freed += freed;
    return rc;
}

/* ---- Steps ------------------------------------------------------------------------------------ */

static bool is_due(struct vv_place *place, const struct vv_reclaim *reclaim)
{
    if (reclaim->removed)
        return true;
    vv_place_take_turn(place);
    const uint64_t end = place->chain.end;
    vv_place_end_turn(place);
    return retained_newest(place) != 0 && end - reclaim->end >= stride_of(place);
}

/* What an earlier opening retired and did not drop. */
static varve_status drop_leftover(struct vv_place *place, struct vv_reclaim *reclaim)
{
    varve_status rc = VARVE_OK;
    uint64_t first = 0;

    vv_place_take_turn(place);
    const uint64_t start = place->start;
    vv_place_end_turn(place);
    if (vv_log_segment_after(&place->log, 0, &first) && first < start &&
        vv_place_droppable(place, vv_place_generation(place)))
        TRY(drop_front(place, start, &reclaim->freed));
out:
    return rc;
}

static varve_status begin_round(struct vv_place *place, struct vv_reclaim *reclaim)
{
    varve_status rc = VARVE_OK;

    TRY(apply_retention(place, reclaim));
    const bool removed = reclaim->removed;
    reclaim->removed = false;
    vv_place_take_turn(place);
    reclaim->end = place->chain.end;
    vv_place_end_turn(place);
    TRY(vv_mark_begin(&reclaim->mark, place, NULL));
    if (removed)
        vv_mark_roots(&reclaim->mark);
    reclaim->next = 0;
    reclaim->start = 0;
    reclaim->phase = VV_RECLAIM_MARK;
out:
    return rc;
}

/* There is nothing to retire; the next checkpoint saves the index all the same. */
static varve_status mend_roots(struct vv_place *place, struct vv_reclaim *reclaim)
{
    varve_status rc = VARVE_OK;

    if (reclaim->mark.stale.count == 0 || reclaim->pressure != VV_RECLAIM_ROOMY)
        return VARVE_OK;
    vv_place_take_turn(place);
    TRY(vv_mark_finish(&reclaim->mark));
    TRY(vv_mark_mend_roots(&reclaim->mark));
out:
    vv_place_end_turn(place);
    return rc;
}

static varve_status mark_on(struct vv_place *place, struct vv_reclaim *reclaim, uint64_t budget)
{
    varve_status rc = VARVE_OK;
    uint64_t yield = 0;
    uint64_t most = 0;
    bool done = false;
    const bool roomy = reclaim->pressure == VV_RECLAIM_ROOMY;

    TRY(vv_mark_step(&reclaim->mark, budget, &done));
    if (!done)
        goto out;
    TRY(movable(place, reclaim->pressure, &most));
    TRY(choose_start(place, &reclaim->mark, reclaim->pressure == VV_RECLAIM_HOLES ? 0 : most, &reclaim->start,
                     &reclaim->dead, &yield));
    if (reclaim->pressure == VV_RECLAIM_HOLES)
        reclaim->start = 0;
    if (reclaim->start != 0) {
        vv_keeper_init(&reclaim->keeper, &reclaim->mark, reclaim->start,
                       roomy ? VV_ROOM_ORDINARY : VV_ROOM_KEEPING);
        reclaim->phase = VV_RECLAIM_KEEP;
    } else if (reclaim->dead >= (roomy ? VV_RECORD_ALIGN : vv_place_retiring_size(place, false) / 2)) {
        reclaim->phase = VV_RECLAIM_RETIRE;
    } else {
        TRY(mend_roots(place, reclaim));
        end_round(reclaim);
    }
out:
    return rc;
}

static varve_status keep_on(struct vv_place *place, struct vv_reclaim *reclaim, uint64_t budget)
{
    varve_status rc = VARVE_OK;
    bool more = true;

    for (; budget > 0 && more; budget--) {
        vv_place_take_turn(place);
        rc = vv_place_writable(place);
        if (rc == VARVE_OK)
            rc = keep_next(reclaim, &more);
        vv_place_end_turn(place);
        TRY(rc);
    }
    if (!more)
        reclaim->phase = VV_RECLAIM_RETIRE;
out:
    return rc;
}

/* What was given back on a full disk is spare space first. */
static varve_status refill(struct vv_place *place, struct vv_reclaim *reclaim)
{
    varve_status rc = VARVE_OK;
    uint64_t address = 0;

    if (reclaim->pressure == VV_RECLAIM_ROOMY)
        return VARVE_OK;
    reclaim->pressure = VV_RECLAIM_ROOMY;
    vv_place_take_turn(place);
    rc = vv_place_room(place, place->chain.end, VV_RECORD_ALIGN, VV_ROOM_ORDINARY, &address);
    vv_place_end_turn(place);
    return rc == VARVE_FULL ? VARVE_OK : rc;
}

/* A round found no room, so the next does with less. False: with nothing less. */
static bool take_less(struct vv_place *place, struct vv_reclaim *reclaim)
{
    uint64_t thinned = 0;

    if (reclaim->pressure == VV_RECLAIM_ROOMY && vv_place_snapshot_thin(place, &thinned) == VARVE_OK &&
        thinned > 0)
        return true;
    if (reclaim->pressure == VV_RECLAIM_HOLES)
        return false;
    reclaim->pressure++;
    return true;
}

/* One step of a round that was begun. `more`: there is something to do at once. */
static varve_status step(struct vv_place *place, struct vv_reclaim *reclaim, uint64_t budget, bool *more)
{
    varve_status rc = VARVE_OK;

    *more = true;
    switch (reclaim->phase) {
    case VV_RECLAIM_IDLE:
        TRY(begin_round(place, reclaim));
        break;
    case VV_RECLAIM_MARK:
        TRY(mark_on(place, reclaim, budget));
        break;
    case VV_RECLAIM_KEEP:
        TRY(keep_on(place, reclaim, budget));
        break;
    case VV_RECLAIM_RETIRE:
        vv_place_take_turn(place);
        rc = retire(place, reclaim);
        vv_place_end_turn(place);
        TRY(rc);
        vv_keeper_release(&reclaim->keeper);
        reclaim->phase = VV_RECLAIM_DROP;
        break;
    case VV_RECLAIM_DROP:
        if (!vv_place_droppable(place, reclaim->generation)) {
            if (is_due(place, reclaim))
                end_round(reclaim); /* the next one finds all of this, and more */
            *more = false;
            goto out;
        }
        TRY(drop(place, reclaim));
        reclaim->dead = 0;
        end_round(reclaim);
        TRY(refill(place, reclaim));
        break;
    }
    *more = reclaim->phase != VV_RECLAIM_IDLE;
out:
    if (rc != VARVE_OK) {
        *more = false;
        end_round(reclaim);
    }
    return rc;
}

varve_status vv_place_reclaim_step(struct vv_place *place, uint64_t budget, bool *more)
{
    varve_status rc = VARVE_OK;
    struct vv_reclaim *reclaim = place->reclaim;

    *more = false;
    if (vv_place_writable(place) != VARVE_OK)
        return VARVE_OK;
    pthread_mutex_lock(&reclaim->mutex);
    TRY(drop_leftover(place, reclaim));
    if (reclaim->refused || (reclaim->phase == VV_RECLAIM_IDLE && !is_due(place, reclaim)))
        goto out;
    rc = step(place, reclaim, budget, more);
    if (rc == VARVE_FULL) {
        *more = take_less(place, reclaim);
        reclaim->removed = *more;
        if (!*more)
            reclaim->pressure = VV_RECLAIM_ROOMY;
        rc = VARVE_OK; /* whoever needs room is told so */
    }
    if (rc == VARVE_CORRUPT) { /* what is needed cannot be told, so nothing goes; fsck says why */
        reclaim->refused = true;
        rc = VARVE_OK;
    }
out:
    pthread_mutex_unlock(&reclaim->mutex);
    return rc;
}

void vv_place_reclaim_due(struct vv_place *place)
{
    place->reclaim->removed = true;
}

uint64_t vv_place_reclaimable(struct vv_place *place)
{
    uint64_t dead = 0;

    if (place->reclaim == NULL)
        return 0;
    pthread_mutex_lock(&place->reclaim->mutex);
    dead = place->reclaim->dead;
    pthread_mutex_unlock(&place->reclaim->mutex);
    return dead;
}

/* ---- By call ---------------------------------------------------------------------------------- */

static varve_status tell(varve_progress_fn progress, void *context, const struct vv_reclaim *reclaim)
{
    static const char *const what[] = { "looking", "marking what is kept", "moving what is kept", "retiring",
                                        "freeing" };
    varve_progress now = { .what = what[reclaim->phase], .unit = "commits", .done = reclaim->mark.number };

    if (progress == NULL || progress(context, &now) == 0)
        return VARVE_OK;
    return vv_fail(VARVE_CANCELLED, "reclaiming was stopped");
}

/* What a round would free, with nothing changed. */
static varve_status estimate(struct vv_place *place, varve_progress_fn progress, void *context,
                             uint64_t *bytes)
{
    varve_status rc = VARVE_OK;
    struct vv_reclaim dry = { .phase = VV_RECLAIM_MARK };
    struct vv_table left_out;
    varve_commit_id *victims = NULL;
    size_t count = 0;
    uint64_t start = 0;
    uint64_t yield = 0;
    const uint64_t newest = retained_newest(place);
    bool done = false;

    vv_table_init(&left_out, 32);
    if (newest != 0)
        TRY(choose_victims(place, newest, &victims, &count, &dry.looked));
    for (size_t i = 0; i < count; i++)
        TRY(vv_table_put(&left_out, victims[i].bytes, (union vv_value){ .number = 1 }));
    TRY(vv_mark_begin(&dry.mark, place, &left_out));
    while (!done) {
        TRY(tell(progress, context, &dry));
        TRY(vv_mark_step(&dry.mark, 256, &done));
    }
    TRY(choose_start(place, &dry.mark, MOVE_MOST, &start, &dry.dead, &yield));
    *bytes = yield > dry.dead ? yield : dry.dead;
out:
    vv_mark_release(&dry.mark);
    vv_table_release(&left_out);
    vv_free(victims);
    return rc;
}

/* A whole round from its beginning, and more of them while there was no room for all. */
static varve_status reclaim_all(struct vv_place *place, bool only_space, varve_progress_fn progress,
                                void *context, uint64_t *freed)
{
    varve_status rc = VARVE_OK;
    struct vv_reclaim *reclaim = place->reclaim;
    uint64_t before = 0;
    uint64_t round = 0;
    bool more = true;

    pthread_mutex_lock(&reclaim->mutex);
    before = round = reclaim->freed;
    reclaim->pressure = VV_RECLAIM_ROOMY;
    reclaim->only_space = only_space;
    rc = drop_leftover(place, reclaim);
    if (rc == VARVE_OK && reclaim->phase == VV_RECLAIM_DROP && vv_place_droppable(place, reclaim->generation))
        rc = drop(place, reclaim);
    end_round(reclaim); /* one that began before what was removed since would see less */
    while (rc == VARVE_OK && more) {
        rc = tell(progress, context, reclaim);
        if (rc == VARVE_OK)
            rc = step(place, reclaim, 64, &more);
        if (rc == VARVE_FULL && take_less(place, reclaim)) {
            rc = VARVE_OK;
            more = true;
        } else if (rc == VARVE_OK && !more && reclaim->unfinished && reclaim->freed > round) {
            round = reclaim->freed;
            more = true;
        }
    }
    *freed = reclaim->freed - before;
    reclaim->only_space = false;
    reclaim->pressure = VV_RECLAIM_ROOMY;
    pthread_mutex_unlock(&reclaim->mutex);
    return rc;
}

varve_status vv_place_maintain(struct vv_place *place, uint32_t flags, varve_progress_fn progress,
                               void *context, uint64_t *freed)
{
    varve_status rc = VARVE_OK;

    *freed = 0;
    if (flags & VARVE_MAINTAIN_DRY_RUN)
        return estimate(place, progress, context, freed);
    TRY(vv_place_writable(place));
    TRY(reclaim_all(place, false, progress, context, freed));
out:
    return rc;
}

varve_status vv_place_make_room(struct vv_place *place, uint64_t *freed)
{
    return reclaim_all(place, true, NULL, NULL, freed);
}
