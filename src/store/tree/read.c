/* read.c - looking at a tree: the state of a directory, modules, pages, files to map.
 *
 * A module's tree is its base image's, whose nodes are read by need, with the leaves of its diff on top. A page comes
 * from the base image, or from a frame of the diff and the page of the base below it. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "store/plain/memfile.h"
#include "store/tree/place.h"

/* ---- States and modules ------------------------------------------------------------------------- */

static uint64_t generation_of(struct vv_place *place)
{
    vv_plain_lock(&place->plain);
    const uint64_t generation = place->plain.generation;
    vv_plain_unlock(&place->plain);
    return generation;
}

static varve_status no_directory(void)
{
    return vv_fail(VARVE_NOT_FOUND, "the store has no such commit");
}

varve_status vv_tree_view(struct vv_place *place, const struct vv_commit_facts *facts, struct vv_state *state)
{
    struct vv_shelf *shelf = &place->shelf;
    const uint64_t generation = generation_of(place);
    varve_status rc = VARVE_OK;

    vv_shelf_lock(shelf);
    struct vv_folder *folder = vv_shelf_folder(shelf, &facts->root);
    if (folder == NULL) {
        rc = no_directory();
        goto out;
    }
    TRY(vv_shelf_pin(shelf, folder));
    rc = vv_shelf_look(shelf, folder, generation);
    if (rc == VARVE_OK)
        rc = vv_shelf_state(shelf, folder, state);
    vv_shelf_unpin(shelf, folder);
out:
    vv_shelf_unlock(shelf);
    return rc;
}

/* What an entry says, and the versions that hold its memory. */
static varve_status find_module(struct vv_shelf *shelf, uint64_t locator, struct vv_module **module,
                                struct vv_tree_version **base, struct vv_tree_version **diff)
{
    struct vv_folder *folder = vv_shelf_numbered(shelf, vv_locator_number(locator));
    const uint64_t place = vv_locator_index(locator);
    varve_status rc = VARVE_OK;

    if (folder == NULL)
        return no_directory();
    TRY(vv_shelf_pin(shelf, folder));
    if (place >= folder->index.count) {
        rc = vv_fail(VARVE_CORRUPT, "a module has no entry in its commit's index");
    } else {
        const struct vv_listing_entry *entry = &folder->index.entries[place];
        rc = vv_listing_module(entry, module);
        *base = vv_shelf_base(shelf, entry);
        *diff = vv_shelf_diff(shelf, entry);
        VV_ASSERT(*base != NULL && (*diff != NULL) == (entry->diff_size > 0)); /* it was looked at */
    }
    vv_shelf_unpin(shelf, folder);
out:
    return rc;
}

/* Put the leaves of a diff over its base's tree. */
static varve_status lay_over(struct vv_tree_version *diff, struct vv_pagetree *tree)
{
    struct vv_handle *handle = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_tree_version_take(diff, VV_PART_DIFF, &handle));
    TRY(vv_pagetree_resize(tree, diff->memory.pages));
    for (size_t i = 0; i < handle->overlay.page_count; i++) {
        const struct vv_overlay_page *page = &handle->overlay.pages[i];
        struct vv_leaf leaf = { .locator = vv_locator_of(diff, page->index) };
        memcpy(leaf.hash, page->hash, VV_HASH_SIZE);
        TRY(vv_pagetree_set(tree, page->index, page->frame == VV_OVERLAY_ZERO ? NULL : &leaf));
    }
out:
    if (handle != NULL)
        vv_tree_version_give(handle);
    return rc;
}

varve_status vv_tree_load_module(void *context, const varve_module_id *id, uint64_t locator,
                                 struct vv_module **out)
{
    struct vv_place *place = context;
    struct vv_tree_version *base = NULL, *diff = NULL;
    struct vv_module *module = NULL;
    varve_status rc = VARVE_OK;

    (void)id; /* that it is this module's entry shows in its leaf */
    vv_shelf_lock(&place->shelf);
    rc = find_module(&place->shelf, locator, &module, &base, &diff);
    if (rc == VARVE_OK) {
        vv_pagetree_release(&module->memory);
        vv_pagetree_copy(&module->memory, &base->tree);
    }
    vv_shelf_unlock(&place->shelf);
    if (rc == VARVE_OK && diff != NULL)
        rc = lay_over(diff, &module->memory);
    if (rc == VARVE_OK) {
        *out = module;
        module = NULL;
    }
    vv_module_drop(module);
    return rc;
}

/* ---- Pages -------------------------------------------------------------------------------------- */

static varve_status read_base(struct vv_tree_version *base, uint64_t index, uint8_t page[VV_PAGE_SIZE])
{
    struct vv_handle *handle = NULL;
    struct vv_leaf leaf;
    bool present = false;
    varve_status rc = VARVE_OK;

    memset(page, 0, VV_PAGE_SIZE);
    if (index < base->tree.page_count)
        TRY(vv_pagetree_get(&base->tree, index, &leaf, &present));
    if (!present)
        goto out;
    TRY(vv_tree_version_take(base, VV_PART_MEMORY, &handle));
    TRY(vv_memfile_read(&handle->file, index, leaf.hash, page));
out:
    if (handle != NULL)
        vv_tree_version_give(handle);
    return rc;
}

static varve_status wrong_page(const struct vv_overlay *overlay, uint64_t index)
{
    return vv_fail(VARVE_CORRUPT, "%s: page %llu is not what was committed", overlay->file.name,
                   (unsigned long long)index);
}

/* A page out of an unpacked frame, held against its hash. */
static varve_status decode_page(struct vv_tree_version *diff, const struct vv_overlay *overlay,
                                const struct vv_frame *frame, unsigned slot, uint64_t index,
                                const uint8_t hash[VV_HASH_SIZE], uint8_t page[VV_PAGE_SIZE])
{
    uint8_t found[1][VV_HASH_SIZE] = { { 0 } };
    const uint8_t *pages[1] = { page };
    varve_status rc = VARVE_OK;

    if (slot < frame->count && frame->slots[slot].form == VV_FORM_RUNS)
        TRY(read_base(diff->below, index, page));
    rc = vv_frame_page(frame, slot, page);
    if (rc == VARVE_CORRUPT)
        rc = vv_fail_within(rc, "%s: page %llu", overlay->file.name, (unsigned long long)index);
    TRY(rc);
    if (!vv_page_is_zero(page))
        vv_hash_pages(pages, 1, found);
    if (!vv_hash_equal(found[0], hash))
        rc = wrong_page(overlay, index);
out:
    return rc;
}

static varve_status read_from_diff(struct vv_tree_version *diff, uint64_t index,
                                   const uint8_t hash[VV_HASH_SIZE], uint8_t page[VV_PAGE_SIZE])
{
    struct vv_codec codec = VV_CODEC_NONE;
    struct vv_frame frame = VV_FRAME_NONE;
    struct vv_handle *handle = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_tree_version_take(diff, VV_PART_DIFF, &handle));
    const struct vv_overlay_page *found = vv_overlay_find(&handle->overlay, index);
    if (found == NULL || found->frame == VV_OVERLAY_ZERO || !vv_hash_equal(found->hash, hash))
        TRY(wrong_page(&handle->overlay, index));
    TRY(vv_overlay_frame(&handle->overlay, found->frame, &codec, &frame));
    TRY(decode_page(diff, &handle->overlay, &frame, found->slot, index, hash, page));
out:
    vv_frame_release(&frame);
    vv_codec_release(&codec);
    if (handle != NULL)
        vv_tree_version_give(handle);
    return rc;
}

static varve_status version_at(struct vv_place *place, uint64_t locator, struct vv_tree_version **version)
{
    vv_shelf_lock(&place->shelf);
    *version = vv_shelf_version(&place->shelf, vv_locator_number(locator));
    vv_shelf_unlock(&place->shelf);
    return *version != NULL
               ? VARVE_OK
               : vv_fail(VARVE_CORRUPT, "a page is said to lie in a file that the store has not");
}

varve_status vv_tree_read(struct vv_place *place, const struct vv_leaf *leaf, uint8_t page[VV_PAGE_SIZE])
{
    const uint64_t index = vv_locator_index(leaf->locator);
    struct vv_tree_version *version = NULL;
    struct vv_handle *handle = NULL;
    varve_status rc = VARVE_OK;

    TRY(version_at(place, leaf->locator, &version));
    if (version->is_diff)
        return read_from_diff(version, index, leaf->hash, page);
    TRY(vv_tree_version_take(version, VV_PART_MEMORY, &handle));
    TRY(vv_memfile_read(&handle->file, index, leaf->hash, page));
out:
    if (handle != NULL)
        vv_tree_version_give(handle);
    return rc;
}

/* ---- Many pages --------------------------------------------------------------------------------- */

/* A page that lies in a diff, to be read with the others of its frame. */
struct wanted {
    struct vv_tree_version *version;
    uint64_t index;
    uint32_t frame;
    uint8_t slot;
    uint8_t hash[VV_HASH_SIZE];
};
struct filling {
    struct vv_place *place;
    uint64_t page_count;
    varve_status (*put)(void *context, uint64_t index, const uint8_t *page);
    void *context;
    struct wanted *wanted;
    size_t count, room;
    struct vv_handle *handle; /* of the version that was read from last */
};

static varve_status take_version(struct filling *filling, struct vv_tree_version *version)
{
    struct vv_handle *handle = NULL;
    const enum vv_part part = version->is_diff ? VV_PART_DIFF : VV_PART_MEMORY;

    if (filling->handle != NULL && filling->handle->version == version)
        return VARVE_OK;
    const varve_status rc = vv_tree_version_take(version, part, &handle);
    if (rc != VARVE_OK)
        return rc;
    if (filling->handle != NULL)
        vv_tree_version_give(filling->handle);
    filling->handle = handle;
    return VARVE_OK;
}

static varve_status want(struct filling *filling, struct vv_tree_version *version, uint64_t index,
                         const uint8_t hash[VV_HASH_SIZE])
{
    varve_status rc = VARVE_OK;

    TRY(take_version(filling, version));
    const struct vv_overlay *overlay = &filling->handle->overlay;
    const struct vv_overlay_page *page = vv_overlay_find(overlay, index);
    if (page == NULL || page->frame == VV_OVERLAY_ZERO || !vv_hash_equal(page->hash, hash))
        TRY(wrong_page(overlay, index));
    if (filling->count == filling->room) {
        const size_t room = 2 * filling->room + 64;
        TRY(vv_resize(&filling->wanted, room, sizeof *filling->wanted));
        filling->room = room;
    }
    struct wanted *wanted = &filling->wanted[filling->count++];
    *wanted = (struct wanted){ .version = version, .index = index, .frame = page->frame, .slot = page->slot };
    memcpy(wanted->hash, hash, VV_HASH_SIZE);
out:
    return rc;
}

static varve_status fill_leaf(void *context, uint64_t index, const struct vv_leaf *from,
                              const struct vv_leaf *to)
{
    struct filling *filling = context;
    struct vv_tree_version *version = NULL;
    uint8_t page[VV_PAGE_SIZE];
    varve_status rc = VARVE_OK;

    (void)from;
    if (index >= filling->page_count)
        return VARVE_OK;
    if (to == NULL)
        return filling->put(filling->context, index, NULL);
    TRY(version_at(filling->place, to->locator, &version));
    if (version->is_diff)
        return want(filling, version, index, to->hash);
    TRY(take_version(filling, version));
    TRY(vv_memfile_read(&filling->handle->file, index, to->hash, page));
    TRY(filling->put(filling->context, index, page));
out:
    return rc;
}

static int by_frame(const void *a, const void *b)
{
    const struct wanted *left = a, *right = b;

    if (left->version->number != right->version->number)
        return left->version->number < right->version->number ? -1 : 1;
    if (left->frame != right->frame)
        return left->frame < right->frame ? -1 : 1;
    return left->index < right->index ? -1 : left->index > right->index;
}

/* Frame by frame, each read once. */
static varve_status fill_wanted(struct filling *filling)
{
    struct vv_codec codec = VV_CODEC_NONE;
    struct vv_frame frame = VV_FRAME_NONE;
    uint8_t page[VV_PAGE_SIZE];
    varve_status rc = VARVE_OK;

    if (filling->count > 1)
        qsort(filling->wanted, filling->count, sizeof *filling->wanted, by_frame);
    for (size_t i = 0; i < filling->count; i++) {
        const struct wanted *wanted = &filling->wanted[i];
        TRY(take_version(filling, wanted->version));
        const struct vv_overlay *overlay = &filling->handle->overlay;
        if (i == 0 || wanted->version != wanted[-1].version || wanted->frame != wanted[-1].frame) {
            vv_frame_release(&frame);
            TRY(vv_overlay_frame(overlay, wanted->frame, &codec, &frame));
        }
        TRY(decode_page(wanted->version, overlay, &frame, wanted->slot, wanted->index, wanted->hash, page));
        TRY(filling->put(filling->context, wanted->index, page));
    }
out:
    vv_frame_release(&frame);
    vv_codec_release(&codec);
    return rc;
}

varve_status vv_tree_read_diff(struct vv_place *place, const struct vv_pagetree *from,
                               const struct vv_pagetree *tree,
                               varve_status (*put)(void *context, uint64_t index, const uint8_t *page),
                               void *context)
{
    struct filling filling = {
        .place = place, .page_count = tree->page_count, .put = put, .context = context
    };
    varve_status rc = VARVE_OK;

    TRY(vv_pagetree_diff(from, tree, fill_leaf, &filling));
    TRY(fill_wanted(&filling));
out:
    if (filling.handle != NULL)
        vv_tree_version_give(filling.handle);
    vv_free(filling.wanted);
    return rc;
}

/* ---- Files to map ------------------------------------------------------------------------------- */

static bool is_rotten(struct vv_place *place, const varve_module_id *module)
{
    vv_shelf_lock(&place->shelf);
    const bool rotten = vv_table_get(&place->rotten, module) != NULL;
    vv_shelf_unlock(&place->shelf);
    return rotten;
}

/* The base that `wanted` was made from, as long as anything holds it: whoever looks at the tree holds what it needs. */
static struct vv_tree_version *base_of(const struct vv_place *place, const varve_module_id *module,
                                       const struct vv_pagetree *wanted)
{
    if (wanted->source == NULL || wanted->source->context == NULL)
        return NULL;
    struct vv_tree_version *version = wanted->source->context;
    return version->shelf == &place->shelf && memcmp(&version->module, module, sizeof *module) == 0 ? version
                                                                                                    : NULL;
}

void vv_tree_source(struct vv_place *place, const varve_module_id *module, const struct vv_pagetree *wanted,
                    struct vv_source *source)
{
    struct vv_tree_version *version = base_of(place, module, wanted);
    struct vv_handle *handle = NULL;

    *source = (struct vv_source){ .file = VV_FILE_NONE };
    if (version == NULL || version->tree.page_count == 0 || is_rotten(place, module) ||
        vv_tree_version_take(version, VV_PART_MEMORY, &handle) != VARVE_OK)
        return;
    if (vv_shelf_is_crowded(&place->shelf)) { /* each stays open as long as it is mapped: read instead */
        vv_tree_version_give(handle);
        return;
    }
    source->file = handle->file;
    source->pages =
        version->tree.page_count < wanted->page_count ? version->tree.page_count : wanted->page_count;
    source->tree = &version->tree;
    source->owner = handle;
}

void vv_tree_source_end(struct vv_place *place, struct vv_source *source)
{
    (void)place;
    if (source->owner != NULL)
        vv_tree_version_give(source->owner);
    *source = (struct vv_source){ .file = VV_FILE_NONE };
}

uint64_t vv_tree_source_version(struct vv_place *place)
{
    return place->version;
}

void vv_tree_source_rotten(struct vv_place *place, const varve_module_id *module)
{
    vv_shelf_lock(&place->shelf);
    /* Where memory does not suffice to remember it, nothing more is mapped of any: `sound` rises all the same. */
    (void)vv_table_put(&place->rotten, module, (union vv_value){ .number = 1 });
    vv_shelf_unlock(&place->shelf);
    place->sound = ++place->version;
}

uint64_t vv_tree_source_sound(struct vv_place *place)
{
    return place->sound;
}
