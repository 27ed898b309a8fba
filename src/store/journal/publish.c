/* publish.c - changing a journal: what prepare.c put together outside any lock is appended under one.
 *
 *   append      place, chain, write, sync: for all records but those of commits (group.c)    [append]
 *   announce    once per opening, before its first record: OPEN with a fresh epoch           [vv_place_announce]
 *   checkpoint  by the commit that makes it due, after it is durable                         [vv_place_checkpoint]
 * (J1) A commit is revealed, and told, after its record was synced. (J2) `synced` in a record is what was synced
 * before it was written. (J3) A record begins at a multiple of VV_RECORD_ALIGN and its padding is its own. */
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/plant.h"
#include "store/journal/place.h"
#include "store/journal/prepare.h"

/* ---- Appending -------------------------------------------------------------------------------- */

static const struct vv_piece no_piece = { .data = (const uint8_t *)"", .size = 0 };

/* After UNCERTAIN nothing is written any more, for nobody knows what the disk holds (P4). */
varve_status vv_place_poison_if(struct vv_place *place, varve_status rc)
{
    if (rc == VARVE_UNCERTAIN)
        place->poisoned = !VV_PLANT("poison-forgotten");
    return rc;
}

/* Everything that was appended is durable when this returns OK. */
varve_status vv_place_sync(struct vv_place *place)
{
    const uint64_t begin = vv_clock_monotonic_ns();
    const varve_status rc =
        VV_PLANT("sync-log")
            ? VARVE_OK
            : vv_place_poison_if(place, vv_log_sync(&place->log, place->chain.synced, place->chain.end));

    if (rc == VARVE_OK)
        place->chain.synced = place->chain.end;
    pthread_mutex_lock(&place->mutex);
    place->sync_count++;
    place->sync_ns += vv_clock_monotonic_ns() - begin;
    pthread_mutex_unlock(&place->mutex);
    return rc;
}

varve_status vv_place_compose(const struct vv_chain *chain, struct vv_record *record, struct vv_piece facts,
                              struct vv_piece directory, struct vv_piece pages, struct vv_bytes *out)
{
    uint8_t header[VV_RECORD_HEADER];

    record->synced = chain->synced;
    record->sequence = chain->sequence + 1;
    memcpy(record->previous, chain->sum, VV_SUM);
    if (record->kind != VV_RECORD_OPEN && !record->repairs)
        memcpy(record->epoch, chain->epoch, sizeof record->epoch);
    vv_record_sum(facts.data, facts.size, record->facts_sum);
    vv_record_encode(record, header);
    vv_bytes_put(out, header, sizeof header);
    vv_bytes_put(out, facts.data, facts.size);
    vv_bytes_put(out, directory.data, directory.size);
    vv_bytes_put(out, pages.data, pages.size);
    vv_bytes_zero(out, record->size - vv_record_used(record));
    return vv_bytes_done(out);
}

static varve_status write_record(struct vv_place *place, struct vv_record *record, struct vv_piece facts,
                                 struct vv_piece directory, struct vv_piece pages, enum vv_room room)
{
    varve_status rc = VARVE_OK;

    TRY(vv_place_room(place, place->chain.end, record->size, room, &record->address));
    vv_bytes_clear(&place->group);
    TRY(vv_place_compose(&place->chain, record, facts, directory, pages, &place->group));
    TRY(vv_place_poison_if(place,
                           vv_log_write(&place->log, record->address, place->group.data, place->group.size)));
out:
    return rc;
}

/* Append a record whose kind, contents and sums of directory and pages are set. On VARVE_OK it is written, and
 * durable if asked; else it is not in the log (UNCERTAIN: nobody knows). `writer` is held. */
static varve_status append(struct vv_place *place, struct vv_record *record, struct vv_piece facts,
                           struct vv_piece directory, struct vv_piece pages, bool durable, enum vv_room room)
{
    varve_status rc = VARVE_OK;

    record->facts_size = facts.size;
    record->directory_size = directory.size;
    record->pages_size = pages.size;
    record->size = vv_record_padded(record);
    rc = write_record(place, record, facts, directory, pages, room);
    if (rc == VARVE_FULL && room == VV_ROOM_SPARING) /* one that is too large for zeros to be written ahead */
        rc = write_record(place, record, facts, directory, pages, VV_ROOM_SPARE);
    TRY(rc);
    vv_chain_advance(&place->chain, record);
    pthread_mutex_lock(&place->mutex);
    place->stored += record->size;
    pthread_mutex_unlock(&place->mutex);
    if (durable && !VV_PLANT("ack-before-sync"))
        TRY(vv_place_sync(place));
    vv_place_tell(place);
out:
    return rc;
}

static void empty_sums(struct vv_record *record)
{
    vv_record_sum("", 0, record->directory_sum);
    memcpy(record->pages_sum, record->directory_sum, VV_SUM);
}

static varve_status seen(void *context, const struct vv_record *record, const uint8_t *facts)
{
    (void)context;
    (void)record;
    (void)facts;
    return VARVE_OK;
}

static varve_status seen_damage(void *context, uint64_t address, const struct vv_record *record,
                                const char *words)
{
    (void)context;
    (void)address;
    (void)record;
    (void)words;
    return VARVE_OK; /* the chain ends elsewhere, then */
}

/* The last records may be of one who was killed before their sync, or whose sync failed; then the system may show
 * what is not on the disk, and nothing may be built on it. Sync, and follow the chain again as the disk has it. */
static varve_status settle_tail(struct vv_place *place)
{
    varve_status rc = VARVE_OK;
    const uint64_t from = place->chain.synced;
    const struct vv_log_scan scan = { .acknowledged = place->acknowledged,
                                      .record = seen,
                                      .damage = seen_damage };
    struct vv_record record;
    struct vv_chain chain;

    TRY(vv_place_sync(place));
    TRY(vv_log_forget(&place->log, from, place->chain.end));
    vv_log_begin(&place->log, &chain);
    if (place->head.checkpoint != 0) {
        TRY(vv_log_record(&place->log, place->head.checkpoint, VV_RECORD_CHECKPOINT, &record));
        vv_chain_advance(&chain, &record);
    }
    TRY(vv_log_scan(&place->log, &chain, &scan));
    if (chain.end != place->chain.end || memcmp(chain.sum, place->chain.sum, VV_SUM) != 0)
        rc = vv_place_poison_if(place, vv_fail(VARVE_UNCERTAIN,
                                               "the last commits that were seen are not on the disk: an "
                                               "earlier sync failed; close the store and open it again"));
out:
    return rc;
}

/* Everything in the log is durable when this returns OK: what this opening appended, or what it found. `writer` is
 * held. */
varve_status vv_place_settle(struct vv_place *place)
{
    if (place->acknowledged >= place->chain.end)
        place->chain.synced = place->chain.end;
    if (place->chain.synced >= place->chain.end || VV_PLANT("settle-skipped"))
        return VARVE_OK;
    return place->announced ? vv_place_sync(place) : settle_tail(place);
}

varve_status vv_place_announce(struct vv_place *place, enum vv_room room)
{
    varve_status rc = VARVE_OK;
    struct vv_record record = { .kind = VV_RECORD_OPEN };

    if (place->announced)
        return VARVE_OK;
    TRY(vv_place_settle(place)); /* before anything says that it is synced */
    if (VV_PLANT("epoch-kept")) {
        place->announced = true;
        goto out;
    }
    TRY(vv_clock_random(record.epoch, sizeof record.epoch));
    empty_sums(&record);
    record.time_ns = vv_clock_now_ns();
    TRY(append(place, &record, no_piece, no_piece, no_piece, true, room));
    place->announced = true;
out:
    return rc;
}

/* ---- Refs ------------------------------------------------------------------------------------- */

static varve_status conflict(const struct vv_ref_move *move, const uint8_t stands[32])
{
    char now[65];
    char wanted[65];

    varve_hex_format(stands, now);
    if (vv_hash_is_zero(stands)) {
        varve_hex_format(move->expected->bytes, wanted);
        return vv_fail(VARVE_CONFLICT, "%s is gone; it named commit %s", move->name, wanted);
    }
    if (move->expected == NULL)
        return vv_fail(VARVE_CONFLICT, "%s exists already and names commit %s", move->name, now);
    varve_hex_format(move->expected->bytes, wanted);
    return vv_fail(VARVE_CONFLICT, "%s moved: it names commit %s, no longer %s", move->name, now, wanted);
}

/* What the move does to the ref as it stands, or CONFLICT. `mutex` is held; the name is lent from `move`. */
varve_status vv_place_resolve_move(struct vv_place *place, const struct vv_ref_move *move,
                                   const uint8_t to[32], struct vv_record_move *resolved)
{
    const struct vv_index_ref *ref = vv_index_ref(&place->index, move->name);
    const uint8_t *stands = ref == NULL ? vv_hash_zero : ref->commit;
    const uint8_t *expected = move->expected == NULL ? vv_hash_zero : move->expected->bytes;

    if (!move->force && !vv_hash_equal(stands, expected))
        return conflict(move, stands);
    *resolved =
        (struct vv_record_move){ .name = vv_piece_of_text(move->name), .what = vv_piece_of_text(move->what) };
    memcpy(resolved->from, stands, 32);
    memcpy(resolved->to, to, 32);
    resolved->previous = ref == NULL ? 0 : ref->last;
    resolved->moves = ref == NULL ? 1 : ref->moves + 1;
    return VARVE_OK;
}

/* Removals, and refs that go, are how room is made. */
static enum vv_room room_of(const struct vv_record_facts *facts)
{
    for (size_t i = 0; i < facts->move_count; i++)
        if (!vv_hash_is_zero(facts->moves[i].to))
            return VV_ROOM_ORDINARY;
    return VV_ROOM_SPARING;
}

varve_status vv_place_append_refs(struct vv_place *place, const struct vv_record_facts *facts,
                                  int64_t time_ns)
{
    varve_status rc = VARVE_OK;
    const enum vv_room room = room_of(facts);
    struct vv_record record = { .kind = VV_RECORD_REFS, .time_ns = time_ns };
    struct vv_bytes bytes = VV_BYTES_NONE;

    TRY(vv_place_announce(place, room));
    TRY(vv_record_facts_encode(VV_RECORD_REFS, facts, record.id, &bytes));
    empty_sums(&record);
    pthread_mutex_lock(&place->mutex);
    rc = vv_index_reserve(&place->index, facts->move_count);
    if (rc == VARVE_OK)
        rc = vv_index_reserve_removals(&place->index, facts->removals, facts->removal_count);
    pthread_mutex_unlock(&place->mutex);
    TRY(rc);
    TRY(append(place, &record, vv_piece_of(&bytes), no_piece, no_piece, true, room));
    pthread_mutex_lock(&place->mutex);
    for (size_t i = 0; i < facts->move_count; i++)
        vv_index_move(&place->index, &facts->moves[i], record.address);
    for (size_t i = 0; i < facts->removal_count; i++)
        vv_index_remove(&place->index, &facts->removals[i]);
    pthread_mutex_unlock(&place->mutex);
out:
    vv_bytes_release(&bytes);
    return rc;
}

/* Append a record of moves alone. `writer` is held; `resolved` were checked under it. */
static varve_status append_moves(struct vv_place *place, struct vv_record_move *resolved, size_t count,
                                 int64_t time_ns)
{
    const struct vv_record_facts facts = { .moves = resolved, .move_count = count };

    return vv_place_append_refs(place, &facts, time_ns);
}

static bool names_twice(const struct vv_ref_move *moves, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < i; k++) {
            if (strcmp(moves[i].name, moves[k].name) == 0)
                return true;
        }
    }
    return false;
}

/* All moves against the refs as they stand; those that change nothing are left out. `mutex` is held. */
static varve_status resolve_moves(struct vv_place *place, const struct vv_ref_move *moves, size_t count,
                                  struct vv_record_move *resolved, size_t *resolved_count)
{
    varve_status rc = VARVE_OK;
    uint64_t address = 0;
    char hex[65];

    for (size_t i = 0; i < count; i++) {
        const uint8_t *to = moves[i].to == NULL ? vv_hash_zero : moves[i].to->bytes;
        if (moves[i].to != NULL) {
            TRY(vv_index_find(&place->index, to, &address));
            varve_hex_format(to, hex);
            if (address == 0)
                TRY(vv_fail(VARVE_NOT_FOUND, "the store has no commit %s", hex));
        }
        TRY(vv_place_resolve_move(place, &moves[i], to, &resolved[*resolved_count]));
        if (!vv_hash_equal(resolved[*resolved_count].from, to))
            (*resolved_count)++;
    }
out:
    return rc;
}

varve_status vv_place_move_refs(struct vv_place *place, const struct vv_ref_move *moves, size_t count,
                                int64_t time_ns)
{
    varve_status rc = VARVE_OK;
    struct vv_record_move *resolved = NULL;
    size_t resolved_count = 0;

    vv_place_take_turn(place);
    TRY(vv_place_writable(place));
    if (names_twice(moves, count))
        TRY(vv_fail(VARVE_MISUSE, "one ref cannot move twice at once"));
    TRY(vv_alloc(&resolved, count, sizeof *resolved));
    pthread_mutex_lock(&place->mutex);
    rc = resolve_moves(place, moves, count, resolved, &resolved_count);
    pthread_mutex_unlock(&place->mutex);
    TRY(rc);
    if (resolved_count > 0)
        TRY(append_moves(place, resolved, resolved_count, time_ns));
    else
        TRY(vv_place_settle(place)); /* they stand there already, which may be news to the disk */
out:
    vv_place_end_turn(place);
    vv_free(resolved);
    return rc;
}

/* ---- Checkpoints ------------------------------------------------------------------------------ */

/* What a checkpoint saves, one piece after the other, each at the address that it will have. */
struct saver {
    struct vv_bytes bytes;
    uint64_t base; /* address of the first */
};

static varve_status save_piece(void *context, const void *bytes, size_t size, uint64_t *address)
{
    struct saver *saver = context;

    *address = saver->base + saver->bytes.size;
    vv_saved_encode(bytes, size, &saver->bytes);
    return vv_bytes_done(&saver->bytes);
}

/* Modules that differ between two states. */
struct differing {
    struct vv_item *items; /* hash zero: removed */
    size_t count, capacity;
};

static varve_status differ(void *context, const struct vv_item *from, const struct vv_item *to)
{
    struct differing *differing = context;

    if (differing->count == differing->capacity) {
        const size_t capacity = differing->capacity == 0 ? 16 : 2 * differing->capacity;
        const varve_status rc = vv_resize(&differing->items, capacity, sizeof *differing->items);
        if (rc != VARVE_OK)
            return rc;
        differing->capacity = capacity;
    }
    struct vv_item *item = &differing->items[differing->count++];
    *item = to != NULL ? *to : *from;
    if (to == NULL)
        memset(item->hash, 0, VV_HASH_SIZE);
    return VARVE_OK;
}

static varve_status get_module(struct vv_state *state, const struct vv_item *item, struct vv_module **module)
{
    varve_module_id id;

    memcpy(id.bytes, item->key, sizeof id.bytes);
    return vv_state_get(state, &id, module);
}

static varve_status save_module(struct saver *saver, struct vv_module *module, uint64_t *address)
{
    varve_status rc = VARVE_OK;
    struct vv_bytes entry = VV_BYTES_NONE;
    uint64_t top = 0;

    TRY(vv_pagetree_save(&module->memory, save_piece, saver, &top));
    TRY(vv_module_encode(module, top, &entry));
    TRY(save_piece(saver, entry.data, entry.size, address));
out:
    vv_bytes_release(&entry);
    return rc;
}

/* Save what differs from the checkpoint before, whose trie `trie` is; it becomes this one's. */
static varve_status save_state(struct saver *saver, struct vv_trie *trie, struct vv_state *state,
                               const struct differing *differing, struct vv_saved_top *top)
{
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < differing->count; i++) {
        struct vv_item item = differing->items[i];
        struct vv_module *module = NULL;
        if (vv_hash_is_zero(item.hash)) {
            TRY(vv_trie_remove(trie, item.key));
            continue;
        }
        TRY(get_module(state, &item, &module));
        VV_ASSERT(module != NULL);
        TRY(save_module(saver, module, &item.locator));
        TRY(vv_trie_set(trie, &item));
    }
    TRY(vv_trie_top(trie, top->hash));
    TRY(vv_trie_save(trie, save_piece, saver, &top->address));
out:
    return rc;
}

/* The nodes of page trees are shared with sessions: addresses that came to nothing must be forgotten. */
static void unsave(struct vv_state *state, const struct differing *differing, uint64_t from)
{
    for (size_t i = 0; i < differing->count; i++) {
        struct vv_module *module = NULL;
        if (!vv_hash_is_zero(differing->items[i].hash) &&
            get_module(state, &differing->items[i], &module) == VARVE_OK && module != NULL)
            vv_pagetree_unsave(&module->memory, from);
    }
}

struct checkpointing {
    struct vv_place *place;
    struct vv_state state; /* of the commit */
    struct vv_trie before; /* of the checkpoint before */
    struct differing differing;
    struct vv_checkpoint checkpoint;
    struct vv_index_saved index;
    bool indexed;
    size_t facts_size;
    struct vv_bytes directory;
    struct saver saver;
    uint64_t start, generation; /* that it says */
    enum vv_room room;
};

static varve_status put_checkpoint_directory(struct checkpointing *work)
{
    const struct vv_state *state = &work->state;

    vv_bytes_varint(&work->directory, state->meta_count);
    for (size_t i = 0; i < state->meta_count; i++)
        vv_directory_meta(&work->directory, state->meta[i]->key, state->meta[i]->key_size,
                          state->meta[i]->value, state->meta[i]->value_size);
    pthread_mutex_lock(&work->place->mutex);
    vv_index_encode_refs(&work->place->index, &work->directory);
    pthread_mutex_unlock(&work->place->mutex);
    return vv_views_encode_ways(&work->place->views, work->start, &work->directory);
}

/* Save everything as if the record began at `address`. */
static varve_status save_all(struct checkpointing *work, uint64_t address)
{
    varve_status rc = VARVE_OK;
    struct vv_trie trie;

    vv_trie_copy(&trie, &work->before);
    vv_bytes_clear(&work->saver.bytes);
    work->saver.base = address + VV_RECORD_HEADER + work->facts_size + work->directory.size;
    TRY(save_state(&work->saver, &trie, &work->state, &work->differing, &work->checkpoint.state));
    pthread_mutex_lock(&work->place->mutex);
    rc = vv_index_save(&work->place->index, work->saver.base, save_piece, &work->saver, &work->checkpoint,
                       &work->index);
    pthread_mutex_unlock(&work->place->mutex);
    work->indexed = rc == VARVE_OK;
out:
    vv_trie_release(&trie);
    if (rc != VARVE_OK)
        unsave(&work->state, &work->differing, work->saver.base);
    return rc;
}

static void forget_all(struct checkpointing *work)
{
    unsave(&work->state, &work->differing, work->saver.base);
    if (work->indexed) {
        vv_index_unsave(&work->index, work->saver.base);
        vv_index_saved_release(&work->index);
    }
    work->indexed = false;
}

/* Where the record goes depends on its size, and the addresses in it on where it goes: when it does not fit
 * where it was thought to, once more for the segment that it does fit in. */
static varve_status save_where_it_fits(struct checkpointing *work)
{
    varve_status rc = VARVE_OK;
    struct vv_place *place = work->place;
    uint64_t assumed = place->chain.end;
    uint64_t address = 0;

    for (;;) {
        TRY(save_all(work, assumed));
        struct vv_record record = { .facts_size = work->facts_size,
                                    .directory_size = work->directory.size,
                                    .pages_size = work->saver.bytes.size };
        rc = vv_place_room(place, place->chain.end, vv_record_padded(&record), work->room, &address);
        if (rc != VARVE_OK) {
            forget_all(work);
            goto out;
        }
        if (address == assumed)
            break;
        forget_all(work);
        assumed = address; /* the start of a segment, which grows to what is put there first */
    }
out:
    return rc;
}

static varve_status append_checkpoint(struct checkpointing *work, const struct vv_record *commit)
{
    varve_status rc = VARVE_OK;
    struct vv_place *place = work->place;
    struct vv_record record = { .kind = VV_RECORD_CHECKPOINT,
                                .parent = commit->address,
                                .checkpoint = commit->checkpoint,
                                .time_ns = commit->time_ns };
    uint8_t facts[VV_CHECKPOINT_FACTS];

    record.number = place->index.last_number; /* only we add commits, and we hold `writer` */
    memcpy(record.id, commit->id, 32);
    memcpy(record.root, commit->root, 32);
    TRY(save_where_it_fits(work));
    record.facts_size = sizeof facts;
    record.directory_size = work->directory.size;
    record.pages_size = work->saver.bytes.size;
    work->checkpoint.stored = place->stored + vv_record_padded(&record);
    work->checkpoint.generation = work->generation;
    work->checkpoint.start = work->start;
    vv_checkpoint_encode(&work->checkpoint, facts);
    vv_record_sum(work->directory.data, work->directory.size, record.directory_sum);
    vv_record_sum(work->saver.bytes.data, work->saver.bytes.size, record.pages_sum);
    rc = append(place, &record, (struct vv_piece){ .data = facts, .size = sizeof facts },
                vv_piece_of(&work->directory), vv_piece_of(&work->saver.bytes), true, work->room);
    if (rc != VARVE_OK) {
        forget_all(work);
        goto out;
    }
    VV_ASSERT(record.address + VV_RECORD_HEADER + VV_CHECKPOINT_FACTS + work->directory.size ==
              work->saver.base);
    pthread_mutex_lock(&place->mutex);
    vv_index_adopt(&place->index, &work->index);
    pthread_mutex_unlock(&place->mutex);
    vv_views_made(&place->views, commit->address, record.address);
    if (work->start > place->start)
        vv_views_forget_below(&place->views, work->start);
    place->head.checkpoint = record.address;
    place->start = work->start;
    place->newest = record.address;
    vv_place_tell(place);
out:
    return rc;
}

/* Save the state of `commit`, the refs and the commit index. A failure leaves the log as it was. */
static varve_status save_checkpoint(struct vv_place *place, const struct vv_record *commit, uint64_t start,
                                    uint64_t generation, enum vv_room room)
{
    varve_status rc = VARVE_OK;
    struct checkpointing work = { .place = place,
                                  .facts_size = VV_CHECKPOINT_FACTS,
                                  .start = start,
                                  .generation = generation,
                                  .room = room };
    struct vv_state before = { .fresh = NULL };
    struct vv_record record;

    vv_trie_init(&work.before, &place->views.nodes);
    if (commit->address != 0)
        TRY(vv_views_get(&place->views, commit->address, &work.state));
    else
        TRY(vv_state_init(&work.state, &place->views.nodes, &place->views.modules));
    if (commit->checkpoint != 0 && !vv_views_avoided(&place->views, commit->checkpoint)) {
        rc = vv_views_open_checkpoint(&place->views, commit->checkpoint, &record, &before);
        if (rc == VARVE_OK)
            vv_trie_copy(&work.before, &before.trie);
        else if (rc != VARVE_CORRUPT) /* a damaged one: save everything again */
            goto out;
    }
    TRY(vv_trie_diff(&work.before, &work.state.trie, differ, &work.differing));
    TRY(put_checkpoint_directory(&work));
    TRY(append_checkpoint(&work, commit));
out:
    if (before.fresh != NULL)
        vv_state_release(&before);
    if (work.state.fresh != NULL)
        vv_state_release(&work.state);
    vv_trie_release(&work.before);
    vv_free(work.differing.items);
    vv_bytes_release(&work.directory);
    vv_bytes_release(&work.saver.bytes);
    return rc;
}

/* The record of a repair: all that a checkpoint says, then what the repair declares. */
static varve_status append_repair(struct checkpointing *work, const struct vv_record *commit,
                                  const struct vv_repair *repair, uint64_t number)
{
    varve_status rc = VARVE_OK;
    struct vv_place *place = work->place;
    struct vv_bytes facts = VV_BYTES_NONE;
    struct vv_record record = {
        .kind = VV_RECORD_CHECKPOINT, .repairs = true, .number = number, .time_ns = vv_clock_now_ns()
    };

    if (commit != NULL) {
        record.parent = commit->address;
        memcpy(record.id, commit->id, 32);
        memcpy(record.root, commit->root, 32);
    }
    TRY(vv_clock_random(record.epoch, sizeof record.epoch));
    TRY(put_checkpoint_directory(work));
    if (vv_bytes_extend(&facts, VV_CHECKPOINT_FACTS) == NULL)
        TRY(vv_bytes_done(&facts));
    TRY(vv_repair_encode(repair, &facts));
    work->facts_size = facts.size;
    TRY(save_all(work, place->chain.end));
    record.facts_size = facts.size;
    record.directory_size = work->directory.size;
    record.pages_size = work->saver.bytes.size;
    work->checkpoint.stored = place->stored + vv_record_padded(&record);
    work->checkpoint.generation = vv_place_generation(place);
    work->checkpoint.start = place->start;
    vv_checkpoint_encode(&work->checkpoint, facts.data);
    vv_record_sum(work->directory.data, work->directory.size, record.directory_sum);
    vv_record_sum(vv_piece_of(&work->saver.bytes).data, work->saver.bytes.size, record.pages_sum);
    TRY(append(place, &record, vv_piece_of(&facts), vv_piece_of(&work->directory),
               vv_piece_of(&work->saver.bytes), !VV_PLANT("repair-sync"), VV_ROOM_ORDINARY));
    if (VV_PLANT("repair-sync"))
        place->chain.synced = place->chain.end; /* else the close would sync it */
    place->announced = true;
    place->newest = record.address;
    place->head.checkpoint = record.address;
    vv_place_tell(place);
out:
    vv_bytes_release(&facts);
    return rc;
}

varve_status vv_place_put_repair(struct vv_place *place, const struct vv_record *commit,
                                 const struct vv_repair *repair, uint64_t number, uint64_t address)
{
    varve_status rc = VARVE_OK;
    struct checkpointing work = { .place = place };
    const struct vv_chain chain = place->chain;

    vv_trie_init(&work.before, &place->views.nodes);
    vv_place_take_turn(place);
    TRY(vv_place_settle(place)); /* what is there already, before anything is built on it */
    if (commit != NULL)
        TRY(vv_views_get(&place->views, commit->address, &work.state));
    else
        TRY(vv_state_init(&work.state, &place->views.nodes, &place->views.modules));
    TRY(vv_trie_diff(&work.before, &work.state.trie, differ, &work.differing));
    place->chain.end = address;
    rc = append_repair(&work, commit, repair, number);
    if (rc != VARVE_OK)
        place->chain = chain;
out:
    if (work.indexed)
        vv_index_saved_release(&work.index);
    if (work.state.fresh != NULL)
        vv_state_release(&work.state);
    vv_trie_release(&work.before);
    vv_free(work.differing.items);
    vv_bytes_release(&work.directory);
    vv_bytes_release(&work.saver.bytes);
    vv_place_end_turn(place);
    return rc;
}

varve_status vv_place_retiring_checkpoint(struct vv_place *place, const struct vv_record *commit,
                                          uint64_t start, enum vv_room room)
{
    varve_status rc = VARVE_OK;

    TRY(vv_place_announce(place, room == VV_ROOM_ORDINARY ? room : VV_ROOM_SPARING));
    TRY(save_checkpoint(place, commit, start, vv_place_generation(place) + 1, room));
out:
    return rc;
}

varve_status vv_place_append(struct vv_place *place, struct vv_record *record, struct vv_piece facts,
                             struct vv_piece directory, struct vv_piece pages, enum vv_room room)
{
    vv_record_sum(directory.data, directory.size, record->directory_sum);
    vv_record_sum(pages.data, pages.size, record->pages_sum);
    return append(place, record, facts, directory, pages, false, room);
}

bool vv_place_checkpoint_due(const struct vv_place *place, const struct vv_record *commit)
{
    return commit->line_records >= place->limits.checkpoint_records ||
           commit->line_bytes >= place->limits.checkpoint_bytes;
}

varve_status vv_place_checkpoint(struct vv_place *place, const struct vv_record *commit)
{
    if (commit->sequence < place->checkpoint_retry)
        return VARVE_OK;
    const varve_status rc =
        save_checkpoint(place, commit, place->start, vv_place_generation(place), VV_ROOM_ORDINARY);
    if (rc != VARVE_OK)
        place->checkpoint_retry = commit->sequence + place->limits.checkpoint_records / 4 + 1;
    if (rc != VARVE_UNCERTAIN)
        return VARVE_OK;
    return vv_fail_within(rc, "the commit is durable, the checkpoint after it is not");
}

varve_status vv_place_checkpoint_of(struct vv_place *place, uint64_t commit, uint64_t *address)
{
    varve_status rc = VARVE_OK;
    struct vv_record record;

    *address = vv_views_checkpoint(&place->views, commit);
    if (*address != 0)
        return VARVE_OK;
    vv_place_take_turn(place);
    TRY(vv_place_writable(place));
    TRY(vv_place_announce(place, VV_ROOM_ORDINARY));
    TRY(vv_log_record(&place->log, commit, 0, &record)); /* a commit, or one that was kept */
    *address = vv_views_checkpoint(&place->views, commit);
    if (*address == 0)
        TRY(save_checkpoint(place, &record, place->start, vv_place_generation(place), VV_ROOM_ORDINARY));
    *address = vv_views_checkpoint(&place->views, commit);
    if (*address == 0) /* memory ran out for remembering it */
        rc = vv_fail(VARVE_MEMORY, "remember a checkpoint");
out:
    vv_place_end_turn(place);
    return rc;
}

varve_status vv_place_persist(struct vv_place *place)
{
    varve_status rc = VARVE_OK;

    vv_place_take_turn(place);
    TRY(vv_place_writable(place));
    TRY(vv_place_settle(place));
    vv_place_tell(place); /* should this process be killed, the next opening takes it from there */
out:
    vv_place_end_turn(place);
    return rc;
}
