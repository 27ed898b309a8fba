/* imagejob.c - see imagejob.h. */
#include "store/journal/imagejob.h"

#include <stdlib.h>

#include "base/alloc.h"

enum {
    PASSING = 16,        /* frames kept while pages are read in the order in which they lie */
    BATCH = 64,          /* pages that are written at once */
    STEP_COST = 64 << 10 /* of what is no page: a stamp, a sync */
};

/* ---- Jobs ------------------------------------------------------------------------------------- */

void vv_image_job_free(struct vv_place *place, struct vv_image_job *job)
{
    if (job == NULL)
        return;
    vv_image_target_abandon(&job->target);
    vv_images_leave(&place->images, job->near);
    if (job->reading)
        vv_pages_release(&job->reader);
    vv_free(job->items);
    vv_free(job->pages);
    vv_free(job);
}

static varve_status list_item(void *context, uint64_t index, const struct vv_leaf *from,
                              const struct vv_leaf *to)
{
    varve_status rc = VARVE_OK;
    struct vv_image_job *job = context;

    (void)from;
    if (index >= job->page_count)
        return VARVE_OK; /* beyond a memory that shrank: its length says so */
    if (job->count == job->capacity) {
        const size_t capacity = job->capacity == 0 ? 64 : 2 * job->capacity;
        TRY(vv_resize(&job->items, capacity, sizeof *job->items));
        job->capacity = capacity;
    }
    struct vv_image_item *item = &job->items[job->count];
    *item = (struct vv_image_item){ .index = index };
    if (to != NULL) {
        item->locator = to->locator;
        memcpy(item->hash, to->hash, VV_HASH_SIZE);
    }
    job->count++;
out:
    return rc;
}

static int by_place(const void *a, const void *b)
{
    const struct vv_image_item *x = a;
    const struct vv_image_item *y = b;

    if (x->locator != y->locator)
        return x->locator < y->locator ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Every page that is not as in `from` (NULL: zeros). */
static varve_status list_pages(struct vv_image_job *job, const struct vv_pagetree *from,
                               const struct vv_pagetree *to)
{
    varve_status rc = VARVE_OK;

    job->count = 0;
    job->page_count = to->page_count;
    TRY(vv_pagetree_diff(from, to, list_item, job));
    if (job->count > 0)
        qsort(job->items, job->count, sizeof *job->items, by_place);
out:
    return rc;
}

/* The target as it lies there, or a copy of zeros when nobody can tell any more what lies there. */
static varve_status open_target(struct vv_place *place, struct vv_image_job *job,
                                const struct vv_stamp *stamp, unsigned slot, bool anew,
                                const struct vv_pagetree *tree)
{
    varve_status rc = VARVE_OK;
    struct vv_pagetree from;

    vv_pagetree_init(&from, 0, NULL);
    TRY(vv_image_target_open(&place->images, stamp, slot, anew, &job->target));
    if (!job->target.copy) {
        rc = vv_stamp_open_tree(&job->target.stamp.from, &place->views.nodes, &from);
        if (rc == VARVE_OK)
            rc = list_pages(job, &from, tree);
        if (rc == VARVE_OK || rc == VARVE_MEMORY)
            goto out;
        vv_image_target_abandon(&job->target);
        TRY(vv_image_target_open(&place->images, stamp, slot, true, &job->target));
    }
    TRY(list_pages(job, NULL, tree));
out:
    vv_pagetree_release(&from);
    return rc;
}

void vv_image_pair_look(struct vv_place *place, const varve_module_id *module, struct vv_image_pair *pair)
{
    *pair = (struct vv_image_pair){ .newest = VV_IMAGE_SLOTS };
    for (unsigned slot = 0; slot < VV_IMAGE_SLOTS; slot++) {
        const varve_status rc = vv_images_look(&place->images, module, slot, &pair->stamps[slot]);
        pair->known[slot] = rc == VARVE_OK;
        pair->there[slot] = rc != VARVE_NOT_FOUND;
        if (rc == VARVE_OK && pair->stamps[slot].state == VV_STAMP_WHOLE &&
            (pair->newest == VV_IMAGE_SLOTS ||
             pair->stamps[slot].generation > pair->stamps[pair->newest].generation))
            pair->newest = slot;
    }
}

varve_status vv_image_job_new(struct vv_place *place, const struct vv_stamp *stamp,
                              const struct vv_image_pair *pair, unsigned slot, bool anew,
                              struct vv_image_job **out)
{
    varve_status rc = VARVE_OK;
    struct vv_image_job *job = NULL;
    struct vv_pagetree tree;

    vv_pagetree_init(&tree, 0, NULL);
    TRY(vv_alloc(&job, 1, sizeof *job));
    job->target = VV_IMAGE_TARGET_NONE;
    rc = vv_pages_init(&job->reader, &place->log, PASSING);
    job->reading = true;
    TRY(rc);
    TRY(vv_alloc(&job->pages, BATCH, VV_PAGE_SIZE));
    rc = VARVE_CORRUPT;
    if (!anew && pair->known[slot] && pair->stamps[slot].state == VV_STAMP_REWRITING) {
        rc = vv_stamp_open_tree(&pair->stamps[slot].to, &place->views.nodes, &tree);
        if (rc == VARVE_OK)
            rc = open_target(place, job, &pair->stamps[slot], slot, false, &tree);
        if (rc == VARVE_CORRUPT)
            vv_image_target_abandon(&job->target);
        job->resumed = rc == VARVE_OK;
    }
    if (rc == VARVE_CORRUPT) {
        vv_pagetree_release(&tree);
        TRY(vv_stamp_open_tree(&stamp->to, &place->views.nodes, &tree));
        rc = open_target(place, job, stamp, slot, anew, &tree);
    }
    TRY(rc);
    if (pair->newest != VV_IMAGE_SLOTS && pair->newest != slot)
        job->near = vv_images_use(&place->images, &stamp->module, pair->newest);
    *out = job;
    job = NULL;
out:
    vv_pagetree_release(&tree);
    vv_image_job_free(place, job);
    return rc;
}

/* The page as the near file has it, if it has it. */
static bool read_near(const struct vv_image_job *job, const struct vv_image_item *item,
                      uint8_t page[VV_PAGE_SIZE])
{
    struct vv_leaf leaf;
    bool present = false;
    uint8_t hash[VV_HASH_SIZE];

    if (job->near == NULL || item->index >= job->near->tree.page_count ||
        vv_pagetree_get(&job->near->tree, item->index, &leaf, &present) != VARVE_OK || !present ||
        !vv_hash_equal(leaf.hash, item->hash) ||
        vv_file_read(&job->near->file, page, VV_PAGE_SIZE, VV_STAMP_PAGE + item->index * VV_PAGE_SIZE) !=
            VARVE_OK)
        return false;
    vv_hash_pages(&(const uint8_t *){ page }, 1, &hash);
    return vv_hash_equal(hash, item->hash);
}

static varve_status read_page(struct vv_image_job *job, const struct vv_image_item *item,
                              uint8_t page[VV_PAGE_SIZE])
{
    struct vv_leaf leaf = { .locator = item->locator };

    if (read_near(job, item, page))
        return VARVE_OK;
    memcpy(leaf.hash, item->hash, VV_HASH_SIZE);
    return vv_pages_read(&job->reader, &leaf, page);
}

/* How many pages from this one on go into one write. Whole blocks of the file, aligned: so the kernel caches them in
 * large pieces, and who maps the file later has a third of the work. */
static size_t batch_from(uint64_t index)
{
    return BATCH - (VV_STAMP_PAGE / VV_PAGE_SIZE + index) % BATCH;
}

/* The next page, and those that lie behind it in the file as in the list: at most `most` together. */
static varve_status write_some(struct vv_image_job *job, uint64_t most, uint64_t *written)
{
    const struct vv_image_item *items = &job->items[job->at];
    const size_t left = job->count - job->at, batch = batch_from(items[0].index);
    size_t count = 0;
    varve_status rc = VARVE_OK;

    *written = 1;
    if (vv_hash_is_zero(items[0].hash))
        return vv_image_target_zero(&job->target, items[0].index);
    while (count < left && count < batch && (count == 0 || count < most) &&
           items[count].index == items[0].index + count && !vv_hash_is_zero(items[count].hash)) {
        TRY(read_page(job, &items[count], job->pages + count * VV_PAGE_SIZE));
        count++;
    }
    TRY(vv_image_target_put(&job->target, items[0].index, job->pages, count));
    *written = count;
out:
    return rc;
}

varve_status vv_image_job_step(struct vv_image_job *job, uint64_t *budget, bool *done)
{
    varve_status rc = VARVE_OK;

    if (!job->begun) {
        TRY(vv_image_target_begin(&job->target));
        job->begun = true;
        *budget -= *budget < STEP_COST ? *budget : STEP_COST;
    }
    while (job->at<job->count && * budget> 0) {
        uint64_t written = 0;
        TRY(write_some(job, *budget / VV_PAGE_SIZE, &written));
        job->at += (size_t)written;
        *budget -= *budget < written * VV_PAGE_SIZE ? *budget : written * VV_PAGE_SIZE;
    }
    if (job->at == job->count && *budget > 0) {
        TRY(vv_image_target_finish(&job->target));
        *done = true;
        *budget -= *budget < STEP_COST ? *budget : STEP_COST;
    }
out:
    return rc;
}

/* ---- In a child: see process.h ---------------------------------------------------------------- */

static bool put_all(const struct vv_file *file, const uint8_t *data, size_t size, uint64_t offset)
{
    for (size_t done = 0; done < size;) {
        size_t put = 0;
        if (file->vfs->write(file->vfs, file->fd, data + done, size - done, offset + done, &put) != 0 ||
            put == 0)
            return false;
        done += put;
    }
    return true;
}

static bool sync_file(const struct vv_file *file)
{
    return file->vfs->sync(file->vfs, file->fd) == 0;
}

/* Pages as the tree says: what somebody wrote since the commit must not get in. */
static bool are_as_committed(const uint8_t *bytes, const struct vv_image_item *items, size_t count)
{
    const uint8_t *pages[BATCH];
    uint8_t hashes[BATCH][VV_HASH_SIZE];

    for (size_t i = 0; i < count; i++)
        pages[i] = bytes + i * VV_PAGE_SIZE;
    vv_hash_pages(pages, count, hashes);
    for (size_t i = 0; i < count; i++)
        if (!vv_hash_equal(hashes[i], items[i].hash))
            return false;
    return true;
}

/* The next page, and those that lie behind it in memory as in the list; 0: it failed. */
static size_t put_some(const struct vv_image_job *job, const struct vv_image_item *items, size_t left)
{
    static const uint8_t zeros[VV_PAGE_SIZE];
    const size_t batch = batch_from(items[0].index);
    const uint64_t offset = VV_STAMP_PAGE + items[0].index * VV_PAGE_SIZE;
    const uint8_t *bytes = job->frozen + items[0].index * VV_PAGE_SIZE;
    size_t count = 0;

    if (vv_hash_is_zero(items[0].hash))
        return job->target.copy || put_all(&job->target.file, zeros, VV_PAGE_SIZE, offset);
    while (count < left && count < batch && items[count].index == items[0].index + count &&
           !vv_hash_is_zero(items[count].hash))
        count++;
    return are_as_committed(bytes, items, count) &&
                   put_all(&job->target.file, bytes, count * VV_PAGE_SIZE, offset)
               ? count
               : 0;
}

bool vv_image_job_write_frozen(const struct vv_image_job *job)
{
    const struct vv_file *file = &job->target.file;
    uint8_t stamp[VV_STAMP_PAGE];

    if (!job->target.copy) {
        vv_image_target_encode(&job->target, VV_STAMP_REWRITING, stamp);
        if (!put_all(file, stamp, sizeof stamp, 0) || !sync_file(file))
            return false;
    }
    if (file->vfs->truncate(file->vfs, file->fd, vv_image_target_size(&job->target)) != 0)
        return false;
    for (size_t at = 0, put = 0; at < job->count; at += put) {
        put = put_some(job, job->items + at, job->count - at);
        if (put == 0)
            return false;
    }
    return sync_file(file);
}
