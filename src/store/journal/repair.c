/* repair.c - see repair.h.
 *
 *   seen     every commit whose header the scan met, in the order of their numbers; where one was kept, as it lies since
 *   dead     the places of damage: damaged records, and stretches in which no record can be read
 *   hole     space that was given back: zeros in what a record holds behind its facts. Where something needs what is
 *            not there, that something is not whole; the record is not damaged
 *   whole    a commit whose record, state and pages can be read. One whose parent is whole can only have lost what it
 *            changed itself; of any other all pages are read
 *   stood    every place of a ref that moves and checkpoints still tell: where a ref goes when no ancestor is known
 * Moves:  SCAN    commits, refs, damage                                     [scan, settle_seen]
 *         JUDGE   which commits are whole                                   [judge]
 *         DECIDE  the index of those, refs off the others, what to declare  [decide]
 *         APPEND  the one record                                            [vv_place_put_repair] */
#include "store/journal/repair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

struct seen {
    uint8_t id[32], parent[32]; /* parent: zeros when unknown or none */
    struct vv_record record;
    struct vv_record
        made; /* the one that it was made by, when that is another and there; size 0: it is not */
    bool has_facts, whole;
    uint64_t checkpoint; /* its own, whole; 0: none */
    bool given_up;       /* by an earlier repair, or made again since */
    char why[200];       /* it is not */
};
/* A place where a ref stood. */
struct stood {
    uint8_t name[VV_HASH_SIZE]; /* of the ref's name */
    uint8_t to[32];
    uint64_t address; /* of the record that says so */
    bool move;        /* which is that of the move itself */
};
struct repairing {
    const struct vv_layout_options *options;
    uint32_t flags;
    struct vv_place *place;
    struct seen *seen;
    size_t seen_count, seen_capacity;
    struct vv_table by_id;      /* -> place in `seen` */
    struct vv_table by_address; /* likewise */
    struct stood *stood;
    size_t stood_count, stood_capacity;
    bool reclaimed;            /* space was given back */
    uint64_t last_number, end; /* end: of the record before */
    bool gap;                  /* no record could be read behind it */
    struct vv_declared old;    /* what earlier repairs declared */
    struct vv_repair made;
    size_t dead_capacity, removal_capacity;
    struct vv_record_removal *gone; /* commits that were removed, or given up, before */
    size_t gone_count, gone_capacity;
    struct vv_index last; /* that of the last checkpoint that can be read, for what nothing else tells */
    uint64_t last_at;     /* the address of that */
    uint64_t start;       /* of the log, as that says */
    bool headless;        /* segments are gone that it says are needed */
    size_t fresh;         /* places of damage that no earlier repair has dealt with */
    uint64_t address;     /* of the record to be written */
    uint64_t records;
};

static void tell(struct repairing *work, varve_severity severity, uint64_t address, const uint8_t *commit,
                 const char *text)
{
    char name[VV_SEGMENT_NAME];
    varve_commit_id id;
    const varve_finding finding = { .severity = severity,
                                    .file = name,
                                    .commit = commit == NULL ? NULL : &id,
                                    .text = text,
                                    .repaired = true };

    if (work->options->finding == NULL)
        return;
    vv_log_file_name(&work->place->log, address, name);
    if (commit != NULL)
        memcpy(id.bytes, commit, sizeof id.bytes);
    work->options->finding(work->options->context, &finding);
}

/* ---- Lists ------------------------------------------------------------------------------------ */

static varve_status add_dead(struct repairing *work, uint64_t address, uint64_t size)
{
    struct vv_repair *made = &work->made;

    if (vv_is_dead(made->dead, made->dead_count, address))
        return VARVE_OK;
    if (made->dead_count == work->dead_capacity) {
        const size_t capacity = work->dead_capacity == 0 ? 8 : 2 * work->dead_capacity;
        const varve_status rc = vv_resize(&made->dead, capacity, sizeof *made->dead);
        if (rc != VARVE_OK)
            return rc;
        work->dead_capacity = capacity;
    }
    made->dead[made->dead_count++] = (struct vv_dead){ .address = address, .size = size };
    work->fresh += !vv_declared_dead(&work->old, address);
    return VARVE_OK;
}

static varve_status add_removal(struct vv_record_removal **list, size_t *count, size_t *capacity,
                                const struct vv_record_removal *removal)
{
    if (*count == *capacity) {
        const size_t more = *capacity == 0 ? 8 : 2 * *capacity;
        const varve_status rc = vv_resize(list, more, sizeof **list);
        if (rc != VARVE_OK)
            return rc;
        *capacity = more;
    }
    (*list)[(*count)++] = *removal;
    return VARVE_OK;
}

static varve_status add_dropped(struct repairing *work, const uint8_t id[32], const uint8_t ancestor[32],
                                uint64_t number)
{
    struct vv_record_removal removal = { .number = number };

    memcpy(removal.id, id, 32);
    memcpy(removal.ancestor, ancestor, 32);
    return add_removal(&work->made.removals, &work->made.removal_count, &work->removal_capacity, &removal);
}

static bool is_among(const struct vv_record_removal *removals, size_t count, const uint8_t id[32])
{
    for (size_t i = 0; i < count; i++)
        if (memcmp(removals[i].id, id, 32) == 0)
            return true;
    return false;
}

static struct seen *seen_by_id(struct repairing *work, const uint8_t id[32])
{
    const union vv_value *place = vv_table_get(&work->by_id, id);

    return place == NULL ? NULL : &work->seen[place->number];
}

static struct seen *seen_at(struct repairing *work, uint64_t address)
{
    const union vv_value *place = vv_table_get(&work->by_address, &address);

    return place == NULL ? NULL : &work->seen[place->number];
}

/* ---- The scan --------------------------------------------------------------------------------- */

static varve_status put_seen(struct repairing *work, const struct vv_record *record, const uint8_t *parent)
{
    varve_status rc = VARVE_OK;

    if (work->seen_count == work->seen_capacity) {
        const size_t capacity = work->seen_capacity == 0 ? 64 : 2 * work->seen_capacity;
        TRY(vv_resize(&work->seen, capacity, sizeof *work->seen));
        work->seen_capacity = capacity;
    }
    TRY(vv_table_put(&work->by_id, record->id, (union vv_value){ .number = work->seen_count }));
    TRY(vv_table_put(&work->by_address, &record->address, (union vv_value){ .number = work->seen_count }));
    struct seen *seen = &work->seen[work->seen_count++];
    *seen = (struct seen){ .record = *record, .has_facts = parent != NULL };
    memcpy(seen->id, record->id, 32);
    if (parent != NULL)
        memcpy(seen->parent, parent, 32);
    if (record->number > work->last_number)
        work->last_number = record->number;
out:
    return rc;
}

static varve_status add_seen(struct repairing *work, const struct vv_record *record, const uint8_t *parent)
{
    if (record->number <= work->last_number)
        return add_dead(work, record->address, record->size); /* of an append that was never told of */
    struct seen *seen = seen_by_id(work, record->id);
    if (seen != NULL)
        seen->given_up = true;
    return put_seen(work, record, parent);
}

/* A commit once more. What it was made by may be gone, or given up to be made again. */
static varve_status add_kept(struct repairing *work, const struct vv_record *record, const uint8_t *parent)
{
    varve_status rc = VARVE_OK;
    struct seen *seen = seen_by_id(work, record->id);

    if (seen == NULL)
        return put_seen(work, record, parent);
    if (seen->record.number != record->number || parent == NULL)
        return VARVE_OK;
    TRY(vv_table_put(&work->by_address, &record->address,
                     (union vv_value){ .number = (uint64_t)(seen - work->seen) }));
    if (seen->record.kind == VV_RECORD_COMMIT)
        seen->made = seen->record;
    seen->record = *record;
    seen->has_facts = true;
    memcpy(seen->parent, parent, 32);
out:
    return rc;
}

static int by_number(const void *a, const void *b)
{
    const struct seen *x = a;
    const struct seen *y = b;

    return x->record.number < y->record.number ? -1 : x->record.number > y->record.number;
}

/* Those that are told of by kept records alone come where their numbers are. What the last index does not have any
 * more was removed, though the record that says so may be gone. */
static varve_status settle_seen(struct repairing *work)
{
    varve_status rc = VARVE_OK;

    if (work->seen_count > 1)
        qsort(work->seen, work->seen_count, sizeof *work->seen, by_number);
    for (size_t i = 0; i < work->seen_count; i++) {
        struct seen *seen = &work->seen[i];
        const union vv_value at = { .number = i };
        uint64_t address = 0;
        if (!seen->given_up && work->reclaimed && seen->record.number <= work->last.last_number) {
            rc = vv_index_find(&work->last, seen->id, &address);
            seen->given_up = rc == VARVE_OK && address == 0;
            if (rc != VARVE_CORRUPT)
                TRY(rc);
        }
        TRY(vv_table_put(&work->by_address, &seen->record.address, at));
        if (seen->made.size > 0)
            TRY(vv_table_put(&work->by_address, &seen->made.address, at));
        TRY(vv_table_put(&work->by_id, seen->id, at)); /* the newest of those with the same */
    }
out:
    return rc;
}

static varve_status add_stood(struct repairing *work, const void *name, size_t size, const uint8_t to[32],
                              uint64_t address, bool move)
{
    if (work->stood_count == work->stood_capacity) {
        const size_t capacity = work->stood_capacity == 0 ? 64 : 2 * work->stood_capacity;
        const varve_status rc = vv_resize(&work->stood, capacity, sizeof *work->stood);
        if (rc != VARVE_OK)
            return rc;
        work->stood_capacity = capacity;
    }
    struct stood *stood = &work->stood[work->stood_count++];
    *stood = (struct stood){ .address = address, .move = move };
    vv_hash(VV_HASH_NAME, name, size, stood->name);
    memcpy(stood->to, to, 32);
    return VARVE_OK;
}

static varve_status take_moves(struct repairing *work, const struct vv_record_move *moves, size_t count,
                               uint64_t address)
{
    varve_status rc = VARVE_OK;
    struct vv_index *index = &work->place->index;

    TRY(vv_index_reserve(index, count));
    for (size_t i = 0; i < count; i++) {
        vv_index_move(index, &moves[i], address);
        TRY(add_stood(work, moves[i].name.data, moves[i].name.size, moves[i].to, address, true));
    }
out:
    return rc;
}

/* What was taken out of the history before stays out of it. */
static varve_status take_removals(struct repairing *work, const struct vv_record_removal *removals,
                                  size_t count)
{
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < count; i++) {
        struct seen *seen = seen_by_id(work, removals[i].id);
        if (seen != NULL)
            seen->given_up = true;
        TRY(add_removal(&work->gone, &work->gone_count, &work->gone_capacity, &removals[i]));
    }
out:
    return rc;
}

static varve_status note_index(struct repairing *work, const struct vv_record *record, const uint8_t *bytes)
{
    varve_status rc = VARVE_OK;
    struct vv_checkpoint checkpoint;

    TRY(vv_checkpoint_decode(record, bytes, &checkpoint));
    vv_generations_raise(&work->place->generations, checkpoint.generation);
    TRY(vv_index_open(&work->last, record, &checkpoint));
    work->start = checkpoint.start;
    work->last_at = record->address;
out:
    return rc;
}

/* See that no state is built on a checkpoint whose own is not whole. `holed`: that may be because nothing needs it, so
 * it is not told as damage. */
static varve_status avoid_unless_whole(struct repairing *work, const struct vv_record *record, bool holed,
                                       bool *avoided)
{
    const varve_status rc = vv_views_verify(&work->place->views, record);
    struct seen *seen = seen_at(work, record->parent);

    *avoided = false;
    if (rc == VARVE_OK && seen != NULL)
        seen->checkpoint = record->address;
    if (rc != VARVE_CORRUPT && rc != VARVE_NOT_FOUND)
        return rc;
    *avoided = !holed;
    return vv_views_avoid(&work->place->views, record->address);
}

/* Where all refs stood at a checkpoint: what is left of moves that are lost. */
static varve_status note_refs(struct repairing *work, uint64_t address)
{
    varve_status rc = VARVE_OK;
    const struct vv_index *index = &work->place->index;

    for (size_t i = 0; i < index->ref_count; i++) {
        const struct vv_index_ref *ref = &index->refs[i];
        TRY(add_stood(work, ref->name, strlen(ref->name), ref->commit, address, false));
    }
out:
    return rc;
}

/* A checkpoint knows all refs, also those whose moves are lost; and commits whose headers are. */
static varve_status take_checkpoint(struct repairing *work, const struct vv_record *record,
                                    const uint8_t *bytes, bool holed)
{
    varve_status rc = VARVE_OK;
    struct vv_repair repair = { .moves = NULL };

    if (record->number > work->last_number)
        work->last_number = record->number;
    if (record->repairs) {
        TRY(vv_repair_decode(record, bytes, &repair));
        TRY(take_moves(work, repair.moves, repair.move_count, record->address));
        TRY(take_removals(work, repair.removals, repair.removal_count));
    }
    rc = note_index(work, record, bytes);
    if (rc != VARVE_CORRUPT)
        TRY(rc);
    rc = vv_place_take_directory(work->place, record);
    if (rc == VARVE_OK)
        rc = note_refs(work, record->address);
    if (rc != VARVE_CORRUPT)
        TRY(rc);
    bool avoided = false;
    TRY(avoid_unless_whole(work, record, holed, &avoided));
    if (avoided)
        TRY(add_dead(work, record->address, record->size));
out:
    vv_repair_release(&repair);
    return rc;
}

/* Has space been given back of what the record holds behind its facts? */
static varve_status has_hole(struct repairing *work, const struct vv_record *record, bool *hole)
{
    varve_status rc = VARVE_OK;
    static const uint8_t zeros[VV_RECORD_ALIGN];
    uint8_t block[VV_RECORD_ALIGN];
    const uint64_t from = vv_record_directory_at(record);
    const uint64_t end = vv_record_pages_at(record) + record->pages_size;

    *hole = false;
    for (uint64_t at = (from + VV_RECORD_ALIGN - 1) / VV_RECORD_ALIGN * VV_RECORD_ALIGN;
         work->reclaimed && !*hole && at < end; at += VV_RECORD_ALIGN) {
        size_t got = 0;
        TRY(vv_log_read_some(&work->place->log, at, block, sizeof block, &got));
        *hole = got == sizeof block && memcmp(block, zeros, sizeof block) == 0;
    }
out:
    return rc;
}

/* The sections behind the facts: have they their sums, or holes? */
static varve_status look_at_sections(struct repairing *work, const struct vv_record *record, bool *bad,
                                     bool *holed)
{
    const varve_status rc = vv_log_verify(&work->place->log, record);

    *bad = *holed = false;
    if (rc != VARVE_CORRUPT)
        return rc;
    const varve_status looked = has_hole(work, record, holed);
    *bad = !*holed;
    return looked;
}

static varve_status scan_record(void *context, const struct vv_record *record, const uint8_t *bytes)
{
    varve_status rc = VARVE_OK;
    struct repairing *work = context;
    struct vv_record_facts facts = { .moves = NULL };
    bool bad = false;
    bool holed = false;
    bool avoided = false;
    varve_progress progress = { .what = "reading the log", .unit = "records", .done = ++work->records };

    if (work->options->progress != NULL && work->options->progress(work->options->context, &progress) != 0)
        TRY(vv_fail(VARVE_CANCELLED, "the repair was stopped"));
    if (work->gap)
        TRY(add_dead(work, work->end, record->address - work->end));
    work->gap = false;
    work->end = record->address + record->size;
    work->place->stored += record->size;
    if (bytes != NULL)
        TRY(look_at_sections(work, record, &bad, &holed));
    if (bad)
        TRY(add_dead(work, record->address, record->size));
    if (bytes != NULL && record->kind == VV_RECORD_CHECKPOINT) {
        if (bad) /* what it says of a state may be whole all the same */
            TRY(avoid_unless_whole(work, record, false, &avoided));
        else
            TRY(take_checkpoint(work, record, bytes, holed));
    } else if (record->kind == VV_RECORD_COMMIT || record->kind == VV_RECORD_REFS ||
               record->kind == VV_RECORD_KEPT) {
        rc = bytes == NULL ? VARVE_CORRUPT : vv_record_facts_decode(record, bytes, &facts);
        const bool decoded = rc == VARVE_OK;
        if (rc == VARVE_CORRUPT)
            rc = add_dead(work, record->address, record->size);
        TRY(rc);
        if (record->kind == VV_RECORD_COMMIT)
            TRY(add_seen(work, record, decoded ? facts.parent : NULL));
        if (record->kind == VV_RECORD_KEPT)
            TRY(add_kept(work, record, decoded ? facts.parent : NULL));
        if (decoded) {
            TRY(take_moves(work, facts.moves, facts.move_count, record->address));
            TRY(take_removals(work, facts.removals, facts.removal_count));
        }
    }
out:
    vv_record_facts_release(&facts);
    return rc;
}

static varve_status scan_damage(void *context, uint64_t address, const struct vv_record *record,
                                const char *words)
{
    varve_status rc = VARVE_OK;
    struct repairing *work = context;
    bool avoided = false;

    (void)address;
    (void)words;
    if (record == NULL) {
        work->gap = true; /* how far it reaches shows with the next record */
        return VARVE_OK;
    }
    TRY(add_dead(work, record->address, record->size));
    if (record->kind == VV_RECORD_CHECKPOINT) /* what it says of a state may be whole all the same */
        TRY(avoid_unless_whole(work, record, false, &avoided));
out:
    return rc;
}

/* Where the log begins from now on: where it did, or at what is left of it. */
static void settle_start(struct repairing *work)
{
    struct vv_place *place = work->place;
    uint64_t first = VV_LOG_START;
    const uint64_t start = work->start == 0 ? VV_LOG_START : work->start;

    (void)vv_log_segment_after(&place->log, 0, &first);
    work->headless = start < first;
    place->start = work->headless ? first : work->start;
}

static varve_status scan(struct repairing *work)
{
    varve_status rc = VARVE_OK;
    struct vv_place *place = work->place;
    const struct vv_head *heads = place->seen.heads;

    place->head = place->told = heads[0];
    place->head.checkpoint = 0; /* it may lie in what is damaged */
    place->acknowledged =
        heads[0].acknowledged > heads[1].acknowledged ? heads[0].acknowledged : heads[1].acknowledged;
    const struct vv_log_scan scan = { .acknowledged = place->acknowledged,
                                      .thorough = true,
                                      .record = scan_record,
                                      .damage = scan_damage,
                                      .context = work };
    TRY(vv_repairs_declared(&place->log, &work->old));
    vv_generations_raise(&place->generations, work->old.generation);
    vv_log_begin(&place->log, &place->chain);
    work->reclaimed = place->chain.begins || vv_place_generation(place) > 0;
    work->end = place->chain.end;
    TRY(vv_log_scan(&place->log, &place->chain, &scan));
    TRY(settle_seen(work));
    settle_start(work);
    work->address = place->chain.end > place->acknowledged ? place->chain.end : place->acknowledged;
    work->address = vv_log_fresh(&place->log, work->address);
    if (work->gap)
        TRY(add_dead(work, work->end, work->address - work->end));
out:
    return rc;
}

/* ---- Which commits are whole ------------------------------------------------------------------ */

static varve_status read_page(void *context, uint64_t index, const struct vv_leaf *leaf)
{
    struct repairing *work = context;
    uint8_t page[VV_PAGE_SIZE];

    (void)index;
    return leaf == NULL ? VARVE_OK : vv_pages_read(&work->place->pages, leaf, page);
}

/* Every page of a state. */
static varve_status read_state(struct repairing *work, struct vv_state *state)
{
    varve_status rc = VARVE_OK;
    struct vv_module *module = NULL;

    TRY(vv_state_next(state, NULL, &module));
    while (module != NULL) {
        const varve_module_id id = module->id;
        TRY(vv_pagetree_each(&module->memory, 0, read_page, work));
        TRY(vv_state_next(state, &id, &module));
    }
out:
    return rc;
}

/* The pages that a commit changed. */
static varve_status read_changes(struct repairing *work, const struct vv_record *record)
{
    varve_status rc = VARVE_OK;
    uint8_t *directory = NULL;
    const struct vv_directory_visitor visitor = { .page = read_page, .context = work };

    TRY(vv_log_directory(&work->place->log, record, &directory));
    TRY(vv_directory_walk(record, directory, &visitor));
out:
    vv_free(directory);
    return rc;
}

/* CORRUPT or NOT_FOUND: something that it needs is gone. */
static varve_status read_commit(struct repairing *work, struct seen *seen)
{
    varve_status rc = VARVE_OK;
    struct vv_state state = { .fresh = NULL };
    const struct seen *parent = seen_at(work, seen->record.parent);
    /* One that was kept, or whose parent was, has pages elsewhere than it. */
    const bool on_whole = seen->record.kind == VV_RECORD_COMMIT &&
                          (seen->record.parent == 0 || (parent != NULL && parent->whole &&
                                                        parent->record.address == seen->record.parent));

    if (!seen->has_facts)
        TRY(vv_fail(VARVE_CORRUPT, "what its record says of it is damaged"));
    TRY(vv_views_get(&work->place->views, seen->record.address, &state));
    if (work->flags & VARVE_CHECK_QUICK)
        goto out;
    rc = on_whole ? read_changes(work, &seen->record) : VARVE_CORRUPT;
    if (rc == VARVE_CORRUPT || rc == VARVE_NOT_FOUND)
        rc = read_state(work, &state);
out:
    if (state.fresh != NULL)
        vv_state_release(&state);
    return rc;
}

static bool is_lost(varve_status rc)
{
    return rc == VARVE_CORRUPT || rc == VARVE_NOT_FOUND;
}

static varve_status judge(struct repairing *work)
{
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < work->seen_count; i++) {
        struct seen *seen = &work->seen[i];
        if (seen->given_up)
            continue;
        rc = read_commit(work, seen);
        if (is_lost(rc) && seen->checkpoint != 0 && seen->has_facts) {
            TRY(vv_views_only(&work->place->views, seen->record.address, seen->checkpoint));
            vv_views_flush(&work->place->views, 0);
            rc = read_commit(work, seen);
        }
        if (is_lost(rc) && seen->made.size > 0) {
            seen->record = seen->made; /* as it lay before */
            rc = read_commit(work, seen);
        }
        seen->whole = rc == VARVE_OK;
        if (!is_lost(rc))
            TRY(rc);
        if (rc != VARVE_OK)
            snprintf(seen->why, sizeof seen->why, "%s", vv_words());
        rc = VARVE_OK;
    }
out:
    return rc;
}

/* ---- What follows from that ------------------------------------------------------------------- */

static const struct seen *whole_ancestor(struct repairing *work, const struct seen *seen)
{
    while (seen != NULL && !seen->whole) {
        const struct seen *parent = vv_hash_is_zero(seen->parent) ? NULL : seen_by_id(work, seen->parent);
        if (parent == NULL && seen->record.parent != 0)
            parent = seen_at(work, seen->record.parent);
        seen = parent;
    }
    return seen;
}

static varve_status drop(struct repairing *work, const struct seen *seen)
{
    const struct seen *ancestor = whole_ancestor(work, seen);
    char text[400];

    snprintf(text, sizeof text, "commit r%llu is dropped: %s", (unsigned long long)seen->record.number,
             seen->why);
    tell(work, VARVE_DAMAGE, seen->record.address, seen->id, text);
    return add_dropped(work, seen->id, ancestor == NULL ? vv_hash_zero : ancestor->id, seen->record.number);
}

/* A commit of which nothing but its name is left, in a child or a ref. It may have been removed long ago, by a record
 * that is gone too, in good order. */
static varve_status drop_unseen(struct repairing *work, const uint8_t id[32], uint64_t address)
{
    struct vv_record_removal removal = { .number = 0 };
    bool removed = false;

    if (vv_hash_is_zero(id) || seen_by_id(work, id) != NULL || is_among(work->gone, work->gone_count, id) ||
        is_among(work->made.removals, work->made.removal_count, id))
        return VARVE_OK;
    uint64_t there = 0;
    if (work->reclaimed && address < work->last_at && vv_index_find(&work->last, id, &there) == VARVE_OK &&
        there == 0 &&
        (vv_index_ancestor(&work->last, id, removal.ancestor, &removed) != VARVE_OK || !removed))
        return VARVE_OK; /* removed and forgotten, in good order */
    memcpy(removal.id, id, 32);
    if (vv_index_ancestor(&work->last, id, removal.ancestor, &removed) == VARVE_OK && removed)
        return add_removal(&work->gone, &work->gone_count, &work->gone_capacity, &removal);
    tell(work, VARVE_DAMAGE, address, id, "a commit is dropped: its record cannot be read any more");
    return add_dropped(work, id, vv_hash_zero, 0);
}

static varve_status drop_all(struct repairing *work)
{
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < work->seen_count; i++) {
        const struct seen *seen = &work->seen[i];
        if (!seen->whole && !seen->given_up)
            TRY(drop(work, seen));
        if (!seen->given_up || !work->reclaimed)
            TRY(drop_unseen(work, seen->parent, seen->record.parent));
    }
    for (size_t i = 0; i < work->stood_count; i++)
        TRY(drop_unseen(work, work->stood[i].to, work->stood[i].address));
out:
    return rc;
}

/* The newest whole commit that the ref named by any move that the log still tells. */
static const struct seen *stood_on(struct repairing *work, const char *name)
{
    uint8_t hash[VV_HASH_SIZE];

    vv_hash(VV_HASH_NAME, name, strlen(name), hash);
    for (size_t i = work->stood_count; i-- > 0;) {
        const struct seen *seen = NULL;
        if (vv_hash_equal(work->stood[i].name, hash))
            seen = whole_ancestor(work, seen_by_id(work, work->stood[i].to));
        if (seen != NULL)
            return seen;
    }
    return NULL;
}

static uint64_t last_readable_move(struct repairing *work, const char *name)
{
    uint8_t hash[VV_HASH_SIZE];

    vv_hash(VV_HASH_NAME, name, strlen(name), hash);
    for (size_t i = work->stood_count; i-- > 0;)
        if (work->stood[i].move && vv_hash_equal(work->stood[i].name, hash))
            return work->stood[i].address;
    return 0;
}

static void tell_move(struct repairing *work, const struct vv_index_ref *ref, const struct seen *to)
{
    char from[65];
    char text[400];

    varve_hex_format(ref->commit, from);
    if (to == NULL)
        snprintf(text, sizeof text,
                 "%.200s named commit %.12s, of which nothing before it is left: it is deleted", ref->name,
                 from);
    else
        snprintf(text, sizeof text, "%.200s named commit %.12s, which is dropped: it goes back to r%llu",
                 ref->name, from, (unsigned long long)to->record.number);
    tell(work, VARVE_DAMAGE, work->address, to == NULL ? NULL : to->id, text);
}

/* Refs off what is given up. Their names stay lent from the index, whose list does not move meanwhile. */
static varve_status move_refs(struct repairing *work)
{
    varve_status rc = VARVE_OK;
    struct vv_index *index = &work->place->index;

    TRY(vv_alloc(&work->made.moves, index->ref_count, sizeof *work->made.moves));
    for (size_t i = 0; i < index->ref_count; i++) {
        const struct vv_index_ref *ref = &index->refs[i];
        const struct seen *named = seen_by_id(work, ref->commit);
        if (vv_hash_is_zero(ref->commit) || (named != NULL && named->whole))
            continue;
        const struct seen *to = whole_ancestor(work, named);
        if (to == NULL)
            to = stood_on(work, ref->name);
        struct vv_record_move *move = &work->made.moves[work->made.move_count++];
        *move = (struct vv_record_move){
            .name = { .data = (const uint8_t *)ref->name, .size = strlen(ref->name) },
            .what = { .data = (const uint8_t *)"repair", .size = 6 },
            .previous = last_readable_move(work, ref->name),
            .moves = ref->moves + 1,
        };
        memcpy(move->from, ref->commit, 32);
        if (to != NULL)
            memcpy(move->to, to->id, 32);
        tell_move(work, ref, to);
    }
    for (size_t i = 0; i < work->made.move_count; i++)
        vv_index_move(index, &work->made.moves[i], work->address);
out:
    return rc;
}

/* So that commits that stay find their way past those that do not. */
static varve_status remove_all(struct vv_index *index, const struct vv_record_removal *removals, size_t count)
{
    varve_status rc = VARVE_OK;

    TRY(vv_index_reserve_removals(index, removals, count));
    for (size_t i = 0; i < count; i++)
        vv_index_remove(index, &removals[i]);
out:
    return rc;
}

/* The index of what is whole, made anew. */
static varve_status index_whole(struct repairing *work, const struct vv_record **newest)
{
    varve_status rc = VARVE_OK;
    struct vv_index *index = &work->place->index;

    *newest = NULL;
    TRY(remove_all(index, work->gone, work->gone_count));
    TRY(remove_all(index, work->made.removals, work->made.removal_count));
    for (size_t i = 0; i < work->seen_count; i++) {
        const struct seen *seen = &work->seen[i];
        if (!seen->whole)
            continue;
        TRY(vv_index_announce(index, &seen->record));
        vv_index_reveal(index, &seen->record);
        *newest = &seen->record;
    }
    index->last_number = work->last_number;
out:
    return rc;
}

static int by_address(const void *a, const void *b)
{
    const struct vv_dead *x = a;
    const struct vv_dead *y = b;

    return x->address < y->address ? -1 : x->address > y->address;
}

/* The store is as it should be, perhaps by a repair that was killed before its sync: that it is so is promised now. */
static varve_status settle_found(struct vv_place *place)
{
    vv_place_take_turn(place);
    const varve_status rc = vv_place_settle(place);
    vv_place_end_turn(place);
    return rc;
}

static varve_status decide(struct repairing *work, bool *done)
{
    varve_status rc = VARVE_OK;
    const struct vv_record *newest = NULL;
    char text[200];

    TRY(drop_all(work));
    *done = work->fresh > 0 || work->made.removal_count > 0 || work->headless;
    if (!*done) {
        rc = settle_found(work->place);
        goto out;
    }
    if (work->made.dead_count > 1)
        qsort(work->made.dead, work->made.dead_count, sizeof *work->made.dead, by_address);
    for (size_t i = 0; i < work->made.dead_count; i++) {
        const struct vv_dead *dead = &work->made.dead[i];
        if (vv_declared_dead(&work->old, dead->address))
            continue;
        snprintf(text, sizeof text, "%llu bytes at address %llu are damaged and from now on passed by",
                 (unsigned long long)dead->size, (unsigned long long)dead->address);
        tell(work, VARVE_WARNING, dead->address, NULL, text);
    }
    TRY(index_whole(work, &newest));
    TRY(move_refs(work));
    TRY(vv_place_put_repair(work->place, newest, &work->made, work->last_number, work->address));
out:
    return rc;
}

varve_status vv_journal_repair(const struct vv_dir *dir, const struct vv_layout_options *options,
                               const struct vv_journal_limits *limits, uint32_t flags, bool *done)
{
    varve_status rc = VARVE_OK;
    struct repairing work = { .options = options, .flags = flags };
    struct vv_layout_options silent = *options;
    bool indexed = false;

    *done = false;
    silent.read_only = false;
    silent.finding = NULL;
    vv_table_init(&work.by_id, 32);
    vv_table_init(&work.by_address, sizeof(uint64_t));
    TRY(vv_place_open(dir, &silent, limits, &work.place));
    vv_index_init(&work.last, &work.place->views.nodes);
    indexed = true;
    TRY(scan(&work));
    TRY(judge(&work));
    TRY(decide(&work, done));
    if (options->progress != NULL) { /* nothing is left that could be stopped */
        const varve_progress progress = { .what = "closing the log",
                                          .unit = "records",
                                          .done = work.records };
        (void)options->progress(options->context, &progress);
    }
out:
    if (indexed)
        vv_index_release(&work.last);
    vv_layout_journal.close(work.place);
    vv_table_release(&work.by_id);
    vv_table_release(&work.by_address);
    vv_free(work.seen);
    vv_free(work.stood);
    vv_free(work.gone);
    vv_declared_release(&work.old);
    vv_repair_release(&work.made);
    return rc;
}

/* ---- What was declared ------------------------------------------------------------------------ */

static varve_status gather(void *context, const struct vv_record *record, const uint8_t *bytes)
{
    varve_status rc = VARVE_OK;
    struct vv_declared *all = context;
    struct vv_repair repair = { .moves = NULL };
    struct vv_checkpoint checkpoint;

    if (bytes == NULL || record->kind != VV_RECORD_CHECKPOINT)
        return VARVE_OK;
    rc = vv_checkpoint_decode(record, bytes, &checkpoint);
    if (rc == VARVE_OK && checkpoint.generation > all->generation)
        all->generation = checkpoint.generation;
    rc = VARVE_OK; /* others tell it */
    if (!record->repairs)
        goto out;
    TRY(vv_repair_decode(record, bytes, &repair));
    TRY(vv_resize(&all->dead, all->dead_count + repair.dead_count, sizeof *all->dead));
    for (size_t i = 0; i < repair.dead_count; i++)
        all->dead[all->dead_count++] = repair.dead[i];
    TRY(vv_resize(&all->dropped, all->dropped_count + repair.removal_count, sizeof *all->dropped));
    for (size_t i = 0; i < repair.removal_count; i++) {
        struct vv_dropped *dropped = &all->dropped[all->dropped_count++];
        *dropped = (struct vv_dropped){ .at = record->address };
        memcpy(dropped->id, repair.removals[i].id, 32);
    }
out:
    vv_repair_release(&repair);
    return rc;
}

static varve_status pass_by(void *context, uint64_t address, const struct vv_record *record,
                            const char *words)
{
    (void)context;
    (void)address;
    (void)record;
    (void)words;
    return VARVE_OK;
}

varve_status vv_repairs_declared(struct vv_log *log, struct vv_declared *declared)
{
    struct vv_chain chain;
    const struct vv_log_scan scan = { .record = gather, .damage = pass_by, .context = declared };

    *declared = (struct vv_declared){ .dead = NULL };
    vv_log_begin(log, &chain);
    return vv_log_scan(log, &chain, &scan);
}

void vv_declared_release(struct vv_declared *declared)
{
    vv_free(declared->dead);
    vv_free(declared->dropped);
    *declared = (struct vv_declared){ .dead = NULL };
}

bool vv_declared_dead(const struct vv_declared *declared, uint64_t address)
{
    return vv_is_dead(declared->dead, declared->dead_count, address);
}

bool vv_declared_dropped(const struct vv_declared *declared, const uint8_t id[32], uint64_t address)
{
    for (size_t i = 0; i < declared->dropped_count; i++)
        if (address <= declared->dropped[i].at && memcmp(declared->dropped[i].id, id, 32) == 0)
            return true;
    return false;
}
