/* listing.c - see listing.h. */
#include "store/tree/listing.h"

#include <string.h>

#include "base/alloc.h"
#include "store/plain/plain.h"

enum {
    MAGIC = 16,
    SUM = 16,
    ENTRY_DIFF = 1,
    ENTRY_CODE = 2,
    ENTRY_LEAST = 2 * VV_HASH_SIZE + 6 + 32 /* no entry is shorter */
};
static const uint8_t magic[MAGIC + 1] = "varve index 1\n\0\0";
/* So that a page's place fits 32 bits beside the number of its file (shelf.h). */
#define PAGES_MAX UINT64_C(0xfffffffe)

static void sum_of(const void *bytes, size_t size, uint8_t sum[SUM])
{
    uint8_t hash[VV_HASH_SIZE];

    vv_hash(VV_HASH_RECORD, bytes, size, hash);
    memcpy(sum, hash, SUM);
}

/* ---- Reading ------------------------------------------------------------------------------------ */

void vv_listing_release(struct vv_listing *index)
{
    vv_free(index->entries);
    vv_free(index->bytes);
    *index = VV_LISTING_NONE;
}

static void take_key(struct vv_reader *reader, struct vv_memory_key *key)
{
    key->pages = vv_reader_varint(reader);
    vv_reader_copy(reader, key->top, sizeof key->top);
    reader->bad = reader->bad || key->pages > PAGES_MAX;
}

static void take_entry(struct vv_reader *reader, struct vv_listing_entry *entry)
{
    size_t size = 0;
    const size_t before = reader->offset;
    const uint8_t *bytes = vv_reader_blob(reader, vv_reader_left(reader), &size);

    *entry = (struct vv_listing_entry){ .raw = reader->data + before, .raw_size = reader->offset - before };
    if (bytes == NULL)
        return;
    struct vv_reader inner = vv_reader_of(bytes, size);
    vv_reader_copy(&inner, entry->leaf, sizeof entry->leaf);
    const uint8_t flags = vv_reader_u8(&inner);
    entry->has_code = (flags & ENTRY_CODE) != 0;
    take_key(&inner, &entry->memory);
    entry->base = entry->memory;
    if (flags & ENTRY_DIFF)
        take_key(&inner, &entry->base);
    entry->address = vv_reader_varint(&inner);
    entry->nodes_size = vv_reader_varint(&inner);
    if (flags & ENTRY_DIFF)
        entry->diff_size = vv_reader_varint(&inner);
    entry->module = inner.data + inner.offset;
    entry->module_size = vv_reader_left(&inner);
    vv_reader_copy(&inner, entry->id.bytes, sizeof entry->id.bytes);
    reader->bad = reader->bad || inner.bad || flags > (ENTRY_DIFF | ENTRY_CODE) ||
                  entry->nodes_size > UINT32_MAX || entry->address > UINT32_MAX ||
                  (entry->address == 0) != vv_hash_is_zero(entry->base.top) ||
                  ((flags & ENTRY_DIFF) != 0 && entry->diff_size == 0);
}

static varve_status take_entries(struct vv_reader *reader, struct vv_listing *index)
{
    const uint64_t count = vv_reader_varint(reader);
    varve_status rc = VARVE_OK;

    if (count > vv_reader_left(reader) / ENTRY_LEAST) {
        reader->bad = true; /* no count is believed that the bytes do not bear out */
        return VARVE_OK;
    }
    TRY(vv_alloc(&index->entries, (size_t)count, sizeof *index->entries));
    for (uint64_t i = 0; i < count && !reader->bad; i++) {
        struct vv_listing_entry *entry = &index->entries[index->count++];
        take_entry(reader, entry);
        if (i > 0 && memcmp(entry[-1].id.bytes, entry->id.bytes, sizeof entry->id.bytes) >= 0)
            reader->bad = true;
    }
out:
    return rc;
}

/* Pass by the named values: they are decoded into a state when one is asked for. */
static void pass_meta(struct vv_reader *reader)
{
    size_t size = 0;

    for (uint64_t pairs = vv_reader_varint(reader); pairs > 0 && !reader->bad; pairs--) {
        (void)vv_reader_blob(reader, VV_META_KEY_MAX, &size);
        (void)vv_reader_blob(reader, VV_META_VALUE_MAX, &size);
    }
}

varve_status vv_listing_decode(uint8_t *bytes, size_t size, struct vv_listing *index)
{
    uint8_t sum[SUM];
    varve_status rc = VARVE_OK;

    *index = (struct vv_listing){ .bytes = bytes, .size = size };
    if (size < MAGIC + 32 + SUM || memcmp(bytes, magic, MAGIC) != 0) {
        rc = vv_fail(VARVE_CORRUPT, "it is no index of a commit");
        goto out;
    }
    sum_of(bytes, size - SUM, sum);
    if (memcmp(sum, bytes + size - SUM, SUM) != 0) {
        rc = vv_fail(VARVE_CORRUPT, "its sum is not that of its bytes");
        goto out;
    }
    struct vv_reader reader = vv_reader_of(bytes, size - SUM);
    (void)vv_reader_take(&reader, MAGIC);
    vv_reader_copy(&reader, index->root.bytes, sizeof index->root.bytes);
    index->meta_at = reader.offset;
    pass_meta(&reader);
    index->meta_size = reader.offset - index->meta_at;
    TRY(take_entries(&reader, index));
    TRY(vv_reader_done(&reader, "the index of a commit"));
out:
    if (rc != VARVE_OK)
        vv_listing_release(index);
    return rc;
}

const struct vv_listing_entry *vv_listing_find(const struct vv_listing *index, const varve_module_id *id)
{
    size_t low = 0, high = index->count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = memcmp(index->entries[middle].id.bytes, id->bytes, sizeof id->bytes);
        if (order == 0)
            return &index->entries[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

varve_status vv_listing_state(const struct vv_listing *index, const struct vv_module_source *source,
                              uint64_t space, struct vv_state *state)
{
    struct vv_reader meta = vv_reader_of(index->bytes + index->meta_at, index->meta_size);
    varve_root root;
    bool made = false;
    varve_status rc = VARVE_OK;

    TRY(vv_state_init(state, NULL, source));
    made = true;
    TRY(vv_plain_decode_meta(&meta, state));
    for (size_t i = 0; i < index->count; i++) {
        struct vv_item item = { .locator = space + i + 1 };
        memcpy(item.key, index->entries[i].id.bytes, sizeof item.key);
        memcpy(item.hash, index->entries[i].leaf, sizeof item.hash);
        if (vv_hash_is_zero(item.hash)) {
            rc = vv_fail(VARVE_CORRUPT, "a module has no leaf");
            goto out;
        }
        TRY(vv_trie_set(&state->trie, &item));
    }
    TRY(vv_state_root(state, &root));
    if (!vv_hash_equal(root.bytes, index->root.bytes))
        rc = vv_fail(VARVE_CORRUPT, "its root is not that of what it says");
out:
    if (rc != VARVE_OK && made)
        vv_state_release(state);
    return rc;
}

varve_status vv_listing_module(const struct vv_listing_entry *entry, struct vv_module **module)
{
    struct vv_reader reader = vv_reader_of(entry->module, entry->module_size);
    struct vv_module *made = NULL;
    uint64_t address = 0;
    varve_status rc = VARVE_OK;

    TRY(vv_module_decode(&reader, NULL, &made, &address));
    TRY(vv_reader_done(&reader, "a module's entry"));
    if (address != 0 || made->memory.page_count != entry->memory.pages) {
        rc = vv_fail(VARVE_CORRUPT, "a module's entry says two things");
        goto out;
    }
    *module = made;
    made = NULL;
out:
    vv_module_drop(made);
    return rc;
}

/* ---- Writing ------------------------------------------------------------------------------------ */

void vv_listing_begin(struct vv_bytes *out, const varve_root *root, const struct vv_state *state,
                      uint64_t modules)
{
    vv_bytes_put(out, magic, MAGIC);
    vv_bytes_put(out, root->bytes, sizeof root->bytes);
    vv_plain_encode_meta(state, out);
    vv_bytes_varint(out, modules);
}

static void put_key(struct vv_bytes *out, const struct vv_memory_key *key)
{
    vv_bytes_varint(out, key->pages);
    vv_bytes_put(out, key->top, sizeof key->top);
}

varve_status vv_listing_put(struct vv_bytes *out, const struct vv_listing_entry *entry,
                            struct vv_module *module)
{
    struct vv_bytes bytes = VV_BYTES_NONE;
    varve_status rc = VARVE_OK;

    if (entry->memory.pages > PAGES_MAX)
        TRY(vv_fail(VARVE_LIMIT, "a memory of %llu pages: the layout tree keeps up to %llu",
                    (unsigned long long)entry->memory.pages, (unsigned long long)PAGES_MAX));
    const bool diff = entry->diff_size > 0;
    vv_bytes_put(&bytes, entry->leaf, sizeof entry->leaf);
    vv_bytes_u8(&bytes, (uint8_t)((diff ? ENTRY_DIFF : 0) | (entry->has_code ? ENTRY_CODE : 0)));
    put_key(&bytes, &entry->memory);
    if (diff)
        put_key(&bytes, &entry->base);
    vv_bytes_varint(&bytes, entry->address);
    vv_bytes_varint(&bytes, entry->nodes_size);
    if (diff)
        vv_bytes_varint(&bytes, entry->diff_size);
    TRY(vv_module_encode(module, 0, &bytes));
    vv_bytes_blob(out, bytes.data, bytes.size);
    TRY(vv_bytes_done(out));
out:
    vv_bytes_release(&bytes);
    return rc;
}

void vv_listing_put_raw(struct vv_bytes *out, const struct vv_listing_entry *entry)
{
    vv_bytes_put(out, entry->raw, entry->raw_size);
}

varve_status vv_listing_end(struct vv_bytes *out)
{
    uint8_t sum[SUM];
    const varve_status rc = vv_bytes_done(out);

    if (rc != VARVE_OK)
        return rc;
    sum_of(out->data, out->size, sum);
    vv_bytes_put(out, sum, sizeof sum);
    return vv_bytes_done(out);
}
