/* record.c - the history of plain.h as bytes: docs/format.md, "History". Decoders believe nothing. */
#include <string.h>

#include "base/alloc.h"
#include "store/plain/plain.h"

enum { SUM = 16, TEXT_MAX = 1 << 20, CHANGES_MAX = 1 << 24, META_MAX = 1 << 20 };

/* ---- Frames ------------------------------------------------------------------------------------- */

static void sum_of(uint64_t sequence, uint32_t kind, const void *payload, size_t size, uint8_t sum[SUM])
{
    struct vv_hasher hasher;
    uint8_t hash[VV_HASH_SIZE];

    vv_hasher_init(&hasher, VV_HASH_RECORD);
    vv_hasher_u64(&hasher, sequence);
    vv_hasher_u64(&hasher, kind);
    vv_hasher_u64(&hasher, size);
    vv_hasher_put(&hasher, payload, size);
    vv_hasher_end(&hasher, hash);
    memcpy(sum, hash, SUM);
}

void vv_plain_frame(struct vv_bytes *out, uint64_t sequence, uint32_t kind, const void *payload, size_t size)
{
    uint8_t sum[SUM];

    VV_ASSERT(size <= VV_PLAIN_RECORD_MAX);
    sum_of(sequence, kind, payload, size, sum);
    vv_bytes_u32(out, (uint32_t)size);
    vv_bytes_u32(out, kind);
    vv_bytes_put(out, sum, sizeof sum);
    vv_bytes_put(out, payload, size);
}

bool vv_plain_unframe(struct vv_reader *reader, uint64_t sequence, uint32_t *kind, struct vv_reader *payload)
{
    struct vv_reader ahead = *reader;
    uint8_t sum[SUM];
    const uint32_t size = vv_reader_u32(&ahead);
    const uint32_t found = vv_reader_u32(&ahead);
    const uint8_t *expected = vv_reader_take(&ahead, SUM);
    const uint8_t *data = size > VV_PLAIN_RECORD_MAX ? NULL : vv_reader_take(&ahead, size);

    if (expected == NULL || data == NULL)
        return false;
    sum_of(sequence, found, data, size, sum);
    if (memcmp(sum, expected, SUM) != 0)
        return false;
    *reader = ahead;
    *kind = found;
    *payload = vv_reader_of(data, size);
    return true;
}

/* ---- A commit ----------------------------------------------------------------------------------- */

static void put_text(struct vv_bytes *out, const char *text)
{
    vv_bytes_blob(out, text == NULL ? "" : text, text == NULL ? 0 : strlen(text));
}

static varve_status take_text(struct vv_reader *reader, char **text)
{
    size_t size = 0;
    const uint8_t *bytes = vv_reader_blob(reader, TEXT_MAX, &size);
    varve_status rc = VARVE_OK;

    if (bytes == NULL || memchr(bytes, '\0', size) != NULL) {
        reader->bad = true;
        return VARVE_OK;
    }
    TRY(vv_alloc(text, size + 1, 1));
    memcpy(*text, bytes, size);
out:
    return rc;
}

void vv_plain_encode_commit(const struct vv_plain_commit *commit, struct vv_bytes *out)
{
    const struct vv_commit_facts *facts = &commit->facts;

    vv_bytes_put(out, facts->id.bytes, sizeof facts->id.bytes);
    vv_bytes_put(out, facts->parent.bytes, sizeof facts->parent.bytes);
    vv_bytes_put(out, facts->root.bytes, sizeof facts->root.bytes);
    vv_bytes_put(out, facts->seed, sizeof facts->seed);
    vv_bytes_varint(out, facts->number);
    vv_bytes_u64(out, (uint64_t)facts->time_ns);
    put_text(out, facts->message);
    put_text(out, facts->branch);
    put_text(out, facts->engine);
    vv_bytes_varint(out, facts->modules);
    vv_bytes_varint(out, facts->modules_changed);
    vv_bytes_varint(out, facts->pages_changed);
    vv_bytes_varint(out, facts->bytes_written);
    vv_bytes_varint(out, commit->change_count);
    for (size_t i = 0; i < commit->change_count; i++) {
        const struct vv_plain_change *change = &commit->changes[i];
        vv_bytes_put(out, change->id.bytes, sizeof change->id.bytes);
        vv_bytes_u8(out, change->removed);
        vv_bytes_varint(out, change->pages);
        vv_bytes_varint(out, change->bytes);
        vv_bytes_varint(out, change->version);
    }
    vv_bytes_blob(out, commit->own.data, commit->own.size);
}

static varve_status take_changes(struct vv_reader *reader, struct vv_plain_commit *commit)
{
    const uint64_t count = vv_reader_varint(reader);
    varve_status rc = VARVE_OK;

    /* Each takes more than 36 bytes, so no count is believed that the bytes do not bear out. */
    if (count > CHANGES_MAX || count > vv_reader_left(reader) / 36) {
        reader->bad = true;
        return VARVE_OK;
    }
    TRY(vv_alloc(&commit->changes, (size_t)count, sizeof *commit->changes));
    commit->change_count = (size_t)count;
    for (size_t i = 0; i < count; i++) {
        struct vv_plain_change *change = &commit->changes[i];
        vv_reader_copy(reader, change->id.bytes, sizeof change->id.bytes);
        const uint8_t removed = vv_reader_u8(reader);
        reader->bad = reader->bad || removed > 1;
        change->removed = removed == 1;
        change->pages = vv_reader_varint(reader);
        change->bytes = vv_reader_varint(reader);
        change->version = vv_reader_varint(reader);
    }
out:
    return rc;
}

static varve_status take_commit(struct vv_reader *reader, struct vv_plain_commit *commit)
{
    struct vv_commit_facts *facts = &commit->facts;
    size_t size = 0;
    varve_status rc = VARVE_OK;

    vv_reader_copy(reader, facts->id.bytes, sizeof facts->id.bytes);
    vv_reader_copy(reader, facts->parent.bytes, sizeof facts->parent.bytes);
    vv_reader_copy(reader, facts->root.bytes, sizeof facts->root.bytes);
    vv_reader_copy(reader, facts->seed, sizeof facts->seed);
    facts->number = vv_reader_varint(reader);
    facts->time_ns = (int64_t)vv_reader_u64(reader);
    TRY(take_text(reader, &facts->message));
    TRY(take_text(reader, &facts->branch));
    TRY(take_text(reader, &facts->engine));
    facts->modules = vv_reader_varint(reader);
    facts->modules_changed = vv_reader_varint(reader);
    facts->pages_changed = vv_reader_varint(reader);
    facts->bytes_written = vv_reader_varint(reader);
    TRY(take_changes(reader, commit));
    const uint8_t *own = vv_reader_blob(reader, VV_PLAIN_RECORD_MAX, &size);
    if (own != NULL)
        vv_bytes_put(&commit->own, own, size);
    TRY(vv_bytes_done(&commit->own));
    rc = vv_reader_done(reader, "a commit in the history");
out:
    return rc;
}

static varve_status apply_commit(struct vv_plain *plain, struct vv_reader *reader,
                                 struct vv_plain_commit **out)
{
    struct vv_plain_commit *commit = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&commit, 1, sizeof *commit));
    TRY(take_commit(reader, commit));
    const struct vv_plain_commit *before = vv_plain_commit_of(plain, &commit->facts.id);
    if (commit->facts.number <= plain->last_number || commit->facts.number > INT64_MAX ||
        (before != NULL && !before->removed) || vv_id_is_zero(&commit->facts.id)) {
        rc = vv_fail(VARVE_CORRUPT, "a commit in the history has a number or an id that cannot be");
        goto out;
    }
    TRY(vv_plain_room(plain, 1, 0));
    vv_plain_add(plain, commit);
    if (out != NULL)
        *out = commit;
    commit = NULL;
out:
    vv_plain_commit_free(commit);
    return rc;
}

/* ---- A removal ---------------------------------------------------------------------------------- */

void vv_plain_encode_removal(const struct vv_plain_commit *commit, struct vv_bytes *out)
{
    vv_bytes_put(out, commit->facts.id.bytes, sizeof commit->facts.id.bytes);
    vv_bytes_put(out, commit->facts.parent.bytes, sizeof commit->facts.parent.bytes);
    vv_bytes_varint(out, commit->facts.number);
}

/* Of a commit that is there, or of one whose record is gone since: then the tombstone alone is put. */
static varve_status apply_removal(struct vv_plain *plain, struct vv_reader *reader)
{
    struct vv_plain_commit *commit = NULL;
    varve_commit_id id, parent;
    varve_status rc = VARVE_OK;

    vv_reader_copy(reader, id.bytes, sizeof id.bytes);
    vv_reader_copy(reader, parent.bytes, sizeof parent.bytes);
    const uint64_t number = vv_reader_varint(reader);
    TRY(vv_reader_done(reader, "a removal in the history"));
    struct vv_plain_commit *there = vv_plain_numbered(plain, number);
    if (there != NULL && !there->removed && vv_id_equal(&there->facts.id, &id)) {
        vv_plain_remove(plain, &id, 1);
        vv_plain_forget(there);
        return VARVE_OK;
    }
    const struct vv_plain_commit *same = vv_plain_commit_of(plain, &id);
    if (there != NULL || (same != NULL && !same->removed) || number <= plain->last_number ||
        number > INT64_MAX)
        return vv_fail(VARVE_CORRUPT, "a removal in the history is of no commit that was there");
    TRY(vv_plain_tombstone(&id, &parent, &commit));
    commit->facts.number = number;
    rc = vv_plain_room(plain, 1, 0);
    if (rc == VARVE_OK)
        vv_plain_add(plain, commit);
    else
        vv_plain_commit_free(commit);
out:
    return rc;
}

/* ---- A ref's move ------------------------------------------------------------------------------- */

void vv_plain_encode_move(const struct vv_plain_move *move, struct vv_bytes *out)
{
    put_text(out, move->name);
    put_text(out, move->facts.what);
    vv_bytes_put(out, move->facts.to.bytes, sizeof move->facts.to.bytes);
    vv_bytes_u64(out, (uint64_t)move->facts.time_ns);
}

static varve_status apply_move(struct vv_plain *plain, struct vv_reader *reader)
{
    struct vv_ref_move move = { .force = true };
    varve_commit_id to;
    size_t name_size = 0, what_size = 0;
    char what[sizeof((struct vv_move_facts *)NULL)->what] = "";
    const uint8_t *name = vv_reader_blob(reader, sizeof move.name - 1, &name_size);
    const uint8_t *words = vv_reader_blob(reader, sizeof what - 1, &what_size);
    varve_status rc = VARVE_OK;

    vv_reader_copy(reader, to.bytes, sizeof to.bytes);
    const int64_t time_ns = (int64_t)vv_reader_u64(reader);
    TRY(vv_reader_done(reader, "a ref's move in the history"));
    if (name_size == 0 || memchr(name, '\0', name_size) != NULL || memchr(words, '\0', what_size) != NULL)
        return vv_fail(VARVE_CORRUPT, "a ref's move in the history has no name");
    memcpy(move.name, name, name_size);
    memcpy(what, words, what_size);
    move.what = what;
    move.to = vv_id_is_zero(&to) ? NULL : &to;
    TRY(vv_plain_room(plain, 0, 1));
    vv_plain_put_move(plain, &move, time_ns);
out:
    return rc;
}

varve_status vv_plain_apply(struct vv_plain *plain, uint32_t kind, struct vv_reader payload,
                            struct vv_plain_commit **commit)
{
    if (commit != NULL)
        *commit = NULL;
    switch (kind) {
    case VV_PLAIN_COMMIT:
        return apply_commit(plain, &payload, commit);
    case VV_PLAIN_MOVE:
        return apply_move(plain, &payload);
    case VV_PLAIN_REMOVAL:
        return apply_removal(plain, &payload);
    default:
        return vv_fail(VARVE_CORRUPT, "the history has a record of kind %u, which there is not", kind);
    }
}

/* ---- All of it ---------------------------------------------------------------------------------- */

void vv_plain_encode_all(const struct vv_plain *plain, uint64_t *sequence, struct vv_bytes *out)
{
    struct vv_bytes payload = VV_BYTES_NONE;

    for (size_t i = 0; i < plain->commit_count; i++) {
        const struct vv_plain_commit *commit = plain->commits[i];
        vv_bytes_clear(&payload);
        if (commit->removed)
            vv_plain_encode_removal(commit, &payload);
        else
            vv_plain_encode_commit(commit, &payload);
        vv_plain_frame(out, (*sequence)++, commit->removed ? VV_PLAIN_REMOVAL : VV_PLAIN_COMMIT, payload.data,
                       payload.size);
        out->failed = out->failed || payload.failed; /* before clearing forgets it */
    }
    for (size_t i = 0; i < plain->move_count; i++) {
        vv_bytes_clear(&payload);
        vv_plain_encode_move(&plain->moves[i], &payload);
        vv_plain_frame(out, (*sequence)++, VV_PLAIN_MOVE, payload.data, payload.size);
        out->failed = out->failed || payload.failed;
    }
    vv_bytes_release(&payload);
}

/* ---- Named values ------------------------------------------------------------------------------- */

void vv_plain_encode_meta(const struct vv_state *state, struct vv_bytes *out)
{
    vv_bytes_varint(out, state->meta_count);
    for (size_t i = 0; i < state->meta_count; i++) {
        vv_bytes_blob(out, state->meta[i]->key, state->meta[i]->key_size);
        vv_bytes_blob(out, state->meta[i]->value, state->meta[i]->value_size);
    }
}

varve_status vv_plain_decode_meta(struct vv_reader *reader, struct vv_state *state)
{
    char key[VV_META_KEY_MAX + 1], last[VV_META_KEY_MAX + 1] = "";
    const uint64_t count = vv_reader_varint(reader);
    varve_status rc = VARVE_OK;

    for (uint64_t i = 0; i < count && !reader->bad; i++) {
        size_t key_size = 0, value_size = 0;
        const uint8_t *name = vv_reader_blob(reader, VV_META_KEY_MAX, &key_size);
        const uint8_t *value = vv_reader_blob(reader, VV_META_VALUE_MAX, &value_size);
        if (name == NULL || value == NULL || memchr(name, '\0', key_size) != NULL || i > META_MAX)
            break;
        memcpy(key, name, key_size);
        key[key_size] = '\0';
        if (key_size == 0 || value_size == 0 || strcmp(last, key) >= 0)
            break;
        memcpy(last, key, key_size + 1);
        TRY(vv_state_set_meta(state, key, value, value_size));
        if (i + 1 == count)
            return VARVE_OK;
    }
    if (count > 0 || reader->bad)
        rc = vv_fail(VARVE_CORRUPT, "the named values of a commit are damaged");
out:
    return rc;
}
