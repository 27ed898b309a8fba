/* room.c - where the next record goes, and what of the disk is kept for those that make room.
 *
 *   ordinary   commits, checkpoints, refs: only when afterwards there is spare space enough (log.h), and `head` lies
 *              on the disk with both its slots; else FULL, and the store is as before
 *   sparing    removals, refs that go, and the opening before them: ordinary, and on a full disk from the spare
 *              space, but for what the checkpoint of a reclaim needs
 *   the rest   a reclaim on a full disk (reclaim.c)
 * Spare space is enough for an opening, fifteen records of removals, and the least checkpoint that can retire something: of no
 * commit, with all refs and the nodes of the index that have changed. How large that is follows from how many there
 * are, since keys of tries are hashes: their nodes fill evenly. Where a file system writes over allocated blocks
 * elsewhere (btrfs, zfs), it is a hope. */
#include "store/journal/place.h"

enum {
    INNER_NODE = 720,  /* of nodes only */
    MIXED_NODE = 1232, /* of keys */
    SMALL_NODE = 400,
    ENTRY = 64,   /* of a ref, less its name; and what else is small */
    REMOVALS = 16 /* an opening and so many less one, each a record */
};

/* Bytes of the nodes that `changes` keys touch in a trie of `items`. */
static uint64_t trie_bytes(uint64_t items, uint64_t changes)
{
    uint64_t bytes = 0;
    uint64_t nodes = 1;

    while (items / nodes >= 2) {
        const uint64_t touched = nodes < changes ? nodes : changes;
        bytes += touched * (items / nodes >= 64 ? INNER_NODE : MIXED_NODE);
        nodes *= 16;
    }
    return bytes + (changes < items ? changes : items) * (SMALL_NODE + SMALL_NODE / 8) + 4 * MIXED_NODE;
}

/* Bytes of the nodes of a page tree up to `last`, of whose leaves `rising` are the last ones, the others anywhere. */
static uint64_t tree_bytes(uint64_t last, uint64_t rising, uint64_t others)
{
    uint64_t bytes = 0;

    for (uint64_t nodes = last / 16 + 1;; nodes = nodes / 16 + 1) {
        rising = rising / 16 + 2;
        bytes += (rising + others < nodes ? rising + others : nodes) * INNER_NODE;
        if (nodes == 1)
            return bytes;
    }
}

uint64_t vv_place_retiring_size(struct vv_place *place, bool anew)
{
    const struct vv_index *index = &place->index;

    pthread_mutex_lock(&place->views.mutex);
    const uint64_t ways = place->views.avoided.count + place->views.ways.count;
    pthread_mutex_unlock(&place->views.mutex);
    pthread_mutex_lock(&place->mutex);
    const uint64_t items = index->last_number + 1;
    const uint64_t rising = index->tail_count + 1;
    const uint64_t others = anew ? items : index->removal_count + index->kept_count + index->mended + 1;
    const uint64_t refs = index->refs_size + ENTRY * (uint64_t)index->ref_count;
    pthread_mutex_unlock(&place->mutex);
    const uint64_t size = VV_RECORD_HEADER + VV_CHECKPOINT_FACTS + refs + ENTRY * ways +
                          2 * trie_bytes(items, rising + others) + tree_bytes(items, rising, others);
    return (size / VV_RECORD_ALIGN + 1) * VV_RECORD_ALIGN;
}

/* Doubles when it rises, for each time it is written and synced. */
static uint64_t spare_of(struct vv_place *place)
{
    const uint64_t least = vv_place_retiring_size(place, false) + REMOVALS * VV_RECORD_ALIGN;
    uint64_t spare = place->limits.spare;

    while (spare != 0 && spare < least)
        spare *= 2;
    return spare;
}

static varve_status ordinary(struct vv_place *place, uint64_t end, uint64_t size, uint64_t *address)
{
    varve_status rc = VARVE_OK;

    if (place->limits.spare != 0 && !place->head_reserved) {
        rc = vv_head_reserve(&place->dir, &place->head_file);
        place->head_reserved = rc == VARVE_OK;
        if (rc == VARVE_FULL)
            goto out;
    }
    TRY(vv_log_place(&place->log, end, size, spare_of(place), address));
out:
    return rc;
}

static varve_status spare(struct vv_place *place, uint64_t end, uint64_t size, enum vv_room room,
                          uint64_t *address)
{
    const uint64_t leave = room == VV_ROOM_LAST ? 0 : vv_place_retiring_size(place, room == VV_ROOM_KEEPING);

    return vv_log_place_spare(&place->log, end, size, leave, address);
}

varve_status vv_place_room(struct vv_place *place, uint64_t end, uint64_t size, enum vv_room room,
                           uint64_t *address)
{
    varve_status rc = VARVE_OK;

    if (room <= VV_ROOM_SPARING)
        rc = ordinary(place, end, size, address);
    if (room > VV_ROOM_SPARING || (rc == VARVE_FULL && room == VV_ROOM_SPARING))
        rc = spare(place, end, size, room, address);
    return vv_place_poison_if(place, rc);
}
