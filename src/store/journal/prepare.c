/* prepare.c - a commit's record put together, while no lock is held.
 *
 *   list      base state -> differences of trees -> entries and page directory               [list_module]
 *   frames    bytes of the pages that are new, up to 64 in each                               [put_frames]
 *   locate    once the record has its place, the new trees learn where their pages lie        [vv_pending_locate] */
#include "store/journal/prepare.h"

#include <string.h>

#include "base/alloc.h"

void vv_place_discard(struct vv_place *place, struct vv_pending *pending)
{
    (void)place;
    if (pending == NULL)
        return;
    vv_bytes_release(&pending->directory);
    vv_bytes_release(&pending->pages);
    vv_bytes_release(&pending->runs);
    vv_free(pending->fresh);
    vv_free(pending->frames);
    while (pending->copies != NULL) {
        struct vv_page_copy *copy = pending->copies;
        pending->copies = copy->next;
        vv_free(copy);
    }
    vv_free(pending);
}

/* The directory of one module, in the making. */
struct listing {
    struct vv_place *place;
    struct vv_pending *pending;
    size_t module;
    const struct vv_module_change *change;
    size_t at;      /* pages of the change below this were passed */
    uint64_t last;  /* index of the page named last */
    uint64_t count; /* pages named */
    uint64_t bytes; /* of them, before compression */
    struct vv_bytes pages;
};

static varve_status add_fresh(struct vv_pending *pending, const struct vv_new_page *page)
{
    if (pending->fresh_count == pending->fresh_capacity) {
        const size_t capacity = pending->fresh_capacity == 0 ? 16 : 2 * pending->fresh_capacity;
        const varve_status rc = vv_resize(&pending->fresh, capacity, sizeof *pending->fresh);
        if (rc != VARVE_OK)
            return rc;
        pending->fresh_capacity = capacity;
    }
    pending->fresh[pending->fresh_count++] = *page;
    return VARVE_OK;
}

static bool may_be_base(uint64_t locator)
{
    return locator != 0 && vv_locator_depth(locator) < VV_LOCATOR_DEPTH_MAX;
}

/* Bring a page's lineage up to what is about to be stored; it has no tip until that has its place. */
static void follow(struct vv_lineage *lineage, const struct vv_page_change *page)
{
    if (lineage->tip != page->base_locator || vv_locator_depth(page->base_locator) == 0)
        *lineage = (struct vv_lineage){ .anchor = page->base_locator };
    lineage->tip = 0;
    vv_words_add(&lineage->since, page->runs, page->runs_size);
}

/* Runs against the base pay when they are short. When its own bases are too many, those against an older version that
 * it is based on may still: all that changed since then. */
static struct vv_new_page choose_form(struct listing *listing, const struct vv_page_change *page)
{
    struct vv_bytes *runs = &listing->pending->runs;
    struct vv_new_page fresh = { .module = listing->module, .change = page, .runs_at = runs->size };

    if (listing->pending->stale) { /* what an older version holds may go any time */
        if (page->lineage != NULL)
            *page->lineage = (struct vv_lineage){ .anchor = 0 };
        listing->bytes += VV_PAGE_SIZE;
        return fresh;
    }
    if (page->lineage != NULL)
        follow(page->lineage, page);
    if (page->base != NULL && may_be_base(page->base_locator)) {
        fresh.base = page->base_locator;
        fresh.given = page->runs;
        fresh.runs_size = page->runs != NULL
                              ? page->runs_size
                              : vv_runs_encode(page->base, page->bytes, VV_DELTA_WHOLE_ABOVE, runs);
    } else if (page->lineage != NULL && may_be_base(page->lineage->anchor)) {
        fresh.base = page->lineage->anchor;
        fresh.runs_size = vv_words_encode(&page->lineage->since, page->bytes, VV_DELTA_WHOLE_ABOVE, runs);
    }
    if (fresh.runs_size > 0)
        fresh.depth = vv_locator_depth(fresh.base) + 1;
    listing->bytes += fresh.depth > 0 ? fresh.runs_size : VV_PAGE_SIZE;
    return fresh;
}

/* The bytes for a page that differs; NULL: the change has none. Both are in order of index. */
static const struct vv_page_change *change_of(struct listing *listing, uint64_t index)
{
    const struct vv_module_change *change = listing->change;

    while (listing->at < change->page_count && change->pages[listing->at].index < index)
        listing->at++;
    if (listing->at == change->page_count || change->pages[listing->at].index != index)
        return NULL;
    return &change->pages[listing->at];
}

/* The bytes of a page that lies where nothing may be relied upon for long. */
static varve_status copy_page(struct listing *listing, uint64_t index, const struct vv_leaf *leaf,
                              const struct vv_page_change **page)
{
    varve_status rc = VARVE_OK;
    struct vv_page_copy *copy = NULL;

    TRY(vv_alloc(&copy, 1, sizeof *copy));
    copy->next = listing->pending->copies;
    listing->pending->copies = copy;
    TRY(vv_pages_read(&listing->place->pages, leaf, copy->bytes));
    copy->change = (struct vv_page_change){ .index = index, .bytes = copy->bytes };
    memcpy(copy->change.hash, leaf->hash, VV_HASH_SIZE);
    *page = &copy->change;
out:
    return rc;
}

static varve_status list_page(void *context, uint64_t index, const struct vv_leaf *from,
                              const struct vv_leaf *to)
{
    varve_status rc = VARVE_OK;
    struct listing *listing = context;

    (void)from;
    if (index >= listing->change->after->memory.page_count)
        return VARVE_OK; /* beyond a memory that shrank: its length says so */
    const uint64_t step = index - listing->last;
    const struct vv_page_change *page = change_of(listing, index);
    if (to != NULL && to->locator != 0 && listing->pending->stale && (page == NULL || page->bytes == NULL))
        TRY(copy_page(listing, index, to, &page));
    if (to == NULL) {
        vv_directory_page_zero(&listing->pages, step);
    } else if (page != NULL && page->bytes != NULL) {
        const struct vv_new_page fresh = choose_form(listing, page);
        TRY(add_fresh(listing->pending, &fresh));
        vv_directory_page_new(&listing->pages, step, to->hash, fresh.depth);
    } else if (to->locator != 0) {
        vv_directory_page_old(&listing->pages, step, to);
    } else {
        TRY(vv_fail(VARVE_MISUSE, "page %llu changed and its bytes were not given",
                    (unsigned long long)index));
    }
    listing->last = index;
    listing->count++;
    TRY(vv_bytes_done(&listing->pages));
out:
    return rc;
}

/* Entry and page directory of one module: what differs from the base's tree, whatever the change names. */
static varve_status list_module(struct vv_place *place, struct vv_pending *pending,
                                const struct vv_change *change, size_t number, struct vv_state *base,
                                struct vv_bytes *out)
{
    varve_status rc = VARVE_OK;
    const struct vv_module_change *module = &change->modules[number];
    struct listing listing = { .place = place, .pending = pending, .module = number, .change = module };
    struct vv_module *before = NULL;
    struct vv_bytes entry = VV_BYTES_NONE;

    TRY(vv_state_get(base, &module->id, &before));
    TRY(vv_module_encode(module->after, 0, &entry));
    TRY(vv_pagetree_diff(before == NULL ? NULL : &before->memory, &module->after->memory, list_page,
                         &listing));
    vv_bytes_blob(out, entry.data, entry.size);
    vv_bytes_u8(out, before == NULL);
    vv_bytes_varint(out, listing.bytes);
    vv_bytes_varint(out, listing.count);
    vv_bytes_put(out, listing.pages.data, listing.pages.size);
    TRY(vv_bytes_done(out));
out:
    vv_bytes_release(&entry);
    vv_bytes_release(&listing.pages);
    return rc;
}

/* The frames, one after the other; their sizes go to the directory. */
static varve_status put_frames(struct vv_pending *pending)
{
    varve_status rc = VARVE_OK;
    struct vv_frame_page pages[VV_FRAME_PAGES];
    struct vv_codec codec = VV_CODEC_NONE; /* one for all frames of the commit */

    TRY(vv_bytes_done(&pending->runs));
    pending->frame_count = (pending->fresh_count + VV_FRAME_PAGES - 1) / VV_FRAME_PAGES;
    TRY(vv_alloc(&pending->frames, pending->frame_count, sizeof *pending->frames));
    vv_bytes_varint(&pending->directory, pending->frame_count);
    for (size_t frame = 0; frame < pending->frame_count; frame++) {
        const size_t first = frame * VV_FRAME_PAGES;
        const size_t left = pending->fresh_count - first;
        const size_t count = left < VV_FRAME_PAGES ? left : VV_FRAME_PAGES;
        for (size_t i = 0; i < count; i++) {
            const struct vv_new_page *page = &pending->fresh[first + i];
            pages[i] = (struct vv_frame_page){ .bytes = page->change->bytes };
            if (page->depth == 0)
                continue;
            pages[i].base = page->change->base;
            pages[i].base_locator = page->base;
            pages[i].runs = page->given != NULL ? page->given : pending->runs.data + page->runs_at;
            pages[i].runs_size = page->runs_size;
        }
        pending->frames[frame] = pending->pages.size;
        TRY(vv_frame_encode_with(&codec, pages, count, &pending->pages));
        vv_bytes_varint(&pending->directory, pending->pages.size - pending->frames[frame]);
    }
out:
    vv_codec_release(&codec);
    return rc;
}

static void list_meta(const struct vv_change *change, struct vv_bytes *out)
{
    vv_bytes_varint(out, change->meta_set_count + change->meta_removed_count);
    for (size_t i = 0; i < change->meta_set_count; i++) {
        const struct vv_meta_pair *pair = change->meta_set[i];
        vv_directory_meta(out, pair->key, pair->key_size, pair->value, pair->value_size);
    }
    for (size_t i = 0; i < change->meta_removed_count; i++)
        vv_directory_meta(out, change->meta_removed[i], strlen(change->meta_removed[i]), NULL, 0);
}

static varve_status put_directory(struct vv_place *place, struct vv_pending *pending,
                                  const struct vv_change *change, struct vv_state *base)
{
    varve_status rc = VARVE_OK;
    struct vv_bytes modules = VV_BYTES_NONE;
    uint64_t removed = 0;

    for (size_t i = 0; i < change->module_count; i++) {
        if (change->modules[i].after == NULL)
            removed++;
        else
            TRY(list_module(place, pending, change, i, base, &modules));
    }
    list_meta(change, &pending->directory);
    vv_bytes_varint(&pending->directory, removed);
    for (size_t i = 0; i < change->module_count; i++) {
        if (change->modules[i].after == NULL)
            vv_bytes_put(&pending->directory, change->modules[i].id.bytes, 32);
    }
    TRY(put_frames(pending));
    vv_bytes_varint(&pending->directory, change->module_count - removed);
    vv_bytes_put(&pending->directory, modules.data, modules.size);
    TRY(vv_bytes_done(&pending->directory));
    TRY(vv_bytes_done(&pending->pages));
out:
    vv_bytes_release(&modules);
    return rc;
}

/* The commit's id must not name a state that is another. */
static varve_status check_root(struct vv_change *change)
{
    varve_root root;
    const varve_status rc = vv_state_root(change->after, &root);

    if (rc == VARVE_OK && memcmp(root.bytes, change->facts.root.bytes, sizeof root.bytes) != 0)
        return vv_fail(VARVE_MISUSE, "the commit's root is not that of its state");
    return rc;
}

/* Where the base lies now; its facts may be older than that. */
static varve_status find_base(struct vv_place *place, const struct vv_commit_facts *base, uint64_t *address)
{
    char hex[65];

    pthread_mutex_lock(&place->mutex);
    const varve_status rc = vv_index_find(&place->index, base->id.bytes, address);
    pthread_mutex_unlock(&place->mutex);
    if (rc != VARVE_OK || *address != 0)
        return rc;
    varve_hex_format(base->id.bytes, hex);
    return vv_fail(VARVE_CONFLICT, "commit %s, which this one would follow, was deleted", hex);
}

varve_status vv_pending_check(struct vv_place *place, const struct vv_change *change,
                              const struct vv_pending *pending, bool *good)
{
    varve_status rc = VARVE_OK;
    uint64_t address = 0;

    if (change->base != NULL)
        TRY(find_base(place, change->base, &address));
    *good = address == pending->record.parent && pending->generation == vv_place_generation(place);
out:
    return rc;
}

varve_status vv_place_prepare(struct vv_place *place, struct vv_change *change, struct vv_pending **pending)
{
    varve_status rc = VARVE_OK;
    struct vv_pending *made = NULL;
    struct vv_state base = { .fresh = NULL };
    struct vv_record parent;

    *pending = NULL;
    TRY(vv_place_writable(place));
    TRY(check_root(change));
    TRY(vv_alloc(&made, 1, sizeof *made));
    made->record.kind = VV_RECORD_COMMIT;
    made->record.time_ns = change->facts.time_ns;
    memcpy(made->record.id, change->facts.id.bytes, 32);
    memcpy(made->record.root, change->facts.root.bytes, 32);
    made->generation = vv_place_generation(place);
    made->stale = change->hold < made->generation;
    if (change->base != NULL) {
        uint64_t address = 0;
        TRY(find_base(place, change->base, &address));
        TRY(vv_log_record(&place->log, address, 0, &parent));
        TRY(vv_views_get(&place->views, address, &base));
        made->record.parent = parent.address;
        made->record.checkpoint = parent.checkpoint;
        made->record.line_records = parent.line_records;
        made->record.line_bytes = parent.line_bytes;
    } else {
        TRY(vv_state_init(&base, &place->views.nodes, &place->views.modules));
    }
    TRY(put_directory(place, made, change, &base));
    vv_record_sum(made->directory.data, made->directory.size, made->record.directory_sum);
    vv_record_sum(vv_piece_of(&made->pages).data, made->pages.size, made->record.pages_sum);
    *pending = made;
    made = NULL;
out:
    if (base.fresh != NULL)
        vv_state_release(&base);
    vv_place_discard(place, made);
    return rc;
}

bool vv_pending_locate(const struct vv_change *change, const struct vv_pending *pending,
                       const struct vv_record *record)
{
    struct vv_pagetree_way way = vv_pagetree_way(NULL);

    for (size_t i = 0; i < pending->fresh_count; i++) {
        const struct vv_new_page *page = &pending->fresh[i];
        const uint64_t frame = vv_record_pages_at(record) + pending->frames[i / VV_FRAME_PAGES];
        const uint64_t locator = vv_locator_make(frame, page->depth, (unsigned)(i % VV_FRAME_PAGES));
        struct vv_pagetree *tree = &change->modules[page->module].after->memory;
        if (page->change->lineage != NULL)
            page->change->lineage->tip = locator;
        if (way.tree != tree)
            way = vv_pagetree_way(tree);
        if (vv_pagetree_relocate(&way, page->change->index, locator) != VARVE_OK)
            return false;
    }
    return true;
}
