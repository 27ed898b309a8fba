/* journal.c - the journal layout: one log is the truth; all else is a hint.
 *
 *   log.<start>   segments of one address space; records, each an opening, a commit, moves of refs, a checkpoint,
 *                 or a commit once more
 *   image/        memories as some commit has them, to be mapped: caches (imagefile.h, snapshot.h)
 *   head          last checkpoint, acknowledged end; two slots written in turn (head.h)
 * Laws (docs/design.md), where they are kept, and checked by check.c:
 *   (J1) An acknowledged commit lies in whole, synced records of one chain.           [publish.c, log.c]
 *   (J2) The log is whole records, then debris; debris never joins the chain.         [publish.c, log.h]
 *   (J3) No sector that holds acknowledged bytes is written again.                    [record.h, publish.c]
 *   (J5) Space goes when what is retained is synced elsewhere, and nobody looks.      [reclaim.c]
 *   (J6) Code is synced before the record that names it.                              [codepool.c]
 *   (J7) `head` is never needed.                                                      [vv_place_load]
 * Moves:  OPEN      read head, index of its checkpoint, scan what follows             [vv_journal_open]
 *         COMMIT    diff, compress; then place, write, sync, reveal        [prepare.c, publish.c]
 *         READ      index -> record; record -> state (view.c); leaf -> page (pages.c) */
#include "store/journal/journal.h"

#include <stdio.h>

#include "base/alloc.h"
#include "store/codepool.h"
#include "store/journal/reclaim.h"
#include "store/journal/scrub.h"

#ifdef VV_TORTURE
const struct vv_journal_limits vv_journal_limits = {
    .log = { .segment = 64 << 10, .ahead = 8 << 10, .files = 2 },
    .spare = 16 << 10,
    .checkpoint_records = 3,
    .checkpoint_bytes = 64 << 10,
    .views = 1,
    .frames = 1,
    .close_records = 2,
    .snapshot_bytes = 96 << 10,
    .image_pages = 1,
    .image_files = 3,
};
#else
const struct vv_journal_limits vv_journal_limits = {
    .log = { .segment = 64 << 20, .ahead = 256 << 10, .files = 64 },
    .spare = 64 << 10,
    .checkpoint_records = 256,
    .checkpoint_bytes = 4 << 20,
    .views = 8,
    .frames = 64,
    .close_records = 16,
    .image_pages = 64,
    .image_files = 256,
};
#endif

enum { QUIET_TRIES = 8 }; /* of a reader, before what looks like damage is told as such */

/* ---- Findings --------------------------------------------------------------------------------- */

void vv_place_find(struct vv_place *place, varve_severity severity, const char *file, const uint8_t *commit,
                   const char *text)
{
    varve_commit_id id;
    const varve_finding finding = {
        .severity = severity, .file = file, .commit = commit == NULL ? NULL : &id, .text = text
    };

    if (place->options.finding == NULL)
        return;
    if (commit != NULL)
        memcpy(id.bytes, commit, sizeof id.bytes);
    place->options.finding(place->options.context, &finding);
}

varve_status vv_place_writable(struct vv_place *place)
{
    if (place->options.read_only)
        return vv_fail(VARVE_MISUSE, "the store is open for reading only");
    if (place->damaged)
        return vv_fail(VARVE_CORRUPT,
                       "acknowledged bytes of the log are damaged, so nothing is written to it; "
                       "fsck tells what is lost, and with --repair goes on without it");
    if (place->poisoned)
        return vv_fail(VARVE_UNCERTAIN,
                       "a sync failed before, so nothing more is written; close the store and "
                       "open it again");
    return VARVE_OK;
}

/* ---- Opening ---------------------------------------------------------------------------------- */

/* A reader beside a writer goes by what `head` says, for that is what it has locked. */
static void take_generation(struct vv_place *place, const struct vv_checkpoint *checkpoint)
{
    if (!place->beside)
        vv_generations_raise(&place->generations, checkpoint->generation);
}

varve_status vv_place_take_directory(struct vv_place *place, const struct vv_record *record)
{
    varve_status rc = VARVE_OK;
    uint8_t *directory = NULL;

    TRY(vv_log_directory(&place->log, record, &directory));
    struct vv_reader reader = vv_reader_of(directory, record->directory_size);
    for (uint64_t pairs = vv_reader_varint(&reader); pairs > 0 && !reader.bad; pairs--) {
        size_t size = 0;
        (void)vv_reader_blob(&reader, VV_META_KEY_MAX, &size);
        (void)vv_reader_blob(&reader, VV_META_VALUE_MAX, &size);
    }
    TRY(vv_index_decode_refs(&place->index, &reader));
    TRY(vv_views_decode_ways(&place->views, &reader));
    TRY(vv_reader_done(&reader, "the directory of a checkpoint"));
out:
    vv_free(directory);
    return rc;
}

/* The damage that a repair declares was dealt with: it is no news any more. */
static varve_status forgive(struct vv_place *place, const struct vv_record *record, const uint8_t *bytes)
{
    struct vv_repair repair;
    const varve_status rc = vv_repair_decode(record, bytes, &repair);
    size_t kept = 0;

    for (size_t i = 0; rc == VARVE_OK && i < place->damage_count; i++)
        if (!vv_is_dead(repair.dead, repair.dead_count, place->damages[i].address))
            place->damages[kept++] = place->damages[i];
    if (rc == VARVE_OK) {
        place->damage_count = kept;
        vv_repair_release(&repair);
    }
    return rc;
}

/* Moves of refs that are told nowhere else may lie in what is damaged; a checkpoint behind it has all refs. */
static varve_status take_checkpoint(struct vv_place *place, const struct vv_record *record,
                                    const uint8_t *bytes)
{
    varve_status rc = VARVE_OK;
    struct vv_checkpoint checkpoint;

    TRY(vv_checkpoint_decode(record, bytes, &checkpoint));
    TRY(vv_index_open(&place->index, record, &checkpoint));
    place->start = checkpoint.start;
    place->newest = record->address;
    if (checkpoint.generation > place->scanned_generation) /* what older checkpoints saved may be gone */
        vv_views_flush(&place->views, record->address);
    place->scanned_generation = checkpoint.generation;
    if (record->parent != 0)
        vv_views_made(&place->views, record->parent, record->address);
    place->head.checkpoint = record->address;
    place->stored = checkpoint.stored;
    take_generation(place, &checkpoint);
    if (place->damage_count > 0 || record->repairs || !place->whole) {
        rc = vv_place_take_directory(place, record);
        if (rc == VARVE_OK)
            place->lost_refs = 0;
        else if (rc == VARVE_CORRUPT && (record->repairs || !place->whole))
            place->lost_refs = record->address; /* until a later one tells them */
        else if (rc != VARVE_CORRUPT)           /* else they are those that the records told */
            TRY(rc);
        rc = VARVE_OK;
    }
    if (record->repairs)
        TRY(forgive(place, record, bytes));
    vv_views_forget_below(&place->views, place->start);
out:
    return rc;
}

/* One record of the log, whose facts were checked; NULL: they are gone. */
static varve_status take_record(void *context, const struct vv_record *record, const uint8_t *bytes)
{
    varve_status rc = VARVE_OK;
    struct vv_place *place = context;
    struct vv_record_facts facts = { .moves = NULL };

    place->stored += record->size;
    if (record->kind == VV_RECORD_COMMIT) {
        TRY(vv_index_announce(&place->index, record));
        vv_index_reveal(&place->index, record);
    }
    if (bytes == NULL)
        goto out;
    if (record->kind == VV_RECORD_CHECKPOINT) {
        TRY(take_checkpoint(place, record, bytes));
    } else if (record->kind == VV_RECORD_KEPT) {
        TRY(vv_index_reserve_kept(&place->index, record->id));
        vv_index_keep(&place->index, record);
    } else if (record->kind != VV_RECORD_OPEN) {
        TRY(vv_record_facts_decode(record, bytes, &facts));
        TRY(vv_index_reserve(&place->index, facts.move_count));
        for (size_t i = 0; i < facts.move_count; i++)
            vv_index_move(&place->index, &facts.moves[i], record->address);
        TRY(vv_index_reserve_removals(&place->index, facts.removals, facts.removal_count));
        for (size_t i = 0; i < facts.removal_count; i++)
            vv_index_remove(&place->index, &facts.removals[i]);
    }
out:
    vv_record_facts_release(&facts);
    return rc;
}

static varve_status take_damage(void *context, uint64_t address, const struct vv_record *record,
                                const char *words)
{
    varve_status rc = VARVE_OK;
    struct vv_place *place = context;

    TRY(vv_resize(&place->damages, place->damage_count + 1, sizeof *place->damages));
    struct vv_damage *damage = &place->damages[place->damage_count++];
    *damage = (struct vv_damage){ .address = address,
                                  .has_commit = record != NULL && record->kind == VV_RECORD_COMMIT };
    if (damage->has_commit)
        memcpy(damage->commit, record->id, 32);
    snprintf(damage->words, sizeof damage->words, "%s", words);
out:
    return rc;
}

/* At the end of the log it is known what no repair has dealt with. */
static void tell_damages(struct vv_place *place)
{
    char name[VV_SEGMENT_NAME];
    char text[400];

    place->damaged = place->damage_count > 0;
    if (place->damage_told > place->damage_count)
        place->damage_told = place->damage_count;
    while (!place->quiet && place->damage_told < place->damage_count) {
        const struct vv_damage *damage = &place->damages[place->damage_told++];
        vv_log_file_name(&place->log, damage->address, name);
        snprintf(text, sizeof text, "damage at address %llu: %s; the store is open for reading only",
                 (unsigned long long)damage->address, damage->words);
        vv_place_find(place, VARVE_DAMAGE, name, damage->has_commit ? damage->commit : NULL, text);
    }
}

static void take_debris(void *context, uint64_t address)
{
    struct vv_place *place = context;
    char name[VV_SEGMENT_NAME];
    char text[160];

    vv_log_file_name(&place->log, address, name);
    snprintf(text, sizeof text,
             "what follows address %llu is of an append that ended unfinished and was never acknowledged",
             (unsigned long long)address);
    vv_place_find(place, VARVE_NOTE, name, NULL, text);
}

/* Be what the checkpoint at `address` says. */
static varve_status start_at(struct vv_place *place, uint64_t address)
{
    varve_status rc = VARVE_OK;
    struct vv_record record;
    struct vv_checkpoint checkpoint;
    uint8_t *facts = NULL;

    TRY(vv_log_record_facts(&place->log, address, VV_RECORD_CHECKPOINT, &record, &facts));
    TRY(vv_checkpoint_decode(&record, facts, &checkpoint));
    TRY(vv_place_take_directory(place, &record));
    TRY(vv_index_open(&place->index, &record, &checkpoint));
    place->start = checkpoint.start;
    place->newest = address;
    if (record.parent != 0)
        vv_views_made(&place->views, record.parent, record.address);
    vv_views_forget_below(&place->views, place->start);
    vv_chain_advance(&place->chain, &record);
    place->stored = checkpoint.stored;
    take_generation(place, &checkpoint);
out:
    vv_free(facts);
    return rc;
}

/* What the newest checkpoint says that the log begins with must be there. */
static varve_status check_start(struct vv_place *place)
{
    uint64_t first = 0;
    const bool some = vv_log_segment_after(&place->log, 0, &first);
    const uint64_t start = place->start == 0 ? VV_LOG_START : place->start;

    if (some && first <= start)
        return VARVE_OK;
    return take_damage(place, start, NULL, "segments of the log are missing before its first file");
}

varve_status vv_place_read_head(struct vv_place *place, struct vv_head heads[2])
{
    const unsigned flags = place->options.read_only ? VV_OPEN_READ : VV_OPEN_WRITE;
    varve_status rc = vv_head_read(&place->dir, &place->head_file, flags, heads);

    if (rc == VARVE_CORRUPT) { /* no regular file: a hint that says nothing */
        vv_place_find(place, VARVE_WARNING, "head", NULL, "it is no regular file; the whole log is read");
        heads[0] = heads[1] = (struct vv_head){ .number = 0 };
        rc = VARVE_OK;
    }
    return rc;
}

void vv_place_tell(struct vv_place *place)
{
    struct vv_head next = place->head;

    next.number = place->told.number;
    if (place->chain.synced > next.acknowledged)
        next.acknowledged = place->chain.synced;
    next.visible = place->chain.end;
    if (next.checkpoint >= next.acknowledged) /* found, and not known to last */
        next.checkpoint = place->told.checkpoint;
    next.generation = vv_place_generation(place);
    if (memcmp(&next, &place->told, sizeof next) == 0)
        return;
    if (vv_head_write(&place->dir, &place->head_file, &next) == VARVE_OK) {
        place->told = place->head = next;
        place->told_generation = next.generation;
    }
}

varve_status vv_place_scan(struct vv_place *place, uint64_t limit)
{
    const struct vv_log_scan scan = { .acknowledged = place->acknowledged,
                                      .limit = limit,
                                      .record = take_record,
                                      .damage = take_damage,
                                      .debris = take_debris,
                                      .context = place };

    const varve_status rc = vv_log_scan(&place->log, &place->chain, &scan);
    if (rc == VARVE_OK)
        tell_damages(place);
    return rc;
}

/* From `head`'s checkpoint and the tail behind it, else from the whole log (J7). */
varve_status vv_place_load(struct vv_place *place, const struct vv_head heads[2], uint64_t limit)
{
    varve_status rc = VARVE_OK;
    bool started = false;

    place->damage_count = place->damage_told = 0;
    place->lost_refs = 0;
    vv_log_begin(&place->log, &place->chain);
    place->whole = !place->chain.begins;
    place->head = place->told = heads[0];
    place->told_generation = heads[0].generation;
    place->acknowledged =
        heads[0].acknowledged > heads[1].acknowledged ? heads[0].acknowledged : heads[1].acknowledged;
    for (size_t i = 0; i < 2 && !started; i++) {
        if (heads[i].checkpoint == 0)
            continue;
        rc = start_at(place, heads[i].checkpoint);
        if (rc != VARVE_OK && rc != VARVE_CORRUPT)
            goto out;
        started = rc == VARVE_OK;
        if (started)
            place->head.checkpoint = heads[i].checkpoint;
        else
            vv_place_find(place, VARVE_WARNING, "head", NULL,
                          "the checkpoint that it names cannot be read; more of the log is read instead");
    }
    if (!started) {
        vv_index_release(&place->index);
        vv_index_init(&place->index, &place->views.nodes);
        vv_log_begin(&place->log, &place->chain);
        place->head.checkpoint = 0;
        place->newest = place->start = 0;
        place->stored = 0;
    }
    place->told.checkpoint = place->head.checkpoint; /* to fall back on: not one that cannot be read */
    TRY(vv_place_scan(place, limit));
    TRY(check_start(place));
    if (place->lost_refs != 0)
        TRY(take_damage(place, place->lost_refs, NULL, "where the refs stood cannot be read"));
    tell_damages(place);
out:
    return rc;
}

/* So that the next opening has no tail to read. The commits are made: what fails here is a longer way, no more. */
static void checkpoint_tail(struct vv_place *place)
{
    const struct vv_index *index = &place->index;
    const struct vv_index_commit *newest = NULL;
    struct vv_record record;
    uint64_t address = 0;

    if (place->limits.close_records == 0 || index->tail_count < place->limits.close_records)
        return;
    newest = &index->tail[index->tail_count - 1];
    if (vv_index_find(index, newest->id, &address) != VARVE_OK || address == 0)
        return; /* deleted meanwhile */
    vv_place_take_turn(place);
    if (vv_log_record(&place->log, address, 0, &record) == VARVE_OK)
        (void)vv_place_checkpoint(place, &record);
    vv_place_end_turn(place);
}

void vv_journal_close(struct vv_place *place)
{
    if (place == NULL)
        return;
    if (place->announced && !place->poisoned && vv_place_persist(place) == VARVE_OK) {
        checkpoint_tail(place);
        if (!place->poisoned && place->chain.synced >= place->chain.end)
            vv_log_tell_closed(&place->log, &place->chain);
        vv_place_tell(place); /* without either the next opening reads more */
    }
    vv_file_close(&place->head_file);
    vv_reclaim_free(place->reclaim);
    if (place->parts) {
        vv_snapshots_release(place);
        vv_index_release(&place->index);
        vv_views_release(&place->views);
        vv_pages_release(&place->pages);
        vv_log_close(&place->log);
    }
    vv_bytes_release(&place->group);
    vv_generations_release(&place->generations);
    vv_free(place->damages);
    pthread_mutex_destroy(&place->mutex);
    pthread_mutex_destroy(&place->writer);
    pthread_cond_destroy(&place->turn);
    vv_free(place);
}

/* What the last writer left is known now. Readers beside this one follow `head`, so it must say all of it. */
static void tell_found(struct vv_place *place)
{
    if (!place->options.read_only && !place->damaged &&
        (place->head.number != 0 || place->chain.end > VV_LOG_START))
        vv_place_tell(place);
}

static varve_status open_parts(struct vv_place *place)
{
    varve_status rc = VARVE_OK;

    TRY(vv_generations_init(&place->generations));
    TRY(vv_log_open(&place->log, &place->dir, place->options.read_only, &place->limits.log));
    place->parts = true;
    rc = vv_views_init(&place->views, &place->log, place->limits.views);
    const varve_status pages = vv_pages_init(&place->pages, &place->log, place->limits.frames);
    vv_snapshots_init(place);
    vv_index_init(&place->index, &place->views.nodes);
    TRY(rc);
    TRY(pages);
    if (place->log.count == 0)
        TRY(vv_fail(VARVE_CORRUPT, "no file log.* is there: the log of this store is gone"));
out:
    return rc;
}

static varve_status new_place(const struct vv_dir *dir, const struct vv_layout_options *options,
                              const struct vv_journal_limits *limits, struct vv_place **place)
{
    struct vv_place *made = NULL;
    const varve_status rc = vv_alloc(&made, 1, sizeof *made);

    if (rc != VARVE_OK)
        return rc;
    made->dir = *dir;
    made->options = *options;
    made->limits = *limits;
    made->head_file = VV_FILE_NONE;
    pthread_mutex_init(&made->mutex, NULL);
    pthread_mutex_init(&made->writer, NULL);
    pthread_cond_init(&made->turn, NULL);
    *place = made;
    return VARVE_OK;
}

varve_status vv_place_open(const struct vv_dir *dir, const struct vv_layout_options *options,
                           const struct vv_journal_limits *limits, struct vv_place **place)
{
    varve_status rc = VARVE_OK;
    struct vv_place *made = NULL;

    *place = NULL;
    TRY(new_place(dir, options, limits, &made));
    TRY(vv_place_read_head(made, made->seen.heads));
    TRY(open_parts(made));
    for (size_t i = 0; i < 2; i++)
        vv_generations_raise(&made->generations, made->seen.heads[i].generation);
    *place = made;
    made = NULL;
out:
    vv_journal_close(made);
    return rc;
}

static varve_status open_once(const struct vv_dir *dir, const struct vv_layout_options *options,
                              const struct vv_journal_limits *limits, unsigned tries, bool *again,
                              struct vv_place **place)
{
    varve_status rc = VARVE_OK;
    struct vv_place *made = NULL;
    uint64_t limit = 0;

    *place = NULL;
    *again = false;
    TRY(new_place(dir, options, limits, &made));
    made->beside = options->read_only && options->lock != NULL;
    made->quiet = made->beside && tries < QUIET_TRIES;
    TRY(made->beside ? vv_place_open_beside(made, &limit) : vv_place_read_head(made, made->seen.heads));
    TRY(open_parts(made));
    for (size_t i = 0; i < 2; i++)
        vv_generations_raise(&made->generations, made->seen.heads[i].generation);
    TRY(vv_place_load(made, made->seen.heads, limit));
    tell_found(made);
    if (!options->read_only)
        TRY(vv_reclaim_new(made, &made->reclaim));
    *place = made;
out:
    *again = made != NULL && made->quiet && vv_place_look_again(made, rc, tries);
    if (made != NULL)
        made->quiet = false;
    if (rc != VARVE_OK || *again) {
        vv_journal_close(made);
        *place = NULL;
    }
    return rc;
}

varve_status vv_journal_open(const struct vv_dir *dir, const struct vv_layout_options *options,
                             const struct vv_journal_limits *limits, struct vv_place **place)
{
    bool again = true;
    varve_status rc = VARVE_OK;

    for (unsigned tries = 0; again; tries++)
        rc = open_once(dir, options, limits, tries, &again, place);
    return rc;
}

varve_status vv_journal_create(const struct vv_dir *dir, const struct vv_layout_options *options,
                               const struct vv_journal_limits *limits)
{
    varve_status rc = VARVE_OK;
    struct vv_log log;
    uint64_t address = 0;

    VV_ASSERT(!options->read_only);
    TRY(vv_log_open(&log, dir, false, &limits->log));
    rc = vv_log_place(&log, VV_LOG_START, VV_RECORD_ALIGN, limits->spare,
                      &address); /* the first opening writes there */
    vv_log_close(&log);
out:
    return rc;
}

/* ---- Commits ---------------------------------------------------------------------------------- */

static varve_status copy_piece(struct vv_piece piece, char **text)
{
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(text, piece.size + 1, 1));
    if (piece.size > 0)
        memcpy(*text, piece.data, piece.size);
out:
    return rc;
}

varve_status vv_place_facts(struct vv_place *place, uint64_t address, struct vv_commit_facts *facts)
{
    varve_status rc = VARVE_OK;
    struct vv_record record;
    struct vv_record_facts stored = { .moves = NULL };
    uint8_t *bytes = NULL;

    *facts = (struct vv_commit_facts){ .locator = address };
    TRY(vv_log_record_facts(&place->log, address, 0, &record, &bytes));
    if (record.kind != VV_RECORD_COMMIT && record.kind != VV_RECORD_KEPT)
        TRY(vv_fail(VARVE_CORRUPT, "no commit lies at address %llu", (unsigned long long)address));
    TRY(vv_record_facts_decode(&record, bytes, &stored));
    memcpy(facts->id.bytes, record.id, 32);
    memcpy(facts->parent.bytes, stored.parent, 32);
    memcpy(facts->root.bytes, record.root, 32);
    memcpy(facts->seed, stored.seed, 32);
    facts->number = record.number;
    facts->time_ns = record.time_ns;
    facts->modules = stored.modules;
    facts->modules_changed = stored.modules_changed;
    facts->pages_changed = stored.pages_changed;
    facts->bytes_written = record.kind == VV_RECORD_KEPT ? stored.written : vv_record_used(&record);
    TRY(copy_piece(stored.message, &facts->message));
    TRY(copy_piece(stored.branch, &facts->branch));
    TRY(copy_piece(stored.engine, &facts->engine));
out:
    if (rc != VARVE_OK)
        vv_commit_facts_release(facts);
    vv_record_facts_release(&stored);
    vv_free(bytes);
    return rc;
}

static varve_status journal_find_id(struct vv_place *place, const uint8_t key[32], unsigned digits,
                                    varve_commit_id found[2], size_t *count)
{
    uint8_t ids[2][32];
    varve_status rc = vv_place_refresh(place);

    if (rc != VARVE_OK)
        return rc;
    pthread_mutex_lock(&place->mutex);
    rc = vv_index_find_id(&place->index, key, digits, ids, count);
    pthread_mutex_unlock(&place->mutex);
    for (size_t i = 0; rc == VARVE_OK && i < *count; i++)
        memcpy(found[i].bytes, ids[i], 32);
    return rc;
}

static uint64_t journal_last_number(struct vv_place *place)
{
    (void)vv_place_refresh(place); /* where that fails, what is known is the answer */
    pthread_mutex_lock(&place->mutex);
    const uint64_t number = place->index.last_number;
    pthread_mutex_unlock(&place->mutex);
    return number;
}

/* The newest commits of up to two roots that begin so, by a look at every commit that is there: the index is mended by
 * the next reclaim, which looks at them all, too. */
static varve_status search_roots(struct vv_place *place, const uint8_t key[32], unsigned digits,
                                 uint8_t ids[2][32], size_t *count)
{
    varve_status rc = VARVE_OK;
    const uint64_t hold = vv_place_hold(place);
    struct vv_record record;
    uint8_t roots[2][32];
    uint8_t id[32];
    uint64_t number = 0;
    uint64_t address = 0;

    *count = 0;
    for (;;) {
        pthread_mutex_lock(&place->mutex);
        rc = vv_index_next_number(&place->index, number, &number, id, &address);
        pthread_mutex_unlock(&place->mutex);
        TRY(rc);
        if (address == 0)
            break;
        TRY(vv_log_record(&place->log, address, 0, &record));
        if (!vv_index_begins(record.root, key, digits))
            continue;
        size_t i = 0;
        while (i < *count && memcmp(roots[i], record.root, 32) != 0)
            i++;
        if (i == 2)
            continue; /* two are enough to say that there is not one */
        memcpy(roots[i], record.root, 32);
        memcpy(ids[i], id, 32); /* numbers rise: the newest stays */
        *count = i == *count ? i + 1 : *count;
    }
out:
    vv_place_drop(place, hold);
    return rc;
}

static varve_status journal_find_root(struct vv_place *place, const uint8_t key[32], unsigned digits,
                                      varve_commit_id found[2], size_t *count)
{
    uint8_t ids[2][32];
    bool stale = false;
    varve_status rc = vv_place_refresh(place);

    if (rc != VARVE_OK)
        return rc;
    pthread_mutex_lock(&place->mutex);
    rc = vv_index_find_root(&place->index, key, digits, ids, count, &stale);
    pthread_mutex_unlock(&place->mutex);
    if (rc == VARVE_OK && stale)
        rc = search_roots(place, key, digits, ids, count);
    for (size_t i = 0; rc == VARVE_OK && i < *count; i++)
        memcpy(found[i].bytes, ids[i], 32);
    return rc;
}

static varve_status journal_find_number(struct vv_place *place, uint64_t number, varve_commit_id *found)
{
    uint64_t address = 0;
    varve_status rc = vv_place_refresh(place);

    if (rc != VARVE_OK)
        return rc;
    pthread_mutex_lock(&place->mutex);
    rc = vv_index_find_number(&place->index, number, found->bytes, &address);
    pthread_mutex_unlock(&place->mutex);
    if (rc == VARVE_OK && address == 0)
        return vv_fail(VARVE_NOT_FOUND, "no commit has the number %llu", (unsigned long long)number);
    return rc;
}

static varve_status find_address(struct vv_place *place, const varve_commit_id *id, uint64_t *address)
{
    pthread_mutex_lock(&place->mutex);
    const varve_status rc = vv_index_find(&place->index, id->bytes, address);
    pthread_mutex_unlock(&place->mutex);
    return rc;
}

static varve_status journal_facts(struct vv_place *place, const varve_commit_id *id,
                                  struct vv_commit_facts *facts)
{
    const uint64_t hold = vv_place_hold(place);
    uint8_t ancestor[32];
    uint64_t address = 0;
    bool removed = false;
    char hex[65];
    varve_status rc = find_address(place, id, &address);

    if (rc == VARVE_OK && address == 0 && place->beside) {
        rc = vv_place_refresh(place);
        if (rc == VARVE_OK)
            rc = find_address(place, id, &address);
    }
    if (rc == VARVE_OK && address == 0) {
        pthread_mutex_lock(&place->mutex);
        rc = vv_index_ancestor(&place->index, id->bytes, ancestor, &removed);
        pthread_mutex_unlock(&place->mutex);
    }
    varve_hex_format(id->bytes, hex);
    TRY(rc);
    if (address == 0)
        TRY(vv_fail(VARVE_NOT_FOUND, removed ? "commit %s was deleted" : "the store has no commit %s", hex));
    rc = vv_place_facts(place, address, facts);
    if (rc == VARVE_CORRUPT)
        rc = vv_fail_within(rc, "commit %s", hex);
out:
    vv_place_drop(place, hold);
    return rc;
}

/* Damage is told with the commit that it was met in. */
static varve_status within_commit(const struct vv_commit_facts *facts, varve_status rc)
{
    char hex[65];

    if (rc != VARVE_CORRUPT)
        return rc;
    varve_hex_format(facts->id.bytes, hex);
    return vv_fail_within(rc, "commit %s", hex);
}

static varve_status journal_ancestor(struct vv_place *place, const varve_commit_id *id,
                                     varve_commit_id *found)
{
    bool removed = false;

    pthread_mutex_lock(&place->mutex);
    const varve_status rc = vv_index_ancestor(&place->index, id->bytes, found->bytes, &removed);
    pthread_mutex_unlock(&place->mutex);
    return rc;
}

static varve_status journal_view(struct vv_place *place, const struct vv_commit_facts *facts,
                                 struct vv_state *state)
{
    return within_commit(facts, vv_views_get(&place->views, facts->locator, state));
}

struct changed {
    varve_status (*each)(void *context, const varve_module_id *id, bool removed, uint64_t pages,
                         uint64_t bytes);
    void *context;
};

static varve_status changed_removed(void *context, const uint8_t id[32])
{
    const struct changed *changed = context;
    varve_module_id module;

    memcpy(module.bytes, id, sizeof module.bytes);
    return changed->each(changed->context, &module, true, 0, 0);
}

static varve_status changed_module(void *context, struct vv_piece entry, bool fresh, uint64_t pages,
                                   uint64_t bytes)
{
    const struct changed *changed = context;
    varve_module_id module;

    (void)fresh;
    if (entry.size < sizeof module.bytes)
        return vv_fail(VARVE_CORRUPT, "a module's entry does not decode");
    memcpy(module.bytes, entry.data, sizeof module.bytes); /* an entry begins with the id */
    return changed->each(changed->context, &module, false, pages, bytes);
}

static varve_status journal_changed(struct vv_place *place, const struct vv_commit_facts *facts,
                                    varve_status (*each)(void *context, const varve_module_id *id,
                                                         bool removed, uint64_t pages, uint64_t bytes),
                                    void *context)
{
    varve_status rc = VARVE_OK;
    struct changed changed = { .each = each, .context = context };
    const struct vv_directory_visitor visitor = { .removed = changed_removed,
                                                  .module = changed_module,
                                                  .context = &changed };
    struct vv_record record;
    uint8_t *directory = NULL;

    TRY(vv_log_record(&place->log, facts->locator, 0, &record));
    TRY(vv_log_directory(&place->log, &record, &directory));
    if (record.kind == VV_RECORD_KEPT)
        TRY(vv_kept_changed(&record, directory, each, context));
    else
        TRY(vv_directory_walk(&record, directory, &visitor));
out:
    vv_free(directory);
    return within_commit(facts, rc);
}

static varve_status journal_read(struct vv_place *place, const struct vv_leaf *leaf,
                                 uint8_t page[VV_PAGE_SIZE])
{
    return vv_pages_read_alone(&place->pages, leaf, page);
}

static void journal_source(struct vv_place *place, const varve_module_id *module,
                           const struct vv_pagetree *wanted, struct vv_source *source)
{
    struct vv_image_file *file = vv_images_nearest(&place->images, module, wanted);

    *source = (struct vv_source){ .file = VV_FILE_NONE };
    if (file == NULL)
        return;
    *source = (struct vv_source){ .file = file->file,
                                  .offset = VV_STAMP_PAGE,
                                  .pages = file->tree.page_count < wanted->page_count ? file->tree.page_count
                                                                                      : wanted->page_count,
                                  .tree = &file->tree,
                                  .owner = file };
}

static void journal_source_end(struct vv_place *place, struct vv_source *source)
{
    vv_images_leave(&place->images, source->owner);
    *source = (struct vv_source){ .file = VV_FILE_NONE };
}

static uint64_t journal_source_version(struct vv_place *place)
{
    return place->images.version;
}

static void journal_source_rotten(struct vv_place *place, const varve_module_id *module)
{
    for (unsigned slot = 0; slot < VV_IMAGE_SLOTS; slot++)
        (void)vv_images_rotten(&place->images, module, slot); /* caches, of which one is bad */
}

static uint64_t journal_source_sound(struct vv_place *place)
{
    return place->images.sound;
}

static varve_status journal_read_diff(struct vv_place *place, const struct vv_pagetree *from,
                                      const struct vv_pagetree *tree,
                                      varve_status (*put)(void *context, uint64_t index, const uint8_t *page),
                                      void *context)
{
    return vv_pages_read_diff(&place->pages, from, tree, put, context);
}

static varve_status journal_code_put(struct vv_place *place, const uint8_t hash[32], const void *code,
                                     size_t size)
{
    varve_status rc = vv_place_writable(place);

    if (rc == VARVE_OK)
        rc = vv_codepool_put(&place->dir, hash, code, size);
    if (rc == VARVE_UNCERTAIN)
        place->poisoned = true; /* a directory's sync too is not asked for a second time (P4) */
    return rc;
}

static varve_status journal_code_get(struct vv_place *place, const uint8_t hash[32], uint8_t **code,
                                     size_t *size)
{
    return vv_codepool_get(&place->dir, hash, code, size);
}

/* ---- Refs ------------------------------------------------------------------------------------- */

static void tell_ref(const struct vv_index_ref *stored, struct vv_ref_facts *ref)
{
    memcpy(ref->name, stored->name, sizeof ref->name);
    memcpy(ref->commit.bytes, stored->commit, 32);
    ref->moves = stored->moves;
}

static varve_status journal_ref_get(struct vv_place *place, const char *name, struct vv_ref_facts *ref)
{
    varve_status rc = vv_place_refresh(place);

    if (rc != VARVE_OK)
        return rc;
    pthread_mutex_lock(&place->mutex);
    const struct vv_index_ref *stored = vv_index_ref(&place->index, name);
    if (stored == NULL || vv_hash_is_zero(stored->commit))
        rc = vv_fail(VARVE_NOT_FOUND, "the store has no ref %s", name);
    else
        tell_ref(stored, ref);
    pthread_mutex_unlock(&place->mutex);
    return rc;
}

static varve_status journal_ref_next(struct vv_place *place, const char *after, struct vv_ref_facts *ref)
{
    const struct vv_index_ref *stored = NULL;
    const varve_status rc = vv_place_refresh(place);

    if (rc != VARVE_OK)
        return rc;
    pthread_mutex_lock(&place->mutex);
    stored = vv_index_ref_after(&place->index, after);
    while (stored != NULL && vv_hash_is_zero(stored->commit)) /* deleted */
        stored = vv_index_ref_after(&place->index, stored->name);
    if (stored != NULL)
        tell_ref(stored, ref);
    pthread_mutex_unlock(&place->mutex);
    return stored == NULL ? VARVE_END : VARVE_OK;
}

static void tell_move(const struct vv_record *record, const struct vv_record_move *stored,
                      struct vv_move_facts *move)
{
    *move = (struct vv_move_facts){ .time_ns = record->time_ns };
    memcpy(move->from.bytes, stored->from, 32);
    memcpy(move->to.bytes, stored->to, 32);
    memcpy(move->what, stored->what.data == NULL ? (const uint8_t *)"" : stored->what.data,
           stored->what.size);
    move->locator = record->address;
    move->previous = stored->previous;
}

static varve_status journal_ref_move(struct vv_place *place, const char *name, uint64_t locator,
                                     struct vv_move_facts *move)
{
    varve_status rc = VARVE_OK;
    struct vv_record record;
    struct vv_record_facts facts = { .moves = NULL };
    struct vv_repair repair = { .moves = NULL };
    uint8_t *bytes = NULL;
    uint64_t first = 0;
    const uint64_t hold = vv_place_hold(place);

    if (locator == 0) {
        TRY(vv_place_refresh(place));
        pthread_mutex_lock(&place->mutex);
        const struct vv_index_ref *stored = vv_index_ref(&place->index, name);
        locator = stored == NULL ? 0 : stored->last;
        pthread_mutex_unlock(&place->mutex);
    }
    if (locator == 0 || !vv_log_segment_after(&place->log, 0, &first) || locator < first)
        rc = VARVE_END; /* what is before the log's beginning is gone */
    TRY(rc);
    TRY(vv_log_record_facts(&place->log, locator, 0, &record, &bytes));
    if (record.repairs)
        TRY(vv_repair_decode(&record, bytes, &repair));
    else if (record.kind == VV_RECORD_COMMIT || record.kind == VV_RECORD_REFS)
        TRY(vv_record_facts_decode(&record, bytes, &facts));
    const struct vv_record_move *moves = record.repairs ? repair.moves : facts.moves;
    const size_t count = record.repairs ? repair.move_count : facts.move_count;
    size_t i = 0;
    while (i < count &&
           (moves[i].name.size != strlen(name) || memcmp(moves[i].name.data, name, strlen(name)) != 0))
        i++;
    if (i == count)
        TRY(vv_fail(VARVE_CORRUPT, "no move of %s lies at address %llu", name, (unsigned long long)locator));
    tell_move(&record, &moves[i], move);
out:
    vv_repair_release(&repair);
    vv_record_facts_release(&facts);
    vv_free(bytes);
    vv_place_drop(place, hold);
    return rc;
}

/* ---- The rest of the contract ----------------------------------------------------------------- */

static varve_status journal_create(const struct vv_dir *dir, const struct vv_layout_options *options)
{
    return vv_journal_create(dir, options, &vv_journal_limits);
}

static varve_status journal_open(const struct vv_dir *dir, const struct vv_layout_options *options,
                                 struct vv_place **place)
{
    return vv_journal_open(dir, options, &vv_journal_limits, place);
}

static void journal_configure(struct vv_place *place, uint64_t retain, uint64_t snapshot_bytes)
{
    pthread_mutex_lock(&place->mutex);
    place->options.retain = retain;
    place->options.snapshot_bytes = snapshot_bytes;
    pthread_mutex_unlock(&place->mutex);
}

static varve_status journal_tidy(struct vv_place *place, uint64_t budget, bool *more)
{
    *more = false; /* checkpoints are made by the commit that makes them due */
    bool reclaims = false;
    varve_status rc = vv_place_snapshot_step(place, budget, more);
    if (rc == VARVE_OK)
        rc = vv_place_scrub_step(place, budget, more);
    if (rc == VARVE_OK)
        rc = vv_place_reclaim_step(place, budget, &reclaims);
    *more = *more || reclaims;
    return rc;
}

static void journal_stat(struct vv_place *place, struct vv_layout_stat *stat)
{
    uint64_t refs = 0;
    uint64_t bytes = 0;

    (void)vv_place_refresh(place);
    const varve_status rc = vv_log_stored(&place->log, &bytes);
    const uint64_t dead = vv_place_reclaimable(place);
    pthread_mutex_lock(&place->mutex);
    for (const struct vv_index_ref *ref = vv_index_ref_after(&place->index, NULL); ref != NULL;
         ref = vv_index_ref_after(&place->index, ref->name))
        refs += !vv_hash_is_zero(ref->commit);
    *stat = (struct vv_layout_stat){
        .commits = place->index.commits,
        .refs = refs,
        .bytes_stored = rc == VARVE_OK ? bytes : place->stored,
        .bytes_reclaimable = dead,
        .journal_bytes = rc == VARVE_OK ? bytes : place->stored,
        .commit_count = place->commit_count,
        .commit_ns_total = place->commit_ns,
        .sync_count = place->sync_count,
        .sync_ns_total = place->sync_ns,
        .snapshots_taken = place->snapshots.taken,
        .poisoned = place->poisoned,
        .damaged = place->damaged,
    };
    pthread_mutex_unlock(&place->mutex);
}

const struct vv_layout vv_layout_journal = {
    .id = VARVE_LAYOUT_JOURNAL,
    .name = "journal",
    .can = VV_CAN_SESSIONS | VV_CAN_BRANCH | VV_CAN_DELETE | VV_CAN_DURABLE | VV_CAN_READ_BESIDE,
    .create = journal_create,
    .open = journal_open,
    .close = vv_journal_close,
    .hold = vv_place_hold,
    .drop = vv_place_drop,
    .find_id = journal_find_id,
    .find_root = journal_find_root,
    .find_number = journal_find_number,
    .facts = journal_facts,
    .ancestor = journal_ancestor,
    .last_number = journal_last_number,
    .view = journal_view,
    .changed = journal_changed,
    .read = journal_read,
    .source = journal_source,
    .source_end = journal_source_end,
    .source_version = journal_source_version,
    .source_rotten = journal_source_rotten,
    .source_sound = journal_source_sound,
    .read_diff = journal_read_diff,
    .snapshot = vv_place_snapshot,
    .wants_frozen = vv_place_wants_frozen,
    .freeze = vv_place_freeze,
    .code_put = journal_code_put,
    .code_get = journal_code_get,
    .ref_get = journal_ref_get,
    .ref_next = journal_ref_next,
    .ref_move = journal_ref_move,
    .move_refs = vv_place_move_refs,
    .remove = vv_place_remove,
    .bury = vv_place_bury,
    .prepare = vv_place_prepare,
    .publish = vv_place_publish,
    .discard = vv_place_discard,
    .persist = vv_place_persist,
    .configure = journal_configure,
    .maintain = vv_place_maintain,
    .tidy = journal_tidy,
    .settle = vv_place_snapshot_settle,
    .stat = journal_stat,
    .files = vv_place_files,
    .check = vv_journal_check,
};
