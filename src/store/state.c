/* state.c - see state.h. What the trie's leaves, the meta hash and an entry hold: docs/format.md, "Entries".
 *
 *   trie    id -> {leaf hash, where the entry lies}: the truth about which modules there are
 *   fresh   modules in memory: those set here (the layout has no entry of theirs yet) and those loaded
 *   older   the same from before, found where `fresh` has none
 * Both may still hold a module that the trie has no more, and then they are not asked: who sets it again puts the
 * new one into `fresh`.
 * A commit copies its state several times and changes few modules in one of the copies. So copies share both
 * tables, and a shared `fresh` is copied when it must change, if it is small; else it is joined with `older`. */
#include "store/state.h"

#include "base/alloc.h"
#include "page/proof.h"
#include "page/root.h"

/* ---- Modules ---------------------------------------------------------------------------------- */

varve_status vv_module_new(struct vv_module **module)
{
    const varve_status rc = vv_alloc(module, 1, sizeof **module);

    if (rc != VARVE_OK)
        return rc;
    (*module)->holders = 1;
    vv_pagetree_init(&(*module)->memory, 0, NULL);
    return VARVE_OK;
}

varve_status vv_module_clone(const struct vv_module *module, struct vv_module **clone)
{
    varve_status rc = VARVE_OK;
    struct vv_module *copy = NULL;

    *clone = NULL;
    TRY(vv_module_new(&copy));
    copy->id = module->id;
    copy->kind = module->kind;
    memcpy(copy->name, module->name, sizeof copy->name);
    memcpy(copy->code, module->code, sizeof copy->code);
    memcpy(copy->owner, module->owner, sizeof copy->owner);
    copy->code_size = module->code_size;
    copy->globals = module->globals;
    TRY(vv_memdup(&copy->extra, module->extra, module->extra_size));
    copy->extra_size = module->extra_size;
    TRY(vv_memdup(&copy->instance, module->instance, module->instance_size));
    copy->instance_size = module->instance_size;
    vv_pagetree_copy(&copy->memory, &module->memory);
    *clone = copy;
    copy = NULL;
out:
    vv_module_drop(copy);
    return rc;
}

void vv_module_hold(struct vv_module *module)
{
    module->holders++;
}

void vv_module_drop(struct vv_module *module)
{
    if (module == NULL || --module->holders > 0)
        return;
    vv_pagetree_release(&module->memory);
    vv_free(module->extra);
    vv_free(module->instance);
    vv_free(module);
}

/* What the module's leaf binds. */
static varve_status module_facts(struct vv_module *module, struct vv_module_facts *facts)
{
    varve_status rc = VARVE_OK;
    struct vv_bytes descriptor = VV_BYTES_NONE;

    memcpy(facts->id, module->id.bytes, sizeof facts->id);
    memcpy(facts->code, module->code, sizeof facts->code);
    memcpy(facts->owner, module->owner, sizeof facts->owner);
    TRY(vv_pagetree_root(&module->memory, facts->memory)); /* binds the length */
    vv_instance_hash(module->instance, module->instance_size, facts->instance);
    vv_bytes_u8(&descriptor, (uint8_t)module->kind);
    vv_bytes_blob(&descriptor, module->name, strlen(module->name));
    vv_bytes_blob(&descriptor, module->extra, module->extra_size);
    TRY(vv_bytes_done(&descriptor));
    vv_descriptor_hash(descriptor.data, descriptor.size, facts->descriptor);
out:
    vv_bytes_release(&descriptor);
    return rc;
}

varve_status vv_module_leaf(struct vv_module *module, uint8_t leaf[VV_HASH_SIZE])
{
    struct vv_module_facts facts;
    const varve_status rc = module_facts(module, &facts);

    if (rc == VARVE_OK)
        vv_module_leaf_hash(&facts, leaf);
    return rc;
}

/* ---- Entries ---------------------------------------------------------------------------------- */

/* What most entries lack is not stored: an image has no code, few have an owner. */
enum { ENTRY_CODE = 1 << 0, ENTRY_OWNER = 1 << 1, ENTRY_FLAGS = ENTRY_CODE | ENTRY_OWNER };

/* 16 TiB: more than any address space can map, and no size computed from it overflows. */
#define ENTRY_PAGES_MAX (UINT64_C(1) << 32)

varve_status vv_module_encode(struct vv_module *module, uint64_t top_address, struct vv_bytes *out)
{
    uint8_t top[VV_HASH_SIZE];
    const varve_status rc = vv_pagetree_top(&module->memory, top);

    if (rc != VARVE_OK)
        return rc;
    const bool code = !vv_hash_is_zero(module->code);
    const bool owner = !vv_hash_is_zero(module->owner);
    vv_bytes_put(out, module->id.bytes, 32);
    vv_bytes_u8(out, (uint8_t)module->kind);
    vv_bytes_u8(out, (uint8_t)((code ? ENTRY_CODE : 0) | (owner ? ENTRY_OWNER : 0)));
    vv_bytes_blob(out, module->name, strlen(module->name));
    if (code)
        vv_bytes_put(out, module->code, VV_HASH_SIZE);
    if (owner)
        vv_bytes_put(out, module->owner, 32);
    vv_bytes_varint(out, module->code_size);
    vv_bytes_varint(out, module->globals);
    vv_bytes_blob(out, module->extra, module->extra_size);
    vv_bytes_blob(out, module->instance, module->instance_size);
    vv_bytes_varint(out, module->memory.page_count);
    vv_bytes_put(out, top, VV_HASH_SIZE);
    vv_bytes_varint(out, top_address);
    return vv_bytes_done(out);
}

static varve_status decode_fields(struct vv_reader *reader, struct vv_module *module)
{
    varve_status rc = VARVE_OK;
    size_t name_size = 0;
    size_t size = 0;

    vv_reader_copy(reader, module->id.bytes, 32);
    module->kind = (varve_kind)vv_reader_u8(reader);
    const uint8_t flags = vv_reader_u8(reader);
    const uint8_t *name = vv_reader_blob(reader, VV_NAME_MAX, &name_size);
    if (name != NULL)
        memcpy(module->name, name, name_size);
    if (flags & ENTRY_CODE)
        vv_reader_copy(reader, module->code, VV_HASH_SIZE);
    if (flags & ENTRY_OWNER)
        vv_reader_copy(reader, module->owner, 32);
    module->code_size = vv_reader_varint(reader);
    module->globals = vv_reader_varint(reader);
    const uint8_t *extra = vv_reader_blob(reader, vv_reader_left(reader), &size);
    if (extra != NULL && size > 0)
        TRY(vv_memdup(&module->extra, extra, size));
    module->extra_size = extra == NULL ? 0 : size;
    const uint8_t *instance = vv_reader_blob(reader, vv_reader_left(reader), &size);
    if (instance != NULL && size > 0)
        TRY(vv_memdup(&module->instance, instance, size));
    module->instance_size = instance == NULL ? 0 : size;
    const bool cut_name = name != NULL && strlen(module->name) != name_size;
    if (reader->bad || (flags & ~ENTRY_FLAGS) != 0 || module->kind > VARVE_KIND_CONTRACT || cut_name)
        rc = vv_fail(VARVE_CORRUPT, "a module's entry does not decode");
out:
    return rc;
}

varve_status vv_module_decode(struct vv_reader *reader, const struct vv_node_source *nodes,
                              struct vv_module **module, uint64_t *top_address)
{
    varve_status rc = VARVE_OK;
    struct vv_module *made = NULL;
    uint8_t top[VV_HASH_SIZE];

    *module = NULL;
    TRY(vv_module_new(&made));
    TRY(decode_fields(reader, made));
    const uint64_t page_count = vv_reader_varint(reader);
    vv_reader_copy(reader, top, VV_HASH_SIZE);
    *top_address = vv_reader_varint(reader);
    if (reader->bad || page_count > ENTRY_PAGES_MAX) {
        rc = vv_fail(VARVE_CORRUPT, "a module's entry does not decode");
        goto out;
    }
    vv_pagetree_init(&made->memory, page_count, nodes);
    if (*top_address != 0)
        TRY(vv_pagetree_open(&made->memory, page_count, *top_address, top, nodes));
    *module = made;
    made = NULL;
out:
    vv_module_drop(made);
    return rc;
}

/* ---- Named values ----------------------------------------------------------------------------- */

static void pair_drop(struct vv_meta_pair *pair)
{
    if (--pair->holders > 0)
        return;
    vv_free(pair->value);
    vv_free(pair);
}

static varve_status pair_new(const char *key, const void *value, size_t size, struct vv_meta_pair **pair)
{
    varve_status rc = VARVE_OK;
    struct vv_meta_pair *made = NULL;

    TRY(vv_alloc(&made, 1, sizeof *made));
    TRY(vv_memdup(&made->value, value, size));
    made->holders = 1;
    made->key_size = (uint16_t)strlen(key);
    made->value_size = (uint16_t)size;
    memcpy(made->key, key, made->key_size);
    *pair = made;
    made = NULL;
out:
    vv_free(made);
    return rc;
}

/* The place of the first pair whose key is not before `key`. */
static size_t meta_place(const struct vv_state *state, const char *key)
{
    size_t low = 0;
    size_t high = state->meta_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(state->meta[middle]->key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool meta_is_at(const struct vv_state *state, size_t place, const char *key)
{
    return place < state->meta_count && strcmp(state->meta[place]->key, key) == 0;
}

const struct vv_meta_pair *vv_state_meta(const struct vv_state *state, const char *key)
{
    const size_t place = meta_place(state, key);

    return meta_is_at(state, place, key) ? state->meta[place] : NULL;
}

static void meta_remove_at(struct vv_state *state, size_t place)
{
    pair_drop(state->meta[place]);
    state->meta_count--;
    memmove(state->meta + place, state->meta + place + 1, (state->meta_count - place) * sizeof *state->meta);
}

varve_status vv_state_set_meta(struct vv_state *state, const char *key, const void *value, size_t size)
{
    varve_status rc = VARVE_OK;
    struct vv_meta_pair *pair = NULL;
    const size_t place = meta_place(state, key);
    const bool there = meta_is_at(state, place, key);

    VV_ASSERT(strlen(key) <= VV_META_KEY_MAX);
    VV_ASSERT(size <= VV_META_VALUE_MAX);
    if (size == 0) {
        if (there)
            meta_remove_at(state, place);
        return VARVE_OK;
    }
    TRY(pair_new(key, value, size, &pair));
    if (there) {
        pair_drop(state->meta[place]);
    } else {
        struct vv_meta_pair **grown = state->meta;
        rc = vv_resize(&grown, state->meta_count + 1, sizeof(struct vv_meta_pair *));
        if (rc != VARVE_OK) {
            pair_drop(pair);
            goto out;
        }
        state->meta = grown;
        memmove(state->meta + place + 1, state->meta + place,
                (state->meta_count - place) * sizeof(struct vv_meta_pair *));
        state->meta_count++;
    }
    state->meta[place] = pair;
out:
    return rc;
}

const struct vv_meta_pair *vv_state_next_meta(const struct vv_state *state, const char *after)
{
    size_t place = after == NULL ? 0 : meta_place(state, after);

    if (after != NULL && meta_is_at(state, place, after))
        place++;
    return place < state->meta_count ? state->meta[place] : NULL;
}

static void meta_hash(const struct vv_state *state, uint8_t out[VV_HASH_SIZE])
{
    struct vv_meta_hasher hasher;

    vv_meta_hash_begin(&hasher);
    for (size_t i = 0; i < state->meta_count; i++) {
        const struct vv_meta_pair *pair = state->meta[i];
        vv_meta_hash_put(&hasher, pair->key, pair->key_size, pair->value, pair->value_size);
    }
    vv_meta_hash_end(&hasher, out);
}

/* ---- Modules in memory ------------------------------------------------------------------------ */

enum { FEW = 32 }; /* modules that are copied rather than joined with the others */

static varve_status known_new(struct vv_known **known)
{
    const varve_status rc = vv_alloc(known, 1, sizeof **known);

    if (rc != VARVE_OK)
        return rc;
    (*known)->holders = 1;
    vv_table_init(&(*known)->table, sizeof(varve_module_id));
    return VARVE_OK;
}

static void known_drop(struct vv_known *known)
{
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;

    if (known == NULL || --known->holders > 0)
        return;
    while (vv_table_next(&known->table, &cursor, &key, &value))
        vv_module_drop(value->pointer);
    vv_table_release(&known->table);
    vv_free(known);
}

/* Add what `from` holds and `known` does not. */
static varve_status known_add(struct vv_known *known, const struct vv_known *from)
{
    varve_status rc = VARVE_OK;
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;

    while (from != NULL && vv_table_next(&from->table, &cursor, &key, &value)) {
        if (vv_table_get(&known->table, key) != NULL)
            continue;
        TRY(vv_table_put(&known->table, key, *value));
        vv_module_hold(value->pointer);
    }
out:
    return rc;
}

/* Make `fresh` this state's own. */
static varve_status own_fresh(struct vv_state *state)
{
    varve_status rc = VARVE_OK;
    struct vv_known *fresh = NULL, *older = NULL;

    if (state->fresh->holders == 1)
        return VARVE_OK;
    TRY(known_new(&fresh));
    if (state->fresh->table.count <= FEW) {
        TRY(known_add(fresh, state->fresh));
    } else {
        TRY(known_new(&older));
        TRY(known_add(older, state->fresh));
        TRY(known_add(older, state->older));
        known_drop(state->older);
        state->older = older;
        older = NULL;
    }
    known_drop(state->fresh);
    state->fresh = fresh;
    fresh = NULL;
out:
    known_drop(fresh);
    known_drop(older);
    return rc;
}

static struct vv_module *find_known(const struct vv_state *state, const varve_module_id *id)
{
    const union vv_value *there = vv_table_get(&state->fresh->table, id);

    if (there == NULL && state->older != NULL)
        there = vv_table_get(&state->older->table, id);
    return there == NULL ? NULL : there->pointer;
}

/* Keep `module` in memory, taking a hold of our own; what stood there before is dropped. */
static varve_status keep(struct vv_state *state, struct vv_module *module)
{
    varve_status rc = VARVE_OK;

    TRY(own_fresh(state));
    union vv_value *there = vv_table_get(&state->fresh->table, &module->id);
    vv_module_hold(module);
    if (there != NULL) {
        vv_module_drop(there->pointer);
        there->pointer = module;
        return VARVE_OK;
    }
    rc = vv_table_put(&state->fresh->table, &module->id, (union vv_value){ .pointer = module });
    if (rc != VARVE_OK)
        vv_module_drop(module);
out:
    return rc;
}

/* ---- The state -------------------------------------------------------------------------------- */

varve_status vv_state_init(struct vv_state *state, const struct vv_node_source *nodes,
                           const struct vv_module_source *source)
{
    *state = (struct vv_state){ .source = source };
    vv_trie_init(&state->trie, nodes);
    return known_new(&state->fresh);
}

varve_status vv_state_copy(struct vv_state *copy, const struct vv_state *state)
{
    varve_status rc = VARVE_OK;
    struct vv_state made = { .source = state->source, .fresh = NULL };

    VV_ASSERT(copy != state);
    TRY(vv_alloc(&made.meta, state->meta_count, sizeof(struct vv_meta_pair *)));
    for (size_t i = 0; i < state->meta_count; i++) {
        made.meta[i] = state->meta[i];
        made.meta[i]->holders++;
    }
    made.meta_count = state->meta_count;
    made.fresh = state->fresh;
    made.fresh->holders++;
    made.older = state->older;
    if (made.older != NULL)
        made.older->holders++;
    vv_trie_copy(&made.trie, &state->trie);
    *copy = made;
out:
    return rc;
}

void vv_state_release(struct vv_state *state)
{
    known_drop(state->fresh);
    known_drop(state->older);
    for (size_t i = 0; i < state->meta_count; i++)
        pair_drop(state->meta[i]);
    vv_free(state->meta);
    vv_trie_release(&state->trie);
    *state = (struct vv_state){ .fresh = NULL };
}

static varve_status load(struct vv_state *state, const struct vv_item *item, struct vv_module **module)
{
    varve_status rc = VARVE_OK;
    struct vv_module *loaded = NULL;
    varve_module_id id;
    uint8_t leaf[VV_HASH_SIZE];
    char hex[65];

    memcpy(id.bytes, item->key, sizeof id.bytes);
    VV_ASSERT(state->source != NULL);
    TRY(state->source->load(state->source->context, &id, item->locator, &loaded));
    TRY(vv_module_leaf(loaded, leaf));
    if (memcmp(&loaded->id, &id, sizeof id) != 0 || !vv_hash_equal(leaf, item->hash)) {
        vv_hex_format(id.bytes, hex);
        rc = vv_fail(VARVE_CORRUPT, "the entry of module %s is not the one that the state's root names", hex);
        goto out;
    }
    TRY(keep(state, loaded));
    *module = loaded; /* the table holds it */
out:
    vv_module_drop(loaded);
    return rc;
}

varve_status vv_state_get(struct vv_state *state, const varve_module_id *id, struct vv_module **module)
{
    varve_status rc = VARVE_OK;
    struct vv_item item;
    bool present = false;

    *module = NULL;
    TRY(vv_trie_get(&state->trie, id->bytes, &item, &present));
    if (!present)
        goto out;
    *module = find_known(state, id);
    if (*module == NULL)
        TRY(load(state, &item, module));
out:
    return rc;
}

varve_status vv_state_set(struct vv_state *state, struct vv_module *module)
{
    varve_status rc = VARVE_OK;
    struct vv_item item = { .locator = 0 };
    struct vv_module *before = find_known(state, &module->id);

    if (before != NULL)
        vv_module_hold(before);
    memcpy(item.key, module->id.bytes, sizeof item.key);
    TRY(vv_module_leaf(module, item.hash));
    TRY(keep(state, module)); /* first: a leaf without its module would be lost */
    rc = vv_trie_set(&state->trie, &item);
    if (rc != VARVE_OK && before != NULL)
        (void)keep(state, before); /* replaces in place: cannot fail */
    else if (rc != VARVE_OK && vv_table_remove(&state->fresh->table, &module->id, NULL))
        vv_module_drop(module);
out:
    vv_module_drop(before);
    return rc;
}

varve_status vv_state_remove(struct vv_state *state, const varve_module_id *id)
{
    union vv_value gone;
    const varve_status rc = vv_trie_remove(&state->trie, id->bytes);

    if (rc == VARVE_OK && state->fresh->holders == 1 && vv_table_remove(&state->fresh->table, id, &gone))
        vv_module_drop(gone.pointer);
    return rc;
}

/* The next key in order; false when `key` was the last there can be. */
static bool increment(uint8_t key[32])
{
    for (size_t i = 32; i-- > 0;) {
        if (++key[i] != 0)
            return true;
    }
    return false;
}

varve_status vv_state_next(struct vv_state *state, const varve_module_id *after, struct vv_module **module)
{
    varve_status rc = VARVE_OK;
    varve_module_id from;
    struct vv_item item;
    bool present = false;

    *module = NULL;
    if (after != NULL) {
        from = *after;
        if (!increment(from.bytes))
            goto out;
    }
    TRY(vv_trie_next(&state->trie, after == NULL ? NULL : from.bytes, &item, &present));
    if (!present)
        goto out;
    memcpy(from.bytes, item.key, sizeof from.bytes);
    TRY(vv_state_get(state, &from, module));
out:
    return rc;
}

varve_status vv_state_count(struct vv_state *state, uint64_t *modules)
{
    return vv_trie_count(&state->trie, modules);
}

varve_status vv_state_root(struct vv_state *state, varve_root *root)
{
    uint8_t top[VV_HASH_SIZE];
    uint8_t meta[VV_HASH_SIZE];
    const varve_status rc = vv_trie_top(&state->trie, top);

    if (rc != VARVE_OK)
        return rc;
    meta_hash(state, meta);
    vv_state_root_hash(top, meta, root->bytes);
    return VARVE_OK;
}

static varve_status proof_facts(void *context, const uint8_t id[32], struct vv_module_facts *facts,
                                struct vv_pagetree **memory)
{
    varve_module_id wanted;
    struct vv_module *module = NULL;
    varve_status rc = VARVE_OK;

    memcpy(wanted.bytes, id, sizeof wanted.bytes);
    TRY(vv_state_get(context, &wanted, &module));
    VV_ASSERT(module != NULL); /* the trie has a leaf of it */
    TRY(module_facts(module, facts));
    *memory = &module->memory;
out:
    return rc;
}

varve_status vv_state_prove(struct vv_state *state, const varve_module_id *id, uint64_t page,
                            const uint8_t bytes[VV_PAGE_SIZE], struct vv_bytes *proof)
{
    uint8_t meta[VV_HASH_SIZE];

    meta_hash(state, meta);
    return vv_proof_encode(&state->trie, meta, id->bytes, page, bytes, proof_facts, state, proof);
}
