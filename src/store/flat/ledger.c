/* ledger.c - the history as bytes: `commits`, published by persist, and `.varve/last`, the refs' moves since.
 *
 *   commits      head: magic, generation, which nodes and how long; sum over head and body. Body: records (plain.h) in
 *                sequence: versions, commits and removals by number, moves. A commit's own bytes say what of its state
 *                differs from that of the commit before it in the file. docs/format.md, "flat"
 *   .varve/last  head: magic, the generation of `commits` that it goes on from; moves. Of another generation: void
 * Every state is put together when the store is opened and held against the commit's root: nothing in `commits` is
 * believed that the roots do not bear out. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "store/flat/place.h"

enum {
    MAGIC = 32,
    COMMITS_HEAD = MAGIC + 8 + 8 + 8 + 8 + 16, /* generation, nodes, their end, size of the body, sum */
    LAST_HEAD = MAGIC + 8 + 8 + 16,            /* generation, size of the body, sum */
    SUM = 16,
    COMMITS_MAX = 1 << 30,
    LAST_MAX = 64 << 20,
    RECORD_VERSION = VV_PLAIN_OWN
};
static const char commits_magic[] = "varve commits ", last_magic[] = "varve last ", layout_words[] = "1 flat\n";

/* ---- Heads -------------------------------------------------------------------------------------- */

static void put_magic(struct vv_bytes *out, const char *magic)
{
    const size_t size = strlen(magic), words = sizeof layout_words - 1;

    vv_bytes_put(out, magic, size);
    vv_bytes_put(out, layout_words, words);
    vv_bytes_zero(out, MAGIC - size - words);
}

/* The version is judged before what follows it, which it governs. */
static varve_status check_magic(const char *file, const uint8_t *data, size_t size, const char *magic)
{
    const size_t length = strlen(magic), words = sizeof layout_words - 1;
    uint8_t wanted[MAGIC] = { 0 };

    memcpy(wanted, magic, length);
    memcpy(wanted + length, layout_words, words);
    if (size >= MAGIC && memcmp(data, wanted, MAGIC) == 0)
        return VARVE_OK;
    if (size >= MAGIC && memcmp(data, magic, length) == 0 && data[length] > '1' && data[length] <= '9')
        return vv_fail(VARVE_NEWER, "%s: its format is newer than this varve knows: use a newer varve", file);
    return vv_fail(VARVE_CORRUPT, "%s: it does not begin as such a file does", file);
}

/* Over all but the sum itself, which lies at `at`. */
static void sum_of(const uint8_t *data, size_t size, size_t at, uint8_t sum[SUM])
{
    struct vv_hasher hasher;
    uint8_t hash[VV_HASH_SIZE];

    vv_hasher_init(&hasher, VV_HASH_RECORD);
    vv_hasher_put(&hasher, data, at);
    vv_hasher_put(&hasher, data + at + SUM, size - at - SUM);
    vv_hasher_end(&hasher, hash);
    memcpy(sum, hash, SUM);
}

static varve_status check_sum(const char *file, const uint8_t *data, size_t size, size_t head)
{
    uint8_t sum[SUM];

    if (size < head || vv_get_u64(data + head - SUM - 8) != size - head)
        return vv_fail(VARVE_CORRUPT, "%s: %zu bytes long, which is not what it says", file, size);
    sum_of(data, size, head - SUM, sum);
    if (memcmp(sum, data + head - SUM, SUM) != 0)
        return vv_fail(VARVE_CORRUPT, "%s: damaged: its bytes do not add up to its sum", file);
    return VARVE_OK;
}

/* The head was put with zeros for size and sum. */
static void seal(struct vv_bytes *out, size_t head)
{
    if (out->failed)
        return;
    vv_put_u64(out->data + head - SUM - 8, out->size - head);
    sum_of(out->data, out->size, head - SUM, out->data + head - SUM);
}

/* ---- Encoding ----------------------------------------------------------------------------------- */

struct encoding {
    struct vv_place *place;
    bool all;
    struct vv_bytes own;        /* of the commit in hand */
    uint64_t count;             /* of its differences */
    struct vv_version **needed; /* by the commits that are encoded */
    size_t needed_count, needed_room;
};

static varve_status need(struct encoding *encoding, struct vv_version *version)
{
    if (version->needed)
        return VARVE_OK;
    if (encoding->needed_count == encoding->needed_room) {
        const size_t room = 2 * encoding->needed_room + 16;
        const varve_status rc = vv_resize(&encoding->needed, room, sizeof(struct vv_version *));
        if (rc != VARVE_OK)
            return rc;
        encoding->needed_room = room;
    }
    encoding->needed[encoding->needed_count++] = version;
    version->needed = true;
    return VARVE_OK;
}

static varve_status encode_difference(void *context, const struct vv_item *from, const struct vv_item *to)
{
    struct encoding *encoding = context;
    varve_module_id module;

    encoding->count++;
    if (to == NULL) {
        vv_bytes_u8(&encoding->own, 0);
        vv_bytes_put(&encoding->own, from->key, sizeof from->key);
        return VARVE_OK;
    }
    memcpy(module.bytes, to->key, sizeof module.bytes);
    struct vv_version *version = vv_version_named(encoding->place, &module, to->hash);
    VV_ASSERT(version != NULL);
    vv_bytes_u8(&encoding->own, 1);
    vv_bytes_varint(&encoding->own, version->number);
    return need(encoding, version);
}

static bool same_meta(const struct vv_state *a, const struct vv_state *b)
{
    bool same = a->meta_count == b->meta_count;

    for (size_t i = 0; same && i < a->meta_count; i++)
        same = a->meta[i] == b->meta[i] ||
               (strcmp(a->meta[i]->key, b->meta[i]->key) == 0 && a->meta[i]->value_size == b->meta[i]->value_size &&
                memcmp(a->meta[i]->value, b->meta[i]->value, a->meta[i]->value_size) == 0);
    return same;
}

/* What the commit's state has that `before`, NULL: nothing, has not. */
static varve_status encode_own(struct encoding *encoding, const struct vv_state *before,
                               struct vv_plain_commit *commit)
{
    varve_status rc = VARVE_OK;

    vv_bytes_clear(&encoding->own);
    vv_bytes_clear(&commit->own);
    encoding->count = 0;
    TRY(vv_trie_diff(before == NULL ? NULL : &before->trie, &commit->state.trie, encode_difference, encoding));
    vv_bytes_varint(&commit->own, encoding->count);
    vv_bytes_put(&commit->own, encoding->own.data, encoding->own.size);
    const bool same = before == NULL ? commit->state.meta_count == 0 : same_meta(before, &commit->state);
    vv_bytes_u8(&commit->own, !same);
    if (!same)
        vv_plain_encode_meta(&commit->state, &commit->own);
    TRY(vv_bytes_done(&encoding->own));
    TRY(vv_bytes_done(&commit->own));
out:
    return rc;
}

static varve_status frame(struct vv_bytes *out, uint64_t *sequence, uint32_t kind, struct vv_bytes *payload)
{
    varve_status rc = VARVE_OK;

    TRY(vv_bytes_done(payload));
    if (payload->size > VV_PLAIN_RECORD_MAX)
        return vv_fail(VARVE_LIMIT, "a commit has %zu bytes of names and values: the limit is %d", payload->size,
                       (int)VV_PLAIN_RECORD_MAX);
    vv_plain_frame(out, (*sequence)++, kind, payload->data, payload->size);
    vv_bytes_clear(payload);
out:
    return rc;
}

static varve_status encode_version(const struct vv_version *version, struct vv_bytes *out)
{
    vv_bytes_varint(out, version->number);
    vv_bytes_varint(out, version->node_bytes);
    vv_bytes_varint(out, version->file_bytes);
    vv_bytes_varint(out, version->first);
    return vv_module_encode(version->entry, version->address, out);
}

static int by_number(const void *a, const void *b)
{
    const struct vv_version *const *left = a, *const *right = b;

    return ((*left)->number > (*right)->number) - ((*left)->number < (*right)->number);
}

static varve_status encode_versions(const struct encoding *encoding, uint64_t *sequence, struct vv_bytes *out)
{
    struct vv_bytes payload = VV_BYTES_NONE;
    varve_status rc = VARVE_OK;

    if (encoding->needed_count > 1)
        qsort(encoding->needed, encoding->needed_count, sizeof(struct vv_version *), by_number);
    for (size_t i = 0; i < encoding->needed_count; i++) {
        TRY(encode_version(encoding->needed[i], &payload));
        TRY(frame(out, sequence, RECORD_VERSION, &payload));
    }
out:
    vv_bytes_release(&payload);
    return rc;
}

/* Commits and removals, by number; then moves. */
static varve_status encode_history(const struct encoding *encoding, uint64_t *sequence, struct vv_bytes *out)
{
    const struct vv_plain *plain = &encoding->place->plain;
    struct vv_bytes payload = VV_BYTES_NONE;
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < plain->commit_count; i++) {
        struct vv_plain_commit *commit = plain->commits[i];
        if (!encoding->all && !commit->written)
            continue;
        if (commit->removed)
            vv_plain_encode_removal(commit, &payload);
        else
            vv_plain_encode_commit(commit, &payload);
        vv_bytes_release(&commit->own);
        TRY(frame(out, sequence, commit->removed ? VV_PLAIN_REMOVAL : VV_PLAIN_COMMIT, &payload));
    }
    for (size_t i = 0; i < plain->move_count; i++)
        if (encoding->all || plain->moves[i].written) {
            vv_plain_encode_move(&plain->moves[i], &payload);
            TRY(frame(out, sequence, VV_PLAIN_MOVE, &payload));
        }
out:
    vv_bytes_release(&payload);
    return rc;
}

static void forget_needed(struct vv_place *place)
{
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;

    while (vv_table_next(&place->versions, &cursor, &key, &value))
        ((struct vv_version *)value->pointer)->needed = false;
}

/* The whole file. What is to be removed by it says so already. */
static varve_status encode_commits(struct vv_place *place, bool all, struct vv_bytes *out)
{
    struct encoding encoding = { .place = place, .all = all };
    const struct vv_state *before = NULL;
    uint64_t sequence = 0;
    varve_status rc = VARVE_OK;

    forget_needed(place);
    put_magic(out, commits_magic);
    vv_bytes_u64(out, place->generation + 1);
    vv_bytes_u64(out, place->nodes->number);
    vv_bytes_u64(out, place->nodes->durable);
    vv_bytes_zero(out, COMMITS_HEAD - MAGIC - 24);
    for (size_t i = 0; i < place->plain.commit_count; i++) {
        struct vv_plain_commit *commit = place->plain.commits[i];
        if (commit->removed || (!all && !commit->written))
            continue;
        TRY(encode_own(&encoding, before, commit));
        before = &commit->state;
    }
    TRY(encode_versions(&encoding, &sequence, out));
    TRY(encode_history(&encoding, &sequence, out));
    seal(out, COMMITS_HEAD);
    TRY(vv_bytes_done(out));
out:
    vv_free(encoding.needed);
    vv_bytes_release(&encoding.own);
    return rc;
}

static void mark_removed(struct vv_plain *plain, const varve_commit_id *gone, size_t count, bool removed)
{
    for (size_t i = 0; i < count; i++)
        vv_plain_commit_of(plain, &gone[i])->removed = removed;
}

static void all_is_written(struct vv_plain *plain)
{
    for (size_t i = 0; i < plain->commit_count; i++)
        plain->commits[i]->written = true;
    for (size_t i = 0; i < plain->move_count; i++)
        plain->moves[i].written = true;
}

varve_status vv_flat_publish_commits(struct vv_place *place, bool all, const varve_commit_id *gone, size_t gone_count)
{
    struct vv_bytes bytes = VV_BYTES_NONE;
    varve_status rc = VARVE_OK;

    vv_plain_lock(&place->plain);
    mark_removed(&place->plain, gone, gone_count, true);
    rc = encode_commits(place, all, &bytes);
    mark_removed(&place->plain, gone, gone_count, false);
    vv_plain_unlock(&place->plain);
    TRY(rc);
    TRY(vv_flat_poison_if(place, vv_dir_publish(place->dir, "commits", bytes.data, bytes.size)));
    place->generation++;
    place->commits_bytes = bytes.size;
    vv_plain_lock(&place->plain);
    place->last_from = place->plain.move_count;
    if (all)
        all_is_written(&place->plain);
    vv_plain_unlock(&place->plain);
out:
    vv_bytes_release(&bytes);
    return rc;
}

varve_status vv_flat_publish_last(struct vv_place *place, const struct vv_ref_move *more, const bool *durable,
                                  size_t count, int64_t time_ns)
{
    struct vv_bytes bytes = VV_BYTES_NONE, payload = VV_BYTES_NONE;
    uint64_t sequence = 0;
    varve_status rc = VARVE_OK;

    put_magic(&bytes, last_magic);
    vv_bytes_u64(&bytes, place->generation);
    vv_bytes_zero(&bytes, LAST_HEAD - MAGIC - 8);
    for (size_t i = place->last_from; i < place->plain.move_count; i++)
        if (place->plain.moves[i].written) {
            vv_plain_encode_move(&place->plain.moves[i], &payload);
            TRY(frame(&bytes, &sequence, VV_PLAIN_MOVE, &payload));
        }
    for (size_t i = 0; i < count; i++) {
        struct vv_plain_move move = { .facts = { .time_ns = time_ns } };
        if (!durable[i])
            continue;
        memcpy(move.name, more[i].name, sizeof move.name);
        memcpy(move.facts.what, more[i].what, strnlen(more[i].what, sizeof move.facts.what - 1));
        if (more[i].to != NULL)
            move.facts.to = *more[i].to;
        vv_plain_encode_move(&move, &payload);
        TRY(frame(&bytes, &sequence, VV_PLAIN_MOVE, &payload));
    }
    seal(&bytes, LAST_HEAD);
    TRY(vv_bytes_done(&bytes));
    TRY(vv_flat_poison_if(place, vv_dir_publish(&place->own, "last", bytes.data, bytes.size)));
out:
    vv_bytes_release(&bytes);
    vv_bytes_release(&payload);
    return rc;
}

/* ---- Decoding ----------------------------------------------------------------------------------- */

static varve_status damaged(const char *what)
{
    return vv_fail(VARVE_CORRUPT, "commits: %s", what);
}

static varve_status decode_version(struct vv_place *place, struct vv_reader *reader)
{
    const struct vv_node_source *nodes = place->nodes == NULL ? NULL : &place->nodes->file.source;
    struct vv_version *version = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&version, 1, sizeof *version));
    version->number = vv_reader_varint(reader);
    version->node_bytes = vv_reader_varint(reader);
    version->file_bytes = vv_reader_varint(reader);
    version->first = vv_reader_varint(reader);
    version->synced = true;
    TRY(vv_module_decode(reader, nodes, &version->entry, &version->address));
    TRY(vv_reader_done(reader, "commits: a module commit"));
    version->module = version->entry->id;
    TRY(vv_module_leaf(version->entry, version->leaf));
    if (version->number <= place->last_version || version->number > VV_VERSION_NUMBER_MAX ||
        version->entry->memory.page_count > VV_VERSION_PAGES_MAX ||
        vv_version_named(place, &version->module, version->leaf) != NULL) {
        rc = damaged("a module commit has a number or a name that cannot be");
        goto out;
    }
    TRY(vv_version_add(place, version));
    place->last_version = version->number;
    version = NULL;
out:
    vv_version_free(version);
    return rc;
}

static varve_status decode_difference(struct vv_place *place, struct vv_reader *reader, struct vv_state *state)
{
    const uint8_t kind = vv_reader_u8(reader);
    varve_module_id module;

    if (kind == 1) {
        struct vv_version *version = vv_version_numbered(place, vv_reader_varint(reader));
        if (version == NULL)
            return damaged("a commit has a module commit that is not there");
        version->used = true;
        return vv_state_set(state, version->entry);
    }
    vv_reader_copy(reader, module.bytes, sizeof module.bytes);
    if (kind != 0 || reader->bad)
        return damaged("a commit's modules do not decode");
    return vv_state_remove(state, &module);
}

static varve_status decode_meta(struct vv_reader *reader, struct vv_state *state)
{
    varve_status rc = VARVE_OK;

    switch (vv_reader_u8(reader)) {
    case 0:
        return VARVE_OK;
    case 1:
        while (rc == VARVE_OK && state->meta_count > 0)
            rc = vv_state_set_meta(state, state->meta[0]->key, NULL, 0);
        return rc != VARVE_OK ? rc : vv_plain_decode_meta(reader, state);
    default:
        return damaged("a commit's named values do not decode");
    }
}

/* The state of a commit: that of the one before it, NULL: none, and what differs. */
static varve_status decode_state(struct vv_place *place, const struct vv_state *before,
                                 struct vv_plain_commit *commit)
{
    struct vv_reader reader = vv_reader_of(commit->own.data, commit->own.size);
    const uint64_t count = vv_reader_varint(&reader);
    struct vv_state state = { .fresh = NULL };
    varve_root root;
    varve_status rc = VARVE_OK;

    TRY(before == NULL ? vv_state_init(&state, NULL, NULL) : vv_state_copy(&state, before));
    if (count > vv_reader_left(&reader))
        TRY(damaged("a commit has more modules than bytes"));
    for (uint64_t i = 0; i < count; i++)
        TRY(decode_difference(place, &reader, &state));
    TRY(decode_meta(&reader, &state));
    TRY(vv_reader_done(&reader, "commits: a commit's state"));
    TRY(vv_state_root(&state, &root));
    if (memcmp(root.bytes, commit->facts.root.bytes, sizeof root.bytes) != 0)
        TRY(damaged("a commit's modules and values are not those that its root names"));
    commit->state = state;
    commit->has_state = true;
    commit->written = true;
    state.fresh = NULL;
    vv_bytes_release(&commit->own);
out:
    if (state.fresh != NULL)
        vv_state_release(&state);
    return rc;
}

/* Refs name what is there, and are those that this layout has. */
static varve_status check_refs(const struct vv_plain *plain)
{
    for (size_t i = 0; i < plain->ref_count; i++) {
        const char *name = plain->refs[i].name;
        const varve_commit_id at = vv_plain_stands(plain, name);
        const struct vv_plain_commit *commit = vv_plain_commit_of(plain, &at);
        if (vv_plain_check_line(name, "flat") != VARVE_OK)
            return damaged("it has a ref that is neither main nor a tag");
        if (!vv_id_is_zero(&at) && (commit == NULL || commit->removed))
            return damaged("a ref names a commit that is not there");
    }
    return VARVE_OK;
}

static varve_status decode_body(struct vv_place *place, struct vv_reader reader)
{
    struct vv_plain *plain = &place->plain;
    const struct vv_state *before = NULL;
    varve_status rc = VARVE_OK;

    for (uint64_t sequence = 0; vv_reader_left(&reader) > 0; sequence++) {
        struct vv_plain_commit *commit = NULL;
        struct vv_reader payload;
        uint32_t kind = 0;
        if (!vv_plain_unframe(&reader, sequence, &kind, &payload))
            TRY(damaged("a record is not whole"));
        if (kind == RECORD_VERSION) {
            TRY(decode_version(place, &payload));
            continue;
        }
        const size_t count = plain->commit_count;
        TRY(vv_plain_apply(plain, kind, payload, &commit));
        if (kind == VV_PLAIN_REMOVAL && plain->commit_count == count)
            TRY(damaged("a commit is there and removed"));
        if (commit == NULL)
            continue;
        TRY(decode_state(place, before, commit));
        before = &commit->state;
    }
    for (size_t i = 0; i < plain->commit_count; i++)
        plain->commits[i]->written = true;
    for (size_t i = 0; i < plain->move_count; i++)
        plain->moves[i].written = true;
    TRY(check_refs(plain));
out:
    return rc;
}

static varve_status decode_moves(struct vv_place *place, struct vv_reader reader)
{
    struct vv_plain *plain = &place->plain;
    varve_status rc = VARVE_OK;

    for (uint64_t sequence = 0; vv_reader_left(&reader) > 0; sequence++) {
        struct vv_reader payload;
        uint32_t kind = 0;
        if (!vv_plain_unframe(&reader, sequence, &kind, &payload) || kind != VV_PLAIN_MOVE)
            TRY(vv_fail(VARVE_CORRUPT, ".varve/last: a record is not a whole move"));
        TRY(vv_plain_apply(plain, kind, payload, NULL));
        plain->moves[plain->move_count - 1].written = true;
    }
    TRY(check_refs(plain));
out:
    while (rc != VARVE_OK && plain->move_count > place->last_from)
        vv_plain_take_back_move(plain);
    return rc;
}

/* ---- Both --------------------------------------------------------------------------------------- */

/* What the head of `commits` says. */
struct head {
    uint64_t generation, nodes, nodes_end;
};

static varve_status decode_commits_head(const uint8_t *data, size_t size, struct head *head)
{
    varve_status rc = VARVE_OK;

    TRY(check_magic("commits", data, size, commits_magic));
    TRY(check_sum("commits", data, size, COMMITS_HEAD));
    *head = (struct head){ .generation = vv_get_u64(data + MAGIC),
                           .nodes = vv_get_u64(data + MAGIC + 8),
                           .nodes_end = vv_get_u64(data + MAGIC + 16) };
    if (head->generation == 0 || head->nodes == 0 || head->nodes >= UINT64_C(1) << (64 - VV_FLAT_NODE_BITS) ||
        head->nodes_end < VV_NODEFILE_START)
        rc = damaged("its head says what cannot be");
out:
    return rc;
}

varve_status vv_flat_decode_commits(struct vv_place *place, const uint8_t *data, size_t size)
{
    struct head head;
    varve_status rc = VARVE_OK;

    TRY(decode_commits_head(data, size, &head));
    place->generation = head.generation;
    TRY(decode_body(place, vv_reader_of(data + COMMITS_HEAD, size - COMMITS_HEAD)));
out:
    return rc;
}

varve_status vv_flat_decode_last(struct vv_place *place, const uint8_t *data, size_t size)
{
    varve_status rc = VARVE_OK;

    TRY(check_magic(".varve/last", data, size, last_magic));
    TRY(check_sum(".varve/last", data, size, LAST_HEAD));
    const uint64_t generation = vv_get_u64(data + MAGIC);
    if (generation > place->generation)
        return vv_fail(VARVE_CORRUPT, "commits: %s, and what was persisted is missing: put the file back",
                       place->generation == 0 ? "the file is not there" : "the file is an older one");
    place->last_from = place->plain.move_count;
    if (generation == place->generation)
        TRY(decode_moves(place, vv_reader_of(data + LAST_HEAD, size - LAST_HEAD)));
out:
    return rc;
}

static varve_status open_nodes(struct vv_place *place, const struct head *head)
{
    struct vv_flat_nodes *nodes = NULL;
    char name[32];
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&nodes, 1, sizeof *nodes));
    nodes->number = head->nodes;
    vv_flat_nodes_name(nodes->number, name);
    rc = vv_nodefile_open(&place->own, name, !place->read_only, head->nodes_end,
                          nodes->number << VV_FLAT_NODE_BITS, &nodes->file);
    if (rc == VARVE_NOT_FOUND)
        rc = vv_fail(VARVE_CORRUPT, ".varve/%s: the file is missing: nothing says what memories are like", name);
    TRY(rc);
    nodes->durable = nodes->file.end;
    place->nodes = nodes;
    nodes = NULL;
out:
    vv_free(nodes);
    return rc;
}

/* Damage in `.varve/last` costs moves of refs, and nothing else: the store opens. */
static varve_status load_last(struct vv_place *place)
{
    uint8_t *data = NULL;
    size_t size = 0;
    varve_status rc = vv_dir_read(&place->own, "last", LAST_MAX, &data, &size);

    if (rc == VARVE_NOT_FOUND)
        rc = vv_fail(VARVE_CORRUPT, ".varve/last: the file is missing");
    else if (rc == VARVE_OK)
        rc = vv_flat_decode_last(place, data, size);
    vv_free(data);
    return rc;
}

varve_status vv_flat_load(struct vv_place *place, varve_status *last)
{
    struct head head = { .nodes = 1, .nodes_end = VV_NODEFILE_START };
    uint8_t *data = NULL;
    size_t size = 0;
    varve_status rc = vv_dir_read(place->dir, "commits", COMMITS_MAX, &data, &size);

    if (rc == VARVE_OK)
        TRY(decode_commits_head(data, size, &head));
    else if (rc != VARVE_NOT_FOUND)
        goto out;
    TRY(open_nodes(place, &head));
    if (data != NULL)
        TRY(vv_flat_decode_commits(place, data, size));
    place->commits_bytes = size;
    *last = load_last(place);
    if (*last != VARVE_CORRUPT)
        rc = *last;
    else if (place->generation == 0)
        rc = *last; /* nothing else says whether anything was ever persisted */
    else
        rc = VARVE_OK;
out:
    vv_free(data);
    return rc;
}
