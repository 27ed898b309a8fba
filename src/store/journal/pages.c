/* pages.c - see pages.h. */
#include "store/journal/pages.h"

#include <stdlib.h>

#include "base/alloc.h"

struct vv_pages_entry {
    uint64_t used;
    unsigned holders; /* the cache is one */
    struct vv_frame frame;
    uint64_t
        payload; /* where it lies, when it was not read and nothing of the frame was checked; 0: it is open */
};

varve_status vv_pages_init(struct vv_pages *pages, struct vv_log *log, size_t capacity)
{
    VV_ASSERT(capacity > 0);
    *pages = (struct vv_pages){ .log = log, .capacity = capacity };
    pthread_mutex_init(&pages->mutex, NULL);
    const varve_status rc = vv_alloc(&pages->entries, capacity, sizeof(struct vv_pages_entry *));
    return rc != VARVE_OK ? rc : vv_alloc(&pages->addresses, capacity, sizeof *pages->addresses);
}

/* The caller holds the mutex. */
static void drop(struct vv_pages_entry *entry)
{
    if (--entry->holders > 0)
        return;
    vv_frame_release(&entry->frame);
    vv_free(entry);
}

static void tools_release(struct vv_pages_tools *tools)
{
    vv_codec_release(&tools->codec);
    vv_free(tools->bytes);
    *tools = (struct vv_pages_tools){ .bytes = NULL };
}

void vv_pages_release(struct vv_pages *pages)
{
    for (size_t i = 0; i < pages->count; i++)
        drop(pages->entries[i]);
    vv_free(pages->entries);
    vv_free(pages->addresses);
    tools_release(&pages->tools);
    pthread_mutex_destroy(&pages->mutex);
    *pages = (struct vv_pages){ .log = NULL };
}

void vv_pages_flush(struct vv_pages *pages)
{
    pthread_mutex_lock(&pages->mutex);
    for (size_t i = 0; i < pages->count; i++)
        drop(pages->entries[i]);
    pages->count = 0;
    pthread_mutex_unlock(&pages->mutex);
}

static struct vv_pages_entry *find(struct vv_pages *pages, uint64_t address, bool alone)
{
    struct vv_pages_entry *found = NULL;

    pthread_mutex_lock(&pages->mutex);
    for (size_t i = 0; i < pages->count && found == NULL; i++) {
        if (pages->addresses[i] == address && (alone || pages->entries[i]->payload == 0))
            found = pages->entries[i];
    }
    if (found != NULL) {
        found->holders++;
        found->used = ++pages->clock;
    }
    pthread_mutex_unlock(&pages->mutex);
    return found;
}

static void keep(struct vv_pages *pages, uint64_t address, struct vv_pages_entry *entry)
{
    size_t place = 0;

    pthread_mutex_lock(&pages->mutex);
    entry->holders++;
    entry->used = ++pages->clock;
    if (pages->count < pages->capacity) {
        place = pages->count++;
    } else {
        for (size_t i = 1; i < pages->count; i++) {
            if (pages->entries[i]->used < pages->entries[place]->used)
                place = i;
        }
        drop(pages->entries[place]);
    }
    pages->entries[place] = entry;
    pages->addresses[place] = address;
    pthread_mutex_unlock(&pages->mutex);
}

static void let_go(struct vv_pages *pages, struct vv_pages_entry *entry)
{
    if (entry == NULL)
        return;
    pthread_mutex_lock(&pages->mutex);
    drop(entry);
    pthread_mutex_unlock(&pages->mutex);
}

/* Words of a damaged frame that tell where it is. */
static varve_status within_frame(struct vv_pages *pages, uint64_t address, varve_status rc)
{
    char name[VV_SEGMENT_NAME];

    if (rc != VARVE_CORRUPT)
        return rc;
    vv_log_file_name(pages->log, address, name);
    return vv_fail_within(rc, "%s: page frame at address %llu", name, (unsigned long long)address);
}

/* The tools, or none while another thread has them. */
static struct vv_pages_tools borrow_tools(struct vv_pages *pages)
{
    pthread_mutex_lock(&pages->mutex);
    const struct vv_pages_tools tools = pages->tools;
    pages->tools = (struct vv_pages_tools){ .bytes = NULL };
    pthread_mutex_unlock(&pages->mutex);
    return tools;
}

static void return_tools(struct vv_pages *pages, struct vv_pages_tools *tools)
{
    pthread_mutex_lock(&pages->mutex);
    struct vv_pages_tools spare = pages->tools;
    pages->tools = *tools;
    pthread_mutex_unlock(&pages->mutex);
    tools_release(&spare);
}

/* Most frames are small: one read brings the whole. The slots of a large one are in its first bytes. */
static varve_status read_frame(struct vv_pages *pages, struct vv_pages_tools *tools, uint64_t address,
                               bool alone, struct vv_pages_entry *entry)
{
    varve_status rc = VARVE_OK;
    uint8_t head[4096];
    const uint8_t *bytes = head;
    size_t got = 0;
    size_t size = 0;
    size_t payload_at = 0;

    TRY(vv_log_read_some(pages->log, address, head, sizeof head, &got));
    if (got < VV_FRAME_HEADER)
        TRY(within_frame(pages, address, vv_fail(VARVE_CORRUPT, "it is not there")));
    TRY(within_frame(pages, address, vv_frame_size(head, got, &size)));
    if (size > got && alone && vv_frame_peek(head, got, &entry->frame, &payload_at)) {
        entry->payload = address + payload_at;
        goto out;
    }
    if (size > got) {
        if (size > tools->size) { /* vv_frame_size bounds it */
            TRY(vv_resize(&tools->bytes, size, 1));
            tools->size = size;
        }
        bytes = tools->bytes;
        TRY(vv_log_read(pages->log, address, tools->bytes, size));
    }
    TRY(within_frame(pages, address, vv_frame_open_with(&tools->codec, bytes, size, &entry->frame)));
out:
    return rc;
}

static varve_status get(struct vv_pages *pages, uint64_t address, bool alone, struct vv_pages_entry **entry)
{
    varve_status rc = VARVE_OK;
    struct vv_pages_entry *made = NULL;
    struct vv_pages_tools tools;

    *entry = find(pages, address, alone);
    if (*entry != NULL)
        return VARVE_OK;
    TRY(vv_alloc(&made, 1, sizeof *made));
    tools = borrow_tools(pages);
    rc = read_frame(pages, &tools, address, alone, made);
    return_tools(pages, &tools);
    TRY(rc);
    made->holders = 1;
    keep(pages, address, made);
    *entry = made;
    made = NULL;
out:
    vv_free(made);
    return rc;
}

/* Turn what the slot is based on, if anything, into its page. */
static varve_status put_slot(struct vv_pages *pages, const struct vv_pages_entry *entry, unsigned slot,
                             uint8_t page[VV_PAGE_SIZE])
{
    varve_status rc = VARVE_OK;
    const struct vv_frame *frame = &entry->frame;
    const uint64_t address = entry->payload + frame->offsets[slot];
    uint8_t runs[VV_PAGE_SIZE];

    if (entry->payload == 0 || frame->slots[slot].form == VV_FORM_ZERO)
        return vv_frame_page(frame, slot, page);
    VV_ASSERT(frame->sizes[slot] <= VV_PAGE_SIZE);
    if (frame->slots[slot].form == VV_FORM_WHOLE)
        return vv_log_read(pages->log, address, page, VV_PAGE_SIZE);
    TRY(vv_log_read(pages->log, address, runs, frame->sizes[slot]));
    TRY(vv_runs_apply(runs, frame->sizes[slot], page));
out:
    return rc;
}

/* The page and what it is based on, down to one that is whole: at most VV_LOCATOR_DEPTH_MAX below it. */
static varve_status decode(struct vv_pages *pages, uint64_t locator, bool alone, uint8_t page[VV_PAGE_SIZE])
{
    varve_status rc = VARVE_OK;
    struct vv_pages_entry *entries[VV_LOCATOR_DEPTH_MAX + 1] = { NULL };
    uint64_t addresses[VV_LOCATOR_DEPTH_MAX + 1];
    unsigned slots[VV_LOCATOR_DEPTH_MAX + 1];
    size_t depth = 0;

    for (uint64_t at = locator; at != 0;) {
        const uint64_t address = vv_locator_frame(at);
        if (depth > VV_LOCATOR_DEPTH_MAX || (depth > 0 && address >= addresses[depth - 1]))
            TRY(within_frame(pages, address, vv_fail(VARVE_CORRUPT, "a page is based on itself")));
        TRY(get(pages, address, alone, &entries[depth]));
        const struct vv_frame *frame = &entries[depth]->frame;
        addresses[depth] = address;
        slots[depth] = vv_locator_slot(at);
        if (slots[depth] >= frame->count)
            TRY(within_frame(pages, address, vv_fail(VARVE_CORRUPT, "it has no slot %u", slots[depth])));
        at = frame->slots[slots[depth]].form == VV_FORM_RUNS ? frame->slots[slots[depth]].base_locator : 0;
        depth++;
    }
    while (depth-- > 0)
        TRY(within_frame(pages, addresses[depth], put_slot(pages, entries[depth], slots[depth], page)));
out:
    for (size_t i = 0; i <= VV_LOCATOR_DEPTH_MAX; i++)
        let_go(pages, entries[i]);
    return rc;
}

static varve_status wrong_hash(struct vv_pages *pages, uint64_t locator)
{
    return within_frame(pages, vv_locator_frame(locator),
                        vv_fail(VARVE_CORRUPT, "the page in slot %u has another hash than its tree says",
                                vv_locator_slot(locator)));
}

static varve_status check_locator(uint64_t locator)
{
    return locator != 0 ? VARVE_OK : vv_fail(VARVE_MISUSE, "the page was never stored");
}

static varve_status read_page(struct vv_pages *pages, const struct vv_leaf *leaf, bool alone,
                              uint8_t page[VV_PAGE_SIZE])
{
    varve_status rc = VARVE_OK;
    uint8_t hash[VV_HASH_SIZE];

    TRY(check_locator(leaf->locator));
    TRY(decode(pages, leaf->locator, alone, page));
    vv_hash_pages(&(const uint8_t *){ page }, 1, &hash);
    if (!vv_hash_equal(hash, leaf->hash))
        rc = wrong_hash(pages, leaf->locator);
out:
    return rc;
}

varve_status vv_pages_read(struct vv_pages *pages, const struct vv_leaf *leaf, uint8_t page[VV_PAGE_SIZE])
{
    return read_page(pages, leaf, false, page);
}

varve_status vv_pages_read_alone(struct vv_pages *pages, const struct vv_leaf *leaf,
                                 uint8_t page[VV_PAGE_SIZE])
{
    const varve_status rc = read_page(pages, leaf, true, page);

    return rc == VARVE_CORRUPT ? read_page(pages, leaf, false, page) : rc;
}

/* ---- Many pages of a tree --------------------------------------------------------------------- */

struct wanted {
    uint64_t locator, index;
    uint8_t hash[VV_HASH_SIZE];
};
struct want_list {
    struct wanted *items;
    size_t count, capacity;
};

static varve_status want(struct want_list *list, uint64_t index, const struct vv_leaf *leaf)
{
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity == 0 ? 64 : 2 * list->capacity;
        const varve_status rc = vv_resize(&list->items, capacity, sizeof *list->items);
        if (rc != VARVE_OK)
            return rc;
        list->capacity = capacity;
    }
    struct wanted *item = &list->items[list->count++];
    item->locator = leaf->locator;
    item->index = index;
    memcpy(item->hash, leaf->hash, VV_HASH_SIZE);
    return check_locator(leaf->locator);
}

/* Pages that differ: zeros are put at once, the others listed. */
struct listing {
    struct want_list list;
    uint64_t page_count; /* nothing is looked at beyond: there a file's tree may be gone */
    varve_status (*put)(void *context, uint64_t index, const uint8_t *page);
    void *context;
};

static varve_status list_page(void *context, uint64_t index, const struct vv_leaf *from,
                              const struct vv_leaf *to)
{
    struct listing *listing = context;

    (void)from;
    if (index >= listing->page_count)
        return VARVE_END;
    return to == NULL ? listing->put(listing->context, index, NULL) : want(&listing->list, index, to);
}

static int by_place(const void *a, const void *b)
{
    const struct wanted *x = a;
    const struct wanted *y = b;

    return x->locator < y->locator ? -1 : x->locator > y->locator;
}

enum {
    BATCH = 16,   /* as many pages as are hashed abreast */
    PASSING = 16, /* frames kept: more than one page and its bases are in */
};

static varve_status read_batch(struct vv_pages *pages, const struct wanted *items, size_t count,
                               uint8_t (*bytes)[VV_PAGE_SIZE])
{
    varve_status rc = VARVE_OK;
    const uint8_t *pointers[BATCH];
    uint8_t hashes[BATCH][VV_HASH_SIZE];

    for (size_t i = 0; i < count; i++) {
        TRY(decode(pages, items[i].locator, false, bytes[i]));
        pointers[i] = bytes[i];
    }
    vv_hash_pages(pointers, count, hashes);
    for (size_t i = 0; i < count; i++) {
        if (!vv_hash_equal(hashes[i], items[i].hash))
            TRY(wrong_hash(pages, items[i].locator));
    }
out:
    return rc;
}

varve_status vv_pages_read_diff(struct vv_pages *pages, const struct vv_pagetree *from,
                                const struct vv_pagetree *tree,
                                varve_status (*put)(void *context, uint64_t index, const uint8_t *page),
                                void *context)
{
    varve_status rc = VARVE_OK;
    struct listing listing = { .page_count = tree->page_count, .put = put, .context = context };
    struct want_list *list = &listing.list;
    struct vv_pages passing; /* frames are met in order and once: they would push all others out */
    uint8_t(*bytes)[VV_PAGE_SIZE] = NULL;

    TRY(vv_pages_init(&passing, pages->log, PASSING));
    TRY(vv_alloc(&bytes, BATCH, VV_PAGE_SIZE));
    rc = vv_pagetree_diff(from, tree, list_page, &listing);
    TRY(rc == VARVE_END ? VARVE_OK : rc);
    if (list->count > 0)
        qsort(list->items, list->count, sizeof *list->items, by_place);
    for (size_t done = 0; done < list->count;) {
        const size_t left = list->count - done;
        const size_t count = left < BATCH ? left : BATCH;
        TRY(read_batch(&passing, list->items + done, count, bytes));
        for (size_t i = 0; i < count; i++)
            TRY(put(context, list->items[done + i].index, bytes[i]));
        done += count;
    }
out:
    vv_pages_release(&passing);
    vv_free(list->items);
    vv_free(bytes);
    return rc;
}
