/* build.c - making a commit directory: what the commit changes is written, all else is linked.
 *
 *   unchanged  memory, diff, tree and bytecode are hard links to those of the base commit; its entry is copied
 *   changed    the pages that differ from the base image, as a new diff; past an eighth of its pages a new base image
 *   code       a hard link to the pool's file
 * Where a file can have no further link it is copied, and the copy is what later commits link to. Files that are there
 * already are never written to: a new one has mode 0444, is written once and synced, and then its directory is. */
#include "store/tree/build.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/plant.h"
#include "store/codepool.h"
#include "store/plain/memfile.h"

enum {
    DIFF_SHARE = 8, /* of a base image's pages: as many a diff may hold */
    DIFF_LEAST = 4, /* pages that a diff may hold in any case */
    FRAMES_FREE =
        8, /* frames in a diff, beside one for every FRAMES_SHARE pages, before small ones are joined */
    FRAMES_SHARE = 16,
    FRAME_SMALL = 32
};
enum { NEW_FILE = VV_OPEN_WRITE | VV_OPEN_CREATE | VV_OPEN_EXCLUSIVE | VV_OPEN_FROZEN };

struct dirs {
    struct vv_dir root, memory, tree, bytecode;
};
#define DIRS_NONE   \
    ((struct dirs){ \
        .root = VV_DIR_NONE, .memory = VV_DIR_NONE, .tree = VV_DIR_NONE, .bytecode = VV_DIR_NONE })

struct building {
    struct vv_place *place;
    const struct vv_change *change;
    struct vv_pending *pending;
    struct vv_folder *base; /* pinned; NULL: from nothing */
    struct dirs from, to;
    struct vv_dir pool; /* of bytecode; opened when it is needed */
    struct vv_bytes listing;
    struct vv_codec codec;
    bool has_code; /* a name was put into `bytecode` */
};

static void dirs_close(struct dirs *dirs)
{
    vv_dir_close(&dirs->root);
    vv_dir_close(&dirs->memory);
    vv_dir_close(&dirs->tree);
    vv_dir_close(&dirs->bytecode);
}

static struct vv_dir *dir_of(struct dirs *dirs, enum vv_part part)
{
    return part == VV_PART_NODES ? &dirs->tree : &dirs->memory;
}

/* ---- New files ---------------------------------------------------------------------------------- */

/* Its words tell the name that it will have. */
static varve_status create_file(struct building *b, const varve_module_id *id, enum vv_part part,
                                struct vv_file *file)
{
    char name[VV_PART_NAME];
    varve_status rc = VARVE_OK;

    vv_part_name(id, part, name);
    TRY(vv_file_open(dir_of(&b->to, part), name, NEW_FILE, file));
    vv_part_path(&b->change->facts.root, id, part, file->name);
out:
    return rc;
}

static varve_status finish_file(struct building *b, struct vv_file *file, uint64_t bytes)
{
    b->pending->bytes += bytes;
    if (VV_PLANT("tree-file-sync"))
        return VARVE_OK;
    return vv_tree_sync_file(b->place, file);
}

static varve_status copy_file(struct building *b, const struct vv_dir *from_dir, const char *from,
                              const struct vv_dir *to_dir, const char *to)
{
    struct vv_file source = VV_FILE_NONE, target = VV_FILE_NONE;
    uint64_t size = 0;
    varve_status rc = VARVE_OK;

    TRY(vv_file_open(from_dir, from, VV_OPEN_READ, &source));
    TRY(vv_file_open(to_dir, to, NEW_FILE, &target));
    TRY(vv_file_copy(&source, &target));
    TRY(vv_file_allocated(&target, &size));
    TRY(finish_file(b, &target, size));
out:
    vv_file_close(&source);
    vv_file_close(&target);
    return rc;
}

static varve_status link_file(struct building *b, const struct vv_dir *from_dir, const char *from,
                              const struct vv_dir *to_dir, const char *to)
{
    varve_status rc = vv_dir_link(from_dir, from, to_dir, to);

    if (rc == VARVE_UNSUPPORTED)
        rc = copy_file(b, from_dir, from, to_dir, to);
    return rc;
}

/* What the base commit has of a module. */
static varve_status link_part(struct building *b, const varve_module_id *id, enum vv_part part)
{
    char name[VV_PART_NAME], path[160];
    varve_status rc = VARVE_OK;

    vv_part_name(id, part, name);
    rc = link_file(b, dir_of(&b->from, part), name, dir_of(&b->to, part), name);
    if (rc == VARVE_NOT_FOUND) {
        vv_part_path(&b->base->root, id, part, path);
        rc = vv_fail(VARVE_CORRUPT, "%s: the file is missing", path);
    }
    return rc;
}

/* ---- Bytecode ----------------------------------------------------------------------------------- */

static varve_status open_pool(struct building *b)
{
    return b->pool.fd != -1 ? VARVE_OK : vv_dir_open_at(&b->place->own, "code", &b->pool);
}

static varve_status link_code(struct building *b, const struct vv_module *module)
{
    char name[65], hex[65];
    varve_status rc = VARVE_OK;

    if (vv_hash_is_zero(module->code))
        return VARVE_OK;
    b->has_code = true;
    vv_hex_format(module->id.bytes, name);
    vv_hex_format(module->code, hex);
    rc = open_pool(b);
    if (rc == VARVE_OK)
        rc = link_file(b, &b->pool, hex, &b->to.bytecode, name);
    if (rc == VARVE_NOT_FOUND)
        rc = vv_fail(VARVE_CORRUPT, ".varve/code/%s: the file is missing", hex);
    return rc;
}

static varve_status link_old_code(struct building *b, const varve_module_id *id)
{
    char name[65], root[65];
    varve_status rc = VARVE_OK;

    b->has_code = true;
    vv_hex_format(id->bytes, name);
    rc = link_file(b, &b->from.bytecode, name, &b->to.bytecode, name);
    if (rc == VARVE_NOT_FOUND) {
        vv_hex_format(b->base->root.bytes, root);
        rc = vv_fail(VARVE_CORRUPT, "%s/bytecode/%s: the file is missing", root, name);
    }
    return rc;
}

/* ---- A base image ------------------------------------------------------------------------------- */

/* The bytes of a page that the commit changes; NULL: it does not. */
static const uint8_t *changed_page(const struct vv_module_change *change, uint64_t index)
{
    size_t low = 0, high = change->page_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (change->pages[middle].index < index)
            low = middle + 1;
        else
            high = middle;
    }
    return low < change->page_count && change->pages[low].index == index ? change->pages[low].bytes : NULL;
}

/* A page of the new memory: lent, or read into `room`. */
static varve_status page_of(struct building *b, const struct vv_module_change *change, uint64_t index,
                            const struct vv_leaf *leaf, uint8_t room[VV_PAGE_SIZE], const uint8_t **bytes)
{
    *bytes = changed_page(change, index);
    if (*bytes != NULL)
        return VARVE_OK;
    VV_ASSERT(leaf->locator != 0);
    *bytes = room;
    return vv_tree_read(b->place, leaf, room);
}

struct imaging {
    struct building *b;
    const struct vv_module_change *change;
    struct vv_memfile_writer writer;
    struct vv_pagetree tree; /* its locators are places in the file */
};

static varve_status put_image_page(void *context, uint64_t index, const struct vv_leaf *leaf)
{
    struct imaging *imaging = context;
    struct vv_leaf own = { .locator = vv_locator_in_file(index) };
    uint8_t room[VV_PAGE_SIZE];
    const uint8_t *bytes = NULL;
    varve_status rc = VARVE_OK;

    TRY(page_of(imaging->b, imaging->change, index, leaf, room, &bytes));
    TRY(vv_memfile_put(&imaging->writer, index, bytes));
    memcpy(own.hash, leaf->hash, VV_HASH_SIZE);
    TRY(vv_pagetree_set(&imaging->tree, index, &own));
out:
    return rc;
}

static varve_status save_nodes(struct imaging *imaging, struct vv_listing_entry *entry)
{
    struct building *b = imaging->b;
    struct vv_nodefile nodes = { .file = VV_FILE_NONE };
    uint8_t top[VV_HASH_SIZE];
    char name[VV_PART_NAME];
    varve_status rc = VARVE_OK;

    vv_part_name(&entry->id, VV_PART_NODES, name);
    TRY(vv_nodefile_create(&b->to.tree, name, VV_OPEN_FROZEN, 0, &nodes));
    vv_part_path(&b->change->facts.root, &entry->id, VV_PART_NODES, nodes.file.name);
    TRY(vv_pagetree_top(&imaging->tree, top));
    VV_ASSERT(vv_hash_equal(top, entry->memory.top));
    TRY(vv_pagetree_save(&imaging->tree, vv_nodefile_put, &nodes, &entry->address));
    TRY(vv_nodefile_flush(&nodes));
    entry->nodes_size = nodes.end;
    if (nodes.end > UINT32_MAX)
        TRY(vv_fail(VARVE_LIMIT, "a memory of %llu pages: the layout tree keeps hashes of fewer",
                    (unsigned long long)entry->memory.pages));
    TRY(finish_file(b, &nodes.file, nodes.end));
out:
    vv_nodefile_close(&nodes);
    return rc;
}

static varve_status write_image(struct building *b, const struct vv_module_change *change,
                                struct vv_listing_entry *entry)
{
    struct imaging imaging = { .b = b, .change = change };
    struct vv_file file = VV_FILE_NONE;
    varve_status rc = VARVE_OK;

    vv_pagetree_init(&imaging.tree, entry->memory.pages, NULL);
    TRY(create_file(b, &entry->id, VV_PART_MEMORY, &file));
    TRY(vv_memfile_begin(&imaging.writer, &file));
    TRY(vv_pagetree_each(&change->after->memory, 0, put_image_page, &imaging));
    TRY(vv_memfile_end(&imaging.writer, entry->memory.pages));
    TRY(finish_file(b, &file, imaging.writer.written));
    entry->base = entry->memory;
    entry->diff_size = 0;
    TRY(save_nodes(&imaging, entry));
out:
    vv_memfile_abandon(&imaging.writer);
    vv_pagetree_release(&imaging.tree);
    vv_file_close(&file);
    return rc;
}

/* ---- A diff ------------------------------------------------------------------------------------- */

/* A page that differs from the base image. */
struct differing {
    uint64_t index;
    bool zero;
    struct vv_leaf leaf;
};
struct differences {
    struct differing *list;
    size_t count, room, most;
    uint64_t page_count;
};

static varve_status note_difference(void *context, uint64_t index, const struct vv_leaf *from,
                                    const struct vv_leaf *to)
{
    struct differences *all = context;

    (void)from;
    if (index >= all->page_count)
        return VARVE_OK; /* cut off: the length says so */
    if (all->count == all->most)
        return VARVE_END;
    if (all->count == all->room) {
        const size_t room = 2 * all->room + 64;
        const varve_status rc = vv_resize(&all->list, room, sizeof *all->list);
        if (rc != VARVE_OK)
            return rc;
        all->room = room;
    }
    all->list[all->count++] = (struct differing){
        .index = index, .zero = to == NULL, .leaf = to == NULL ? (struct vv_leaf){ .locator = 0 } : *to
    };
    return VARVE_OK;
}

/* Pages on their way into new frames. */
struct packing {
    struct building *b;
    struct vv_tree_version *base; /* what runs are against */
    struct vv_handle *image;      /* its file */
    struct vv_overlay_writer writer;
    struct vv_frame_page pages[VV_FRAME_PAGES];
    struct vv_overlay_page *places[VV_FRAME_PAGES]; /* where it is to be said where the page went */
    uint8_t (*room)[VV_PAGE_SIZE];                  /* two for each page */
    size_t count;
};

static varve_status flush_frame(struct packing *packing)
{
    struct vv_bytes frame = VV_BYTES_NONE;
    varve_status rc = VARVE_OK;

    if (packing->count == 0)
        return VARVE_OK;
    TRY(vv_frame_encode_with(&packing->b->codec, packing->pages, packing->count, &frame));
    for (size_t i = 0; i < packing->count; i++) {
        packing->places[i]->frame = (uint32_t)packing->writer.frame_count;
        packing->places[i]->slot = (uint8_t)i;
    }
    packing->count = 0;
    TRY(vv_overlay_put(&packing->writer, frame.data, frame.size));
out:
    vv_bytes_release(&frame);
    return rc;
}

static varve_status next_slot(struct packing *packing, struct vv_overlay_page *place, size_t *slot)
{
    varve_status rc = VARVE_OK;

    if (packing->count == VV_FRAME_PAGES)
        TRY(flush_frame(packing));
    *slot = packing->count++;
    packing->places[*slot] = place;
    packing->pages[*slot] = (struct vv_frame_page){ .base_locator = vv_locator_in_file(place->index) };
out:
    return rc;
}

/* The base image's page, held against its hash; `there` is false where it has none but zeros. */
static varve_status base_page(struct packing *packing, uint64_t index, uint8_t page[VV_PAGE_SIZE],
                              bool *there)
{
    struct vv_leaf leaf;
    varve_status rc = VARVE_OK;

    *there = false;
    if (index < packing->base->tree.page_count)
        TRY(vv_pagetree_get(&packing->base->tree, index, &leaf, there));
    if (*there)
        TRY(vv_memfile_read(&packing->image->file, index, leaf.hash, page));
out:
    return rc;
}

static varve_status pack_page(struct packing *packing, const struct vv_module_change *change,
                              const struct differing *differing, struct vv_overlay_page *place)
{
    const uint8_t *bytes = NULL;
    size_t slot = 0;
    bool based = false;
    varve_status rc = VARVE_OK;

    TRY(next_slot(packing, place, &slot));
    TRY(page_of(packing->b, change, differing->index, &differing->leaf, packing->room[2 * slot], &bytes));
    TRY(base_page(packing, differing->index, packing->room[2 * slot + 1], &based));
    packing->pages[slot].bytes = bytes;
    packing->pages[slot].base = based ? packing->room[2 * slot + 1] : NULL;
out:
    return rc;
}

/* A slot of an older frame, as it is stored. */
static varve_status pack_slot(struct packing *packing, const struct vv_frame *frame, unsigned slot,
                              struct vv_overlay_page *place)
{
    size_t to = 0;
    varve_status rc = VARVE_OK;

    if (slot >= frame->count || frame->slots[slot].form == VV_FORM_ZERO)
        return vv_fail(VARVE_CORRUPT, "a frame of a diff has no such page");
    TRY(next_slot(packing, place, &to));
    uint8_t *room = packing->room[2 * to];
    memcpy(room, frame->payload + frame->offsets[slot], frame->sizes[slot]);
    packing->pages[to].bytes = room;
    if (frame->slots[slot].form == VV_FORM_RUNS) {
        packing->pages[to].base = room; /* only that there is one matters, where runs are given */
        packing->pages[to].base_locator = frame->slots[slot].base_locator;
        packing->pages[to].runs = room;
        packing->pages[to].runs_size = frame->sizes[slot];
    }
out:
    return rc;
}

/* What the new diff has of the former one. */
struct reused {
    size_t page;    /* in the new diff */
    uint32_t frame; /* of the former */
    uint8_t slot;
};
struct reuse {
    const struct vv_overlay *old;
    struct reused *pages; /* that are as they were */
    size_t count;
    size_t *live, *slots; /* of each frame: such pages; at least as many slots it has */
    uint32_t *moved;      /* its number in the new file; VV_OVERLAY_ZERO: it is not kept */
};

static void reuse_release(struct reuse *reuse)
{
    vv_free(reuse->pages);
    vv_free(reuse->live);
    vv_free(reuse->slots);
    vv_free(reuse->moved);
}

/* A frame stays until half of it is dead, or until there are too many small ones. */
static void decide_frames(const struct reuse *reuse, size_t page_count)
{
    const size_t many = FRAMES_FREE + page_count / FRAMES_SHARE;
    size_t kept = 0;

    for (size_t i = 0; i < reuse->old->frame_count; i++)
        kept += reuse->live[i] > 0;
    for (size_t i = 0; i < reuse->old->frame_count; i++) {
        const bool join = kept > many && reuse->live[i] < FRAME_SMALL;
        const bool keep = reuse->live[i] > 0 && 2 * reuse->live[i] >= reuse->slots[i] && !join;
        reuse->moved[i] = keep ? 0 : VV_OVERLAY_ZERO;
    }
}

static int by_frame(const void *a, const void *b)
{
    const struct reused *left = a, *right = b;

    if (left->frame != right->frame)
        return left->frame < right->frame ? -1 : 1;
    return left->page < right->page ? -1 : left->page > right->page;
}

static varve_status plan_reuse(struct reuse *reuse, const struct differences *all)
{
    const struct vv_overlay *old = reuse->old;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&reuse->live, old->frame_count, sizeof *reuse->live));
    TRY(vv_alloc(&reuse->slots, old->frame_count, sizeof *reuse->slots));
    TRY(vv_alloc(&reuse->moved, old->frame_count, sizeof *reuse->moved));
    TRY(vv_alloc(&reuse->pages, all->count, sizeof *reuse->pages));
    for (size_t i = 0; i < old->page_count; i++) {
        const struct vv_overlay_page *page = &old->pages[i];
        if (page->frame != VV_OVERLAY_ZERO && reuse->slots[page->frame] <= page->slot)
            reuse->slots[page->frame] = (size_t)page->slot + 1;
    }
    for (size_t i = 0; i < all->count; i++) {
        const struct vv_overlay_page *before = vv_overlay_find(old, all->list[i].index);
        if (all->list[i].zero || before == NULL || !vv_hash_equal(before->hash, all->list[i].leaf.hash))
            continue;
        reuse->pages[reuse->count++] =
            (struct reused){ .page = i, .frame = before->frame, .slot = before->slot };
        reuse->live[before->frame]++;
    }
    if (reuse->count > 1)
        qsort(reuse->pages, reuse->count, sizeof *reuse->pages, by_frame);
    decide_frames(reuse, all->count);
out:
    return rc;
}

static varve_status keep_frames(struct packing *packing, const struct reuse *reuse)
{
    struct vv_bytes bytes = VV_BYTES_NONE;
    varve_status rc = VARVE_OK;

    for (uint32_t i = 0; i < reuse->old->frame_count; i++) {
        if (reuse->moved[i] == VV_OVERLAY_ZERO)
            continue;
        vv_bytes_clear(&bytes);
        TRY(vv_overlay_frame_bytes(reuse->old, i, &bytes));
        reuse->moved[i] = (uint32_t)packing->writer.frame_count;
        TRY(vv_overlay_put(&packing->writer, bytes.data, bytes.size));
    }
out:
    vv_bytes_release(&bytes);
    return rc;
}

/* Pages of frames that are kept stay where they are in them; those of the others go into new ones. */
static varve_status keep_pages(struct packing *packing, const struct reuse *reuse,
                               struct vv_overlay_page *pages)
{
    struct vv_frame frame = VV_FRAME_NONE;
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < reuse->count; i++) {
        const struct reused *reused = &reuse->pages[i];
        struct vv_overlay_page *page = &pages[reused->page];
        if (reuse->moved[reused->frame] != VV_OVERLAY_ZERO) {
            page->frame = reuse->moved[reused->frame];
            page->slot = reused->slot;
            continue;
        }
        if (i == 0 || reused->frame != reused[-1].frame) {
            vv_frame_release(&frame);
            TRY(vv_overlay_frame(reuse->old, reused->frame, &packing->b->codec, &frame));
        }
        TRY(pack_slot(packing, &frame, reused->slot, page));
    }
out:
    vv_frame_release(&frame);
    return rc;
}

static varve_status pack_pages(struct packing *packing, const struct vv_module_change *change,
                               const struct differences *all, const struct vv_overlay *old,
                               struct vv_overlay_page *pages)
{
    struct reuse reuse = { .old = old };
    bool *kept = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&kept, all->count, sizeof *kept));
    if (old != NULL) {
        TRY(plan_reuse(&reuse, all));
        TRY(keep_frames(packing, &reuse));
        TRY(keep_pages(packing, &reuse, pages));
        for (size_t i = 0; i < reuse.count; i++)
            kept[reuse.pages[i].page] = true;
    }
    for (size_t i = 0; i < all->count; i++)
        if (!all->list[i].zero && !kept[i])
            TRY(pack_page(packing, change, &all->list[i], &pages[i]));
    TRY(flush_frame(packing));
out:
    reuse_release(&reuse);
    vv_free(kept);
    return rc;
}

/* A planted bug: the file that other commits have too gets the new bytes. */
static varve_status change_in_place(struct building *b, const struct vv_listing_entry *entry)
{
    char name[VV_PART_NAME];
    struct vv_file from = VV_FILE_NONE, to = VV_FILE_NONE;
    varve_status rc = VARVE_OK;

    vv_part_name(&entry->id, VV_PART_DIFF, name);
    TRY(vv_file_open(&b->to.memory, name, VV_OPEN_READ, &from));
    TRY(vv_file_open(&b->from.memory, name, VV_OPEN_WRITE, &to));
    TRY(vv_file_truncate(&to, 0));
    TRY(vv_file_copy(&from, &to));
out:
    vv_file_close(&from);
    vv_file_close(&to);
    return rc;
}

static varve_status write_diff(struct building *b, const struct vv_module_change *change,
                               const struct differences *all, struct vv_tree_version *base,
                               struct vv_tree_version *former, struct vv_listing_entry *entry)
{
    struct packing packing = { .b = b, .base = base };
    struct vv_overlay overlay = { .module = entry->id, .base = entry->base, .memory = entry->memory };
    struct vv_file file = VV_FILE_NONE;
    struct vv_handle *handle = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&packing.room, 2 * (size_t)VV_FRAME_PAGES, VV_PAGE_SIZE));
    TRY(vv_alloc(&overlay.pages, all->count, sizeof *overlay.pages));
    overlay.page_count = all->count;
    for (size_t i = 0; i < all->count; i++) {
        overlay.pages[i] = (struct vv_overlay_page){ .index = all->list[i].index, .frame = VV_OVERLAY_ZERO };
        if (!all->list[i].zero)
            memcpy(overlay.pages[i].hash, all->list[i].leaf.hash, VV_HASH_SIZE);
    }
    if (base->tree.page_count > 0)
        TRY(vv_tree_version_take(base, VV_PART_MEMORY, &packing.image));
    if (former != NULL)
        TRY(vv_tree_version_take(former, VV_PART_DIFF, &handle));
    TRY(create_file(b, &entry->id, VV_PART_DIFF, &file));
    TRY(vv_overlay_begin(&packing.writer, &file));
    TRY(pack_pages(&packing, change, all, handle == NULL ? NULL : &handle->overlay, overlay.pages));
    TRY(vv_overlay_end(&packing.writer, &overlay, &entry->diff_size));
    TRY(finish_file(b, &file, entry->diff_size));
    if (former != NULL && VV_PLANT("diff-in-place"))
        TRY(change_in_place(b, entry));
out:
    vv_overlay_abandon(&packing.writer);
    if (handle != NULL)
        vv_tree_version_give(handle);
    if (packing.image != NULL)
        vv_tree_version_give(packing.image);
    vv_file_close(&file);
    vv_free(overlay.pages);
    vv_free(packing.room);
    return rc;
}

/* ---- A module ----------------------------------------------------------------------------------- */

static varve_status link_module(struct building *b, const struct vv_listing_entry *entry)
{
    varve_status rc = VARVE_OK;

    TRY(link_part(b, &entry->id, VV_PART_MEMORY));
    TRY(link_part(b, &entry->id, VV_PART_NODES));
    if (entry->diff_size > 0)
        TRY(link_part(b, &entry->id, VV_PART_DIFF));
    if (entry->has_code)
        TRY(link_old_code(b, &entry->id));
    vv_listing_put_raw(&b->listing, entry);
out:
    return rc;
}

static varve_status new_version(struct building *b, const struct vv_listing_entry *entry, bool is_diff,
                                struct vv_tree_version **version)
{
    vv_shelf_lock(&b->place->shelf);
    const varve_status rc = vv_tree_version_new(&b->place->shelf, entry, is_diff, version);
    vv_shelf_unlock(&b->place->shelf);
    return rc;
}

static varve_status image_module(struct building *b, const struct vv_module_change *change,
                                 struct vv_listing_entry *entry, struct vv_landing *landing)
{
    varve_status rc = VARVE_OK;

    TRY(write_image(b, change, entry));
    TRY(new_version(b, entry, false, &landing->base));
out:
    return rc;
}

/* On top of the base image that the base commit has. */
static varve_status diff_module(struct building *b, const struct vv_module_change *change,
                                const struct vv_listing_entry *old, const struct differences *all,
                                struct vv_tree_version *base, struct vv_tree_version *former,
                                struct vv_listing_entry *entry, struct vv_landing *landing)
{
    varve_status rc = VARVE_OK;

    entry->base = old->base;
    entry->address = old->address;
    entry->nodes_size = old->nodes_size;
    TRY(link_part(b, &entry->id, VV_PART_MEMORY));
    TRY(link_part(b, &entry->id, VV_PART_NODES));
    landing->below = base;
    if (vv_memory_key_equal(&entry->memory, &entry->base))
        goto out;
    if (former != NULL && vv_memory_key_equal(&entry->memory, &old->memory)) {
        entry->diff_size = old->diff_size;
        landing->above = former;
        TRY(link_part(b, &entry->id, VV_PART_DIFF));
        goto out;
    }
    TRY(write_diff(b, change, all, base, former, entry));
    TRY(new_version(b, entry, true, &landing->diff));
    landing->above = landing->diff;
    landing->diff->below = base;
out:
    return rc;
}

static varve_status differ_from(struct vv_tree_version *base, const struct vv_pagetree *tree,
                                struct differences *all, bool *too_many)
{
    const uint64_t most = base->base.pages / DIFF_SHARE;

    *all =
        (struct differences){ .page_count = tree->page_count, .most = most < DIFF_LEAST ? DIFF_LEAST : most };
    const varve_status rc = vv_pagetree_diff(&base->tree, tree, note_difference, all);
    *too_many = rc == VARVE_END;
    return *too_many ? VARVE_OK : rc;
}

static varve_status build_module(struct building *b, const struct vv_module_change *change,
                                 const struct vv_listing_entry *old, struct vv_landing *landing)
{
    struct vv_module *after = change->after;
    struct vv_listing_entry entry = { .id = change->id, .has_code = !vv_hash_is_zero(after->code) };
    struct vv_tree_version *base = NULL, *former = NULL;
    struct differences all = { .count = 0 };
    bool too_many = true;
    varve_status rc = VARVE_OK;

    TRY(vv_module_leaf(after, entry.leaf));
    entry.memory.pages = after->memory.page_count;
    TRY(vv_pagetree_top(&after->memory, entry.memory.top));
    TRY(link_code(b, after));
    if (old != NULL) {
        vv_shelf_lock(&b->place->shelf);
        base = vv_shelf_base(&b->place->shelf, old);
        former = vv_shelf_diff(&b->place->shelf, old);
        vv_shelf_unlock(&b->place->shelf);
        VV_ASSERT(base != NULL && (former != NULL) == (old->diff_size > 0)); /* it was looked at */
        TRY(differ_from(base, &after->memory, &all, &too_many));
    }
    if (too_many)
        TRY(image_module(b, change, &entry, landing));
    else
        TRY(diff_module(b, change, old, &all, base, former, &entry, landing));
    TRY(vv_listing_put(&b->listing, &entry, after));
out:
    vv_free(all.list);
    return rc;
}

/* ---- The directory ------------------------------------------------------------------------------ */

static varve_status make_dir(const struct vv_dir *parent, const char *name, struct vv_dir *dir)
{
    varve_status rc = VARVE_OK;

    TRY(vv_dir_create_at(parent, name));
    TRY(vv_dir_open_at(parent, name, dir));
out:
    return rc;
}

static varve_status make_dirs(struct building *b)
{
    varve_status rc = VARVE_OK;

    vv_tree_name(b->place, ".tmp-", b->pending->name);
    TRY(make_dir(&b->place->dir, b->pending->name, &b->to.root));
    TRY(make_dir(&b->to.root, "bytecode", &b->to.bytecode));
    TRY(make_dir(&b->to.root, "memory", &b->to.memory));
    TRY(make_dir(&b->to.root, "tree", &b->to.tree));
out:
    return rc;
}

static varve_status open_base(struct building *b)
{
    struct vv_place *place = b->place;
    const varve_root *root = &b->change->base->root;
    varve_status rc = VARVE_OK;

    vv_plain_lock(&place->plain);
    const uint64_t generation = place->plain.generation;
    vv_plain_unlock(&place->plain);
    vv_shelf_lock(&place->shelf);
    struct vv_folder *folder = vv_shelf_folder(&place->shelf, root);
    if (folder == NULL) {
        rc = vv_fail(VARVE_NOT_FOUND, "the store has no such commit");
    } else {
        rc = vv_shelf_pin(&place->shelf, folder);
        if (rc == VARVE_OK)
            b->base = folder;
        if (rc == VARVE_OK)
            rc = vv_shelf_look(&place->shelf, folder, generation);
    }
    vv_shelf_unlock(&place->shelf);
    TRY(rc);
    TRY(vv_root_open(&place->dir, root, &b->from.root));
    TRY(vv_root_open_in(&b->from.root, "bytecode", root, &b->from.bytecode));
    TRY(vv_root_open_in(&b->from.root, "memory", root, &b->from.memory));
    TRY(vv_root_open_in(&b->from.root, "tree", root, &b->from.tree));
out:
    return rc;
}

/* How many modules there will be. */
static uint64_t count_modules(const struct building *b)
{
    uint64_t count = b->base == NULL ? 0 : b->base->index.count;

    for (size_t i = 0; i < b->change->module_count; i++) {
        const struct vv_module_change *change = &b->change->modules[i];
        const bool before = b->base != NULL && vv_listing_find(&b->base->index, &change->id) != NULL;
        count += (change->after != NULL) - (uint64_t)before;
    }
    return count;
}

/* By ids: those of the base commit and those that change, merged. */
static varve_status build_modules(struct building *b)
{
    const struct vv_change *change = b->change;
    const size_t old_count = b->base == NULL ? 0 : b->base->index.count;
    size_t i = 0, k = 0;
    varve_status rc = VARVE_OK;

    while (i < old_count || k < change->module_count) {
        const struct vv_listing_entry *old = i < old_count ? &b->base->index.entries[i] : NULL;
        const struct vv_module_change *new = k < change->module_count ? &change->modules[k] : NULL;
        const int order = old == NULL   ? 1
                          : new == NULL ? -1
                                        : memcmp(old->id.bytes, new->id.bytes, sizeof old->id.bytes);
        if (order < 0)
            TRY(link_module(b, old));
        else if (new->after != NULL)
            TRY(build_module(b, new, order == 0 ? old : NULL, &b->pending->landings[k]));
        i += order <= 0;
        k += order >= 0;
    }
out:
    return rc;
}

static varve_status write_listing(struct building *b)
{
    struct vv_file file = VV_FILE_NONE;
    varve_status rc = VARVE_OK;

    TRY(vv_listing_end(&b->listing));
    TRY(vv_file_open(&b->to.root, "index", NEW_FILE, &file));
    TRY(vv_file_write(&file, b->listing.data, b->listing.size, 0));
    TRY(finish_file(b, &file, b->listing.size));
out:
    vv_file_close(&file);
    return rc;
}

static varve_status sync_dirs(struct building *b)
{
    varve_status rc = VARVE_OK;

    if (VV_PLANT("tree-names-sync"))
        return VARVE_OK;
    if (b->has_code)
        TRY(vv_tree_sync_dir(b->place, &b->to.bytecode));
    TRY(vv_tree_sync_dir(b->place, &b->to.memory));
    TRY(vv_tree_sync_dir(b->place, &b->to.tree));
    TRY(vv_tree_sync_dir(b->place, &b->to.root));
out:
    return rc;
}

varve_status vv_tree_build(struct vv_place *place, const struct vv_change *change, struct vv_pending *pending)
{
    struct building b = { .place = place,
                          .change = change,
                          .pending = pending,
                          .from = DIRS_NONE,
                          .to = DIRS_NONE,
                          .pool = VV_DIR_NONE };
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&pending->landings, change->module_count, sizeof *pending->landings));
    pending->landing_count = change->module_count;
    if (change->base != NULL)
        TRY(open_base(&b));
    TRY(make_dirs(&b));
    vv_listing_begin(&b.listing, &change->facts.root, change->after, count_modules(&b));
    TRY(build_modules(&b));
    TRY(write_listing(&b));
    TRY(sync_dirs(&b));
    pending->built = true;
out:
    vv_codec_release(&b.codec);
    vv_bytes_release(&b.listing);
    vv_dir_close(&b.pool);
    dirs_close(&b.from);
    dirs_close(&b.to);
    if (b.base != NULL) {
        vv_shelf_lock(&place->shelf);
        vv_shelf_unpin(&place->shelf, b.base);
        vv_shelf_unlock(&place->shelf);
    }
    if (rc != VARVE_OK)
        vv_tree_unbuild(place, pending);
    return rc;
}

void vv_tree_unbuild(struct vv_place *place, struct vv_pending *pending)
{
    struct vv_last_words words;

    vv_words_keep(&words);
    if (pending->name[0] != '\0')
        (void)vv_tree_unlink(place, pending->name, NULL); /* what stays is removed at the next opening */
    vv_words_bring_back(&words);
    pending->name[0] = '\0';
    pending->built = false;
    vv_shelf_lock(&place->shelf);
    for (size_t i = 0; i < pending->landing_count; i++) {
        vv_tree_version_free(pending->landings[i].base);
        vv_tree_version_free(pending->landings[i].diff);
    }
    vv_shelf_unlock(&place->shelf);
    vv_free(pending->landings);
    pending->landings = NULL;
    pending->landing_count = 0;
}
