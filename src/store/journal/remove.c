/* remove.c - taking commits out of the history: a record of ids, and they are neither listed nor found any more.
 *
 * Nothing else changes: what the record hides stays where it is until reclaim (reclaim.c) finds that nothing needs
 * it, and until the last hold that is older is gone. */
#include <string.h>

#include "base/alloc.h"
#include "store/journal/place.h"

enum { BATCH = 1024 }; /* removals in one record */

static varve_status no_such_commit(const uint8_t id[32])
{
    char hex[65];

    varve_hex_format(id, hex);
    return vv_fail(VARVE_NOT_FOUND, "the store has no commit %s", hex);
}

/* A commit that a ref names stays. `mutex` is held. */
static varve_status check_unnamed(struct vv_place *place, const uint8_t id[32])
{
    for (const struct vv_index_ref *ref = vv_index_ref_after(&place->index, NULL); ref != NULL;
         ref = vv_index_ref_after(&place->index, ref->name)) {
        if (memcmp(ref->commit, id, 32) == 0)
            return vv_fail(VARVE_MISUSE, "%s names this commit: move or delete it first", ref->name);
    }
    return VARVE_OK;
}

static varve_status plan(struct vv_place *place, const varve_commit_id *id, struct vv_record_removal *removal)
{
    varve_status rc = VARVE_OK;
    struct vv_commit_facts facts = { .locator = 0 };
    uint64_t address = 0;
    bool removed = false;

    pthread_mutex_lock(&place->mutex);
    rc = vv_index_find(&place->index, id->bytes, &address);
    if (rc == VARVE_OK && address != 0)
        rc = check_unnamed(place, id->bytes);
    pthread_mutex_unlock(&place->mutex);
    TRY(rc);
    if (address == 0)
        TRY(no_such_commit(id->bytes));
    TRY(vv_place_facts(place, address, &facts));
    memcpy(removal->id, id->bytes, 32);
    removal->number = facts.number;
    pthread_mutex_lock(&place->mutex);
    rc = vv_index_ancestor(&place->index, facts.parent.bytes, removal->ancestor, &removed);
    pthread_mutex_unlock(&place->mutex);
out:
    vv_commit_facts_release(&facts);
    return rc;
}

static bool names_twice(const varve_commit_id *ids, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        for (size_t k = 0; k < i; k++) {
            if (memcmp(&ids[i], &ids[k], sizeof ids[i]) == 0)
                return true;
        }
    }
    return false;
}

/* In a turn. */
static varve_status remove_batch(struct vv_place *place, const varve_commit_id *ids, size_t count,
                                 int64_t time_ns)
{
    varve_status rc = VARVE_OK;
    struct vv_record_removal *removals = NULL;

    if (names_twice(ids, count))
        TRY(vv_fail(VARVE_MISUSE, "one commit cannot be removed twice at once"));
    TRY(vv_alloc(&removals, count, sizeof *removals));
    for (size_t i = 0; i < count; i++)
        TRY(plan(place, &ids[i], &removals[i]));
    const struct vv_record_facts facts = { .removals = removals, .removal_count = count };
    TRY(vv_place_append_refs(place, &facts, time_ns));
    vv_place_reclaim_due(place);
out:
    vv_free(removals);
    return rc;
}

varve_status vv_place_remove_all(struct vv_place *place, const varve_commit_id *ids, size_t count,
                                 int64_t time_ns, size_t *removed)
{
    varve_status rc = VARVE_OK;
    size_t batch = BATCH;

    *removed = 0;
    while (*removed < count) {
        const size_t now = count - *removed < batch ? count - *removed : batch;
        rc = remove_batch(place, ids + *removed, now, time_ns);
        if (rc == VARVE_FULL && now > 1) {
            batch = (now + 7) / 8;
            continue;
        }
        TRY(rc);
        *removed += now;
    }
out:
    return rc;
}

varve_status vv_place_remove(struct vv_place *place, const varve_commit_id *ids, size_t count,
                             int64_t time_ns)
{
    varve_status rc = VARVE_OK;
    size_t removed = 0;
    uint64_t freed = 0;

    for (size_t done = 0;; done += removed) {
        removed = 0;
        vv_place_take_turn(place);
        rc = vv_place_writable(place);
        if (rc == VARVE_OK)
            rc = vv_place_remove_all(place, ids + done, count - done, time_ns, &removed);
        vv_place_end_turn(place);
        if (rc != VARVE_FULL)
            break;
        if (vv_place_make_room(place, &freed) != VARVE_OK || (freed == 0 && removed == 0)) {
            rc =
                vv_fail(VARVE_FULL, "the disk is full, and what was removed so far cannot be given back yet: "
                                    "make room, or end what still looks at it, and try again");
            break;
        }
    }
    return rc;
}

/* A removal of no commit of this store: it has no number, and its tombstone is all that comes of it. */
varve_status vv_place_bury(struct vv_place *place, const varve_commit_id *id, const varve_commit_id *before)
{
    struct vv_record_removal removal = { .number = 0 };
    const struct vv_record_facts facts = { .removals = &removal, .removal_count = 1 };
    uint64_t address = 0;
    varve_status rc = VARVE_OK;

    memcpy(removal.id, id->bytes, sizeof removal.id);
    memcpy(removal.ancestor, before->bytes, sizeof removal.ancestor);
    vv_place_take_turn(place);
    TRY(vv_place_writable(place));
    pthread_mutex_lock(&place->mutex);
    rc = vv_index_find(&place->index, id->bytes, &address);
    pthread_mutex_unlock(&place->mutex);
    TRY(rc);
    if (address != 0)
        TRY(vv_bury_known());
    TRY(vv_place_append_refs(place, &facts, 0));
out:
    vv_place_end_turn(place);
    return rc;
}

/* ---- Tombstones ------------------------------------------------------------------------------- */

struct sieve {
    struct vv_place *place;
    struct vv_table needed;
    varve_commit_id *needless;
    size_t count, capacity;
};

/* The tombstones that lead from a parent to the nearest commit before it that is retained. */
static varve_status need(struct sieve *sieve, const uint8_t parent[32])
{
    varve_status rc = VARVE_OK;
    uint8_t id[32];
    bool there = true;

    memcpy(id, parent, sizeof id);
    while (!vv_hash_is_zero(id) && vv_table_get(&sieve->needed, id) == NULL) {
        uint8_t before[32];
        TRY(vv_index_tombstone(&sieve->place->index, id, before, &there));
        if (!there)
            break;
        TRY(vv_table_put(&sieve->needed, id, (union vv_value){ .number = 1 }));
        memcpy(id, before, sizeof id);
    }
out:
    return rc;
}

static varve_status sift(void *context, const uint8_t id[32])
{
    struct sieve *sieve = context;

    if (vv_table_get(&sieve->needed, id) != NULL)
        return VARVE_OK;
    if (sieve->count == sieve->capacity) {
        const size_t capacity = sieve->capacity == 0 ? 64 : 2 * sieve->capacity;
        const varve_status rc = vv_resize(&sieve->needless, capacity, sizeof *sieve->needless);
        if (rc != VARVE_OK)
            return rc;
        sieve->capacity = capacity;
    }
    memcpy(sieve->needless[sieve->count++].bytes, id, 32);
    return VARVE_OK;
}

varve_status vv_place_forget_tombstones(struct vv_place *place, const struct vv_table *parents)
{
    varve_status rc = VARVE_OK;
    struct sieve sieve = { .place = place };
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;

    vv_table_init(&sieve.needed, 32);
    pthread_mutex_lock(&place->mutex);
    while (vv_table_next(parents, &cursor, &key, &value))
        TRY(need(&sieve, key));
    TRY(vv_index_tombstones(&place->index, sift, &sieve));
    for (size_t i = 0; i < sieve.count; i++)
        TRY(vv_index_forget(&place->index, sieve.needless[i].bytes));
out:
    pthread_mutex_unlock(&place->mutex);
    vv_table_release(&sieve.needed);
    vv_free(sieve.needless);
    return rc;
}
