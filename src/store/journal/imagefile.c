/* imagefile.c - see imagefile.h. */
#include "store/journal/imagefile.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/plant.h"

enum { HEX_DIGITS = 64 };

/* ---- Names ------------------------------------------------------------------------------------ */

void vv_image_file_name(const varve_module_id *module, unsigned slot, char name[VV_IMAGE_NAME])
{
    char hex[HEX_DIGITS + 1];

    vv_hex_format(module->bytes, hex);
    (void)snprintf(name, VV_IMAGE_NAME, "%s.%u", hex, slot % VV_IMAGE_SLOTS);
}

bool vv_image_file_parse(const char *name, varve_module_id *module, unsigned *slot)
{
    char hex[HEX_DIGITS + 1];
    char again[VV_IMAGE_NAME];

    if (strlen(name) != HEX_DIGITS + 2)
        return false;
    memcpy(hex, name, HEX_DIGITS);
    hex[HEX_DIGITS] = '\0';
    if (vv_hex_parse(hex, module->bytes) != VARVE_OK)
        return false;
    *slot = name[HEX_DIGITS + 1] == '1';
    vv_image_file_name(module, *slot, again);
    return strcmp(name, again) == 0;
}

/* ---- The directory ---------------------------------------------------------------------------- */

void vv_images_init(struct vv_images *images, const struct vv_dir *store, const struct vv_node_source *nodes,
                    bool read_only, size_t used_most)
{
    *images = (struct vv_images){
        .store = store, .nodes = nodes, .read_only = read_only, .dir = VV_DIR_NONE, .used_most = used_most
    };
    pthread_mutex_init(&images->mutex, NULL);
}

void vv_images_release(struct vv_images *images)
{
    VV_ASSERT(images->used == NULL);
    vv_dir_close(&images->dir);
    pthread_mutex_destroy(&images->mutex);
}

/* The mutex is held. NOT_FOUND when there is none. */
static varve_status open_dir(struct vv_images *images)
{
    return images->dir.fd >= 0 ? VARVE_OK : vv_dir_open_at(images->store, VV_IMAGE_DIR, &images->dir);
}

/* Make the directory; one that was deleted meanwhile is made anew. The mutex is held. Neither its name nor those in it
 * are ever synced: a crash that takes one back leaves a file that was as good, or none. */
static varve_status make_dir(struct vv_images *images)
{
    varve_status rc = VARVE_OK;

    vv_dir_close(&images->dir);
    TRY(vv_dir_create_at(images->store, VV_IMAGE_DIR));
    TRY(open_dir(images));
out:
    return rc;
}

varve_status vv_images_each(struct vv_images *images, vv_name_fn each, void *context)
{
    pthread_mutex_lock(&images->mutex);
    varve_status rc = open_dir(images);
    const struct vv_dir dir =
        images->dir; /* it is closed by whoever writes, and that is the caller or nobody */
    pthread_mutex_unlock(&images->mutex);
    if (rc == VARVE_OK)
        rc = vv_dir_each(&dir, each, context);
    return rc == VARVE_NOT_FOUND ? VARVE_OK : rc;
}

/* ---- Using a file ----------------------------------------------------------------------------- */

varve_status vv_stamp_open_tree(const struct vv_stamp_tree *stamped, const struct vv_node_source *nodes,
                                struct vv_pagetree *tree)
{
    return vv_pagetree_open(tree, stamped->page_count, stamped->address, stamped->top, nodes);
}

/* The stamp, checked against where it was found. */
static varve_status read_stamp(const struct vv_file *file, const varve_module_id *module,
                               struct vv_stamp *stamp)
{
    varve_status rc = VARVE_OK;
    uint8_t page[VV_STAMP_PAGE];
    uint64_t size = 0;
    size_t got = 0;

    TRY(vv_file_read_some(file, page, sizeof page, 0, &got));
    TRY(vv_stamp_decode(page, got, stamp));
    if (memcmp(stamp->module.bytes, module->bytes, sizeof module->bytes) != 0)
        TRY(vv_fail(VARVE_CORRUPT, "its stamp is of another module"));
    TRY(vv_file_size(file, &size));
    if (stamp->state == VV_STAMP_WHOLE && size != VV_STAMP_PAGE + stamp->to.page_count * VV_PAGE_SIZE)
        TRY(vv_fail(VARVE_CORRUPT, "it has %llu bytes, its stamp says %llu pages", (unsigned long long)size,
                    (unsigned long long)stamp->to.page_count));
out:
    return rc;
}

static struct vv_image_file *find_used(struct vv_images *images, const varve_module_id *module, unsigned slot)
{
    struct vv_image_file *file = images->used;

    while (file != NULL && (file->replaced || file->slot != slot ||
                            memcmp(file->stamp.module.bytes, module->bytes, sizeof module->bytes) != 0))
        file = file->next;
    return file;
}

/* Lock it first: what is read before that may be on its way to be something else. */
static varve_status open_to_use(struct vv_images *images, const varve_module_id *module, unsigned slot,
                                struct vv_image_file **out)
{
    varve_status rc = VARVE_OK;
    char name[VV_IMAGE_NAME];
    struct vv_image_file *made = NULL;

    vv_image_file_name(module, slot, name);
    TRY(open_dir(images));
    TRY(vv_alloc(&made, 1, sizeof *made));
    *made = (struct vv_image_file){ .file = VV_FILE_NONE, .users = 1, .slot = slot };
    TRY(vv_file_open(&images->dir, name, VV_OPEN_READ, &made->file));
    TRY(vv_file_lock(&made->file, VV_LOCK_SHARED, 0, 1, 0));
    TRY(read_stamp(&made->file, module, &made->stamp));
    if (made->stamp.state != VV_STAMP_WHOLE && !VV_PLANT("spare-trusted"))
        TRY(vv_fail(VARVE_CORRUPT, "its rewriting was not finished"));
    TRY(vv_stamp_open_tree(&made->stamp.to, images->nodes, &made->tree));
    *out = made;
    made = NULL;
out:
    if (made != NULL)
        vv_file_close(&made->file);
    vv_free(made);
    return rc;
}

struct vv_image_file *vv_images_use(struct vv_images *images, const varve_module_id *module, unsigned slot)
{
    struct vv_image_file *file = NULL;

    if (images->shunned)
        return NULL;
    pthread_mutex_lock(&images->mutex);
    /* Whoever is the only writer knows when a name leads to another file. */
    if (!images->read_only)
        file = find_used(images, module, slot);
    if (file != NULL) {
        file->users++;
    } else if (images->used_count < images->used_most &&
               open_to_use(images, module, slot, &file) == VARVE_OK) {
        file->next = images->used;
        images->used = file;
        images->used_count++;
    }
    pthread_mutex_unlock(&images->mutex);
    return file;
}

void vv_images_leave(struct vv_images *images, struct vv_image_file *file)
{
    if (file == NULL)
        return;
    pthread_mutex_lock(&images->mutex);
    const bool last = --file->users == 0;
    if (last) {
        struct vv_image_file **link = &images->used;
        while (*link != file)
            link = &(*link)->next;
        *link = file->next;
        images->used_count--;
    }
    pthread_mutex_unlock(&images->mutex);
    if (!last)
        return;
    vv_file_close(&file->file);
    vv_pagetree_release(&file->tree);
    vv_free(file);
}

/* What this slot's name leads to is another file now, or none. */
static void name_changed(struct vv_images *images, const varve_module_id *module, unsigned slot)
{
    pthread_mutex_lock(&images->mutex);
    struct vv_image_file *file = find_used(images, module, slot);
    if (file != NULL)
        file->replaced = true;
    pthread_mutex_unlock(&images->mutex);
}

varve_status vv_images_look(struct vv_images *images, const varve_module_id *module, unsigned slot,
                            struct vv_stamp *stamp)
{
    varve_status rc = VARVE_OK;
    char name[VV_IMAGE_NAME];
    struct vv_file file = VV_FILE_NONE;

    vv_image_file_name(module, slot, name);
    pthread_mutex_lock(&images->mutex);
    rc = open_dir(images);
    if (rc == VARVE_OK)
        rc = vv_file_open(&images->dir, name, VV_OPEN_READ, &file);
    pthread_mutex_unlock(&images->mutex);
    if (rc == VARVE_OK)
        rc = read_stamp(&file, module, stamp);
    vv_file_close(&file);
    return rc;
}

varve_status vv_images_remove(struct vv_images *images, const varve_module_id *module, unsigned slot,
                              bool idle)
{
    varve_status rc = VARVE_OK;
    char name[VV_IMAGE_NAME];
    struct vv_file file = VV_FILE_NONE;

    vv_image_file_name(module, slot, name);
    pthread_mutex_lock(&images->mutex);
    rc = open_dir(images);
    if (rc == VARVE_OK && idle) {
        rc = vv_file_open(&images->dir, name, VV_OPEN_WRITE, &file);
        if (rc == VARVE_OK)
            rc = vv_file_lock(&file, VV_LOCK_EXCLUSIVE, 0, 1, 0);
    }
    if (rc == VARVE_OK)
        rc = vv_dir_unlink(&images->dir, name);
    pthread_mutex_unlock(&images->mutex);
    vv_file_close(&file);
    if (rc == VARVE_OK)
        name_changed(images, module, slot);
    return rc == VARVE_NOT_FOUND ? VARVE_OK : rc;
}

varve_status vv_images_rotten(struct vv_images *images, const varve_module_id *module, unsigned slot)
{
    images->sound = ++images->version;
    if (images->read_only) {
        images->shunned = true;
        return VARVE_OK;
    }
    return vv_images_remove(images, module, slot, false);
}

varve_status vv_image_file_verify(const struct vv_image_file *file, uint64_t first, uint64_t count,
                                  uint64_t *bad)
{
    varve_status rc = VARVE_OK;
    uint8_t page[VV_PAGE_SIZE];
    uint8_t hash[VV_HASH_SIZE];

    *bad = UINT64_MAX;
    for (uint64_t index = first; index < first + count && index < file->tree.page_count; index++) {
        struct vv_leaf leaf = { .locator = 0 }; /* of a page that is not present: the hash of zeros */
        bool present = false;
        TRY(vv_pagetree_get(&file->tree, index, &leaf, &present));
        TRY(vv_file_read(&file->file, page, sizeof page, VV_STAMP_PAGE + index * VV_PAGE_SIZE));
        vv_hash_pages(&(const uint8_t *){ page }, 1, &hash);
        if (!vv_hash_equal(hash, present ? leaf.hash : vv_hash_zero)) {
            *bad = index;
            break;
        }
    }
out:
    return rc;
}

/* ---- The nearest ------------------------------------------------------------------------------ */

/* Pages that differ, until it is clear that they are too many. */
struct counting {
    uint64_t page_count; /* of the wanted tree: what lies beyond is cut off */
    uint64_t whole, zeros, most_whole, most_zeros;
};

static varve_status count_page(void *context, uint64_t index, const struct vv_leaf *from,
                               const struct vv_leaf *to)
{
    struct counting *counting = context;

    (void)from;
    if (index >= counting->page_count)
        return VARVE_END;
    *(to == NULL ? &counting->zeros : &counting->whole) += 1;
    return counting->whole > counting->most_whole || counting->zeros > counting->most_zeros ? VARVE_LIMIT
                                                                                            : VARVE_OK;
}

/* How many pages of `wanted` are not those of the file. False: too many, or nobody can tell. */
static bool count_differing(const struct vv_image_file *file, const struct vv_pagetree *wanted, uint64_t most,
                            uint64_t *count)
{
    struct counting counting = { .page_count = wanted->page_count,
                                 .most_whole = most,
                                 .most_zeros =
                                     most < wanted->page_count / 4 ? most : wanted->page_count / 4 };
    const varve_status rc = vv_pagetree_diff(&file->tree, wanted, count_page, &counting);

    *count = counting.whole + counting.zeros;
    return (rc == VARVE_OK || rc == VARVE_END) && *count <= most;
}

struct vv_image_file *vv_images_nearest(struct vv_images *images, const varve_module_id *module,
                                        const struct vv_pagetree *wanted)
{
    struct vv_image_file *best = NULL;
    /* Where more than half must be put on top, a mapping saves nothing that is worth its pages of another memory. */
    uint64_t most = wanted->page_count / 2 + 1;

    if (wanted->page_count == 0)
        return NULL;
    for (unsigned slot = 0; slot < VV_IMAGE_SLOTS && (best == NULL || most > 0); slot++) {
        struct vv_image_file *file = vv_images_use(images, module, slot);
        uint64_t count = 0;
        if (file != NULL && count_differing(file, wanted, most, &count) && (best == NULL || count < most)) {
            vv_images_leave(images, best);
            best = file;
            most = count;
        } else {
            vv_images_leave(images, file);
        }
    }
    return best;
}

/* ---- Writing ---------------------------------------------------------------------------------- */

static void temporary_name(const struct vv_image_target *target, char name[VV_IMAGE_NAME])
{
    vv_image_file_name(&target->stamp.module, target->slot, name);
    memcpy(name + HEX_DIGITS + 2, ".tmp", 5);
}

static bool same_tree(const struct vv_stamp_tree *a, const struct vv_stamp_tree *b)
{
    return a->page_count == b->page_count && a->address == b->address && vv_hash_equal(a->top, b->top);
}

/* The file as it is, if nobody maps it and its stamp says what it holds. Half-written, it can only become what it
 * was to be: a stamp has no room for three trees. */
static bool open_in_place(struct vv_image_target *target)
{
    struct vv_images *images = target->images;
    char name[VV_IMAGE_NAME];
    struct vv_stamp stamp;
    bool fits = false;

    vv_image_file_name(&target->stamp.module, target->slot, name);
    varve_status rc = vv_file_open(&images->dir, name, VV_OPEN_WRITE, &target->file);
    if (rc == VARVE_OK && !VV_PLANT("image-in-place"))
        rc = vv_file_lock(&target->file, VV_LOCK_EXCLUSIVE, 0, 1, 0); /* (J4) */
    if (rc == VARVE_OK)
        rc = read_stamp(&target->file, &target->stamp.module, &stamp);
    if (rc == VARVE_OK) {
        const bool whole = stamp.state == VV_STAMP_WHOLE;
        fits = whole || same_tree(&stamp.to, &target->stamp.to);
        target->stamp.from = whole ? stamp.to : stamp.from;
    }
    if (!fits)
        vv_file_close(&target->file);
    return fits;
}

static varve_status create_copy(struct vv_image_target *target)
{
    enum { FLAGS = VV_OPEN_WRITE | VV_OPEN_CREATE | VV_OPEN_EXCLUSIVE };
    varve_status rc = VARVE_OK;
    char name[VV_IMAGE_NAME];

    temporary_name(target, name);
    if (target->images->dir.fd < 0)
        TRY(make_dir(target->images));
    rc = vv_file_open(&target->images->dir, name, FLAGS, &target->file);
    if (rc == VARVE_NOT_FOUND) { /* somebody deleted the directory */
        TRY(make_dir(target->images));
        rc = vv_file_open(&target->images->dir, name, FLAGS, &target->file);
    }
    if (rc == VARVE_EXISTS) { /* a crash left it */
        TRY(vv_dir_unlink(&target->images->dir, name));
        rc = vv_file_open(&target->images->dir, name, FLAGS, &target->file);
    }
    TRY(rc);
    target->copy = true;
out:
    return rc;
}

varve_status vv_image_target_open(struct vv_images *images, const struct vv_stamp *stamp, unsigned slot,
                                  bool want_copy, struct vv_image_target *target)
{
    varve_status rc = VARVE_OK;

    *target = VV_IMAGE_TARGET_NONE;
    target->images = images;
    target->slot = slot;
    target->stamp = *stamp;
    pthread_mutex_lock(&images->mutex);
    rc = open_dir(images);
    if (rc == VARVE_NOT_FOUND)
        rc = VARVE_OK;
    if (rc == VARVE_OK && (want_copy || images->dir.fd < 0 || !open_in_place(target)))
        rc = create_copy(target);
    pthread_mutex_unlock(&images->mutex);
    return rc;
}

void vv_image_target_encode(const struct vv_image_target *target, enum vv_stamp_state state,
                            uint8_t page[VV_STAMP_PAGE])
{
    struct vv_stamp stamp = target->stamp;

    stamp.state = state;
    if (state == VV_STAMP_WHOLE)
        stamp.from = (struct vv_stamp_tree){ .page_count = 0 };
    vv_stamp_encode(&stamp, page);
}

uint64_t vv_image_target_size(const struct vv_image_target *target)
{
    return VV_STAMP_PAGE + target->stamp.to.page_count * VV_PAGE_SIZE;
}

varve_status vv_image_target_begin(struct vv_image_target *target)
{
    varve_status rc = VARVE_OK;
    uint8_t page[VV_STAMP_PAGE];

    if (!target->copy) {
        vv_image_target_encode(target, VV_STAMP_REWRITING, page);
        TRY(vv_file_write(&target->file, page, sizeof page, 0));
        TRY(vv_file_sync(&target->file)); /* (F2) */
    }
    TRY(vv_file_truncate(&target->file, vv_image_target_size(target)));
out:
    return rc;
}

varve_status vv_image_target_put(struct vv_image_target *target, uint64_t first, const void *pages,
                                 uint64_t count)
{
    return vv_file_write(&target->file, pages, count * VV_PAGE_SIZE, VV_STAMP_PAGE + first * VV_PAGE_SIZE);
}

varve_status vv_image_target_zero(struct vv_image_target *target, uint64_t index)
{
    static const uint8_t zeros[VV_PAGE_SIZE];

    return target->copy ? VARVE_OK : vv_image_target_put(target, index, zeros, 1);
}

/* Let the file go, and its name where it would only take up room or could be believed wrongly. */
static void discard(struct vv_image_target *target)
{
    char name[VV_IMAGE_NAME];

    if (target->file.fd < 0)
        return;
    vv_image_file_name(&target->stamp.module, target->slot, name);
    if (target->copy)
        temporary_name(target, name);
    if (target->copy || target->file.poisoned)
        (void)vv_dir_unlink(&target->images->dir, name);
    vv_file_close(&target->file);
    *target = VV_IMAGE_TARGET_NONE;
}

void vv_image_target_abandon(struct vv_image_target *target)
{
    discard(target);
}

static varve_status finish_in_place(struct vv_image_target *target)
{
    varve_status rc = VARVE_OK;
    uint8_t page[VV_STAMP_PAGE];

    if (!VV_PLANT("image-sync"))
        TRY(vv_file_sync(&target->file)); /* (F2) */
    vv_image_target_encode(target, VV_STAMP_WHOLE, page);
    TRY(vv_file_write(&target->file, page, sizeof page, 0));
    TRY(vv_file_sync(&target->file));
out:
    return rc;
}

static varve_status finish_copy(struct vv_image_target *target)
{
    varve_status rc = VARVE_OK;
    const struct vv_dir *dir = &target->images->dir;
    uint8_t page[VV_STAMP_PAGE];
    char temporary[VV_IMAGE_NAME];
    char name[VV_IMAGE_NAME];

    temporary_name(target, temporary);
    vv_image_file_name(&target->stamp.module, target->slot, name);
    vv_image_target_encode(target, VV_STAMP_WHOLE, page);
    TRY(vv_file_write(&target->file, page, sizeof page, 0));
    if (!VV_PLANT("image-sync"))
        TRY(vv_file_sync_new(&target->file)); /* the bytes, before a name that vouches for them */
    rc = vv_dir_rename(dir, temporary, name);
    name_changed(target->images, &target->stamp.module, target->slot);
    TRY(rc);
    target->copy = false; /* the temporary name is gone */
out:
    return rc;
}

varve_status vv_image_target_finish(struct vv_image_target *target)
{
    const varve_status rc = target->copy ? finish_copy(target) : finish_in_place(target);

    if (rc != VARVE_OK) {
        discard(target);
        /* Nothing was promised that is not in the log: the store goes on. */
        return rc == VARVE_UNCERTAIN ? vv_fail(VARVE_IO, "an image file could not be synced") : rc;
    }
    vv_file_close(&target->file);
    target->images->version++;
    *target = VV_IMAGE_TARGET_NONE;
    return VARVE_OK;
}
