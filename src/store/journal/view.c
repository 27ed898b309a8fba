/* view.c - see view.h. */
#include "store/journal/view.h"

#include <stdlib.h>

#include "base/alloc.h"

/* ---- What checkpoints saved ------------------------------------------------------------------- */

void vv_saved_encode(const void *bytes, size_t size, struct vv_bytes *out)
{
    uint8_t sum[VV_SUM];

    VV_ASSERT(size <= UINT32_MAX);
    vv_record_sum(bytes, size, sum);
    vv_bytes_u32(out, (uint32_t)size);
    vv_bytes_put(out, sum, VV_SUM);
    vv_bytes_put(out, bytes, size);
}

static varve_status saved_is_bad(struct vv_log *log, uint64_t address)
{
    char name[VV_SEGMENT_NAME];

    vv_log_file_name(log, address, name);
    return vv_fail(VARVE_CORRUPT, "%s: what a checkpoint saved at address %llu fails its checksum", name,
                   (unsigned long long)address);
}

varve_status vv_saved_read(struct vv_log *log, uint64_t address, struct vv_bytes *bytes)
{
    varve_status rc = VARVE_OK;
    uint8_t head[1024]; /* a full node is smaller: one read */
    uint8_t sum[VV_SUM];
    size_t got = 0;
    const size_t before = bytes->size;

    TRY(vv_log_read_some(log, address, head, sizeof head, &got));
    if (got < VV_SAVED_HEADER || vv_get_u32(head) == 0 ||
        vv_get_u32(head) > vv_log_left(log, address) - VV_SAVED_HEADER)
        TRY(saved_is_bad(log, address));
    const size_t size = vv_get_u32(head);
    uint8_t *room = vv_bytes_extend(bytes, size);
    TRY(vv_bytes_done(bytes));
    if (size <= got - VV_SAVED_HEADER)
        memcpy(room, head + VV_SAVED_HEADER, size);
    else
        TRY(vv_log_read(log, address + VV_SAVED_HEADER, room, size));
    vv_record_sum(bytes->data + before, size, sum);
    if (memcmp(sum, head + 4, VV_SUM) != 0)
        TRY(saved_is_bad(log, address));
out:
    return rc;
}

static varve_status read_node(void *context, uint64_t address, struct vv_bytes *bytes)
{
    return vv_saved_read(context, address, bytes);
}

static varve_status load_module(void *context, const varve_module_id *id, uint64_t locator,
                                struct vv_module **module)
{
    varve_status rc = VARVE_OK;
    struct vv_views *views = context;
    struct vv_bytes bytes = VV_BYTES_NONE;
    uint64_t top = 0;

    (void)id; /* the caller compares it */
    *module = NULL;
    if (locator == 0)
        TRY(vv_fail(VARVE_CORRUPT, "a checkpoint does not say where a module's entry lies"));
    TRY(vv_saved_read(views->log, locator, &bytes));
    struct vv_reader reader = vv_reader_of(bytes.data, bytes.size);
    TRY(vv_module_decode(&reader, &views->nodes, module, &top));
    rc = vv_reader_done(&reader, "a module's entry");
    if (rc != VARVE_OK) {
        vv_module_drop(*module);
        *module = NULL;
    }
out:
    vv_bytes_release(&bytes);
    return rc;
}

/* ---- The cache -------------------------------------------------------------------------------- */

varve_status vv_views_init(struct vv_views *views, struct vv_log *log, size_t capacity)
{
    VV_ASSERT(capacity > 0);
    *views = (struct vv_views){ .log = log, .capacity = capacity };
    views->nodes = (struct vv_node_source){ .read = read_node, .context = log };
    views->modules = (struct vv_module_source){ .load = load_module, .context = views };
    pthread_mutex_init(&views->mutex, NULL);
    vv_table_init(&views->made, sizeof(uint64_t));
    vv_table_init(&views->avoided, sizeof(uint64_t));
    vv_table_init(&views->ways, sizeof(uint64_t));
    return vv_alloc(&views->entries, capacity, sizeof *views->entries);
}

void vv_views_release(struct vv_views *views)
{
    for (size_t i = 0; i < views->count; i++)
        vv_state_release(&views->entries[i].state);
    vv_free(views->entries);
    vv_table_release(&views->made);
    vv_table_release(&views->avoided);
    vv_table_release(&views->ways);
    pthread_mutex_destroy(&views->mutex);
    *views = (struct vv_views){ .log = NULL };
}

/* A copy of the state, if it is kept. `flushes`: how many there were until now; may be NULL. */
static varve_status copy_cached(struct vv_views *views, uint64_t address, struct vv_state *state, bool *hit,
                                uint64_t *flushes)
{
    varve_status rc = VARVE_OK;

    *hit = false;
    pthread_mutex_lock(&views->mutex);
    if (flushes != NULL)
        *flushes = views->flushes;
    for (size_t i = 0; i < views->count && !*hit; i++) {
        if (views->entries[i].address != address)
            continue;
        *hit = true;
        views->entries[i].used = ++views->clock;
        rc = vv_state_copy(state, &views->entries[i].state);
    }
    pthread_mutex_unlock(&views->mutex);
    return rc;
}

/* Keep a copy of a state, taking it. The caller holds the mutex. */
static void put_copy(struct vv_views *views, uint64_t address, struct vv_state *copy)
{
    size_t place = 0;

    for (place = 0; place < views->count; place++) {
        if (views->entries[place].address == address)
            break;
    }
    if (place == views->count && views->count == views->capacity) {
        place = 0;
        for (size_t i = 1; i < views->count; i++) {
            if (views->entries[i].used < views->entries[place].used)
                place = i;
        }
    }
    struct vv_views_entry *entry = &views->entries[place];
    if (place == views->count)
        views->count++;
    else
        vv_state_release(&entry->state);
    *entry = (struct vv_views_entry){ .address = address, .used = ++views->clock, .state = *copy };
}

void vv_views_put(struct vv_views *views, uint64_t address, const struct vv_state *state, uint64_t flushes)
{
    struct vv_state copy;

    if (vv_state_copy(&copy, state) != VARVE_OK)
        return;
    pthread_mutex_lock(&views->mutex);
    const bool fresh = flushes == views->flushes;
    if (fresh)
        put_copy(views, address, &copy);
    pthread_mutex_unlock(&views->mutex);
    if (!fresh)
        vv_state_release(&copy);
}

uint64_t vv_views_flushes(struct vv_views *views)
{
    pthread_mutex_lock(&views->mutex);
    const uint64_t flushes = views->flushes;
    pthread_mutex_unlock(&views->mutex);
    return flushes;
}

uint64_t vv_views_checkpoint(struct vv_views *views, uint64_t commit)
{
    pthread_mutex_lock(&views->mutex);
    const union vv_value *value = vv_table_get(&views->made, &commit);
    const uint64_t checkpoint = value == NULL ? 0 : value->number;
    pthread_mutex_unlock(&views->mutex);
    return checkpoint;
}

void vv_views_made(struct vv_views *views, uint64_t commit, uint64_t checkpoint)
{
    pthread_mutex_lock(&views->mutex);
    /* Not remembering it costs a longer way, no more. */
    (void)vv_table_put(&views->made, &commit, (union vv_value){ .number = checkpoint });
    pthread_mutex_unlock(&views->mutex);
}

/* Those that say nothing any more take no room, if there is memory to make the table anew. */
static void sift_made(struct vv_views *views)
{
    struct vv_table left;
    const void *key = NULL;
    union vv_value *value = NULL;
    varve_status rc = VARVE_OK;

    vv_table_init(&left, sizeof(uint64_t));
    for (size_t cursor = 0; rc == VARVE_OK && vv_table_next(&views->made, &cursor, &key, &value);) {
        if (value->number != 0)
            rc = vv_table_put(&left, key, *value);
    }
    struct vv_table *needless = rc == VARVE_OK ? &views->made : &left;
    vv_table_release(needless);
    if (rc == VARVE_OK)
        views->made = left;
}

void vv_views_flush(struct vv_views *views, uint64_t start)
{
    const void *key = NULL;
    union vv_value *value = NULL;
    size_t cursor = 0;

    pthread_mutex_lock(&views->mutex);
    for (size_t i = 0; i < views->count; i++)
        vv_state_release(&views->entries[i].state);
    views->count = 0;
    views->flushes++;
    while (vv_table_next(&views->made, &cursor, &key, &value)) {
        if (value->number < start && vv_table_get(&views->ways, key) == NULL)
            value->number = 0;
    }
    sift_made(views);
    pthread_mutex_unlock(&views->mutex);
}

varve_status vv_views_avoid(struct vv_views *views, uint64_t checkpoint)
{
    pthread_mutex_lock(&views->mutex);
    const varve_status rc = vv_table_put(&views->avoided, &checkpoint, (union vv_value){ .number = 0 });
    pthread_mutex_unlock(&views->mutex);
    return rc;
}

bool vv_views_avoided(struct vv_views *views, uint64_t checkpoint)
{
    pthread_mutex_lock(&views->mutex);
    const bool yes = vv_table_get(&views->avoided, &checkpoint) != NULL;
    pthread_mutex_unlock(&views->mutex);
    return yes;
}

varve_status vv_views_only(struct vv_views *views, uint64_t commit, uint64_t checkpoint)
{
    varve_status rc = VARVE_OK;
    const union vv_value value = { .number = checkpoint };

    pthread_mutex_lock(&views->mutex);
    TRY(vv_table_put(&views->ways, &commit, value));
    TRY(vv_table_put(&views->made, &commit, value));
out:
    pthread_mutex_unlock(&views->mutex);
    return rc;
}

static int by_address(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* Keys in order, each as its distance from the one before; with `values`, behind each the distance to its value. Those
 * below `start` are left out. */
static varve_status encode_addresses(const struct vv_table *table, bool values, uint64_t start,
                                     struct vv_bytes *out)
{
    varve_status rc = VARVE_OK;
    uint64_t *addresses = NULL;
    const void *key = NULL;
    union vv_value *value = NULL;
    size_t cursor = 0;
    size_t count = 0;

    TRY(vv_alloc(&addresses, table->count, sizeof *addresses));
    while (vv_table_next(table, &cursor, &key, &value)) {
        memcpy(&addresses[count], key, sizeof *addresses);
        count += addresses[count] >= start;
    }
    if (count > 1)
        qsort(addresses, count, sizeof *addresses, by_address);
    vv_bytes_varint(out, count);
    for (size_t i = 0; i < count; i++) {
        vv_bytes_varint(out, addresses[i] - (i == 0 ? 0 : addresses[i - 1]));
        if (values)
            vv_bytes_varint(out, vv_table_get(table, &addresses[i])->number - addresses[i]);
    }
    rc = vv_bytes_done(out);
out:
    vv_free(addresses);
    return rc;
}

/* One that lies, or leads, below `start` goes; false: there is none. */
static bool forget_one(struct vv_table *table, bool values, uint64_t start)
{
    const void *key = NULL;
    union vv_value *value = NULL;
    size_t cursor = 0;
    uint64_t address = 0;

    while (vv_table_next(table, &cursor, &key, &value)) {
        memcpy(&address, key, sizeof address);
        if (address < start || (values && value->number < start)) {
            vv_table_remove(table, &address, NULL);
            return true;
        }
    }
    return false;
}

void vv_views_forget_below(struct vv_views *views, uint64_t start)
{
    const void *key = NULL;
    union vv_value *value = NULL;
    size_t cursor = 0;

    pthread_mutex_lock(&views->mutex);
    while (forget_one(&views->avoided, false, start))
        continue;
    while (forget_one(&views->ways, true, start)) /* few: of repairs */
        continue;
    while (vv_table_next(&views->made, &cursor, &key, &value)) {
        if (value->number < start)
            value->number = 0;
    }
    pthread_mutex_unlock(&views->mutex);
}

uint64_t vv_views_way(struct vv_views *views, uint64_t commit)
{
    pthread_mutex_lock(&views->mutex);
    const union vv_value *value = vv_table_get(&views->ways, &commit);
    const uint64_t checkpoint = value == NULL ? 0 : value->number;
    pthread_mutex_unlock(&views->mutex);
    return checkpoint;
}

varve_status vv_views_encode_ways(struct vv_views *views, uint64_t start, struct vv_bytes *out)
{
    pthread_mutex_lock(&views->mutex);
    varve_status rc = encode_addresses(&views->avoided, false, start, out);
    if (rc == VARVE_OK)
        rc = encode_addresses(&views->ways, true, start, out);
    pthread_mutex_unlock(&views->mutex);
    return rc;
}

varve_status vv_views_decode_ways(struct vv_views *views, struct vv_reader *reader)
{
    varve_status rc = VARVE_OK;
    uint64_t address = 0;

    for (uint64_t left = vv_reader_varint(reader); left > 0 && !reader->bad; left--) {
        address += vv_reader_varint(reader);
        TRY(vv_views_avoid(views, address));
    }
    address = 0;
    for (uint64_t left = vv_reader_varint(reader); left > 0 && !reader->bad; left--) {
        address += vv_reader_varint(reader);
        TRY(vv_views_only(views, address, address + vv_reader_varint(reader)));
    }
    if (reader->bad)
        rc = vv_fail(VARVE_CORRUPT, "the directory of a checkpoint does not decode");
out:
    return rc;
}

/* ---- Opening a checkpoint --------------------------------------------------------------------- */

static varve_status take_meta(struct vv_reader *reader, struct vv_state *state)
{
    varve_status rc = VARVE_OK;
    const uint64_t count = vv_reader_varint(reader);

    for (uint64_t i = 0; i < count && !reader->bad; i++) {
        char key[VV_META_KEY_MAX + 1] = "";
        size_t key_size = 0;
        size_t value_size = 0;
        const uint8_t *name = vv_reader_blob(reader, VV_META_KEY_MAX, &key_size);
        const uint8_t *value = vv_reader_blob(reader, VV_META_VALUE_MAX, &value_size);
        if (name == NULL || value == NULL || key_size == 0 || value_size == 0)
            TRY(vv_fail(VARVE_CORRUPT, "the named values in a checkpoint do not decode"));
        memcpy(key, name, key_size);
        TRY(vv_state_set_meta(state, key, value, value_size));
    }
    if (reader->bad)
        rc = vv_fail(VARVE_CORRUPT, "the named values in a checkpoint do not decode");
out:
    return rc;
}

varve_status vv_views_open_checkpoint(struct vv_views *views, uint64_t address, struct vv_record *record,
                                      struct vv_state *state)
{
    varve_status rc = VARVE_OK;
    struct vv_checkpoint checkpoint;
    uint8_t *facts = NULL;
    uint8_t *directory = NULL;
    struct vv_state made = { .fresh = NULL };

    TRY(vv_log_record_facts(views->log, address, VV_RECORD_CHECKPOINT, record, &facts));
    TRY(vv_checkpoint_decode(record, facts, &checkpoint));
    TRY(vv_log_directory(views->log, record, &directory));
    TRY(vv_state_init(&made, &views->nodes, &views->modules));
    TRY(vv_trie_open(&made.trie, checkpoint.state.address, checkpoint.state.hash, &views->nodes));
    struct vv_reader reader = vv_reader_of(directory, record->directory_size);
    TRY(take_meta(&reader, &made));
    *state = made;
    made = (struct vv_state){ .fresh = NULL };
out:
    if (made.fresh != NULL)
        vv_state_release(&made);
    vv_free(facts);
    vv_free(directory);
    return rc;
}

static varve_status nothing(void *context, uint64_t index, const struct vv_leaf *leaf)
{
    (void)context;
    (void)index;
    (void)leaf;
    return VARVE_OK;
}

varve_status vv_views_verify(struct vv_views *views, const struct vv_record *checkpoint)
{
    varve_status rc = VARVE_OK;
    struct vv_record again;
    struct vv_state state = { .fresh = NULL };
    struct vv_module *module = NULL;
    varve_root root;

    TRY(vv_views_open_checkpoint(views, checkpoint->address, &again, &state));
    TRY(vv_state_root(&state, &root));
    if (checkpoint->parent != 0 && memcmp(root.bytes, checkpoint->root, sizeof root.bytes) != 0)
        TRY(vv_fail(VARVE_CORRUPT, "the checkpoint at address %llu holds another state than its commit",
                    (unsigned long long)checkpoint->address));
    TRY(vv_state_next(&state, NULL, &module));
    while (module != NULL) {
        const varve_module_id id = module->id;
        TRY(vv_pagetree_each(&module->memory, 0, nothing, NULL));
        TRY(vv_state_next(&state, &id, &module));
    }
out:
    if (state.fresh != NULL)
        vv_state_release(&state);
    return rc;
}

varve_status vv_views_open_kept(struct vv_views *views, const struct vv_record *record,
                                struct vv_state *state)
{
    varve_status rc = VARVE_OK;
    struct vv_record_facts facts = { .moves = NULL };
    uint8_t *bytes = NULL;
    uint8_t *directory = NULL;
    struct vv_state made = { .fresh = NULL };

    VV_ASSERT(record->kind == VV_RECORD_KEPT);
    TRY(vv_log_facts(views->log, record, &bytes));
    TRY(vv_record_facts_decode(record, bytes, &facts));
    TRY(vv_log_directory(views->log, record, &directory));
    TRY(vv_state_init(&made, &views->nodes, &views->modules));
    TRY(vv_trie_open(&made.trie, facts.top.address, facts.top.hash, &views->nodes));
    struct vv_reader reader = vv_reader_of(directory, record->directory_size);
    TRY(take_meta(&reader, &made));
    *state = made;
    made = (struct vv_state){ .fresh = NULL };
out:
    if (made.fresh != NULL)
        vv_state_release(&made);
    vv_record_facts_release(&facts);
    vv_free(bytes);
    vv_free(directory);
    return rc;
}

/* ---- Applying records ------------------------------------------------------------------------- */

/* What the records on the way make of one module. Hashes are computed once, at the end. */
struct work {
    varve_module_id id;
    struct vv_module *module; /* newest entry; NULL: removed */
    struct vv_pagetree memory;
};
struct builder {
    struct vv_views *views;
    struct vv_state *state;
    struct vv_table works; /* id -> work */
    struct work *current;
};

static void release_builder(struct builder *builder)
{
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;

    while (vv_table_next(&builder->works, &cursor, &key, &value)) {
        struct work *work = value->pointer;
        vv_module_drop(work->module);
        vv_pagetree_release(&work->memory);
        vv_free(work);
    }
    vv_table_release(&builder->works);
}

/* The work on a module; made when there is none, starting with what the state has of it. */
static varve_status work_on(struct builder *builder, const varve_module_id *id, struct work **work)
{
    varve_status rc = VARVE_OK;
    struct vv_module *before = NULL;
    struct work *made = NULL;
    const union vv_value *there = vv_table_get(&builder->works, id);

    if (there != NULL) {
        *work = there->pointer;
        return VARVE_OK;
    }
    TRY(vv_alloc(&made, 1, sizeof *made));
    made->id = *id;
    vv_pagetree_init(&made->memory, 0, &builder->views->nodes);
    TRY(vv_state_get(builder->state, id, &before));
    TRY(vv_table_put(&builder->works, id, (union vv_value){ .pointer = made }));
    if (before != NULL)
        vv_pagetree_copy(&made->memory, &before->memory);
    *work = made;
    made = NULL;
out:
    vv_free(made);
    return rc;
}

static varve_status apply_meta(void *context, const char *key, const void *value, size_t size)
{
    struct builder *builder = context;

    return vv_state_set_meta(builder->state, key, value, size);
}

static varve_status apply_removed(void *context, const uint8_t bytes[32])
{
    varve_status rc = VARVE_OK;
    struct builder *builder = context;
    struct work *work = NULL;
    varve_module_id id;

    memcpy(id.bytes, bytes, sizeof id.bytes);
    TRY(work_on(builder, &id, &work));
    vv_module_drop(work->module);
    work->module = NULL;
    vv_pagetree_release(&work->memory);
    vv_pagetree_init(&work->memory, 0, &builder->views->nodes);
out:
    return rc;
}

static varve_status apply_module(void *context, struct vv_piece entry, bool fresh, uint64_t pages,
                                 uint64_t bytes)
{
    varve_status rc = VARVE_OK;
    struct builder *builder = context;
    struct vv_module *module = NULL;
    struct work *work = NULL;
    uint64_t top = 0;
    struct vv_reader reader = vv_reader_of(entry.data, entry.size);

    (void)pages;
    (void)bytes;
    TRY(vv_module_decode(&reader, &builder->views->nodes, &module, &top));
    TRY(vv_reader_done(&reader, "a module's entry"));
    if (top != 0)
        TRY(vv_fail(VARVE_CORRUPT, "a module's entry in a commit names a saved tree"));
    TRY(work_on(builder, &module->id, &work));
    if (fresh) {
        vv_pagetree_release(&work->memory);
        vv_pagetree_init(&work->memory, 0, &builder->views->nodes);
    }
    TRY(vv_pagetree_resize(&work->memory, module->memory.page_count));
    vv_module_drop(work->module);
    work->module = module;
    module = NULL;
    builder->current = work;
out:
    vv_module_drop(module);
    return rc;
}

static varve_status apply_page(void *context, uint64_t index, const struct vv_leaf *leaf)
{
    struct builder *builder = context;

    if (index >= builder->current->memory.page_count)
        return vv_fail(VARVE_CORRUPT, "a directory names page %llu of a memory of %llu",
                       (unsigned long long)index, (unsigned long long)builder->current->memory.page_count);
    return vv_pagetree_set(&builder->current->memory, index, leaf);
}

static varve_status apply_record(struct builder *builder, const struct vv_record *record)
{
    varve_status rc = VARVE_OK;
    uint8_t *directory = NULL;
    const struct vv_directory_visitor visitor = { .meta = apply_meta,
                                                  .removed = apply_removed,
                                                  .module = apply_module,
                                                  .page = apply_page,
                                                  .context = builder };

    TRY(vv_log_directory(builder->views->log, record, &directory));
    TRY(vv_directory_walk(record, directory, &visitor));
out:
    vv_free(directory);
    return rc;
}

static varve_status finish(struct builder *builder, const struct vv_record *newest)
{
    varve_status rc = VARVE_OK;
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;
    varve_root root;

    while (vv_table_next(&builder->works, &cursor, &key, &value)) {
        struct work *work = value->pointer;
        if (work->module == NULL) {
            TRY(vv_state_remove(builder->state, &work->id));
            continue;
        }
        vv_pagetree_release(&work->module->memory);
        vv_pagetree_copy(&work->module->memory, &work->memory);
        TRY(vv_state_set(builder->state, work->module));
    }
    TRY(vv_state_root(builder->state, &root));
    if (memcmp(root.bytes, newest->root, sizeof root.bytes) != 0) {
        char name[VV_SEGMENT_NAME];
        char hex[65];
        vv_log_file_name(builder->views->log, newest->address, name);
        varve_hex_format(newest->id, hex);
        rc = vv_fail(VARVE_CORRUPT, "%s: the state of commit %s has another root than the commit says", name,
                     hex);
    }
out:
    return rc;
}

/* ---- The way to a commit ---------------------------------------------------------------------- */

struct path {
    struct vv_record *records; /* newest first */
    size_t count, capacity;
    uint64_t below;          /* checkpoints from here on are damaged: they are passed by */
    uint64_t started_at;     /* the checkpoint that was taken; 0: none */
    uint64_t checkpoint, of; /* the one that records name, and the commit that it is of */
};

static varve_status push(struct path *path, const struct vv_record *record)
{
    if (path->count == path->capacity) {
        const size_t capacity = path->capacity == 0 ? 8 : 2 * path->capacity;
        const varve_status rc = vv_resize(&path->records, capacity, sizeof *path->records);
        if (rc != VARVE_OK)
            return rc;
        path->capacity = capacity;
    }
    path->records[path->count++] = *record;
    return VARVE_OK;
}

/* Start from the checkpoint at `address` if it can be read. A damaged one is only a longer way. */
static varve_status try_checkpoint(struct vv_views *views, struct path *path, uint64_t address,
                                   struct vv_state *state, bool *started)
{
    struct vv_record record;
    const varve_status rc = vv_views_open_checkpoint(views, address, &record, state);

    *started = rc == VARVE_OK;
    if (rc == VARVE_OK)
        path->started_at = address;
    if (rc == VARVE_CORRUPT) {
        path->below = address;
        return VARVE_OK;
    }
    return rc;
}

/* Does the checkpoint that `record` names belong to its parent? Its header is read once for all on the way. */
static varve_status names_parents_checkpoint(struct vv_views *views, struct path *path,
                                             const struct vv_record *record, bool *yes)
{
    struct vv_record checkpoint;

    *yes = false;
    if (record->checkpoint == 0 || record->checkpoint >= path->below ||
        vv_views_avoided(views, record->checkpoint))
        return VARVE_OK;
    if (path->checkpoint != record->checkpoint) {
        const varve_status rc =
            vv_log_record(views->log, record->checkpoint, VV_RECORD_CHECKPOINT, &checkpoint);
        if (rc == VARVE_CORRUPT) {
            path->below = record->checkpoint;
            return VARVE_OK;
        }
        if (rc != VARVE_OK)
            return rc;
        path->checkpoint = record->checkpoint;
        path->of = checkpoint.parent;
    }
    *yes = path->of == record->parent;
    return VARVE_OK;
}

static varve_status read_commit(struct vv_views *views, uint64_t address, struct vv_record *record)
{
    const varve_status rc = vv_log_record(views->log, address, 0, record);

    if (rc == VARVE_OK && record->kind != VV_RECORD_COMMIT && record->kind != VV_RECORD_KEPT)
        return vv_fail(VARVE_CORRUPT, "no commit lies at address %llu", (unsigned long long)address);
    return rc;
}

/* Go to parents until there is a state to start from. Addresses fall with every step, so this ends. */
static varve_status find_start(struct vv_views *views, uint64_t address, struct path *path,
                               struct vv_state *state)
{
    varve_status rc = VARVE_OK;
    struct vv_record record;
    bool started = false;
    bool yes = false;

    for (uint64_t at = address; !started; at = record.parent) {
        if (at != address) {
            TRY(copy_cached(views, at, state, &started, NULL));
            if (started)
                break;
        }
        const uint64_t own = vv_views_checkpoint(views, at);
        if (own != 0 && own < path->below && !vv_views_avoided(views, own)) {
            TRY(try_checkpoint(views, path, own, state, &started));
            if (started && at != address)
                break;
            if (started) { /* its root is to be checked against the commit's all the same */
                TRY(read_commit(views, at, &record));
                TRY(push(path, &record));
                path->records[path->count - 1].directory_size = 0;
                break;
            }
        }
        TRY(read_commit(views, at, &record));
        if (record.kind == VV_RECORD_KEPT) {
            TRY(vv_views_open_kept(views, &record, state));
            if (at == address)
                TRY(push(path, &record));
            break;
        }
        TRY(push(path, &record));
        if (record.parent == 0) {
            TRY(vv_state_init(state, &views->nodes, &views->modules));
            break;
        }
        TRY(names_parents_checkpoint(views, path, &record, &yes));
        if (yes)
            TRY(try_checkpoint(views, path, record.checkpoint, state, &started));
    }
out:
    return rc;
}

static varve_status build_on(struct vv_views *views, uint64_t address, struct path *path,
                             struct vv_state *state)
{
    varve_status rc = VARVE_OK;
    struct vv_state made = { .fresh = NULL };
    struct builder builder = { .views = views, .state = &made };

    vv_table_init(&builder.works, sizeof(varve_module_id));
    TRY(find_start(views, address, path, &made));
    for (size_t i = path->count; i-- > 0;) {
        if (path->records[i].directory_size > 0 && path->records[i].kind == VV_RECORD_COMMIT)
            TRY(apply_record(&builder, &path->records[i]));
    }
    TRY(finish(&builder, &path->records[0]));
    *state = made;
    made = (struct vv_state){ .fresh = NULL };
out:
    if (made.fresh != NULL)
        vv_state_release(&made);
    release_builder(&builder);
    return rc;
}

/* A checkpoint is worth no more than a shorter way: when it leads to damage, a longer one may not. */
static varve_status build(struct vv_views *views, uint64_t address, struct vv_state *state)
{
    struct path path = { .below = UINT64_MAX };
    varve_status rc = build_on(views, address, &path, state);

    while (rc == VARVE_CORRUPT && path.started_at != 0) { /* each time below the one that failed */
        path.below = path.started_at;
        path.started_at = 0;
        path.count = 0;
        rc = build_on(views, address, &path, state);
    }
    vv_free(path.records);
    return rc;
}

varve_status vv_views_get(struct vv_views *views, uint64_t address, struct vv_state *state)
{
    varve_status rc = VARVE_OK;
    uint64_t flushes = 0;
    bool hit = false;

    TRY(copy_cached(views, address, state, &hit, &flushes));
    if (hit)
        goto out;
    TRY(build(views, address, state));
    vv_views_put(views, address, state, flushes);
out:
    return rc;
}
