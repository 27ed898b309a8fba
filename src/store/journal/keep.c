/* keep.c - see keep.h. Format: docs/format.md, "Kept commits". */
#include "store/journal/keep.h"

#include <string.h>

#include "base/alloc.h"

void vv_keeper_init(struct vv_keeper *keeper, struct vv_mark *mark, uint64_t start, enum vv_room room)
{
    *keeper = (struct vv_keeper){ .place = mark->place, .mark = mark, .start = start, .room = room };
    vv_table_init(&keeper->moved, sizeof(uint64_t));
}

static void release_state(struct vv_state *state)
{
    if (state->fresh != NULL)
        vv_state_release(state);
    *state = (struct vv_state){ .fresh = NULL };
}

void vv_keeper_release(struct vv_keeper *keeper)
{
    release_state(&keeper->from);
    release_state(&keeper->to);
    vv_table_release(&keeper->moved);
}

/* ---- What a commit changed -------------------------------------------------------------------- */

varve_status vv_kept_changed(const struct vv_record *record, const void *directory,
                             varve_status (*each)(void *context, const varve_module_id *id, bool removed,
                                                  uint64_t pages, uint64_t bytes),
                             void *context)
{
    varve_status rc = VARVE_OK;
    struct vv_reader reader = vv_reader_of(directory, record->directory_size);
    varve_module_id id;
    size_t size = 0;

    for (uint64_t pairs = vv_reader_varint(&reader); pairs > 0 && !reader.bad; pairs--) {
        (void)vv_reader_blob(&reader, VV_META_KEY_MAX, &size);
        (void)vv_reader_blob(&reader, VV_META_VALUE_MAX, &size);
    }
    for (uint64_t count = vv_reader_varint(&reader); count > 0 && !reader.bad; count--) {
        vv_reader_copy(&reader, id.bytes, sizeof id.bytes);
        const unsigned removed = vv_reader_u8(&reader);
        const uint64_t pages = vv_reader_varint(&reader);
        const uint64_t bytes = vv_reader_varint(&reader);
        if (removed > 1)
            reader.bad = true;
        if (!reader.bad)
            TRY(each(context, &id, removed == 1, pages, bytes));
    }
    rc = vv_reader_done(&reader, "the directory of a kept commit");
out:
    return rc;
}

struct changes {
    struct vv_bytes list;
    uint64_t count;
};

static varve_status put_change(void *context, const varve_module_id *id, bool removed, uint64_t pages,
                               uint64_t bytes)
{
    struct changes *changes = context;

    changes->count++;
    vv_bytes_put(&changes->list, id->bytes, sizeof id->bytes);
    vv_bytes_u8(&changes->list, removed);
    vv_bytes_varint(&changes->list, pages);
    vv_bytes_varint(&changes->list, bytes);
    return vv_bytes_done(&changes->list);
}

static varve_status put_removed(void *context, const uint8_t bytes[32])
{
    varve_module_id id;

    memcpy(id.bytes, bytes, sizeof id.bytes);
    return put_change(context, &id, true, 0, 0);
}

static varve_status put_module(void *context, struct vv_piece entry, bool fresh, uint64_t pages,
                               uint64_t bytes)
{
    varve_module_id id;

    (void)fresh;
    if (entry.size < sizeof id.bytes)
        return vv_fail(VARVE_CORRUPT, "a module's entry does not decode");
    memcpy(id.bytes, entry.data, sizeof id.bytes);
    return put_change(context, &id, false, pages, bytes);
}

/* ---- One commit ------------------------------------------------------------------------------- */

struct page {
    size_t item; /* of the differing module */
    uint64_t index;
    uint8_t hash[VV_HASH_SIZE];
    uint64_t locator; /* as it was; 0: the page is zero now */
};
struct keeping {
    struct vv_keeper *keeper;
    struct vv_record old; /* that the commit lies in until now */
    uint8_t *bytes;       /* its facts, which `facts` lends from */
    struct vv_record_facts facts;
    struct vv_state state; /* as it was */
    struct vv_item *items; /* modules that differ from the commit before; hash zero: gone */
    size_t item_count, item_capacity;
    size_t item;        /* that is being compared */
    uint64_t item_size; /* pages of it */
    struct page *pages;
    size_t page_count, page_capacity;
    struct vv_table fresh; /* old locator -> which of the pages that this record holds */
    uint64_t fresh_count;
    struct vv_bytes directory, frames;
    uint64_t *frame_at; /* offset of each in `frames` */
    struct vv_state made;
    struct vv_saved_top top;
    struct vv_bytes saved;
    uint64_t saved_at;
};

static varve_status add_item(void *context, const struct vv_item *from, const struct vv_item *to)
{
    struct keeping *work = context;

    if (work->item_count == work->item_capacity) {
        const size_t capacity = work->item_capacity == 0 ? 16 : 2 * work->item_capacity;
        const varve_status rc = vv_resize(&work->items, capacity, sizeof *work->items);
        if (rc != VARVE_OK)
            return rc;
        work->item_capacity = capacity;
    }
    struct vv_item *item = &work->items[work->item_count++];
    *item = to != NULL ? *to : *from;
    if (to == NULL)
        memset(item->hash, 0, VV_HASH_SIZE);
    return VARVE_OK;
}

static varve_status add_page(void *context, uint64_t index, const struct vv_leaf *from,
                             const struct vv_leaf *to)
{
    struct keeping *work = context;

    (void)from;
    if (index >= work->item_size)
        return VARVE_OK; /* beyond the end, which the length says */
    if (work->page_count == work->page_capacity) {
        const size_t capacity = work->page_capacity == 0 ? 64 : 2 * work->page_capacity;
        const varve_status rc = vv_resize(&work->pages, capacity, sizeof *work->pages);
        if (rc != VARVE_OK)
            return rc;
        work->page_capacity = capacity;
    }
    struct page *page = &work->pages[work->page_count++];
    *page = (struct page){ .item = work->item, .index = index, .locator = to == NULL ? 0 : to->locator };
    if (to != NULL)
        memcpy(page->hash, to->hash, VV_HASH_SIZE);
    return VARVE_OK;
}

static varve_status get_module(struct vv_state *state, const uint8_t key[32], struct vv_module **module)
{
    varve_module_id id;

    *module = NULL;
    memcpy(id.bytes, key, sizeof id.bytes);
    return state->fresh == NULL ? VARVE_OK : vv_state_get(state, &id, module);
}

/* What differs from the commit that was kept before. */
static varve_status compare(struct keeping *work)
{
    varve_status rc = VARVE_OK;
    struct vv_keeper *keeper = work->keeper;

    TRY(vv_trie_diff(keeper->some ? &keeper->from.trie : NULL, &work->state.trie, add_item, work));
    for (work->item = 0; work->item < work->item_count; work->item++) {
        const struct vv_item *item = &work->items[work->item];
        struct vv_module *before = NULL;
        struct vv_module *after = NULL;
        if (vv_hash_is_zero(item->hash))
            continue;
        TRY(get_module(&keeper->from, item->key, &before));
        TRY(get_module(&work->state, item->key, &after));
        if (after == NULL)
            TRY(vv_fail(VARVE_CORRUPT, "a state does not have the module that it names"));
        work->item_size = after->memory.page_count;
        TRY(vv_pagetree_diff(before == NULL ? NULL : &before->memory, &after->memory, add_page, work));
    }
out:
    return rc;
}

/* Which pages must be written once more; those that were are known. */
static varve_status choose_pages(struct keeping *work)
{
    varve_status rc = VARVE_OK;
    struct vv_keeper *keeper = work->keeper;

    for (size_t i = 0; i < work->page_count; i++) {
        const uint64_t locator = work->pages[i].locator;
        uint64_t lowest = UINT64_MAX;
        if (locator == 0 || vv_table_get(&keeper->moved, &locator) != NULL ||
            vv_table_get(&work->fresh, &locator) != NULL)
            continue;
        TRY(vv_mark_page(keeper->mark, locator, &lowest));
        if (lowest >= keeper->start)
            continue;
        TRY(vv_table_put(&work->fresh, &locator, (union vv_value){ .number = work->fresh_count }));
        work->fresh_count++;
    }
out:
    return rc;
}

/* The pages in the order in which they were numbered, whole, up to 64 in a frame. */
static varve_status put_frames(struct keeping *work)
{
    varve_status rc = VARVE_OK;
    struct vv_codec codec = VV_CODEC_NONE;
    struct vv_frame_page pages[VV_FRAME_PAGES];
    uint8_t(*bytes)[VV_PAGE_SIZE] = NULL;
    uint64_t number = 0;

    TRY(vv_alloc(&bytes, VV_FRAME_PAGES, VV_PAGE_SIZE));
    TRY(vv_alloc(&work->frame_at, work->fresh_count / VV_FRAME_PAGES + 1, sizeof *work->frame_at));
    for (size_t i = 0; i < work->page_count && number < work->fresh_count; i++) {
        const struct page *page = &work->pages[i];
        const union vv_value *fresh = vv_table_get(&work->fresh, &page->locator);
        if (page->locator == 0 || fresh == NULL || fresh->number != number)
            continue;
        struct vv_leaf leaf = { .locator = page->locator };
        memcpy(leaf.hash, page->hash, VV_HASH_SIZE);
        const size_t slot = (size_t)(number % VV_FRAME_PAGES);
        TRY(vv_pages_read(&work->keeper->place->pages, &leaf, bytes[slot]));
        pages[slot] = (struct vv_frame_page){ .bytes = bytes[slot] };
        number++;
        if (slot + 1 == VV_FRAME_PAGES || number == work->fresh_count) {
            work->frame_at[(number - 1) / VV_FRAME_PAGES] = work->frames.size;
            TRY(vv_frame_encode_with(&codec, pages, slot + 1, &work->frames));
        }
    }
    VV_ASSERT(number == work->fresh_count);
    TRY(vv_bytes_done(&work->frames));
out:
    vv_codec_release(&codec);
    vv_free(bytes);
    return rc;
}

static varve_status put_directory(struct keeping *work)
{
    varve_status rc = VARVE_OK;
    struct vv_log *log = &work->keeper->place->log;
    struct changes changes = { .list = VV_BYTES_NONE };
    const struct vv_directory_visitor visitor = { .removed = put_removed,
                                                  .module = put_module,
                                                  .context = &changes };
    uint8_t *directory = NULL;

    rc = vv_log_directory(log, &work->old, &directory);
    if (rc == VARVE_OK && work->old.kind == VV_RECORD_KEPT)
        rc = vv_kept_changed(&work->old, directory, put_change, &changes);
    else if (rc == VARVE_OK)
        rc = vv_directory_walk(&work->old, directory, &visitor);
    if (rc == VARVE_CORRUPT && vv_views_way(&work->keeper->place->views, work->old.address) != 0) {
        vv_bytes_clear(
            &changes.list); /* a repair found it whole without: what it changed is for show alone */
        changes.count = 0;
        rc = VARVE_OK;
    }
    TRY(rc);
    vv_bytes_varint(&work->directory, work->state.meta_count);
    for (size_t i = 0; i < work->state.meta_count; i++) {
        const struct vv_meta_pair *pair = work->state.meta[i];
        vv_directory_meta(&work->directory, pair->key, pair->key_size, pair->value, pair->value_size);
    }
    vv_bytes_varint(&work->directory, changes.count);
    vv_bytes_put(&work->directory, changes.list.data, changes.list.size);
    TRY(vv_bytes_done(&work->directory));
out:
    vv_bytes_release(&changes.list);
    vv_free(directory);
    return rc;
}

/* ---- Where it lies now ------------------------------------------------------------------------ */

static varve_status save_piece(void *context, const void *bytes, size_t size, uint64_t *address)
{
    struct keeping *work = context;

    *address = work->saved_at + work->saved.size;
    vv_saved_encode(bytes, size, &work->saved);
    return vv_bytes_done(&work->saved);
}

static uint64_t locator_now(const struct keeping *work, uint64_t pages_at, uint64_t locator)
{
    const union vv_value *value = vv_table_get(&work->keeper->moved, &locator);

    if (value != NULL)
        return value->number;
    value = vv_table_get(&work->fresh, &locator);
    if (value == NULL)
        return locator;
    return vv_locator_make(pages_at + work->frame_at[value->number / VV_FRAME_PAGES], 0,
                           (unsigned)(value->number % VV_FRAME_PAGES));
}

static varve_status place_module(struct keeping *work, size_t item_index, uint64_t pages_at, size_t *next)
{
    varve_status rc = VARVE_OK;
    struct vv_item item = work->items[item_index];
    struct vv_module *after = NULL;
    struct vv_module *before = NULL;
    struct vv_module *made = NULL;
    struct vv_bytes entry = VV_BYTES_NONE;
    uint64_t top = 0;

    TRY(get_module(&work->state, item.key, &after));
    TRY(get_module(&work->made, item.key, &before));
    TRY(vv_module_clone(after, &made));
    vv_pagetree_release(&made->memory);
    if (before != NULL)
        vv_pagetree_copy(&made->memory, &before->memory);
    else
        vv_pagetree_init(&made->memory, 0, &work->keeper->place->views.nodes);
    TRY(vv_pagetree_resize(&made->memory, after->memory.page_count));
    for (; *next < work->page_count && work->pages[*next].item == item_index; (*next)++) {
        const struct page *page = &work->pages[*next];
        struct vv_leaf leaf = { .locator = locator_now(work, pages_at, page->locator) };
        memcpy(leaf.hash, page->hash, VV_HASH_SIZE);
        TRY(vv_pagetree_set(&made->memory, page->index, page->locator == 0 ? NULL : &leaf));
    }
    TRY(vv_state_set(&work->made, made));
    TRY(vv_pagetree_save(&made->memory, save_piece, work, &top));
    TRY(vv_module_encode(made, top, &entry));
    TRY(save_piece(work, entry.data, entry.size, &item.locator));
    TRY(vv_trie_set(&work->made.trie, &item));
out:
    vv_module_drop(made);
    vv_bytes_release(&entry);
    return rc;
}

/* The state as it lies when the pages section begins at `pages_at`. */
static varve_status place_state(struct keeping *work, uint64_t pages_at)
{
    varve_status rc = VARVE_OK;
    struct vv_keeper *keeper = work->keeper;
    uint8_t wanted[VV_HASH_SIZE];
    size_t next = 0;

    release_state(&work->made);
    vv_bytes_clear(&work->saved);
    work->saved_at = pages_at + work->frames.size;
    if (keeper->some)
        TRY(vv_state_copy(&work->made, &keeper->to));
    else
        TRY(vv_state_init(&work->made, &keeper->place->views.nodes, &keeper->place->views.modules));
    for (size_t i = 0; i < work->item_count; i++) {
        if (vv_hash_is_zero(work->items[i].hash)) {
            varve_module_id id;
            memcpy(id.bytes, work->items[i].key, sizeof id.bytes);
            TRY(vv_state_remove(&work->made, &id));
        } else {
            TRY(place_module(work, i, pages_at, &next));
        }
    }
    VV_ASSERT(next == work->page_count);
    TRY(vv_trie_top(&work->made.trie, work->top.hash));
    TRY(vv_trie_top(&work->state.trie, wanted));
    if (!vv_hash_equal(work->top.hash, wanted))
        TRY(vv_fail(VARVE_CORRUPT, "a commit that is kept has another state than before"));
    TRY(vv_trie_save(&work->made.trie, save_piece, work, &work->top.address));
out:
    return rc;
}

/* Where the record goes depends on its size, and the addresses in it on where it goes. */
static varve_status place_record(struct keeping *work, struct vv_record *record, struct vv_bytes *facts)
{
    varve_status rc = VARVE_OK;
    struct vv_place *place = work->keeper->place;
    uint64_t assumed = place->chain.end;
    uint64_t address = 0;

    for (;;) {
        vv_bytes_clear(facts);
        work->facts.top = work->top;
        TRY(vv_record_facts_encode(VV_RECORD_KEPT, &work->facts, record->id, facts));
        TRY(place_state(work, assumed + VV_RECORD_HEADER + facts->size + work->directory.size));
        record->facts_size = facts->size;
        record->directory_size = work->directory.size;
        record->pages_size = work->frames.size + work->saved.size;
        TRY(vv_place_room(place, place->chain.end, vv_record_padded(record), work->keeper->room, &address));
        if (address == assumed)
            break;
        assumed = address;
    }
    vv_bytes_clear(facts);
    work->facts.top = work->top;
    TRY(vv_record_facts_encode(VV_RECORD_KEPT, &work->facts, record->id, facts));
out:
    return rc;
}

static varve_status remember_moved(struct keeping *work, uint64_t pages_at)
{
    varve_status rc = VARVE_OK;
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;

    while (vv_table_next(&work->fresh, &cursor, &key, &value)) {
        uint64_t locator = 0;
        memcpy(&locator, key, sizeof locator);
        TRY(vv_table_put(&work->keeper->moved, &locator,
                         (union vv_value){ .number = locator_now(work, pages_at, locator) }));
    }
out:
    return rc;
}

static varve_status append_kept(struct keeping *work)
{
    varve_status rc = VARVE_OK;
    struct vv_keeper *keeper = work->keeper;
    struct vv_place *place = keeper->place;
    struct vv_bytes facts = VV_BYTES_NONE;
    struct vv_record record = { .kind = VV_RECORD_KEPT,
                                .number = work->old.number,
                                .time_ns = work->old.time_ns };

    memcpy(record.id, work->old.id, 32);
    memcpy(record.root, work->old.root, 32);
    work->facts.written = work->old.kind == VV_RECORD_KEPT ? work->facts.written : vv_record_used(&work->old);
    TRY(vv_place_announce(place, keeper->room == VV_ROOM_ORDINARY ? keeper->room : VV_ROOM_SPARING));
    pthread_mutex_lock(&place->mutex);
    rc = vv_index_reserve_kept(&place->index, record.id);
    pthread_mutex_unlock(&place->mutex);
    TRY(rc);
    TRY(place_record(work, &record, &facts));
    vv_bytes_put(&work->frames, work->saved.data, work->saved.size);
    TRY(vv_bytes_done(&work->frames));
    const uint64_t pages_at = work->saved_at - (work->frames.size - work->saved.size);
    TRY(remember_moved(work, pages_at));
    TRY(vv_place_append(place, &record, vv_piece_of(&facts), vv_piece_of(&work->directory),
                        vv_piece_of(&work->frames), keeper->room));
    VV_ASSERT(vv_record_pages_at(&record) == pages_at);
    pthread_mutex_lock(&place->mutex);
    vv_index_keep(&place->index, &record);
    pthread_mutex_unlock(&place->mutex);
    release_state(&keeper->from);
    release_state(&keeper->to);
    keeper->from = work->state;
    keeper->to = work->made;
    keeper->some = true;
    work->state = work->made = (struct vv_state){ .fresh = NULL };
out:
    vv_bytes_release(&facts);
    return rc;
}

static varve_status keep(struct keeping *work, uint64_t address)
{
    varve_status rc = VARVE_OK;
    struct vv_place *place = work->keeper->place;

    TRY(vv_log_record_facts(&place->log, address, 0, &work->old, &work->bytes));
    TRY(vv_record_facts_decode(&work->old, work->bytes, &work->facts));
    TRY(vv_views_get(&place->views, address, &work->state));
    TRY(compare(work));
    TRY(choose_pages(work));
    TRY(put_frames(work));
    TRY(put_directory(work));
    TRY(append_kept(work));
out:
    return rc;
}

varve_status vv_keep_commit(struct vv_keeper *keeper, uint64_t number)
{
    varve_status rc = VARVE_OK;
    struct vv_place *place = keeper->place;
    struct keeping work = { .keeper = keeper };
    uint8_t id[32];
    uint64_t address = 0;

    vv_table_init(&work.fresh, sizeof(uint64_t));
    pthread_mutex_lock(&place->mutex);
    rc = vv_index_find_number(&place->index, number, id, &address);
    pthread_mutex_unlock(&place->mutex);
    TRY(rc);
    if (address != 0)
        TRY(keep(&work, address));
out:
    release_state(&work.state);
    release_state(&work.made);
    vv_record_facts_release(&work.facts);
    vv_free(work.bytes);
    vv_free(work.items);
    vv_free(work.pages);
    vv_free(work.frame_at);
    vv_table_release(&work.fresh);
    vv_bytes_release(&work.directory);
    vv_bytes_release(&work.frames);
    vv_bytes_release(&work.saved);
    return rc;
}
