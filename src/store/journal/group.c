/* group.c - commits that are made at once share one write and one sync.
 *
 *   queue     those who wait, in the order in which they came
 *   leader    whoever waits while nobody leads: takes from the queue what can go together, puts the records one behind
 *             the other, each padded to its own block (J3), writes and syncs them without the lock, and reveals them
 *   members   the others: they sleep until the leader says what became of their commit
 *   turn      what appends otherwise (openings, moves of refs, removals, checkpoints) waits until nobody leads; and
 *             nobody begins to lead while a turn is waited for, or commits that never cease would keep it out for ever
 * Laws: what a member asks of its ref is judged when the leader takes it, against what is revealed; one whose ref is
 * moved, or whose very commit is made, by the group at hand waits for the next. A group lies in one segment. Of a
 * write that fails, nothing can be read as a record; of a sync that fails, nobody knows: all members are told so, and
 * none is revealed. */
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/plant.h"
#include "store/journal/place.h"
#include "store/journal/prepare.h"

enum { MEMBERS = 256, GATHER_MS = 100 };
#define BYTES (UINT64_C(8) << 20) /* of a group of more than one */

struct vv_member {
    struct vv_change *change;
    const struct vv_pending *pending;
    struct vv_pending *again;       /* prepared once more, because something was moved or retired since */
    const struct vv_ref_move *move; /* NULL: detached */
    bool durable;
    struct vv_record_move resolved;
    struct vv_record record;
    bool made;           /* a record of this member's is in the log */
    bool held;           /* nothing was retired since the state was opened */
    uint64_t generation; /* of the place, when it was revealed */
    uint64_t flushes;    /* of the views, when it was revealed */
    bool done;
    varve_error error; /* of what became of it */
    struct vv_member *next;
};

/* What goes together: the first members of the list; their records lie in place->group. */
struct group {
    struct vv_member *first, **last;
    size_t count, moves;
    uint64_t address;
    struct vv_chain chain; /* as it is behind them */
    bool durable;
};

/* ---- Turns ------------------------------------------------------------------------------------ */

void vv_place_take_turn(struct vv_place *place)
{
    pthread_mutex_lock(&place->writer);
    place->turns++;
    while (place->leading)
        pthread_cond_wait(&place->turn, &place->writer);
    place->turns--;
}

void vv_place_end_turn(struct vv_place *place)
{
    if (place->queued > 0 && place->turns == 0)
        pthread_cond_broadcast(&place->turn);
    pthread_mutex_unlock(&place->writer);
}

static void finish(struct vv_member *member, varve_status rc)
{
    member->error.status = VARVE_OK;
    (void)vv_error_deliver(&member->error, rc);
    member->done = true;
}

/* ---- Forming a group -------------------------------------------------------------------------- */

static varve_status encode_facts(const struct vv_member *member, struct vv_bytes *out)
{
    const struct vv_commit_facts *facts = &member->change->facts;
    const bool moves = member->move != NULL && !VV_PLANT("ref-outside-record");
    struct vv_record_move move = member->resolved;
    struct vv_record_facts stored = { .modules = facts->modules,
                                      .modules_changed = facts->modules_changed,
                                      .pages_changed = facts->pages_changed,
                                      .message = vv_piece_of_text(facts->message),
                                      .branch = vv_piece_of_text(facts->branch),
                                      .engine = vv_piece_of_text(facts->engine),
                                      .moves = &move,
                                      .move_count = moves ? 1 : 0 };

    memcpy(stored.parent, facts->parent.bytes, 32);
    memcpy(stored.seed, facts->seed, 32);
    return vv_record_facts_encode(VV_RECORD_COMMIT, &stored, facts->id.bytes, out);
}

/* How far this commit is from its line's last checkpoint. */
static void place_on_line(struct vv_place *place, struct vv_record *record)
{
    const uint64_t own = record->parent == 0 ? 0 : vv_views_checkpoint(&place->views, record->parent);

    if (own != 0) {
        record->checkpoint = own;
        record->line_records = 0;
        record->line_bytes = 0;
    }
    record->line_records++;
    record->line_bytes += vv_record_padded(record);
}

static bool must_wait_for(const struct group *group, const struct vv_member *member)
{
    for (const struct vv_member *other = group->first; other != NULL; other = other->next) {
        if (memcmp(other->record.id, member->change->facts.id.bytes, 32) == 0 ||
            (other->move != NULL && member->move != NULL &&
             strcmp(other->move->name, member->move->name) == 0))
            return true;
    }
    return false;
}

/* Is there room behind the group, so that it stays in one piece? The first one goes where it must. */
static bool has_room(struct vv_place *place, const struct group *group, uint64_t size)
{
    return group->count == 0 ||
           (group->count < MEMBERS && group->chain.end + size - group->address <= BYTES &&
            vv_log_left(&place->log, group->chain.end - 1) > size);
}

static varve_status announce_commit(struct vv_place *place, struct group *group, struct vv_record *record)
{
    varve_status rc = VARVE_OK;

    pthread_mutex_lock(&place->mutex);
    record->number = place->index.last_number + 1 + group->count;
    TRY(vv_index_reserve(&place->index, group->moves + 1));
    TRY(vv_index_announce(&place->index, record));
out:
    pthread_mutex_unlock(&place->mutex);
    return rc;
}

static void retract_last(struct vv_place *place)
{
    pthread_mutex_lock(&place->mutex);
    vv_index_retract(&place->index);
    pthread_mutex_unlock(&place->mutex);
}

/* Put the member's record behind the group's. VARVE_END: another time. */
static varve_status add_record(struct vv_place *place, struct group *group, struct vv_member *member)
{
    varve_status rc = VARVE_OK;
    struct vv_record *record = &member->record;
    const struct vv_pending *pending = member->pending;
    struct vv_bytes facts = VV_BYTES_NONE;
    uint64_t address = 0;
    const size_t before = place->group.size;

    *record = pending->record;
    TRY(encode_facts(member, &facts));
    record->facts_size = facts.size;
    record->directory_size = pending->directory.size;
    record->pages_size = pending->pages.size;
    record->size = vv_record_padded(record);
    place_on_line(place, record);
    if (!has_room(place, group, record->size)) {
        rc = VARVE_END;
        goto out;
    }
    TRY(vv_place_room(place, group->chain.end, record->size, VV_ROOM_ORDINARY, &address));
    VV_ASSERT(group->count == 0 || address == group->chain.end);
    record->address = address;
    TRY(announce_commit(place, group, record));
    rc = vv_place_compose(&group->chain, record, vv_piece_of(&facts), vv_piece_of(&pending->directory),
                          vv_piece_of(&pending->pages), &place->group);
    if (rc != VARVE_OK) {
        retract_last(place);
        vv_bytes_cut(&place->group, before);
        goto out;
    }
    if (group->count == 0)
        group->address = address;
    vv_chain_advance(&group->chain, record);
    group->count++;
    group->moves += member->move != NULL;
    group->durable = group->durable || member->durable;
out:
    vv_bytes_release(&facts);
    return rc;
}

/* The store holds this very commit: only the ref moves. It may have been buffered when it was made. */
static varve_status adopt_existing(struct vv_place *place, struct vv_member *member, uint64_t address)
{
    varve_status rc = VARVE_OK;
    struct vv_commit_facts facts = { .locator = 0 };
    struct vv_change *change = member->change;
    const struct vv_record_facts moves = { .moves = &member->resolved, .move_count = 1 };

    TRY(vv_place_facts(place, address, &facts));
    if (member->move != NULL && !vv_hash_equal(member->resolved.from, member->resolved.to))
        TRY(vv_place_append_refs(place, &moves,
                                 change->facts.time_ns)); /* durable, and so is all before it */
    else if (member->durable)
        TRY(vv_place_settle(place));
    const struct vv_commit_facts ours = change->facts;
    change->facts = facts;
    facts = ours;
    change->unlocated = true;
out:
    vv_commit_facts_release(&facts);
    return rc;
}

/* VARVE_OK: it is in the group, or done. VARVE_END: it waits for the next. */
static varve_status take(struct vv_place *place, struct group *group, struct vv_member *member)
{
    varve_status rc = VARVE_OK;
    uint64_t existing = 0;
    bool good = false;

    if (must_wait_for(group, member))
        return VARVE_END;
    pthread_mutex_lock(&place->mutex);
    rc = vv_index_find(&place->index, member->change->facts.id.bytes, &existing);
    if (rc == VARVE_OK && member->move != NULL)
        rc = vv_place_resolve_move(place, member->move, member->change->facts.id.bytes, &member->resolved);
    pthread_mutex_unlock(&place->mutex);
    TRY(rc);
    if (existing == 0) {
        TRY(vv_pending_check(place, member->change, member->pending, &good));
        if (!good) {
            vv_place_discard(place, member->again);
            member->again = NULL;
            TRY(vv_place_prepare(place, member->change, &member->again));
            member->pending = member->again;
        }
        TRY(add_record(place, group, member));
        member->made = true;
    } else if (group->count > 0) {
        rc = VARVE_END;
    } else {
        TRY(adopt_existing(place, member, existing));
        finish(member, VARVE_OK);
    }
out:
    return rc;
}

/* Take from the queue what can go together. At least the first of it is done, or in the group. */
static void form(struct vv_place *place, struct group *group)
{
    varve_status rc = vv_place_writable(place);

    if (rc == VARVE_OK)
        rc = vv_place_announce(place, VV_ROOM_ORDINARY);
    *group = (struct group){ .last = &group->first };
    for (struct vv_member **at = &place->queue; *at != NULL;) {
        struct vv_member *member = *at;
        if (group->count == 0) { /* whoever was done alone may have appended */
            group->chain = place->chain;
            vv_bytes_clear(&place->group);
        }
        const varve_status taken = rc != VARVE_OK ? rc : take(place, group, member);
        if (taken == VARVE_END) {
            at = &member->next;
            continue;
        }
        *at = member->next;
        place->queued--;
        member->next = NULL;
        if (taken != VARVE_OK) {
            finish(member, taken);
            if (taken == VARVE_UNCERTAIN)
                rc = vv_place_writable(place); /* nothing more is tried (P4) */
        } else if (!member->done) {
            *group->last = member;
            group->last = &member->next;
        }
    }
}

/* ---- Writing it ------------------------------------------------------------------------------- */

/* Without the lock, but while `leading`: so nobody else appends. */
static varve_status write_group(struct vv_place *place, const struct group *group)
{
    varve_status rc = VARVE_OK;

    TRY(vv_place_writable(place)); /* forming it may have poisoned the place */
    TRY(vv_place_poison_if(place,
                           vv_log_write(&place->log, group->address, place->group.data, place->group.size)));
    place->chain = group->chain;
    if (group->durable && !VV_PLANT("ack-before-sync"))
        TRY(vv_place_sync(place));
    vv_place_tell(place);
out:
    return rc;
}

static void reveal(struct vv_place *place, const struct group *group)
{
    pthread_mutex_lock(&place->mutex);
    place->stored += place->group.size;
    for (const struct vv_member *member = group->first; member != NULL; member = member->next) {
        vv_index_reveal(&place->index, &member->record);
        if (member->move != NULL && !VV_PLANT("ref-outside-record"))
            vv_index_move(&place->index, &member->resolved, member->record.address);
    }
    pthread_mutex_unlock(&place->mutex);
}

/* Say to each member what became of it. With the lock. */
static void end_group(struct vv_place *place, const struct group *group, varve_status rc)
{
    const uint64_t generation = vv_place_generation(place);
    const uint64_t flushes = vv_views_flushes(&place->views);

    if (rc == VARVE_OK)
        reveal(place, group);
    else
        for (size_t i = 0; i < group->count; i++)
            retract_last(place);
    for (struct vv_member *member = group->first, *next = NULL; member != NULL; member = next) {
        next = member->next; /* the member goes when it sees that it is done */
        if (rc == VARVE_OK) {
            struct vv_commit_facts *facts = &member->change->facts;
            facts->number = member->record.number;
            facts->bytes_written = vv_record_used(&member->record);
            facts->locator = member->record.address;
            /* Retirements take a turn: what the state leads to is as good as when it was opened, or not. */
            member->held = member->change->hold >= generation;
            member->flushes = flushes;
            member->generation = generation;
        }
        finish(member, rc);
    }
}

static void lead(struct vv_place *place)
{
    struct group group;

    place->gather = 0;
    form(place, &group);
    if (group.count > 0) {
        place->leading = true;
        pthread_mutex_unlock(&place->writer);
        const varve_status rc = write_group(place, &group);
        pthread_mutex_lock(&place->writer);
        end_group(place, &group, rc);
        place->leading = false;
    }
    pthread_cond_broadcast(&place->turn);
}

/* ---- Publishing ------------------------------------------------------------------------------- */

static void join_queue(struct vv_place *place, struct vv_member *member)
{
    struct vv_member **at = &place->queue;

    while (*at != NULL)
        at = &(*at)->next;
    *at = member;
    if (++place->queued == place->gather)
        pthread_cond_broadcast(&place->turn);
}

/* False: it took too long, and whoever is there goes. */
static bool wait_for_more(struct vv_place *place)
{
    const int64_t until = vv_clock_now_ns() + GATHER_MS * INT64_C(1000000);
    const struct timespec time = { .tv_sec = until / INT64_C(1000000000),
                                   .tv_nsec = until % INT64_C(1000000000) };

    return pthread_cond_timedwait(&place->turn, &place->writer, &time) == 0;
}

/* The commit is made. Its state is good for those who come next, if it says where the pages lie. */
static varve_status follow_up(struct vv_place *place, struct vv_member *member)
{
    struct vv_change *change = member->change;
    varve_status rc = VARVE_OK;

    change->unlocated = !member->held || !vv_pending_locate(change, member->pending, &member->record);
    if (!change->unlocated)
        vv_views_put(&place->views, member->record.address, change->after, member->flushes);
    if (vv_place_checkpoint_due(place, &member->record)) {
        vv_place_take_turn(place);
        if (vv_place_generation(place) == member->generation) /* else it may lie elsewhere by now */
            rc = vv_place_checkpoint(place, &member->record);
        vv_place_end_turn(place);
    }
    return rc;
}

varve_status vv_place_publish(struct vv_place *place, struct vv_change *change, struct vv_pending *pending,
                              const struct vv_ref_move *move, varve_durability durability)
{
    varve_status rc = VARVE_OK;
    const uint64_t begin = vv_clock_monotonic_ns();

    if (durability == VARVE_DURABILITY_DEFAULT)
        durability = place->options.durability;
    struct vv_member member = {
        .change = change, .pending = pending, .move = move, .durable = durability != VARVE_BUFFERED
    };
    pthread_mutex_lock(&place->writer);
    join_queue(place, &member);
    while (!member.done) {
        if (place->leading || place->turns > 0)
            pthread_cond_wait(&place->turn, &place->writer);
        else if (place->queued >= place->gather || !wait_for_more(place))
            lead(place);
    }
    pthread_mutex_unlock(&place->writer);
    if (member.error.status != VARVE_OK)
        rc = vv_fail_number(member.error.status, member.error.system, "%s", member.error.message);
    else if (member.made)
        rc = follow_up(place, &member);
    if (rc == VARVE_OK && member.made && move != NULL && VV_PLANT("ref-outside-record")) {
        const struct vv_record_facts moves = { .moves = &member.resolved, .move_count = 1 };
        vv_place_take_turn(place);
        rc = vv_place_append_refs(place, &moves, change->facts.time_ns);
        vv_place_end_turn(place);
    }
    pthread_mutex_lock(&place->mutex);
    place->commit_count += rc == VARVE_OK;
    place->commit_ns += rc == VARVE_OK ? vv_clock_monotonic_ns() - begin : 0;
    pthread_mutex_unlock(&place->mutex);
    vv_place_discard(place, member.again);
    vv_place_discard(place, pending);
    return rc;
}
