/* persist.c - the file `commits`: what lasts. docs/format.md, "chain".
 *
 *   header    "varve commits 1 chain\n", how much of .varve/nodes counts, the last serial, length, count of records
 *   records   of plain.h: each line and its versions, then commits and removals by number, then moves of refs
 *   sum       over all of it
 * A commit's own part: its named values, and whether its state is its parent's with the changes (the parent is there)
 * or all of it, as serials of versions.
 * Moves:  PERSIST  deltas and first images synced; trees saved and synced; names synced; then this file, by a rename:
 *                  the instant. Files that it names no more go afterwards.                   [vv_chain_persist_locked] */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/plant.h"
#include "store/chain/place.h"

enum {
    MAGIC = 32,
    AT_NODES = 32,
    AT_SERIAL = 40,
    AT_SIZE = 48,
    AT_RECORDS = 56,
    HEADER = 64,
    SUM = VV_HASH_SIZE,
    RECORD_LINE = VV_PLAIN_OWN,
    RECORD_VERSION = VV_PLAIN_OWN + 1,
    NODES_BEGIN = 16, /* what a first persist that was cut short wrote there counts for nothing */
    ON_PARENT = 0,
    WHOLE = 1
};
#define COMMITS_NAME "commits"
#define COMMITS_LIMIT ((size_t)1 << 32)
#define FORMAT_WORDS "varve commits "
static const uint8_t magic[MAGIC] = FORMAT_WORDS "1 chain\n";

/* ---- Writing ------------------------------------------------------------------------------------ */

struct encoding {
    struct vv_place *place;
    struct vv_table serials; /* a version's module (the pointer): its serial */
    struct vv_bytes payload, out;
    uint64_t sequence;
};

static void put_record(struct encoding *encoding, uint32_t kind)
{
    vv_plain_frame(&encoding->out, encoding->sequence++, kind, encoding->payload.data,
                   encoding->payload.size);
    encoding->out.failed = encoding->out.failed || encoding->payload.failed;
    vv_bytes_clear(&encoding->payload);
}

static varve_status encode_version(struct encoding *encoding, const struct vv_version *version)
{
    struct vv_bytes *payload = &encoding->payload;
    const void *key = version->module;
    varve_status rc = VARVE_OK;

    vv_bytes_varint(payload, version->serial);
    vv_bytes_varint(payload, version->number);
    vv_bytes_varint(payload, version->copy);
    vv_bytes_varint(payload, version->pages);
    vv_bytes_varint(payload, version->bytes);
    vv_bytes_put(payload, version->leaf, VV_HASH_SIZE);
    TRY(vv_module_encode(version->module, vv_pagetree_address(&version->module->memory), payload));
    put_record(encoding, RECORD_VERSION);
    TRY(vv_table_put(&encoding->serials, &key, (union vv_value){ .number = version->serial }));
out:
    return rc;
}

static varve_status encode_line(struct encoding *encoding, const struct vv_line *line)
{
    const size_t end = line->count - line->drop_back;
    uint64_t last = 0;
    varve_status rc = VARVE_OK;

    if (line->drop_front == end)
        return VARVE_OK;
    vv_bytes_put(&encoding->payload, line->id.bytes, 32);
    const struct vv_gone *gone = line->drop_front > 0 ? &line->next_gone : &line->gone;
    vv_bytes_varint(&encoding->payload, gone->count);
    for (size_t i = 0; i < gone->count; i++) {
        vv_bytes_varint(&encoding->payload, gone->serials[i] - last);
        last = gone->serials[i];
    }
    vv_bytes_varint(&encoding->payload, end - line->drop_front);
    put_record(encoding, RECORD_LINE);
    for (size_t i = line->drop_front; i < end; i++)
        TRY(encode_version(encoding, line->versions[i]));
out:
    return rc;
}

static varve_status encode_own(struct encoding *encoding, struct vv_plain_commit *commit)
{
    const struct vv_plain_commit *parent = vv_plain_commit_of(&encoding->place->plain, &commit->facts.parent);
    const bool whole = parent == NULL || parent->removed;
    struct vv_module *module = NULL;
    uint64_t count = 0;
    varve_status rc = VARVE_OK;

    vv_bytes_u8(&commit->own, whole ? WHOLE : ON_PARENT);
    vv_plain_encode_meta(&commit->state, &commit->own);
    if (!whole)
        return vv_bytes_done(&commit->own);
    TRY(vv_state_count(&commit->state, &count));
    vv_bytes_varint(&commit->own, count);
    TRY(vv_state_next(&commit->state, NULL, &module));
    while (module != NULL) {
        const void *key = module;
        const union vv_value *serial = vv_table_get(&encoding->serials, &key);
        const varve_module_id id = module->id;
        VV_ASSERT(serial != NULL);
        vv_bytes_varint(&commit->own, serial->number);
        TRY(vv_state_next(&commit->state, &id, &module));
    }
    rc = vv_bytes_done(&commit->own);
out:
    return rc;
}

/* Needed while a history is encoded, and no longer. */
static void release_own(struct vv_plain *plain)
{
    for (size_t i = 0; i < plain->commit_count; i++)
        vv_bytes_release(&plain->commits[i]->own);
}

static varve_status encode_history(struct encoding *encoding)
{
    struct vv_plain *plain = &encoding->place->plain;
    varve_status rc = VARVE_OK;

    vv_plain_lock(plain);
    for (size_t i = 0; i < plain->commit_count && rc == VARVE_OK; i++)
        if (!plain->commits[i]->removed)
            rc = encode_own(encoding, plain->commits[i]);
    if (rc == VARVE_OK)
        vv_plain_encode_all(plain, &encoding->sequence, &encoding->out);
    release_own(plain);
    vv_plain_unlock(plain);
    return rc;
}

static varve_status encode(struct vv_place *place, struct vv_bytes *file)
{
    struct encoding encoding = { .place = place };
    uint8_t sum[SUM];
    varve_status rc = VARVE_OK;

    vv_table_init(&encoding.serials, sizeof(void *));
    vv_bytes_zero(&encoding.out, HEADER);
    for (size_t i = 0; i < place->line_count; i++)
        TRY(encode_line(&encoding, place->lines[i]));
    TRY(encode_history(&encoding));
    TRY(vv_bytes_done(&encoding.out));
    memcpy(encoding.out.data, magic, MAGIC);
    vv_put_u64(encoding.out.data + AT_NODES, place->nodes.end);
    vv_put_u64(encoding.out.data + AT_SERIAL, place->last_serial);
    vv_put_u64(encoding.out.data + AT_SIZE, encoding.out.size + SUM);
    vv_put_u64(encoding.out.data + AT_RECORDS, encoding.sequence);
    vv_hash(VV_HASH_RECORD, encoding.out.data, encoding.out.size, sum);
    vv_bytes_put(&encoding.out, sum, sizeof sum);
    TRY(vv_bytes_done(&encoding.out));
    *file = encoding.out;
    encoding.out = VV_BYTES_NONE;
out:
    vv_table_release(&encoding.serials);
    vv_bytes_release(&encoding.payload);
    vv_bytes_release(&encoding.out);
    return rc;
}

/* ---- Making it last ----------------------------------------------------------------------------- */

/* Of a version that no durable `commits` names yet: its delta, or the image of the first. */
static varve_status sync_version(struct vv_place *place, const struct vv_line *line,
                                 const struct vv_version *version)
{
    struct vv_file file = VV_FILE_NONE;
    varve_status rc = VARVE_OK;

    if (!vv_chain_is_first(line, version) && VV_PLANT("delta-unsynced"))
        return VARVE_OK;
    TRY(vv_chain_is_first(line, version) ? vv_chain_open_image(place, line, version, true, &file)
                                         : vv_chain_open_delta(place, line, version, true, &file));
    const uint64_t begun = vv_clock_monotonic_ns();
    TRY(vv_file_sync_new(&file));
    place->sync_ns += vv_clock_monotonic_ns() - begun;
    place->sync_count++;
out:
    vv_file_close(&file);
    return rc;
}

static varve_status each_unwritten(struct vv_place *place,
                                   varve_status (*each)(struct vv_place *place, const struct vv_line *line,
                                                        const struct vv_version *version))
{
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < place->line_count; i++) {
        const struct vv_line *line = place->lines[i];
        for (size_t k = line->drop_front; k < line->count - line->drop_back; k++)
            if (!line->versions[k]->written)
                TRY(each(place, line, line->versions[k]));
    }
out:
    return rc;
}

static varve_status save_tree(struct vv_place *place, const struct vv_line *line,
                              const struct vv_version *version)
{
    uint64_t address = 0;

    (void)line;
    return vv_pagetree_save(&version->module->memory, vv_nodefile_put, &place->nodes, &address);
}

static varve_status save_trees(struct vv_place *place)
{
    const uint64_t end = place->nodes.end;
    varve_status rc = each_unwritten(place, save_tree);

    if (rc == VARVE_OK)
        rc = vv_nodefile_flush(&place->nodes);
    if (rc != VARVE_OK) {
        for (size_t i = 0; i < place->line_count; i++)
            for (size_t k = 0; k < place->lines[i]->count; k++)
                vv_pagetree_unsave(&place->lines[i]->versions[k]->module->memory, end);
        vv_nodefile_cut(&place->nodes, end);
        return rc;
    }
    return vv_nodefile_sync(&place->nodes);
}

static void mark_written(struct vv_place *place)
{
    for (size_t i = 0; i < place->line_count; i++)
        for (size_t k = 0; k < place->lines[i]->count; k++)
            place->lines[i]->versions[k]->written = true;
    place->unpersisted = 0;
    place->dirty = false;
}

varve_status vv_chain_persist_locked(struct vv_place *place)
{
    struct vv_bytes file = VV_BYTES_NONE;
    varve_status rc = VARVE_OK;

    if (!place->dirty)
        return VARVE_OK;
    TRY(vv_chain_writable(place));
    TRY(vv_chain_plan_trim(place));
    TRY(each_unwritten(place, sync_version));
    TRY(save_trees(place));
    TRY(vv_dir_sync(&place->dir)); /* names, before the file that names them */
    TRY(encode(place, &file));
    TRY(vv_dir_publish(&place->dir, COMMITS_NAME, file.data, file.size)); /* the instant */
    mark_written(place);
    vv_chain_trimmed(place);
    /* A mark that fails is made the next time: what was persisted is. */
    if (!place->marked) {
        rc = vv_dir_publish(&place->own, "persisted", "", 0);
        place->marked = rc == VARVE_OK;
        rc = rc == VARVE_UNCERTAIN ? rc : VARVE_OK;
    }
out:
    (void)vv_chain_poison_if(place, rc); /* first: what an uncertain `commits` may name stays */
    if (rc != VARVE_OK && place->dirty)
        vv_chain_untrim(place);
    vv_bytes_release(&file);
    return rc;
}

varve_status vv_chain_persist(struct vv_place *place)
{
    VV_ASSERT(pthread_mutex_lock(&place->writing) == 0);
    const varve_status rc = vv_chain_persist_locked(place);
    VV_ASSERT(pthread_mutex_unlock(&place->writing) == 0);
    return rc;
}

/* ---- Reading ------------------------------------------------------------------------------------ */

struct decoding {
    struct vv_place *place;
    struct vv_line *line; /* whose versions come */
    uint64_t to_come, last_serial;
    bool sorted; /* all versions are there */
};

static varve_status cannot_be(const char *what)
{
    return vv_fail(VARVE_CORRUPT, COMMITS_NAME ": %s", what);
}

static varve_status add_serial(struct decoding *decoding, uint64_t serial, struct vv_line *line,
                               struct vv_version *version)
{
    struct vv_place *place = decoding->place;
    varve_status rc = VARVE_OK;

    if (serial == 0 || serial > decoding->last_serial)
        return cannot_be("a version has a number that cannot be");
    TRY(vv_chain_room(place, line, 1));
    place->serials[place->serial_count++] =
        (struct vv_serial){ .serial = serial, .line = line, .version = version };
out:
    return rc;
}

static varve_status decode_line(struct decoding *decoding, struct vv_reader *reader)
{
    varve_module_id id;
    uint64_t last = 0;
    varve_status rc = VARVE_OK;

    vv_reader_copy(reader, id.bytes, sizeof id.bytes);
    const uint64_t gone = vv_reader_varint(reader);
    if (decoding->to_come > 0 || decoding->sorted || reader->bad || gone > vv_reader_left(reader) ||
        vv_chain_line(decoding->place, &id) != NULL)
        return cannot_be("a module's line does not decode");
    TRY(vv_chain_line_new(decoding->place, &id, &decoding->line));
    struct vv_gone *serials = &decoding->line->gone;
    TRY(vv_alloc(&serials->serials, (size_t)gone, sizeof *serials->serials));
    for (uint64_t i = 0; i < gone; i++) {
        const uint64_t step = vv_reader_varint(reader);
        if (step == 0 || step > VV_CHAIN_SERIAL_MAX)
            return cannot_be("a module's line does not decode");
        last += step;
        serials->serials[serials->count++] = last;
        TRY(add_serial(decoding, last, decoding->line, NULL));
    }
    decoding->to_come = vv_reader_varint(reader);
    TRY(vv_reader_done(reader, "commits: a module's line"));
    if (decoding->to_come == 0)
        rc = cannot_be("a module has no versions");
out:
    return rc;
}

static varve_status take_version(struct decoding *decoding, struct vv_reader *reader,
                                 struct vv_version *version)
{
    uint8_t leaf[VV_HASH_SIZE];
    uint64_t address = 0;
    varve_status rc = VARVE_OK;

    version->serial = vv_reader_varint(reader);
    version->number = vv_reader_varint(reader);
    const uint64_t copy = vv_reader_varint(reader);
    version->pages = vv_reader_varint(reader);
    version->bytes = vv_reader_varint(reader);
    vv_reader_copy(reader, version->leaf, VV_HASH_SIZE);
    version->copy = (uint32_t)copy;
    version->written = true;
    TRY(vv_module_decode(reader, &decoding->place->nodes.source, &version->module, &address));
    TRY(vv_reader_done(reader, "commits: a version"));
    TRY(vv_module_leaf(version->module, leaf));
    if (copy > UINT32_MAX || !vv_hash_equal(leaf, version->leaf) ||
        memcmp(version->module->id.bytes, decoding->line->id.bytes, 32) != 0)
        rc = cannot_be("a version of a module does not decode");
out:
    return rc;
}

static varve_status decode_version(struct decoding *decoding, struct vv_reader *reader)
{
    struct vv_line *line = decoding->line;
    struct vv_version *version = NULL;
    varve_status rc = VARVE_OK;

    if (decoding->to_come == 0)
        return cannot_be("a version belongs to no module");
    TRY(vv_alloc(&version, 1, sizeof *version));
    TRY(take_version(decoding, reader, version));
    if (line->count > 0
            ? vv_chain_newest(line)->serial >= version->serial
            : line->gone.count > 0 && line->gone.serials[line->gone.count - 1] >= version->serial) {
        rc = cannot_be("versions of a module are not in order");
        goto out;
    }
    TRY(add_serial(decoding, version->serial, line, version));
    line->versions[line->count++] = version;
    version->written = true;
    decoding->to_come--;
    version = NULL;
out:
    vv_chain_version_free(version);
    return rc;
}

static int by_serial(const void *a, const void *b)
{
    const struct vv_serial *x = a, *y = b;

    return x->serial < y->serial ? -1 : x->serial > y->serial;
}

/* When the first record comes that is no line nor version. */
static varve_status sort_serials(struct decoding *decoding)
{
    struct vv_place *place = decoding->place;

    if (decoding->to_come > 0)
        return cannot_be("versions of a module are missing");
    if (decoding->sorted)
        return VARVE_OK;
    decoding->sorted = true;
    if (place->serial_count > 1)
        qsort(place->serials, place->serial_count, sizeof *place->serials, by_serial);
    for (size_t i = 1; i < place->serial_count; i++)
        if (place->serials[i - 1].serial == place->serials[i].serial)
            return cannot_be("two versions have one number");
    return VARVE_OK;
}

static varve_status version_of(struct vv_place *place, uint64_t serial, const struct vv_version **version)
{
    const struct vv_serial *found = NULL;

    if (serial > VV_CHAIN_SERIAL_MAX ||
        vv_chain_resolve(place, vv_chain_locator(serial, 0, 0), &found) != VARVE_OK || found->version == NULL)
        return cannot_be("a commit has a version that there is not");
    *version = found->version;
    return VARVE_OK;
}

static varve_status take_changes(struct vv_place *place, struct vv_plain_commit *commit)
{
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < commit->change_count; i++) {
        const struct vv_plain_change *change = &commit->changes[i];
        const struct vv_version *version = NULL;
        if (change->removed) {
            TRY(vv_state_remove(&commit->state, &change->id));
            continue;
        }
        TRY(version_of(place, change->version, &version));
        TRY(vv_state_set(&commit->state, version->module));
    }
out:
    return rc;
}

static varve_status take_whole(struct vv_place *place, struct vv_plain_commit *commit,
                               struct vv_reader *reader)
{
    const uint64_t count = vv_reader_varint(reader);
    varve_status rc = VARVE_OK;

    for (uint64_t i = 0; i < count && !reader->bad; i++) {
        const struct vv_version *version = NULL;
        TRY(version_of(place, vv_reader_varint(reader), &version));
        TRY(vv_state_set(&commit->state, version->module));
    }
out:
    return rc;
}

static varve_status begin_state(struct vv_place *place, struct vv_plain_commit *commit, bool whole)
{
    const struct vv_plain_commit *parent = vv_plain_commit_of(&place->plain, &commit->facts.parent);
    const struct vv_meta_pair *pair = NULL;
    varve_status rc = VARVE_OK;

    if (whole)
        rc = vv_state_init(&commit->state, NULL, NULL);
    else if (parent == NULL || parent->removed || !parent->has_state)
        return cannot_be("a commit builds on one that there is not");
    else
        rc = vv_state_copy(&commit->state, &parent->state);
    TRY(rc);
    commit->has_state = true;
    while ((pair = vv_state_next_meta(&commit->state, NULL)) != NULL) {
        char key[VV_META_KEY_MAX + 1];
        memcpy(key, pair->key, sizeof key);
        TRY(vv_state_set_meta(&commit->state, key, NULL, 0));
    }
out:
    return rc;
}

/* A commit's state, which must have the root that the commit says. */
static varve_status take_state(struct vv_place *place, struct vv_plain_commit *commit)
{
    struct vv_reader reader = vv_reader_of(commit->own.data, commit->own.size);
    const uint8_t form = vv_reader_u8(&reader);
    varve_root root;
    varve_status rc = VARVE_OK;

    if (reader.bad || form > WHOLE)
        return cannot_be("a commit does not decode");
    TRY(begin_state(place, commit, form == WHOLE));
    TRY(vv_plain_decode_meta(&reader, &commit->state));
    TRY(form == WHOLE ? take_whole(place, commit, &reader) : take_changes(place, commit));
    TRY(vv_reader_done(&reader, COMMITS_NAME ": a commit's state"));
    TRY(vv_state_root(&commit->state, &root));
    if (memcmp(&root, &commit->facts.root, sizeof root) != 0)
        rc = cannot_be("a commit's state has another root than the commit says");
    vv_bytes_release(&commit->own);
    commit->written = true;
out:
    return rc;
}

static varve_status decode_record(struct decoding *decoding, uint32_t kind, struct vv_reader payload)
{
    struct vv_plain_commit *commit = NULL;
    varve_status rc = VARVE_OK;

    if (kind == RECORD_LINE)
        return decode_line(decoding, &payload);
    if (kind == RECORD_VERSION)
        return decode_version(decoding, &payload);
    TRY(sort_serials(decoding));
    rc = vv_plain_apply(&decoding->place->plain, kind, payload, &commit);
    if (rc == VARVE_CORRUPT)
        rc = vv_fail_within(rc, COMMITS_NAME);
    TRY(rc);
    if (commit != NULL && kind == VV_PLAIN_COMMIT)
        TRY(take_state(decoding->place, commit));
out:
    return rc;
}

varve_status vv_chain_decode(struct vv_place *place, const uint8_t *bytes, size_t size, uint64_t *nodes_end)
{
    struct decoding decoding = { .place = place };
    varve_status rc = VARVE_OK;

    if (size < HEADER || memcmp(bytes, FORMAT_WORDS, sizeof FORMAT_WORDS - 1) != 0)
        return cannot_be("it is no store of commits");
    if (memcmp(bytes, magic, MAGIC) != 0)
        return bytes[sizeof FORMAT_WORDS - 1] > '1' && bytes[sizeof FORMAT_WORDS - 1] <= '9'
                   ? vv_fail(VARVE_NEWER, COMMITS_NAME ": a newer varve wrote it: use that")
                   : cannot_be("it is of another layout");
    if (vv_get_u64(bytes + AT_SIZE) != size + SUM)
        return cannot_be("it is not as long as it says");
    *nodes_end = vv_get_u64(bytes + AT_NODES);
    decoding.last_serial = place->last_serial = vv_get_u64(bytes + AT_SERIAL);
    if (place->last_serial > VV_CHAIN_SERIAL_MAX)
        return cannot_be("its header says what cannot be");
    struct vv_reader reader = vv_reader_of(bytes + HEADER, size - HEADER);
    const uint64_t records = vv_get_u64(bytes + AT_RECORDS);
    for (uint64_t sequence = 0; sequence < records; sequence++) {
        struct vv_reader payload;
        uint32_t kind = 0;
        if (!vv_plain_unframe(&reader, sequence, &kind, &payload))
            return cannot_be("a record is damaged");
        TRY(decode_record(&decoding, kind, payload));
    }
    TRY(sort_serials(&decoding));
    TRY(vv_reader_done(&reader, COMMITS_NAME));
out:
    return rc;
}

static varve_status open_nodes(struct vv_place *place, uint64_t end)
{
    varve_status rc =
        vv_nodefile_open(&place->own, "nodes", !place->options.read_only, end, 0, &place->nodes);

    if (rc == VARVE_NOT_FOUND)
        rc = vv_fail(VARVE_CORRUPT, "the file is missing");
    if (rc == VARVE_CORRUPT)
        rc = vv_fail_within(rc, ".varve/nodes");
    return rc;
}

varve_status vv_chain_load(struct vv_place *place)
{
    uint8_t *data = NULL, *mark = NULL, sum[SUM];
    size_t size = 0, mark_size = 0;
    uint64_t nodes_end = 0;
    varve_status rc = vv_dir_read(&place->own, "persisted", 16, &mark, &mark_size);

    place->marked = rc != VARVE_NOT_FOUND;
    vv_free(mark);
    rc = vv_dir_read(&place->dir, COMMITS_NAME, COMMITS_LIMIT, &data, &size);
    if (rc == VARVE_NOT_FOUND && place->marked)
        return cannot_be("the file is missing, and with it all commits");
    if (rc == VARVE_NOT_FOUND)
        return open_nodes(place, NODES_BEGIN);
    TRY(rc);
    if (size < HEADER + SUM) {
        rc = cannot_be("it is too short");
        goto out;
    }
    vv_hash(VV_HASH_RECORD, data, size - SUM, sum);
    const bool sound = memcmp(sum, data + size - SUM, SUM) == 0;
    /* A newer format may have another sum: its version is told first. */
    if (!sound && memcmp(data, magic, MAGIC) == 0) {
        rc = cannot_be("its sum is another: it is damaged");
        goto out;
    }
    rc = vv_chain_decode(place, data, size - SUM, &nodes_end);
    if (rc == VARVE_OK && !sound)
        rc = cannot_be("its sum is another: it is damaged");
    TRY(rc);
    TRY(open_nodes(place, nodes_end));
out:
    vv_free(data);
    return rc;
}
