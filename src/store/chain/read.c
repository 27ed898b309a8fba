/* read.c - pages of any version: where each lies, and every file read once.
 *
 * A page of a version lies in the line's first image, when nothing changed it since; in the newest image, when nothing
 * changed it since then; else at the end of a chain of deltas: the version that changed it last, back to the last one
 * that stored it whole or to the first image, at most VV_CHAIN_DEPTH of them.
 * Moves:  FETCH   pages that differ, a batch at a time, in three steps:
 *           trace   back through the directories: which slot of which version each page needs       [trace]
 *           images  what lies in an image is read from there, neighbours together                    [read_images]
 *           deltas  forward through the versions: each frame that is needed, once                    [apply_deltas]
 *         then every page is held against its hash; one of the newest image that is wrong is fetched again without it. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "store/chain/place.h"

enum { BATCH = 2048, READ_PAGES = 64, HASH_PAGES = 64 };

enum origin { IN_FIRST, IN_NEWEST, IN_DELTAS };
struct wanted {
    uint64_t index;
    struct vv_leaf leaf;
    struct vv_line *line;
    enum origin origin;
    bool on_first; /* its deltas begin on a page of the first image */
};
/* One slot of one version that a page needs. */
struct need {
    uint64_t serial;
    uint32_t place; /* in the version's frames */
    uint32_t page;  /* which of the wanted */
    struct vv_line *line;
    struct vv_version *version;
};
struct fetch {
    struct vv_place *place;
    enum vv_chain_use use;
    const struct vv_pagetree *tree; /* NULL: a page alone */
    varve_status (*put)(void *context, uint64_t index, const uint8_t *page);
    void *context;
    struct wanted *wanted;
    struct need *needs;
    uint8_t *pages; /* one after the other, as `wanted` */
    size_t count, wanted_room, page_room, need_count, need_room;
    struct vv_codec codec;
    struct vv_table loaded; /* serial: the bytes of its delta, which came with its directory */
};

static void loaded_release(struct fetch *fetch)
{
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;

    while (vv_table_next(&fetch->loaded, &cursor, &key, &value)) {
        vv_bytes_release(value->pointer);
        vv_free(value->pointer);
    }
    vv_table_release(&fetch->loaded);
    vv_table_init(&fetch->loaded, sizeof(uint64_t));
}

static void fetch_begin(struct fetch *fetch)
{
    vv_table_init(&fetch->loaded, sizeof(uint64_t));
}

static void fetch_release(struct fetch *fetch)
{
    vv_free(fetch->wanted);
    vv_free(fetch->needs);
    vv_free(fetch->pages);
    vv_codec_release(&fetch->codec);
    loaded_release(fetch);
    vv_table_release(&fetch->loaded);
}

static uint8_t *page_of(const struct fetch *fetch, size_t i)
{
    return fetch->pages + i * VV_PAGE_SIZE;
}

/* ---- Where pages lie ---------------------------------------------------------------------------- */

/* Is the page the newest image's, too? */
static varve_status is_newest(const struct vv_line *line, const struct wanted *wanted, bool *yes)
{
    const struct vv_pagetree *tree = &vv_chain_newest(line)->module->memory;
    const uint32_t page = vv_chain_page(wanted->leaf.locator);
    struct vv_leaf leaf;
    bool present = false;
    varve_status rc = VARVE_OK;

    *yes = false;
    if (line->image != vv_chain_newest(line)->serial || page >= tree->page_count)
        return VARVE_OK;
    TRY(vv_pagetree_get(tree, page, &leaf, &present));
    *yes = present && leaf.locator == wanted->leaf.locator;
out:
    return rc;
}

static bool lies_in_first(const struct vv_serial *found)
{
    return found->version == NULL || vv_chain_is_first(found->line, found->version);
}

static varve_status add_need(struct fetch *fetch, const struct need *need)
{
    varve_status rc = VARVE_OK;

    if (fetch->need_count == fetch->need_room) {
        const size_t room = 2 * fetch->need_room + 64;
        TRY(vv_resize(&fetch->needs, room, sizeof *fetch->needs));
        fetch->need_room = room;
    }
    fetch->needs[fetch->need_count++] = *need;
out:
    return rc;
}

/* The directory of a delta; its bytes, when they came along, are kept for apply_version. */
static varve_status load_directory(struct fetch *fetch, const struct vv_serial *found,
                                   const struct vv_deltafile **delta)
{
    struct vv_bytes *whole = NULL;
    varve_status rc = VARVE_OK;

    if (found->version->delta == NULL)
        TRY(vv_alloc(&whole, 1, sizeof *whole));
    TRY(vv_chain_directory(fetch->place, found->line, found->version, whole, delta));
    if (whole != NULL && whole->size > 0 && vv_table_get(&fetch->loaded, &found->serial) == NULL) {
        TRY(vv_table_put(&fetch->loaded, &found->serial, (union vv_value){ .pointer = whole }));
        whole = NULL;
    }
out:
    if (whole != NULL)
        vv_bytes_release(whole);
    vv_free(whole);
    return rc;
}

/* Back from the version that changed the page last to where its bytes begin. */
static varve_status trace(struct fetch *fetch, uint32_t i)
{
    struct wanted *wanted = &fetch->wanted[i];
    uint64_t locator = wanted->leaf.locator;
    const struct vv_serial *found = NULL;
    varve_status rc = VARVE_OK;

    while (locator != 0) {
        const struct vv_deltafile *delta = NULL;
        TRY(vv_chain_resolve(fetch->place, locator, &found));
        if (found->line != wanted->line)
            return vv_fail(VARVE_CORRUPT, "commits: a page builds on one of another module");
        wanted->on_first = lies_in_first(found);
        if (wanted->on_first)
            break;
        TRY(load_directory(fetch, found, &delta));
        const struct vv_deltafile_entry *entry = vv_deltafile_find(delta, vv_chain_page(locator));
        if (entry == NULL || entry->place == UINT32_MAX) {
            char name[VV_CHAIN_NAME];
            vv_chain_delta_name(found->line, found->version, found->version == vv_chain_newest(found->line),
                                name);
            return vv_fail(VARVE_CORRUPT, "%s: page %u is missing", name, (unsigned)vv_chain_page(locator));
        }
        const struct need need = { .serial = found->serial,
                                   .place = entry->place,
                                   .page = i,
                                   .line = found->line,
                                   .version = found->version };
        TRY(add_need(fetch, &need));
        locator = entry->base; /* of a lower serial, or none: this ends */
    }
out:
    return rc;
}

static varve_status locate(struct fetch *fetch, uint32_t i)
{
    struct wanted *wanted = &fetch->wanted[i];
    const struct vv_serial *found = NULL;
    bool newest = false;
    varve_status rc = VARVE_OK;

    TRY(vv_chain_resolve(fetch->place, wanted->leaf.locator, &found));
    wanted->line = found->line;
    wanted->on_first = false;
    wanted->origin = lies_in_first(found) ? IN_FIRST : IN_DELTAS;
    if (wanted->origin == IN_DELTAS && fetch->use == VV_CHAIN_ANY)
        TRY(is_newest(wanted->line, wanted, &newest));
    if (newest)
        wanted->origin = IN_NEWEST;
    if (wanted->origin == IN_DELTAS)
        TRY(trace(fetch, i));
out:
    return rc;
}

/* ---- Images ------------------------------------------------------------------------------------- */

static bool from_image(const struct wanted *wanted, enum origin origin)
{
    return wanted->origin == origin || (origin == IN_FIRST && wanted->on_first);
}

/* How many from `i` on lie side by side in the same image. */
static size_t run_of(const struct fetch *fetch, size_t i, enum origin origin)
{
    const struct wanted *first = &fetch->wanted[i];
    size_t count = 1;

    while (i + count < fetch->count && count < READ_PAGES && first[count].line == first->line &&
           from_image(&first[count], origin) &&
           vv_chain_page(first[count].leaf.locator) == vv_chain_page(first->leaf.locator) + count)
        count++;
    return count;
}

static varve_status read_run(const struct vv_file *file, uint64_t first, size_t count, uint8_t *pages)
{
    size_t got = 0;
    const varve_status rc = vv_file_read_some(file, pages, count * VV_PAGE_SIZE, first * VV_PAGE_SIZE, &got);

    memset(pages + got, 0, count * VV_PAGE_SIZE - got);
    return rc;
}

/* What lies in one of the two images; the newest may be gone or half-written: that shows in the hashes. */
static varve_status read_images(struct fetch *fetch, enum origin origin)
{
    const struct vv_line *line = NULL;
    struct vv_file file = VV_FILE_NONE;
    varve_status rc = VARVE_OK;

    for (size_t i = 0, count = 0; i < fetch->count; i += count) {
        const struct wanted *wanted = &fetch->wanted[i];
        count = 1;
        if (!from_image(wanted, origin))
            continue;
        if (line != wanted->line) {
            vv_file_close(&file);
            line = wanted->line;
            const struct vv_version *version = origin == IN_FIRST ? line->versions[0] : vv_chain_newest(line);
            rc = vv_chain_open_image(fetch->place, line, version, false, &file);
            if (origin == IN_FIRST || rc != VARVE_CORRUPT)
                TRY(rc);
            rc = VARVE_OK;
        }
        count = run_of(fetch, i, origin);
        if (file.fd != -1)
            rc = read_run(&file, vv_chain_page(wanted->leaf.locator), count, page_of(fetch, i));
        if (origin == IN_FIRST)
            TRY(rc);
        rc = VARVE_OK;
    }
out:
    vv_file_close(&file);
    return rc;
}

/* ---- Deltas ------------------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
    const struct need *x = a, *y = b;

    if (x->serial != y->serial)
        return x->serial < y->serial ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

/* The slots of one frame that are needed. */
static varve_status apply_frame(struct fetch *fetch, const struct vv_frame *frame,
                                const struct vv_deltafile *delta, const struct need *needs, size_t count)
{
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < count; i++) {
        const uint32_t page = vv_chain_page(fetch->wanted[needs[i].page].leaf.locator);
        const struct vv_deltafile_entry *entry = vv_deltafile_find(delta, page);
        const size_t slot = needs[i].place % VV_FRAME_PAGES;
        const bool runs = entry->base != 0;
        if (slot >= frame->count || (frame->slots[slot].form == VV_FORM_RUNS) != runs ||
            frame->slots[slot].base_locator != entry->base)
            return vv_fail(VARVE_CORRUPT, "a frame is not as the directory says");
        TRY(vv_frame_page(frame, slot, page_of(fetch, needs[i].page)));
    }
out:
    return rc;
}

static varve_status apply_version(struct fetch *fetch, const struct need *needs, size_t count,
                                  struct vv_bytes *scratch)
{
    const union vv_value *loaded = vv_table_get(&fetch->loaded, &needs->serial);
    const struct vv_bytes *whole = loaded == NULL ? NULL : loaded->pointer;
    const struct vv_deltafile *delta = needs->version->delta;
    struct vv_file file = VV_FILE_NONE;
    varve_status rc = VARVE_OK;

    if (whole == NULL)
        TRY(vv_chain_open_delta(fetch->place, needs->line, needs->version, false, &file));
    for (size_t i = 0, next = 0; i < count && rc == VARVE_OK; i = next) {
        struct vv_frame frame;
        for (next = i; next < count && needs[next].place / VV_FRAME_PAGES == needs[i].place / VV_FRAME_PAGES;)
            next++;
        rc = vv_deltafile_frame(&file, whole, delta, needs[i].place / VV_FRAME_PAGES, &fetch->codec, scratch,
                                &frame);
        if (rc == VARVE_OK) {
            rc = apply_frame(fetch, &frame, delta, needs + i, next - i);
            vv_frame_release(&frame);
        }
    }
    if (rc == VARVE_CORRUPT) {
        char name[VV_CHAIN_NAME];
        vv_chain_delta_name(needs->line, needs->version, needs->version == vv_chain_newest(needs->line),
                            name);
        rc = vv_fail_within(rc, "%s", name);
    }
out:
    vv_file_close(&file);
    return rc;
}

static varve_status apply_deltas(struct fetch *fetch)
{
    struct vv_bytes scratch = VV_BYTES_NONE;
    varve_status rc = VARVE_OK;

    if (fetch->need_count > 1)
        qsort(fetch->needs, fetch->need_count, sizeof *fetch->needs, by_place);
    for (size_t i = 0, next = 0; i < fetch->need_count; i = next) {
        for (next = i; next < fetch->need_count && fetch->needs[next].serial == fetch->needs[i].serial;)
            next++;
        TRY(apply_version(fetch, fetch->needs + i, next - i, &scratch));
    }
out:
    vv_bytes_release(&scratch);
    return rc;
}

/* ---- A batch ------------------------------------------------------------------------------------ */

static varve_status bad_page(const struct fetch *fetch, const struct wanted *wanted)
{
    const struct vv_serial *found = NULL;
    char name[VV_CHAIN_NAME];

    if (vv_chain_resolve(fetch->place, wanted->leaf.locator, &found) != VARVE_OK)
        return VARVE_CORRUPT;
    if (wanted->origin == IN_FIRST)
        vv_chain_image_name(wanted->line, wanted->line->versions[0], name);
    else
        vv_chain_delta_name(wanted->line, found->version, found->version == vv_chain_newest(wanted->line),
                            name);
    return vv_fail(VARVE_CORRUPT, "%s: page %u is not what was committed", name,
                   (unsigned)vv_chain_page(wanted->leaf.locator));
}

static varve_status fetch_again(struct fetch *fetch, size_t i)
{
    return vv_chain_fetch_page(fetch->place, VV_CHAIN_TRUTH, &fetch->wanted[i].leaf, page_of(fetch, i));
}

/* Every page against its hash. */
static varve_status prove(struct fetch *fetch)
{
    const uint8_t *pages[HASH_PAGES];
    uint8_t hashes[HASH_PAGES][VV_HASH_SIZE];
    varve_status rc = VARVE_OK;

    for (size_t first = 0; first < fetch->count; first += HASH_PAGES) {
        const size_t left = fetch->count - first, count = left < HASH_PAGES ? left : HASH_PAGES;
        for (size_t i = 0; i < count; i++)
            pages[i] = page_of(fetch, first + i);
        vv_hash_pages(pages, count, hashes);
        for (size_t i = 0; i < count; i++) {
            const struct wanted *wanted = &fetch->wanted[first + i];
            if (vv_hash_equal(hashes[i], wanted->leaf.hash))
                continue;
            TRY(wanted->origin == IN_NEWEST ? fetch_again(fetch, first + i) : bad_page(fetch, wanted));
        }
    }
out:
    return rc;
}

static varve_status fetch_batch(struct fetch *fetch)
{
    varve_status rc = VARVE_OK;

    fetch->need_count = 0;
    if (fetch->count > fetch->page_room) {
        vv_free(fetch->pages);
        fetch->pages = NULL;
        fetch->page_room = 0;
        TRY(vv_alloc(&fetch->pages, fetch->count, VV_PAGE_SIZE));
        fetch->page_room = fetch->count;
    }
    for (size_t i = 0; i < fetch->count; i++)
        TRY(locate(fetch, (uint32_t)i));
    TRY(read_images(fetch, IN_FIRST));
    TRY(read_images(fetch, IN_NEWEST));
    TRY(apply_deltas(fetch));
    loaded_release(fetch);
    TRY(prove(fetch));
    for (size_t i = 0; fetch->put != NULL && i < fetch->count; i++)
        TRY(fetch->put(fetch->context, fetch->wanted[i].index, page_of(fetch, i)));
out:
    fetch->count = fetch->put == NULL ? fetch->count : 0;
    return rc;
}

static varve_status add_wanted(struct fetch *fetch, uint64_t index, const struct vv_leaf *leaf)
{
    varve_status rc = VARVE_OK;

    if (fetch->count == BATCH)
        TRY(fetch_batch(fetch));
    if (fetch->count == fetch->wanted_room) {
        const size_t room = fetch->wanted_room == 0 ? 64 : 2 * fetch->wanted_room;
        TRY(vv_resize(&fetch->wanted, room, sizeof *fetch->wanted));
        fetch->wanted_room = room;
    }
    fetch->wanted[fetch->count++] = (struct wanted){ .index = index, .leaf = *leaf };
out:
    return rc;
}

static varve_status want(void *context, uint64_t index, const struct vv_leaf *from, const struct vv_leaf *to)
{
    struct fetch *fetch = context;

    (void)from;
    if (index >= fetch->tree->page_count)
        return VARVE_OK;
    return to == NULL ? fetch->put(fetch->context, index, NULL) : add_wanted(fetch, index, to);
}

varve_status vv_chain_fetch(struct vv_place *place, enum vv_chain_use use, const struct vv_pagetree *from,
                            const struct vv_pagetree *tree,
                            varve_status (*put)(void *context, uint64_t index, const uint8_t *page),
                            void *context)
{
    struct fetch fetch = { .place = place, .use = use, .tree = tree, .put = put, .context = context };
    varve_status rc = VARVE_OK;

    fetch_begin(&fetch);
    rc = vv_pagetree_diff(from, tree, want, &fetch);
    if (rc == VARVE_OK && fetch.count > 0)
        rc = fetch_batch(&fetch);
    fetch_release(&fetch);
    return rc;
}

varve_status vv_chain_fetch_page(struct vv_place *place, enum vv_chain_use use, const struct vv_leaf *leaf,
                                 uint8_t page[VV_PAGE_SIZE])
{
    struct fetch fetch = { .place = place, .use = use };
    varve_status rc = VARVE_OK;

    fetch_begin(&fetch);
    TRY(add_wanted(&fetch, vv_chain_page(leaf->locator), leaf));
    TRY(fetch_batch(&fetch));
    memcpy(page, fetch.pages, VV_PAGE_SIZE);
out:
    fetch_release(&fetch);
    return rc;
}

varve_status vv_chain_read(struct vv_place *place, const struct vv_leaf *leaf, uint8_t page[VV_PAGE_SIZE])
{
    vv_chain_read_lock(place);
    const varve_status rc = vv_chain_fetch_page(place, VV_CHAIN_ANY, leaf, page);
    vv_chain_unlock(place);
    return rc;
}

varve_status vv_chain_read_diff(struct vv_place *place, const struct vv_pagetree *from,
                                const struct vv_pagetree *tree,
                                varve_status (*put)(void *context, uint64_t index, const uint8_t *page),
                                void *context)
{
    vv_chain_read_lock(place);
    const varve_status rc = vv_chain_fetch(place, VV_CHAIN_ANY, from, tree, put, context);
    vv_chain_unlock(place);
    return rc;
}
